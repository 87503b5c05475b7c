"""Noisy networks: the layer, its gradients, what each pass draws, seeds, files."""

from __future__ import annotations

import copy
import math

import gymnasium as gym
import numpy as np
import pytest
import torch
from three_runs import whole_alone_and_resumed
from torch import nn

import rl
from rl.core.types import Batch
from rl.explore import Greedy
from supervised import CNN, MLP, NoisyLinear, Stack, noisy
from supervised.models.noisy import noise_of
from supervised.stack.drawn import share

SPACE, TWO = gym.spaces.Box(-1, 1, (3,)), gym.spaces.Discrete(2)


def test_the_layer_is_the_papers_formula():
    torch.manual_seed(0)
    linear = nn.Linear(4, 3)
    layer = NoisyLinear(linear, 0.5)
    assert torch.equal(layer.weight_deviation, torch.full((3, 4), 0.25))
    assert torch.equal(layer.bias_deviation, torch.full((3,), 0.25))  # over sqrt of the inputs, the bias too
    x = torch.randn(6, 4)
    assert torch.equal(layer(x), linear(x))
    noise = noise_of(torch.randn(7))
    layer.numbers.value = noise[None]
    weight = [[layer.weight[j, i] + 0.25 * noise[4 + j] * noise[i] for i in range(4)] for j in range(3)]
    bias = [layer.bias[j] + 0.25 * noise[4 + j] for j in range(3)]
    wanted = [[sum(weight[j][i] * x[b, i] for i in range(4)) + bias[j] for j in range(3)] for b in range(6)]
    torch.testing.assert_close(layer(x), torch.tensor(wanted))
    assert float(noise_of(torch.tensor([-4.0]))) == -2.0


def test_noise_is_factorized_and_of_unit_size():
    e = noise_of(torch.randn(100_000, 2, generator=torch.Generator().manual_seed(0)))
    # E f(e)^2 = E |e| = sqrt(2 / pi); a product of two has that squared.
    assert float(e[:, 0].square().mean()) == pytest.approx(math.sqrt(2 / math.pi), rel=0.02)
    assert float((e[:, 0] * e[:, 1]).square().mean()) == pytest.approx(2 / math.pi, rel=0.03)
    assert abs(float(e.mean())) < 0.01


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("with_noise", [True, False])
def test_gradients_written_out_are_autograds(bias, with_noise):
    def make():
        return nn.Sequential(noisy(nn.Linear(3, 5, bias)), nn.ReLU(), noisy(nn.Linear(5, 4, bias)))

    stack = Stack(make, [0, 1, 2])
    g = torch.Generator().manual_seed(0)
    for i in (0, 2):
        numbers = share([module[i] for module in stack.modules])
        numbers.value = torch.randn(3, stack.modules[0][i].drawn_size, generator=g) if with_noise else None
    x = torch.randn(3, 10, 3, generator=g)
    y, backward = stack.vjp(x)
    assert stack._chain is not None
    gradient = torch.randn(y.shape, generator=g)
    backward(gradient)
    for k, module in enumerate(stack.modules):
        alone = copy.deepcopy(module)
        answer = alone(x[k])
        torch.testing.assert_close(answer, y[k], rtol=1e-4, atol=1e-5)
        answer.backward(gradient[k])
        for name, parameter in alone.named_parameters():
            by_torch = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            torch.testing.assert_close(stack.gradients[name][k], by_torch, rtol=1e-3, atol=1e-5)
    if with_noise:
        stack.modules[0][0].numbers.value = None
        assert not torch.equal(stack(x), y)


def test_every_linear_layer_of_a_model_becomes_noisy():
    picture = CNN((1, 8, 8), 2, (4,), pool=None, widths=(16,), loss="huber")
    kinds = [type(part) for part in noisy(picture).modules()]
    assert kinds.count(NoisyLinear) == 2
    assert nn.Linear not in kinds
    assert nn.Conv2d in kinds
    shared = nn.Linear(2, 2)
    twice = noisy(nn.Sequential(shared, nn.ReLU(), shared))
    assert twice[0] is twice[2]
    half = nn.Sequential(nn.Linear(2, 2).requires_grad_(False), nn.Linear(2, 2))
    assert [type(part) for part in noisy(half)] == [nn.Linear, NoisyLinear]
    with pytest.raises(ValueError, match="has none"):
        noisy(nn.Sequential(nn.ReLU()))
    with pytest.raises(ValueError, match="run a lazy layer on one input first"):
        NoisyLinear(nn.LazyLinear(3))
    for wrong in (0.0, -1.0, float("nan"), "half"):
        with pytest.raises((ValueError, TypeError), match="sigma"):
            noisy(MLP(2, 2), wrong)


def agent_of(seeds=(3, 5), **settings):
    return rl.DQN(network="mlp(8)", noise=0.5, explore=Greedy(), **settings).build(SPACE, TWO, list(seeds))


def random_batch(n=2, b=9):
    g = torch.Generator().manual_seed(0)
    return Batch(
        torch.randn(n, b, 3, generator=g), torch.randint(2, (n, b), generator=g), torch.randn(n, b, generator=g),
        torch.full((n, b), 0.9), torch.randn(n, b, 3, generator=g),
    )  # fmt: skip


@pytest.mark.parametrize("double", [False, True])
def test_each_pass_has_noise_of_its_own(double, monkeypatch):
    agent = agent_of(double=double)
    stacks, seen = {id(agent.online): "online", id(agent.target): "target"}, []

    def watch(function):
        def call(stack, x):
            layers = [part for part in stack.modules[0].modules() if isinstance(part, NoisyLinear)]
            seen.append((stacks[id(stack)], torch.cat([layer.numbers.value for layer in layers], 1)))
            return function(stack, x)

        return call

    for name in ("values", "vjp"):
        monkeypatch.setattr(agent.arrays, name, watch(getattr(agent.arrays, name)))
    agent.update(random_batch())
    agent.act(torch.zeros(2, 1, 3))
    assert [who for who, _ in seen] == ["target", *["online"] * double, "online", "online"]
    numbers = torch.cat([noise.flatten() for _, noise in seen])  # of every pass, member, layer
    assert len(numbers.unique()) == len(numbers)


def test_it_is_on_in_acting_and_off_in_judging():
    agent = agent_of()
    obs = torch.ones(2, 3, 3)
    first, second = agent.act(obs).q, agent.act(obs).q
    assert not torch.equal(first, second)
    assert torch.equal(first[:, 0], first[:, 1])  # one noise for all environments of a seed
    q = agent.q(obs)
    assert torch.equal(q, agent.q(obs))
    means = {name: weight for name, weight in agent.online.state_dict().items() if "deviation" not in name}
    plain = rl.DQN(network="mlp(8)", compiled=False).build(SPACE, TWO, [3, 5])
    plain.online.load_state_dict(means)
    torch.testing.assert_close(q, plain.q(obs))
    agent.update(random_batch())
    assert torch.equal(agent.q(obs), agent.q(obs))
    policy_free = agent.act(obs).q
    assert not torch.equal(policy_free, agent.q(obs))


def test_the_deviations_learn():
    agent = agent_of()
    before = {name: weight.clone() for name, weight in agent.online.weights.items() if "deviation" in name}
    for _ in range(3):
        agent.update(random_batch())
    for name, weight in before.items():
        assert not torch.equal(agent.online.weights[name], weight), name


@pytest.mark.filterwarnings("ignore:Episodes of")
@pytest.mark.parametrize("network", ["mlp(8)", "gru(8)"])
@pytest.mark.parametrize("options", [{}, {"double": True, "dueling": True, "n_step": 3, "sequence_steps": 6}])
def test_a_seed_alone_is_the_seed_of_many_and_a_run_comes_back_to_the_bit(network, options, tmp_path):
    config = rl.DQN(
        network=network, noise=0.5, explore=Greedy(), learn_after_steps=40, batch_size=8, capacity_steps=300, **options
    )
    whole = whole_alone_and_resumed(config, tmp_path, network == "mlp(8)")
    policy = whole.policy(5)
    policy.save(tmp_path / "policy")
    obs = np.zeros((2, 1, 4), np.float32)
    again = rl.load_policy(tmp_path / "policy")
    np.testing.assert_allclose(again.q(obs[0, 0]), whole.agent.q(obs)[1, 0], rtol=1e-5)
    assert {int(again.predict(obs[0, 0])[0]) for _ in range(20)} == {int(whole.agent.q(obs)[1, 0].argmax())}


def test_a_damaged_stream_is_refused():
    agent = agent_of()
    saved = agent.state_dict()
    saved["passes"]["noise"]["drawn"] = np.zeros(3)
    with pytest.raises(ValueError, match="damaged"):
        agent.load_state_dict(saved)


@pytest.mark.parametrize("noise", [0.0, -0.5, float("inf"), "some", True])
def test_a_noise_that_makes_no_sense_is_refused(noise):
    with pytest.raises((ValueError, TypeError), match="noise"):
        rl.DQN(noise=noise)
