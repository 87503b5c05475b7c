"""Implicit quantile networks: exact quantiles at any fraction, gradients, fractions drawn apart, seeds, files."""

from __future__ import annotations

import copy
import math

import gymnasium as gym
import numpy as np
import pytest
import torch
from lottery import PAIRS, learned
from three_runs import whole_alone_and_resumed
from torch import nn

import envs
import rl
from rl.core.types import Batch
from rl.deep.fractions import QuantileHead
from supervised import MLP, Stack
from supervised.stack.drawn import Drawn, share

SPACE, TWO = gym.spaces.Box(-1, 1, (3,)), gym.spaces.Discrete(2)


def test_the_layer_is_the_papers_formula():
    torch.manual_seed(0)
    layer = QuantileHead(nn.Linear(4, 2), 3, 5, False)
    x, fractions = torch.randn(6, 4), torch.rand(6, 7)
    layer.numbers.value = fractions[None]
    y = layer(x)
    assert y.shape == (6, 2, 7)
    for b in range(6):
        for k in range(7):
            cosines = torch.tensor([math.cos(math.pi * i * float(fractions[b, k])) for i in range(1, 6)])
            wanted = layer.head(x[b] * torch.relu(layer.embedding(cosines)))
            torch.testing.assert_close(y[b, :, k], wanted, rtol=1e-4, atol=1e-5)
    sequence = layer(x[:, None].expand(6, 3, 4))
    assert sequence.shape == (6, 3, 2, 7)
    torch.testing.assert_close(sequence[:, 1], y)
    layer.numbers.value = None
    assert layer(x).shape == (6, 2, 3)


def test_fractions_at_equal_distances_are_exact_under_autocast():
    def make():
        model = MLP(4, 2, (8,), loss="huber")
        model.head = QuantileHead(model.head, 30, 64, False)
        return model

    stack, x = Stack(make, [0, 1]), torch.randn(2, 6, 4)
    numbers, even = share([module.head for module in stack.modules]), (torch.arange(30) + 0.5) / 30
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        for ask in (lambda: stack(x), lambda: stack.modules[1](x[1])):
            answers = []
            for numbers.value in (None, even.expand(2, 6, 30)):
                answers.append(ask())
            assert torch.equal(*answers)
    numbers.value = None


@pytest.mark.parametrize("dueling", [False, True])
@pytest.mark.parametrize("compiled", [False, True])
def test_gradients_written_out_are_autograds(dueling, compiled):
    def make():
        model = MLP(3, 2 + dueling, (8, 6), loss="huber")
        model.head = QuantileHead(model.head, 4, 5, dueling)
        return model

    stack = Stack(make, [0, 1, 2], compiled=compiled)
    g = torch.Generator().manual_seed(0)
    x, fractions = torch.randn(3, 10, 3, generator=g), torch.rand(3, 10, 7, generator=g)
    share([module.head for module in stack.modules]).value = fractions
    y, backward = stack.vjp(x)
    gradient = torch.randn(y.shape, generator=g)
    backward(gradient)
    found = {name: part.clone() for name, part in stack.gradients.items()}
    for k, module in enumerate(stack.modules):
        alone = copy.deepcopy(module)
        answer = alone(x[k])
        torch.testing.assert_close(answer, y[k], rtol=1e-4, atol=1e-5)
        answer.backward(gradient[k])
        for name, parameter in alone.named_parameters():
            torch.testing.assert_close(found[name][k], parameter.grad, rtol=1e-3, atol=1e-5)
    # Another pass in between changes nothing: it has numbers of its own.
    stack.modules[0].head.numbers.value = torch.rand(3, 10, 2, generator=g)
    stack.vjp(x)
    stack.modules[0].head.numbers.value = fractions
    backward(gradient)
    for name, part in stack.gradients.items():
        assert torch.equal(part, found[name])


# Apart from the jumps of the exact quantile functions, at .5 and .7, which a network smooths.
FRACTIONS = [0.17, 0.23, 0.3, 0.4, 0.6, 0.8, 0.85]


@pytest.mark.parametrize(
    ("updates", "rate", "drawn", "network", "allowed"),
    [
        (500, 0.01, 16, "mlp(64)", 0.2),
        # Over seeds 0 to 5 the largest errors lie between .003 and .007, so the bound holds whatever a machine's rounding.
        pytest.param(10_000, 0.003, 32, "mlp(128)", 1e-2, marks=pytest.mark.full),
    ],
)
def test_quantiles_are_exact_at_any_fraction(updates, rate, drawn, network, allowed):
    agent, *_ = learned(rl.ImplicitQuantiles(drawn, drawn, 16, 16, kappa=0.0), updates, rate, network)
    values, probability = (part[0] for part in agent.distribution(torch.tensor([[0, 1]]), fractions=FRACTIONS))
    assert torch.equal(probability, torch.full_like(probability, 1 / len(FRACTIONS)))
    for s, a in PAIRS:
        exact = sorted(envs.exact_returns(s, a, 1.0).items())
        below = np.cumsum([p for _, p in exact])
        for i, fraction in enumerate(FRACTIONS):
            wanted = exact[int(np.searchsorted(below, fraction))][0]
            assert abs(float(values[s, a, i]) - wanted) < allowed, (s, a, fraction)


def agent_of(seeds=(3, 5), **settings):
    return rl.DQN(network="mlp(8)", distribution=rl.ImplicitQuantiles(4, 5, 6, 7), **settings).build(
        SPACE, TWO, list(seeds)
    )


def random_batch(n=2, b=9):
    g = torch.Generator().manual_seed(0)
    return Batch(
        torch.randn(n, b, 3, generator=g), torch.randint(2, (n, b), generator=g), torch.randn(n, b, generator=g),
        torch.full((n, b), 0.9), torch.randn(n, b, 3, generator=g),
    )  # fmt: skip


@pytest.mark.parametrize("settings", [{}, {"double": True}, {"munchausen": rl.Munchausen()}])
def test_each_pass_draws_fractions_of_its_own(settings, monkeypatch):
    agent = agent_of(**settings)
    learner, seen = agent.learner, []
    stacks = {id(learner.online): "online", id(learner.target): "target"}

    def watch(function):
        def call(stack, x):
            seen.append((stacks[id(stack)], stack.modules[0].head.numbers.value.clone()))
            return function(stack, x)

        return call

    for name in ("values", "vjp"):
        monkeypatch.setattr(agent.arrays, name, watch(getattr(agent.arrays, name)))
    agent.update(random_batch())
    roles = [(who, drawn.shape[2]) for who, drawn in seen]
    following = [("target", 5), ("online", 6)] if "double" in settings else [("target", 5 + 6)]
    own = [("target", 6)] * ("munchausen" in settings)
    assert roles == [*following, *own, ("online", 4)]
    numbers = torch.cat([drawn.flatten() for _, drawn in seen])
    assert len(numbers.unique()) == len(numbers)
    agent.act(torch.zeros(2, 3, 3))
    assert seen[-1][1].shape == (2, 3, 6)
    first = agent.act(torch.zeros(2, 3, 3)).q
    assert not torch.equal(first, agent.act(torch.zeros(2, 3, 3)).q)
    assert not torch.equal(first[:, 0], first[:, 1])  # each environment its own


def test_judging_draws_nothing():
    agent = agent_of()
    before = agent.state_dict()["passes"]["fractions"]["drawn"].shape
    q = agent.q(torch.zeros(2, 3, 3))
    assert torch.equal(q, agent.q(torch.zeros(2, 3, 3)))
    assert agent.state_dict()["passes"]["fractions"]["drawn"].shape == before
    values, probability = agent.distribution(torch.zeros(2, 3, 3))
    torch.testing.assert_close((values * probability).sum(-1), q)
    assert values.shape == (2, 3, 2, 6)


@pytest.mark.filterwarnings("ignore:Episodes of")
@pytest.mark.parametrize("network", ["mlp(8)", "gru(8)"])
def test_who_asks_between_passes_finds_nothing_drawn(network):
    settings = {"network": network, "distribution": rl.ImplicitQuantiles(3, 4, 5, 6), "noise": 0.5}
    run = rl.start("CartPole-v1", rl.DQN(learn_after_steps=40, batch_size=8, **settings), [3, 5])
    run.advance(100)
    assert run.agent.updates > 5
    for stack in (run.agent.online, run.agent.target):
        layers = [part for part in stack.modules[0].modules() if isinstance(part, Drawn)]
        assert len(layers) > 1
        assert [layer.numbers.value for layer in layers] == [None] * len(layers)
    first, again = run.loop.diagnostics().histograms, run.loop.diagnostics().histograms
    for name, numbers in first.items():
        np.testing.assert_array_equal(numbers, again[name])
    obs = torch.zeros(2, 3, 4)
    asked, _ = run.agent.distribution(obs, fractions=[0.5])
    assert asked.shape[3] == 1
    assert run.agent.distribution(obs)[0].shape[3] == 5  # at equal distances again


@pytest.mark.filterwarnings("ignore:Episodes of")
@pytest.mark.parametrize("network", ["mlp(8)", "gru(8)", "linear"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"dueling": True, "double": True, "n_step": 3, "prioritized": True, "rescale_values": True, "noise": 0.5},
        {"munchausen": rl.Munchausen(), "sequence_steps": 6},
    ],
    ids=["alone", "with all", "in windows"],
)
def test_a_seed_alone_is_the_seed_of_many_and_a_run_comes_back_to_the_bit(network, options, tmp_path):
    drawn = rl.ImplicitQuantiles(3, 4, 5, 6)
    config = rl.DQN(
        network=network, distribution=drawn, learn_after_steps=40, batch_size=8, capacity_steps=300, **options
    )
    whole = whole_alone_and_resumed(config, tmp_path, network != "gru(8)")
    policy = whole.policy(5)
    policy.save(tmp_path / "policy")
    obs = np.zeros((2, 1, 4), np.float32)
    loaded = rl.load_policy(tmp_path / "policy")
    for fractions in (None, [0.1, 0.5]):
        np.testing.assert_allclose(
            loaded.distribution(obs[0, 0], fractions=fractions)[0],
            whole.agent.distribution(obs, fractions=fractions)[0][1, 0],
            rtol=1e-5,
        )


def test_compiled_and_by_torch_agree():
    compiled, plain = agent_of(), agent_of(compiled=False)
    for _ in range(3):
        errors = [agent.update(random_batch()).td_error for agent in (compiled, plain)]
        torch.testing.assert_close(*errors, rtol=1e-4, atol=1e-5)
    for name, weight in compiled.online.weights.items():
        torch.testing.assert_close(weight, plain.online.weights[name], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: rl.ImplicitQuantiles(0), "learned"),
        (lambda: rl.ImplicitQuantiles(chosen=10**9), "chosen must be a whole number of at least 1 and at most 1,000"),
        (lambda: rl.DQN(distribution=rl.ImplicitQuantiles), "distribution must be rl.Atoms"),
        (lambda: rl.ImplicitQuantiles(kappa=-1.0), "kappa"),
        (lambda: rl.ImplicitQuantiles(cosines=2.5), "cosines"),
        (lambda: agent_of().distribution(torch.zeros(2, 1, 3), fractions=[0.5, 1.5]), "numbers in \\[0, 1\\]"),
        (lambda: agent_of().distribution(torch.zeros(2, 1, 3), fractions=[float("nan")]), "numbers in \\[0, 1\\]"),
        (lambda: agent_of().distribution(torch.zeros(2, 1, 3), fractions=[]), "numbers in \\[0, 1\\]"),
        (lambda: agent_of().distribution(torch.zeros(2, 1, 3), fractions="half"), "fractions"),
        (
            lambda: rl.DQN(distribution=rl.Quantiles(3)).build(SPACE, TWO).distribution(torch.zeros(1, 1, 3), None, None, [0.5]),
            "fractions are supported only by",
        ),
        (
            lambda: rl.DQN(
                network=lambda space, outputs: nn.Linear(3, outputs), distribution=rl.ImplicitQuantiles()
            ).build(SPACE, TWO),
            "called `head`",
        ),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(make, said):
    with pytest.raises((ValueError, TypeError), match=said):
        make()
