"""PQN: lambda-returns of rollouts, one use of each transition an epoch, and the same bits alone, stacked, cut and resumed."""

from __future__ import annotations

import dataclasses

import gymnasium as gym
import numpy as np
import pytest
import torch

import envs
import rl
from rl.deep.rollout import Rollout, Row, greedy_value, shuffled

SMALL = rl.PQN(
    network="layer_norm_mlp(16)", envs_per_seed=8, rollout_steps=6, minibatches=4, epochs=2, learning_rate=1e-3
)


def row(t, reward, *, discount=0.5, ended=False, value=0.0, last=0.0, valid=True):
    """A step of one seed in one environment."""
    numbers = (reward, discount, ended, value, last, valid)
    kinds = (np.float32, np.float32, np.bool_, np.float32, np.float32, np.bool_)
    rest = (np.full((1, 1), x, kind) for x, kind in zip(numbers, kinds, strict=True))
    return Row(np.full((1, 1, 2), t, np.float32), np.full((1, 1), t % 2), *rest)


def test_lambda_returns_by_hand():
    rollout = Rollout(4)
    rollout.add(row(0, 1.0, value=10.0), None)
    rollout.add(row(1, 2.0, value=20.0, ended=True, last=30.0), None)  # truncated
    rollout.add(row(2, 3.0, value=40.0), None)
    rollout.add(row(3, 4.0, value=50.0, ended=True, discount=0.0), None)  # terminated
    assert rollout.full
    found = rollout.returns(np.full((1, 1), 60.0, np.float32), 0.25)[:, 0, 0]
    cut = 2 + 0.5 * 30  # from the true last observation
    wanted = [1 + 0.5 * (0.75 * 20 + 0.25 * cut), cut, 3 + 0.5 * (0.75 * 50 + 0.25 * 4), 4.0]
    np.testing.assert_allclose(found, wanted)
    rollout.arrays["ended"][3], rollout.arrays["discount"][3] = False, 0.5
    np.testing.assert_allclose(rollout.returns(np.full((1, 1), 60.0, np.float32), 0.25)[3, 0, 0], 4 + 0.5 * 60)


def test_every_transition_is_learned_from_once_an_epoch():
    rng = np.random.default_rng(0)
    n, t, e = 2, 6, 4
    rollout = Rollout(t)
    for i in range(t):
        own = np.arange(n * e).reshape(n, e) + 100.0 * i
        flags = np.zeros((n, e), np.bool_)
        rollout.add(Row(own[..., None], own.astype(np.int64), own, own, flags, own, own, ~flags), None)
    returns = np.stack([rollout.arrays["reward"][i] for i in range(t)])
    order = shuffled(rng.random((n, t * e)))
    batches = list(rollout.minibatches(returns, order, 3))
    assert [batch.action.shape for batch in batches] == [(n, 8)] * 3
    action = np.concatenate([batch.action for batch in batches], 1)
    for k in range(n):
        assert sorted(action[k]) == sorted(rollout.arrays["action"][:, k].reshape(-1))
    assert not np.array_equal(action[0] % 100, action[1] % 100 - e)  # each seed has an order of its own
    for batch in batches:
        assert np.array_equal(batch.reward, batch.action)
        assert np.array_equal(batch.obs[..., 0], batch.action)
        assert not batch.discount.any()


def test_forbidden_actions_have_no_value():
    q = np.array([[[1.0, 5.0, 3.0]]])
    assert greedy_value(q, np.array([[[True, False, True]]])) == 3
    assert greedy_value(q, None) == 5


@pytest.mark.parametrize(("name", "limit"), [("Delay", None), ("Choice", None), ("Endless", 5), ("Chain", 50)])
def test_values_of_small_worlds(name, limit):
    """Endless pays 1 a step and is truncated after five: only bootstrapping from the true last state gives 1 / (1 - gamma).

    Actions are random, so lambda must be 0: otherwise Peng's Q(lambda) evaluates the behavior policy in part.
    """
    agent = rl.PQN(
        network="linear", gamma=0.5, envs_per_seed=8, rollout_steps=8, minibatches=4, learning_rate=0.05, lambda_=0.0,
        explore=rl.explore.EpsilonGreedy(1.0), max_grad_norm=None,
    )  # fmt: skip
    run = rl.train(f"envs/{name}-v0", agent, steps=8_000, seeds=2, progress=False)
    wanted = envs.exact_q(name, 0.5)
    states = torch.arange(len(wanted)).expand(2, -1)
    lived = np.isfinite(wanted).all(1)
    for k in range(2):
        np.testing.assert_allclose(run.agent.q(states)[k].numpy()[lived], wanted[lived], atol=0.12)


def weights(run):
    return run.agent.online.weights


def same(a, b, one=slice(None), other=slice(None)):
    return all(torch.equal(weight[one], weights(b)[name][other]) for name, weight in weights(a).items())


WORLDS = {
    "vector": ("CartPole-v1", SMALL),
    "native": ("envs/CartPole-v1", SMALL),
    "masked": ("envs/Taxi-v4", dataclasses.replace(SMALL, network="layer_norm_auto")),
    "image": ("envs/MinAtarBreakout-v1", dataclasses.replace(SMALL, network="layer_norm_cnn(2)")),
    "held": ("MountainCar-v0", dataclasses.replace(SMALL, explore=rl.explore.EpsilonGreedy(0.5, hold=2.0))),
    "recurrent": ("envs/TMaze-v0", dataclasses.replace(SMALL, network="mlp(8)+gru(8)", memory_steps=2)),
    "recurrent torch": ("CartPole-v1", dataclasses.replace(SMALL, network="lstm(8)", memory_steps=3)),
    "recurrent masked": ("envs/Taxi-v4", dataclasses.replace(SMALL, network="gru(8)", envs_per_seed=8)),
    "torch": ("CartPole-v1", dataclasses.replace(SMALL, compiled=False, normalize_observations=True)),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("world", WORLDS)
def test_alone_stacked_cut_and_resumed_are_the_same_bits(world, tmp_path):
    name, agent = WORLDS[world]
    whole, pieces, alone = rl.start(name, agent, [3, 5]), rl.start(name, agent, [3, 5]), rl.start(name, agent, [5])
    whole.advance(150)
    alone.advance(150)
    before = rl.start(name, agent, [3, 5])
    assert not same(whole, before)
    for _ in range(10):
        pieces.advance(7)  # one round of eight environments
    rollout = pieces.local.loop.rollout
    assert rollout.t > getattr(rollout, "memory", 0)  # in the middle of a rollout
    assert not rollout.full
    pieces.save(tmp_path / "run.safetensors")
    resumed = rl.load(tmp_path / "run.safetensors")
    assert resumed.local.loop.rollout.t == pieces.local.loop.rollout.t
    for run in (pieces, resumed):
        run.advance(150 - run.step)
        assert run.step == whole.step
        assert same(run, whole)
    assert same(alone, whole, 0, 1)


def test_workers_compute_the_same_bits(forked_workers):
    settings = {"steps": 400, "seeds": 3, "progress": False}
    whole, shared = (rl.train("CartPole-v1", SMALL, workers=workers, **settings) for workers in (1, 2))
    assert same(whole, shared)


def test_compiled_code_learns_what_torch_learns():
    runs = [rl.start("CartPole-v1", dataclasses.replace(SMALL, compiled=compiled), 2) for compiled in (True, False)]
    for run in runs:
        run.advance(8 * 6 * 3)
    for name, weight in weights(runs[0]).items():
        torch.testing.assert_close(weight, weights(runs[1])[name], atol=2e-5, rtol=1e-4)


def test_dict_observations_and_policies(tmp_path):
    class Both(gym.ObservationWrapper):
        def __init__(self, env):
            super().__init__(env)
            self.observation_space = gym.spaces.Dict({"a": env.observation_space, "b": gym.spaces.Discrete(2)})

        def observation(self, observation):
            return {"a": observation, "b": int(observation[0] > 0)}

    run = rl.start(lambda: Both(gym.make("CartPole-v1")), dataclasses.replace(SMALL, network="layer_norm_auto"), 2)
    run.advance(100)
    obs = run.agent.observation_space.sample()
    policy = run.policy(1)
    policy.save(tmp_path / "policy.safetensors")
    assert np.array_equal(rl.load_policy(tmp_path / "policy.safetensors").q(obs), policy.q(obs))


@pytest.mark.filterwarnings("ignore:PQN learns from the steps")
def test_rewards_are_scaled_for_learning_alone():
    """A scale of 2 with half the step of plain gradient descent on a linear network gives twice the values."""
    plain = rl.PQN(
        network="linear", envs_per_seed=4, rollout_steps=4, minibatches=2, optimizer="SGD", learning_rate=0.1,
        max_grad_norm=None, explore=rl.explore.EpsilonGreedy(1.0),
    )  # fmt: skip
    runs = [rl.start("envs/Chain-v0", dataclasses.replace(plain, reward_scale=scale), 1) for scale in (1.0, 2.0)]
    for run in runs:
        run.advance(800)
    states = torch.arange(5)[None]
    q = [run.agent.q(states) for run in runs]
    assert q[0].abs().max() > 0.1
    torch.testing.assert_close(2 * q[0], q[1])
    returns = [run.evaluate(2).returns for run in runs]
    assert np.array_equal(*returns)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"minibatches": 5}, "minibatches=5 does not divide the 48 transitions of a rollout"),
        ({"memory_steps": 7}, "memory_steps=7 exceeds rollout_steps=6"),
        ({"lambda_": 1.5}, r"lambda_ must lie in \[0, 1\], not 1.5"),
        ({"rollout_steps": 0}, "rollout_steps must be a whole number of at least 1"),
        ({"optimizer": "radam"}, "Did you mean 'RAdam'"),
        ({"reward_scale": float("nan")}, "reward_scale"),
        ({"explore": "greedy"}, "explore must be one of rl.explore's"),
        ({"network": "layer_norm_mpl(8)"}, "Did you mean 'layer_norm_mlp'"),
    ],
)
def test_settings_are_checked(settings, said):
    with pytest.raises((ValueError, TypeError), match=said.replace("'", ".")):
        dataclasses.replace(SMALL, **settings)


def test_a_number_of_environments_that_minibatches_do_not_divide_is_refused():
    with pytest.raises(ValueError, match="minibatches=4 does not divide the 18 transitions of a rollout"):
        rl.start("CartPole-v1", SMALL, 1, envs_per_seed=3)
    recurrent = dataclasses.replace(SMALL, network="gru(4)")
    with pytest.raises(ValueError, match="minibatches=4 does not divide the 10 environments per seed"):
        rl.start("CartPole-v1", recurrent, 1, envs_per_seed=10)
    with pytest.raises(ValueError, match="memory_steps=2 applies only to recurrent networks"):
        rl.start("CartPole-v1", dataclasses.replace(SMALL, memory_steps=2), 1)


class Cell(torch.nn.Module):
    """A GRU with a head, which counts what it reads."""

    def __init__(self, space, outputs):
        super().__init__()
        self.cell, self.head = torch.nn.GRU(space.shape[0], 5, batch_first=True), torch.nn.Linear(5, outputs)

    def forward(self, x, state=None):
        y, state = self.cell(x, state)
        return self.head(y), state


@pytest.mark.parametrize("memory", [0, 2])
@pytest.mark.parametrize("network", ["gru(5)", Cell])
def test_the_loss_of_sequences_is_that_of_stepping_through_them(network, memory):
    """Values step by step, returns backwards, and autograd, in one environment after another."""
    agent = dataclasses.replace(
        SMALL, network=network, memory_steps=memory, gamma=0.9, lambda_=0.7, minibatches=1, epochs=1, optimizer="SGD",
        learning_rate=0.1, max_grad_norm=None, explore=rl.explore.EpsilonGreedy(1.0),
    )  # fmt: skip
    env = lambda: gym.make("CartPole-v1", max_episode_steps=4)  # truncated
    run = rl.start(env, agent, 1)
    loop = run.local.loop
    run.advance(8 * 6 + 8 * 6 - 8)  # up to the last step of the second rollout
    caught = []
    learn = run.agent.learn
    run.agent.learn = lambda batch, measured: caught.append(batch) or learn(batch, measured)
    module = run.agent.online.member(0)
    before = {name: part.detach().clone() for name, part in module.named_parameters()}
    run.advance(8)
    (batch,) = caught
    assert batch.memory == memory
    assert batch.ended.any()
    assert (batch.last_value != 0).any()
    after = {name: part.detach().clone() for name, part in run.agent.online.member(0).named_parameters()}
    module = run.agent.online.member(0)
    module.load_state_dict(before)
    module.zero_grad()
    losses, t = [], batch.reward.shape[2]
    for i in range(8):
        state, values = torch.from_numpy(batch.state["h"][0, i]).reshape(1, 1, 5), []
        for step in range(t + 1):
            state = state * float(not batch.started[0, i, step])
            state = state.detach() if step == memory else state
            x = torch.as_tensor(batch.obs[0, i, step]).reshape(1, 1, -1)
            y, state = module(x, state)
            values.append(y[0, 0])
        following = 0.0
        for step in reversed(range(t)):
            ahead = values[step + 1].max().item()
            if batch.ended[0, i, step]:
                ahead = following = float(batch.last_value[0, i, step])
            elif step == t - 1:
                following = ahead
            mixed = 0.3 * ahead + 0.7 * following
            following = float(batch.reward[0, i, step]) + float(batch.discount[0, i, step]) * mixed
            if step >= memory:
                losses.append((values[step][batch.action[0, i, step]] - following) ** 2)
    torch.stack(losses).mean().backward()
    for name, part in module.named_parameters():
        torch.testing.assert_close(after[name], before[name] - 0.1 * part.grad, atol=1e-5, rtol=1e-4)
    assert loop.rollout.t == loop.rollout.memory == memory
    with pytest.raises(ValueError, match="learns from its own rollouts only"):
        run.agent.update(batch)


def test_few_environments_bring_a_warning():
    with pytest.warns(UserWarning, match="with 2 per seed they are strongly correlated"):
        rl.start("CartPole-v1", SMALL, 1, envs_per_seed=2)
