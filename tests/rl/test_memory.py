"""What an agent remembers, and what it draws of its own: through acting, replay, evaluation, policy and checkpoint."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

import gymnasium as gym
import numpy as np
import pytest
import torch

import envs
import rl
import supervised
from rl.core import registry
from rl.core.types import Decision
from rl.deep.agent import DeepAgent

LIMIT = 7


class Clock(gym.Env):
    """Shows nothing. Action 1 is worth 1 at every third step of an episode, which ends after LIMIT; action 0 nothing."""

    observation_space = gym.spaces.Box(0, 100, (2,))
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t, self.episode = 0, getattr(self, "episode", -1) + 1
        return self.seen(), {}

    def seen(self):
        return np.array([self.t, 1.0], np.float32)  # the first number is for the tests; the agent does not look at it

    def step(self, action):
        reward = float(action == (self.t % 3 == 2))
        self.t += 1
        return self.seen(), reward, False, self.t == LIMIT, {}


class Remembering(DeepAgent):
    """Counts the steps of an episode, and prefers action 1 at every third. Its own noise is added while it explores."""

    def initial_state(self, rows):
        return {"steps": np.zeros((len(self.seeds), rows, 1), np.float32)}

    def respond(self, x, state, exploring):
        y, _ = super().respond(x, {}, exploring)
        steps = np.asarray(state["steps"])
        y = 0 * y + np.stack([0 * steps[..., 0] + 0.5, steps[..., 0] % 3 == 2], -1).astype(np.float32)
        if exploring:
            y = y + self.streams["noise"].random(y.shape[1:]).astype(np.float32) / 10
        return y, {"steps": steps + 1}


@dataclass(frozen=True)
class Timed(rl.DQN):
    streams: ClassVar[tuple[str, ...]] = ("noise",)

    def build(self, observation_space, action_space, seeds=1, device="cpu"):
        return Remembering(self, observation_space, action_space, seeds, device)


@pytest.fixture(autouse=True)
def known():
    registry.register(Timed)
    yield
    del registry.AGENTS["Timed"], registry.TYPES["Timed"]


def config(**settings):
    given = {
        "network": "mlp(4)",
        "learn_after_steps": 20,
        "batch_size": 8,
        "capacity_steps": 60,
        "n_step": 2,
        **settings,
    }
    return Timed(explore=rl.explore.Greedy(), **given)


def test_a_state_begins_anew_with_each_episode_while_acting_and_lies_in_the_replay_with_what_was_seen():
    run = rl.start(Clock, config(), [3, 5], envs_per_seed=2)
    run.advance(100)
    batch = run.loop.replay.sample(200, supervised.Streams([3, 5], "replay"))
    assert batch.state.keys() == {"steps"}
    assert torch.equal(batch.state["steps"][..., 0], batch.obs[..., 0])
    assert len(batch.obs[..., 0].unique()) == LIMIT
    assert np.array_equal(run.loop.actor.state["steps"][..., 0] % LIMIT, run.loop.actor.obs[..., 0])


def test_without_a_replay_the_newest_step_carries_it(monkeypatch):
    seen = []
    learn = DeepAgent.learn
    monkeypatch.setattr(DeepAgent, "learn", lambda self, batch, m: seen.append(batch) or learn(self, batch, m))
    plain = {"capacity_steps": None, "learn_after_steps": 0, "n_step": 1, "batch_size": 1}
    rl.start(Clock, config(**plain), 2).advance(20)
    assert [float(batch.state["steps"][0, 0, 0]) for batch in seen] == [t % LIMIT for t in range(20)]


def test_evaluation_and_policy_carry_it():
    """Both are right at every third step, which nothing that is seen tells; and every episode begins anew."""
    run = rl.start(Clock, config(), [3, 5])
    run.advance(30)
    assert (run.evaluate(episodes=13).returns == LIMIT).all()
    policy = run.policy(5)
    alone, state = [], None
    for t in range(LIMIT):
        action, state = policy.predict(np.array([0, 1], np.float32), state, t == 0)
        alone.append(int(action))
    assert alone == [0, 0, 1, 0, 0, 1, 0]
    several, state = [], None
    for t in range(LIMIT):
        start = np.array([t == 0, t in (0, 2)])  # the second begins again at its third step
        actions, state = policy.predict(np.zeros((2, 2), np.float32), state, start)
        several.append(actions.tolist())
    assert [b for _, b in several] == [0, 0, 0, 0, 1, 0, 0]
    assert [a for a, _ in several] == alone
    with pytest.raises(
        ValueError, match=r"episode_start must be bool \[2\], true for observations that start an episode, not"
    ):
        policy.predict(np.zeros((2, 2), np.float32), state, [True])


def test_a_run_goes_on_from_a_checkpoint_to_the_bit(tmp_path):
    """In the middle of an episode, with its state, its own stream and the states in the replay; and seed by seed."""
    whole = rl.start(Clock, config(), [3, 5], envs_per_seed=2)
    whole.advance(60)
    whole.save(tmp_path / "run.safetensors")
    whole.advance(60)
    resumed = rl.load(tmp_path / "run.safetensors", env=Clock)
    resumed.advance(60)
    alone = rl.start(Clock, config(), [5], envs_per_seed=2)
    alone.advance(120)
    for other, k in ((resumed, 0), (resumed, 1), (alone, 0)):
        mine = len(whole.agent.seeds) - len(other.agent.seeds) + k
        for name, weight in whole.agent.online.weights.items():
            assert torch.equal(weight[mine], other.agent.online.weights[name][k])
        assert np.array_equal(
            whole.loop.replay.memory["steps"][:-1].reshape(len(whole.agent.seeds), -1)[mine],
            other.loop.replay.memory["steps"][:-1].reshape(len(other.agent.seeds), -1)[k],
        )
        drawn = [run.agent.streams["noise"].random((5,)) for run in (whole, other)]
        for run, numbers in zip((whole, other), drawn, strict=True):
            run.agent.streams["noise"].drawn = np.concatenate([numbers, run.agent.streams["noise"].drawn], 1)
        assert np.array_equal(drawn[0][mine], drawn[1][k])


def test_judging_draws_nothing_and_acting_does():
    agent = config().build(Clock.observation_space, Clock.action_space, [3, 5])
    obs = torch.zeros(2, 3, 2)
    first, again = agent.q(obs), agent.q(obs)
    assert torch.equal(first, again)
    acted, twice = agent.act(obs), agent.act(obs)
    assert isinstance(acted, Decision)
    assert not torch.equal(acted.q, twice.q)
    assert not torch.equal(acted.q, first)
    alone = config().build(Clock.observation_space, Clock.action_space, [5])
    assert torch.equal(alone.act(obs[:1]).q[0], acted.q[1])
    with pytest.raises(ValueError, match=r"act takes observations \[N, B, \*O\], the state"):
        agent.act("nothing")


@pytest.mark.parametrize("name", ["dqn", "table", "tiles"])
def test_what_remembers_nothing_answers_an_empty_state(name):
    env = {"dqn": "CartPole-v1", "table": "FrozenLake-v1", "tiles": "MountainCar-v0"}[name]
    made = {"dqn": rl.DQN(network="mlp(8)"), "table": rl.QLearning(), "tiles": rl.LinearSARSA()}[name]
    world = envs.make(env, 2, 3)
    agent = made.build(world.observation_space, world.action_space, world.seeds)
    obs = world.reset()
    q, state = agent.act(obs)
    assert torch.equal(q, agent.q(obs))
    assert torch.equal(q, agent.q(obs, state, torch.ones(2, 3, dtype=torch.bool)))
    assert state == {}


def test_a_description_of_an_earlier_version_is_told_of_its_head():
    @dataclass(frozen=True)
    class Old(rl.DQN):
        learn: ClassVar = staticmethod(lambda agent, batch, measured: None)

    with pytest.raises(ValueError, match=r"Old has a method `learn`, which is never called: .*head"):
        Old().build(Clock.observation_space, Clock.action_space)
    assert dataclasses.is_dataclass(Old)

    class Behind(rl.DQN):
        def head(self, network):
            return network

    with pytest.raises(
        ValueError, match=r"The head of Behind must be an rl\.deep\.heads\.head\.Head, .*, not <bound method"
    ):
        Behind().build(Clock.observation_space, Clock.action_space)
