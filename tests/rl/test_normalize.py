"""Running statistics of observations, and rewards scaled for learning alone."""

from typing import ClassVar

import gymnasium as gym
import numpy as np
import pytest
import torch
from daily import daily

import envs
import rl
import supervised
from rl.core.observations import parts_of
from rl.deep.normalize import RunningMoments
from rl.run import processes as workers
from supervised import checkpoint

SMALL = {"network": "mlp(16)", "learn_after_steps": 30, "batch_size": 16, "capacity_steps": 400}
NORMALIZED = rl.DQN(**SMALL, normalize_observations=True, reward_scale=0.25)


class Recording(gym.Env):
    """Three numbers of very different sizes, and a record of every observation."""

    seen: ClassVar = []

    def __init__(self):
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (3,), np.float64)
        self.action_space = gym.spaces.Discrete(2)

    def _obs(self):
        obs = self.np_random.normal([0, 1e4, -5], [1, 10, 1e-3]).astype(np.float32)
        self.seen.append(obs)
        return obs.astype(np.float64)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self._obs(), {}

    def step(self, action):
        return self._obs(), float(action), False, False, {}


def states_equal(one, two):
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(states_equal(one[key], two[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(two) and all(map(states_equal, one, two))
    return one.tobytes() == two.tobytes() if isinstance(one, np.ndarray) else one == two


def test_statistics_are_those_of_what_was_acted_on(monkeypatch):
    monkeypatch.setattr(Recording, "seen", [])
    run = rl.start(Recording, NORMALIZED, 1, envs_per_seed=4, steps=400)
    Recording.seen.clear()  # what the check of its randomness saw
    run.advance(200)
    seen = np.array(Recording.seen[: 4 * 50], np.float64)  # the observations after the last step are not acted on yet
    moments = run.agent.moments
    assert moments.count.tolist() == [200]
    np.testing.assert_allclose(moments.mean[""][0], seen.mean(0), rtol=1e-10)
    np.testing.assert_allclose(moments.squares[""][0] / 200, seen.var(0), rtol=1e-6)
    x = run.agent.encode(torch.from_numpy(seen.astype(np.float32))[None])[0].numpy()
    assert np.abs(x.mean(0)).max() < 0.1
    np.testing.assert_allclose(x.std(0), 1, rtol=0.1)  # the third has few digits in float32
    before = moments.state_dict()
    run.evaluate(2, step_limit=50)
    run.agent.q(torch.zeros(1, 5, 3))
    run.loop.replay.sample(8, run.loop.sampler)
    assert states_equal(before, moments.state_dict())
    assert run.loop.replay.latest(4).dtype == torch.float32
    assert torch.equal(run.loop.replay.latest(1)[0, 0], torch.from_numpy(Recording.seen[4 * 49]))  # raw


def test_an_extreme_observation_is_clipped_and_one_that_is_infinite_not_counted():
    parts = parts_of(gym.spaces.Box(-np.inf, np.inf, (2,)))
    moments = RunningMoments(parts, 2, torch.device("cpu"))
    x = torch.tensor([[[1.0, 2.0]], [[3.0, 4.0]]])
    assert torch.equal(moments.normalize(x), x * np.float32(1 / np.sqrt(1 + 1e-8)))  # nothing is known yet
    moments.observe(x)
    assert torch.equal(moments.normalize(x), torch.zeros(2, 1, 2))
    moments.observe(torch.tensor([[[3.0, 2.0], [torch.inf, 0.0]], [[3.0, 8.0], [3.0, 6.0]]]))
    assert moments.count.tolist() == [2, 3]
    assert moments.mean[""].tolist() == [[2, 2], [3, 6]]
    assert moments.squares[""].tolist() == [[2, 0], [0, 8]]
    y = moments.normalize(torch.tensor([[[3.0, 1e9]], [[2.0, 6.0]]]))
    np.testing.assert_allclose(y, [[[1, 10]], [[-10, 0]]], rtol=1e-6)


@pytest.mark.parametrize("envs_per_seed", daily([1, 3], [1]))
def test_alone_is_stacked_and_workers_change_no_bit(envs_per_seed, forked_workers):
    settings = {"steps": 240, "progress": False, "envs_per_seed": envs_per_seed}
    many = rl.train("CartPole-v1", NORMALIZED, seeds=[3, 0, 8], **settings)
    for k, seed in enumerate(many.seeds):
        alone = rl.train("CartPole-v1", NORMALIZED, seeds=[seed], **settings)
        assert states_equal(workers.split(many.state(), k, k + 1, 3)["agent"], alone.state()["agent"])
    if envs_per_seed == 3:
        shared = rl.train("CartPole-v1", NORMALIZED, seeds=[3, 0, 8], workers=2, **settings)
        assert states_equal(shared.state()["agent"], many.state()["agent"])


def test_resume_policy_and_file(tmp_path):
    run = rl.train("CartPole-v1", NORMALIZED, steps=150, seeds=2, logdir=tmp_path / "d", progress=False)
    again = rl.load(tmp_path / "d" / "run.safetensors")
    for one in (run, again):
        one.advance(100)
    assert states_equal(run.state(), again.state())
    assert (again.agent.moments.count == 250).all()
    run.policy(1).save(tmp_path / "p")
    policy = rl.load_policy(tmp_path / "p")
    obs = np.array([[0.5, -1, 0.1, 2], [0, 0, 0, 0]], np.float32)
    assert torch.equal(
        policy.agent.q(torch.from_numpy(obs)[None])[0], run.agent.q(torch.from_numpy(obs).expand(2, 2, 4))[1]
    )
    assert policy.predict(obs)[0].tolist() == run.policy(1).predict(obs)[0].tolist()
    state, meta = checkpoint.load(tmp_path / "p")
    for name, value in (("count", np.array(-1)), ("mean", np.zeros(3)), ("squares", None)):
        weights = {**state["weights"], f"observations/{name}": value}
        if value is None:
            del weights[f"observations/{name}"]
        checkpoint.save(tmp_path / "q", {"weights": weights}, {k: v for k, v in meta.items() if k != "format"})
        with pytest.raises(rl.CheckpointError, match=f"saved {name} of the observations"):
            rl.load_policy(tmp_path / "q")


def test_older_files_know_nothing_of_either(tmp_path):
    run = rl.train("CartPole-v1", rl.DQN(**SMALL), steps=100, seeds=2, progress=False)
    assert "observations" not in run.agent.state_dict()
    run.save(tmp_path / "r")
    state, meta = checkpoint.load(tmp_path / "r")
    for name in ("normalize_observations", "reward_scale"):
        del meta["config"]["agent"][name]
    checkpoint.save(tmp_path / "r", state, {k: v for k, v in meta.items() if k != "format"})
    again = rl.load(tmp_path / "r")
    assert again.agent_config == run.agent_config
    for one in (run, again):
        one.advance(50)
    assert states_equal(run.state(), again.state())


def test_parts_that_are_no_vectors_stay_as_they_are():
    space = gym.spaces.Dict(
        {
            "eye": gym.spaces.Box(0, 255, (8, 8), np.uint8),
            "place": gym.spaces.Discrete(3),
            "speed": gym.spaces.Box(-1, 1, (2,)),
        }
    )
    agent = rl.DQN(normalize_observations=True).build(space, gym.spaces.Discrete(2), 2)
    obs = {
        "eye": torch.full((2, 3, 8, 8), 51.0),
        "place": torch.ones(2, 3, dtype=torch.int64),
        "speed": torch.rand(2, 3, 2),
    }
    obs["eye"] = obs["eye"].to(torch.uint8)
    plain = rl.DQN().build(space, gym.spaces.Discrete(2), 2).encode(obs)
    agent.observe(obs)
    x = agent.encode(obs)
    assert torch.equal(x["eye"], plain["eye"])
    assert torch.equal(x["place"], plain["place"])
    torch.testing.assert_close(x["speed"].mean(1), torch.zeros(2, 2), atol=1e-5, rtol=0)
    for nothing in (gym.spaces.Discrete(3), gym.spaces.Box(0, 255, (8, 8), np.uint8)):
        with pytest.raises(ValueError, match="nothing to normalize"):
            rl.DQN(normalize_observations=True).build(nothing, gym.spaces.Discrete(2), 1)


class Scaled(gym.Env):
    """One step, of which the second action brings `reward`."""

    reward = 1.0

    def __init__(self):
        self.observation_space, self.action_space = gym.spaces.Discrete(2), gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return 0, {}

    def step(self, action):
        return 1, self.reward * float(action), True, False, {}


class Dear(Scaled):
    reward = 64.0


@pytest.mark.parametrize("kind", [{}, {"n_step": 3, "prioritized": True}, {"compiled": False}])
def test_scaled_rewards_teach_the_same_and_returns_stay_raw(kind):
    settings = {**SMALL, "network": "linear", "learning_rate": 0.03, **kind}
    plain = rl.train(Scaled, rl.DQN(**settings), steps=600, seeds=2, progress=False)
    scaled = rl.train(Dear, rl.DQN(**settings, reward_scale=1 / 64), steps=600, seeds=2, progress=False)
    assert states_equal(plain.agent.state_dict(), scaled.agent.state_dict())
    obs = torch.zeros(2, 1, dtype=torch.int64)
    assert torch.equal(scaled.agent.q(obs), plain.agent.q(obs))
    np.testing.assert_allclose(scaled.agent.table[:, 0], [[0, 64]] * 2, atol=3)
    assert np.array_equal(scaled.agent.table, 64 * plain.agent.table)
    one, other = plain.episodes(), scaled.episodes()
    assert all(torch.equal(64 * one[tag], other[tag]) for tag in one if tag != "rollout/ep_len_mean")
    assert scaled.evaluate(2).mean == 64


def test_a_loop_of_ones_own_observes():
    world = envs.make("CartPole-v1", seeds=[0, 1], envs_per_seed=2)
    agent = NORMALIZED.build(world.observation_space, world.action_space, seeds=world.seeds)
    replay, streams = rl.Replay(world, capacity_steps=1_000), supervised.Streams(world.seeds)
    obs = world.reset()
    for t in range(120):
        agent.observe(obs)
        action = rl.explore.epsilon_greedy(agent.q(obs), epsilon=0.1, streams=streams)
        step = world.step(action)
        replay.add(obs, action, step)
        obs = step.obs
        if t > 40:
            agent.update(replay.sample(16, streams))
    assert agent.moments.count.tolist() == [240, 240]
    rl.DQN(**SMALL).build(world.observation_space, world.action_space, 2).observe(obs)  # where nothing is to be counted


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf"), True, "1"])
def test_impossible_scales_are_refused(value):
    with pytest.raises((ValueError, TypeError), match="reward_scale"):
        rl.DQN(reward_scale=value)


@pytest.mark.parametrize("value", [1, "yes", None])
def test_normalize_observations_is_a_flag(value):
    with pytest.raises(TypeError, match="normalize_observations must be True or False"):
        rl.DQN(normalize_observations=value)
