"""Runs in environments that nobody here chose: masks, statistics, limits, seeds, and whatever breaks."""

import random
import warnings

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.wrappers import ClipReward, NormalizeObservation, NormalizeReward, RecordEpisodeStatistics, TimeLimit
from helpers import curves

import envs
import rl

SMALL = rl.DQN(learn_after_steps=40, batch_size=8, network="mlp(16)")


class Plain(gym.Env):
    """A number that drifts; ends after `length` steps."""

    observation_space = gym.spaces.Box(-1e6, 1e6, (1,))
    action_space = gym.spaces.Discrete(3)
    length = 20

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t, self.x = 0, self.np_random.normal(100, 10)
        return self._obs(), self._info()

    def _obs(self):
        return np.array([self.x], np.float32)

    def _info(self):
        return {}

    def step(self, action):
        self.t += 1
        self.x += self.np_random.normal() + action - 1
        return self._obs(), self.x / 100, False, self.t >= self.length, self._info()


class Levels(Plain):
    """Forbids action 1 in every other episode, and says so there alone."""

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.bound = self.np_random.random() < 0.5
        return self._obs(), self._info()

    def _info(self):
        return {"action_mask": [1, 0, 1]} if getattr(self, "bound", False) else {}

    def step(self, action):
        assert not (self.bound and action == 1), "a forbidden action"
        return super().step(action)


def weights(run, k):
    return [weight[k].clone() for weight in run.agent.online.weights.values()]


@pytest.mark.parametrize("envs_per_seed", [1, 2])
def test_masks_now_and_then_are_kept_and_a_seed_is_what_it_is_alone(envs_per_seed):
    together = rl.start(Levels, SMALL, seeds=[1, 2, 3], envs_per_seed=envs_per_seed)
    together.advance(300)
    alone = rl.start(Levels, SMALL, seeds=[2], envs_per_seed=envs_per_seed)
    alone.advance(300)
    assert all(torch.equal(a, b) for a, b in zip(weights(together, 1), weights(alone, 0), strict=True))
    assert together.evaluate(3).returns.shape == (3, 3)


def test_the_replay_forgets_a_mask_with_its_step():
    class Once(Plain):
        """Forbids all but action 0 in its first episode, then gives no mask any more."""

        count = -1

        def reset(self, **settings):
            self.count += 1
            return super().reset(**settings)

        def _info(self):
            return {"action_mask": [1, 0, 0]} if self.count == 0 else {}

    world = envs.make(Once)
    replay, obs = rl.Replay(world, capacity_steps=30), world.reset()
    for _ in range(100):
        step = world.step(np.zeros((1, 1), int))
        replay.add(obs, np.zeros((1, 1), int), step)
        obs = step.obs
    assert replay.masks.all()
    again = rl.Replay(world, capacity_steps=30)
    again.load_state_dict(replay.state_dict())
    assert np.array_equal(again.masks[:-1], replay.masks[:-1])


@pytest.mark.full  # takes 11 s
def test_workers_share_out_seeds_with_and_without_masks(forked_workers):
    def make():
        return Levels()

    free = [seed for seed in range(40) if not _bound(seed)][:1]
    bound = [seed for seed in range(40) if _bound(seed)][:1]
    agent = rl.DQN(learn_after_steps=5, batch_size=4, network="mlp(8)")
    for seeds in (free + bound, bound + free):
        one = rl.train(make, agent, steps=15, seeds=seeds, progress=False)
        two = rl.train(make, agent, steps=15, seeds=seeds, workers=2, progress=False)
        assert np.array_equal(one.loop.replay.masks[:-1], two.loop.replay.masks[:-1])


def _bound(seed):
    env = Levels()
    env.reset(seed=seed)
    return env.bound


def normalized():
    return NormalizeObservation(Plain())


@pytest.mark.parametrize("envs_per_seed", [1, 3])
def test_statistics_of_training_are_frozen_into_evaluation_and_saved(tmp_path, envs_per_seed):
    run = rl.train(normalized, SMALL, steps=600, seeds=2, envs_per_seed=envs_per_seed, progress=False)
    statistics = run.statistics()
    assert [float(own[0]["obs_rms"]["count"]) for own in statistics] == pytest.approx([630, 630], abs=4)
    assert 80 < statistics[0][0]["obs_rms"]["mean"].item() < 120
    first = run.evaluate(5)
    assert np.array_equal(run.evaluate(5).returns, first.returns)  # evaluating changes no statistics
    policy = run.policy(1)
    env = policy.wrap(normalized())
    assert not env.update_running_mean
    assert np.array_equal(env.obs_rms.mean, statistics[1][0]["obs_rms"]["mean"])
    policy.save(tmp_path / "policy.safetensors")
    again = rl.load_policy(tmp_path / "policy.safetensors").wrap(normalized())
    assert np.array_equal(again.reset(seed=3)[0], env.reset(seed=3)[0])
    run.save(tmp_path / "run.safetensors")
    loaded = rl.load(tmp_path / "run.safetensors", env=normalized)
    assert np.array_equal(loaded.evaluate(5).returns, first.returns)
    for one in (run, loaded):
        rl.train(one, steps=900, progress=False)
    assert all(torch.equal(a, b) for a, b in zip(weights(run, 0), weights(loaded, 0), strict=True))
    assert np.array_equal(loaded.evaluate(5).returns, run.evaluate(5).returns)


@pytest.mark.full  # takes 6 s
def test_a_seed_with_statistics_is_what_it_is_alone_also_in_workers(forked_workers):
    together = rl.train(normalized, SMALL, steps=200, seeds=[1, 2], progress=False)
    alone = rl.train(normalized, SMALL, steps=200, seeds=[2], progress=False)
    shared = rl.train(normalized, SMALL, steps=200, seeds=[1, 2], workers=2, progress=False)
    expected = together.evaluate(4).returns
    assert np.array_equal(expected[1:], alone.evaluate(4).returns)
    assert np.array_equal(expected, shared.evaluate(4).returns)


def test_statistics_that_cannot_be_read_are_told_of():
    vector = gym.vector.AsyncVectorEnv([normalized] * 2)
    run = rl.start(vector, SMALL, seeds=2)
    run.advance(5)
    with pytest.warns(RuntimeWarning, match="running statistics of NormalizeObservation from training cannot be read"):
        run.evaluate(1)
    vector.close()


def test_altered_rewards_and_recorded_ones_are_both_told(tmp_path):
    def make():
        return ClipReward(RecordEpisodeStatistics(Plain()), -0.5, 0.5)

    run = rl.train(make, SMALL, steps=200, seeds=2, logdir=tmp_path / "run", progress=False)
    found = run.episodes()
    assert (found["rollout/ep_rew_mean"] == 10).all()
    assert (found["rollout/recorded_ep_rew_mean"] > 15).all()
    evaluation = run.evaluate(4)
    assert (evaluation.returns == 10).all()
    assert (evaluation.recorded_returns > 15).all()
    assert "altered by ClipReward; mean return by info['episode'] " in str(evaluation)
    tags = {tag for _, tag in curves(tmp_path / "run")}
    assert {"rollout/recorded_ep_rew_mean", "eval/recorded_mean_reward", "eval/mean_reward"} <= tags
    assert "altered by NormalizeReward" in str(rl.start(lambda: NormalizeReward(Plain()), SMALL).evaluate(2))
    plain = rl.start(Plain, SMALL).evaluate(2)
    assert plain.recorded_returns is None
    assert "altered" not in str(plain)


class Endless(Plain):
    length = 10**9


class Long(Plain):
    length = 6_000


def test_evaluation_plays_as_long_as_training_does():
    limited = rl.start(lambda: TimeLimit(Endless(), 1_500), SMALL)
    assert limited.evaluate(1).lengths.item() == 1_500
    assert limited.evaluate(1, step_limit=70).lengths.item() == 70
    endless = rl.start(Endless, SMALL).evaluate(1)
    assert endless.lengths.item() == endless.step_limit == 5_000
    assert "cut after 5,000 steps" in str(endless)


def test_an_episode_that_ended_later_in_training_is_not_cut_before():
    run = rl.start(Long, rl.DQN(learn_after_steps=9_000, network="mlp(4)"), seeds=2)
    assert run.evaluate(1).step_limit == 5_000
    run.advance(6_001)
    evaluation = run.evaluate(1)
    assert evaluation.step_limit == 6_000
    assert (evaluation.lengths == 6_000).all()


class Lone(Plain):
    """Only one of them may be open at a time."""

    open = most = 0

    def __init__(self):
        if Lone.open:
            raise OSError("port 5005 is in use")
        Lone.open += 1

    def close(self):
        Lone.open -= 1


class LoneState(Lone):
    observation_space = gym.spaces.Discrete(5)

    def _obs(self):
        return int(self.x) % 5


@pytest.mark.parametrize(("make", "agent"), [(Lone, SMALL), (LoneState, rl.QLearning()), (Lone, rl.LinearSARSA())])
def test_one_environment_is_open_at_a_time(make, agent, tmp_path):
    Lone.open = 0
    if isinstance(agent, rl.LinearSARSA):
        make = _narrow
    rl.train(make, agent, steps=60, progress=False)
    assert Lone.open == 1
    Lone.open = 0
    with pytest.warns(RuntimeWarning, match="no evaluation during training.*port 5005 is in use"):
        rl.train(make, agent, steps=60, progress=False, logdir=tmp_path / "run")


class NarrowLone(Lone):
    observation_space = gym.spaces.Box(0, 200, (1,))


def _narrow():
    return NarrowLone()


def dice(draw):
    class Dice(Plain):
        def reset(self, *, seed=None, options=None):
            self.own = np.random.default_rng(seed)
            return super().reset(seed=seed)

        def step(self, action):
            self.t += 1
            return np.array([draw(self)], np.float32), 1.0, False, self.t >= 9, {}

    return Dice


@pytest.mark.parametrize(
    ("draw", "words"),
    [
        (lambda env: random.random(), "draws from random, shared by the whole process"),
        (lambda env: np.random.rand(), "draws from numpy.random, shared by the whole process"),  # noqa: NPY002  (the shared one is meant)
        (lambda env: torch.rand(1).item(), "draws from torch's default generator, shared by the whole process"),
        (lambda env: env.own.random(), "returns different results"),
        (lambda env: np.random.default_rng().random(), "returns different results"),
    ],
)
def test_randomness_that_does_not_follow_the_seed_is_told_of_once(draw, words):
    before = random.getstate(), np.random.get_state()[1].copy(), torch.random.get_rng_state()  # noqa: NPY002  (the shared one is meant)
    with pytest.warns(RuntimeWarning, match=words) as told:
        run = rl.start(dice(draw), SMALL, seeds=2)
    assert len(told) == 1
    assert random.getstate() == before[0]
    assert np.array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002  (the shared one is meant)
    assert torch.equal(torch.random.get_rng_state(), before[2])
    run.advance(20)


@pytest.mark.parametrize(
    "make", [Plain, normalized, dice(lambda env: env.np_random.random()), "CartPole-v1", "Blackjack-v1"]
)
def test_randomness_that_follows_the_seed_is_not(make):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rl.start(make, SMALL)


class Flaky(Plain):
    """Raises at its 25th step while `broken` is set."""

    broken = False

    def step(self, action):
        if Flaky.broken:
            raise RuntimeError("the simulator is gone")
        return super().step(action)


def test_an_environment_that_breaks_while_it_is_replayed_keeps_its_exception(tmp_path):
    run = rl.start(Flaky, SMALL)
    run.advance(30)
    run.save(tmp_path / "run.safetensors")
    Flaky.broken = True
    try:
        with pytest.raises(RuntimeError, match="the simulator is gone") as told:
            rl.load(tmp_path / "run.safetensors", env=Flaky)
    finally:
        Flaky.broken = False
    assert "Flaky (seed 0, episode 1, step 1) in step" in told.value.__notes__[0]


VECTORS = {
    "own": lambda: gym.vector.SyncVectorEnv([Plain] * 2),
    "wrapped": lambda: gym.wrappers.vector.RecordEpisodeStatistics(gym.vector.SyncVectorEnv([Plain] * 2)),
    "native": lambda: gym.make_vec("CartPole-v1", 2, vectorization_mode="vector_entry_point"),
    "asynchronous": lambda: gym.vector.AsyncVectorEnv([Plain] * 2),
}


@pytest.mark.parametrize("kind", VECTORS)
@pytest.mark.filterwarnings("ignore:.*takes one seed for all rows")
def test_vector_environments_are_evaluated_where_a_single_one_can_be_made(kind, tmp_path):
    vector = VECTORS[kind]()
    rl.train(vector, SMALL, steps=100, seeds=2, logdir=tmp_path / "run", progress=False)
    assert "eval/mean_reward" in {tag for _, tag in curves(tmp_path / "run")}
    vector.close()


def test_a_vector_environment_that_cannot_be_evaluated_trains_and_says_so(tmp_path):
    vector = gym.vector.VectorWrapper(gym.vector.SyncVectorEnv([Plain] * 2))
    with pytest.warns(RuntimeWarning, match="no evaluation during training.*VectorEnv in VectorWrapper"):
        run = rl.train(vector, SMALL, steps=100, seeds=2, logdir=tmp_path / "run", progress=False)
    assert run.step == 100
    assert "eval/mean_reward" not in {tag for _, tag in curves(tmp_path / "run")}
