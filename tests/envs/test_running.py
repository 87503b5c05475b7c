"""Running statistics of wrappers: found, frozen, pooled, and restored to the bit."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.wrappers import NormalizeObservation, NormalizeReward, TimeLimit
from gymnasium.wrappers.utils import RunningMeanStd

import envs
from envs.backends.member import ReplayableEnv, digest
from envs.backends.running import Running, checked, pooled


def normalized():
    return NormalizeReward(TimeLimit(NormalizeObservation(gym.make("CartPole-v1")), 30))


def play(member, steps, start=0):
    found = []
    for t in range(start, start + steps):
        obs, reward, *over = member.step(t % 2)
        found.append((digest(obs), reward, *over))
        if any(over):
            found.append(digest(member.reset()))
    return found


def test_wrappers_that_keep_statistics_are_found():
    assert Running(normalized()).names == ["NormalizeReward", "NormalizeObservation"]
    assert not Running(gym.make("CartPole-v1"))


@pytest.mark.parametrize("stop", [0, 7, 64, 111])
def test_statistics_come_back_to_the_bit(stop):
    one = ReplayableEnv(normalized(), 3)
    one.reset()
    play(one, stop)
    saved = one.state_dict()
    expected = play(one, 80, stop)
    two = ReplayableEnv(normalized(), 3)
    assert two.load_state_dict(saved)
    assert play(two, 80, stop) == expected
    for mine, theirs in zip(one.running.state(), two.running.state(), strict=True):
        assert digest(mine) == digest(theirs)


def test_a_checkpoint_from_before_says_that_statistics_begin_anew():
    one = ReplayableEnv(normalized(), 3)
    one.reset()
    play(one, 50)
    saved = one.state_dict()
    del saved["statistics"]
    with pytest.warns(
        RuntimeWarning, match="older version that did not save the running statistics of NormalizeReward"
    ):
        ReplayableEnv(normalized(), 3).load_state_dict(saved)


def test_statistics_of_other_wrappers_do_not_fit():
    one = ReplayableEnv(normalized(), 3)
    one.reset()
    with pytest.raises(ValueError, match="of 2 wrappers, but the environment has 1"):
        Running(NormalizeObservation(gym.make("CartPole-v1"))).freeze(one.running.statistics())


def test_frozen_statistics_do_not_move():
    source = ReplayableEnv(normalized(), 3)
    source.reset()
    play(source, 100)
    statistics = source.running.statistics()
    env = normalized()
    Running(env).freeze(statistics)
    member = ReplayableEnv(env, 9)
    first = member.reset()
    play(member, 100)
    assert digest(member.running.statistics()) == digest(statistics)
    raw, _ = gym.make("CartPole-v1").reset(seed=9)
    rms = statistics[1]["obs_rms"]
    assert np.allclose(first, (raw - rms["mean"]) / np.sqrt(rms["var"] + 1e-8))


class Own(gym.ObservationWrapper):
    """Moments of another make, without a switch."""

    class Moments:
        def __init__(self):
            self.mean, self.var, self.count = 0.0, 1.0, 0

        def update(self, x):
            self.count += 1
            self.mean += (x - self.mean) / self.count

    def __init__(self, env):
        super().__init__(env)
        self.seen = self.Moments()

    def observation(self, observation):
        self.seen.update(float(observation[0]))
        return (observation - self.seen.mean).astype(np.float32)


def test_moments_of_another_make_without_a_switch():
    member = ReplayableEnv(Own(gym.make("CartPole-v1")), 1)
    member.reset()
    play(member, 40)
    statistics = member.running.statistics()
    assert statistics[0]["seen"]["count"] > 40
    env = Own(gym.make("CartPole-v1"))
    Running(env).freeze(statistics)
    env.reset(seed=0)
    assert env.seen.mean == statistics[0]["seen"]["mean"]
    assert type(env.seen.mean) is float


def test_pooled_moments_are_those_of_all_samples():
    rng = np.random.default_rng(0)
    samples = [rng.normal(i, 1 + i, (50 * (i + 1), 3)) for i in range(3)]
    each = []
    for part in samples:
        rms = RunningMeanStd(epsilon=0, shape=(3,))
        rms.update(part)
        each.append([{"obs_rms": {"mean": rms.mean, "var": rms.var, "count": np.array(rms.count)}}])
    found = pooled(each)[0]["obs_rms"]
    together = np.concatenate(samples)
    assert np.allclose(found["mean"], together.mean(0))
    assert np.allclose(found["var"], together.var(0))
    assert found["count"] == 300
    assert pooled(each[:1]) is each[0]


def test_a_vector_wrapper_with_statistics_is_told_of():
    vector = gym.wrappers.vector.NormalizeObservation(gym.make_vec("CartPole-v1", 2, vectorization_mode="sync"))
    with pytest.warns(RuntimeWarning, match="NormalizeObservation keeps running statistics over all rows"):
        envs.make(vector, seeds=2)


@pytest.mark.parametrize(
    "state",
    [
        [{"env": np.zeros(())}, {}],
        [{"obs_rms": {"mean": np.zeros(3)}}, {}],
        [{"return_rms": {"mean": np.zeros(3)}}, {}],
        [{"return_rms": np.zeros(())}, {}],
        [{"return_rms": {"mean": "a text"}}, {}],
    ],
)
def test_a_damaged_state_is_refused(state):
    env = normalized()
    with pytest.raises(ValueError, match="do not fit"):
        Running(env).load_state(state)
    assert isinstance(env.env, gym.Env)


NOTHING = {"mean": None, "var": None, "count": None}


@pytest.mark.parametrize("found", [3, [3], [{"a": 3}], [{"a": {"mean": np.zeros(1)}}], [{"a": NOTHING}]])
def test_damaged_statistics_of_a_policy_are_refused(found):
    with pytest.raises(ValueError, match="not lists of mean, var and count"):
        checked(found)
