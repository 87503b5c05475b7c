import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.toy_text.frozen_lake import generate_random_map

import envs
from envs import TableEnv, tables

KNOWN = [
    ("FrozenLake-v1", {}),
    ("FrozenLake-v1", {"is_slippery": False}),
    ("FrozenLake-v1", {"desc": ["SFF", "FHF", "FFG"], "success_rate": 0.7, "reward_schedule": (2, -1, -0.1)}),
    ("FrozenLake-v1", {"desc": generate_random_map(7, seed=3)}),
    ("FrozenLake8x8-v1", {}),
    ("CliffWalking-v1", {}),
    ("CliffWalkingSlippery-v1", {}),
    ("Taxi-v4", {}),
    ("Taxi-v4", {"is_rainy": True}),
    ("envs/Chain-v0", {}),
]


@pytest.mark.parametrize(("name", "kwargs"), KNOWN)
def test_the_model_is_the_environment_to_the_bit(name, kwargs):
    env = gym.make(name, **kwargs)
    model = tables.read(gym.make(name, **kwargs))
    rng = np.random.Generator(np.random.PCG64(11))
    world = tables.world_of(model, np.zeros(1, np.int64), np.zeros(1, np.int64), (rng,))
    obs, _ = env.reset(seed=11)
    assert tables.model_reset(world, 0) == obs
    actions = np.random.default_rng(0).integers(model.actions, size=3000)
    for action in actions.tolist():
        obs, reward, terminated, truncated, _ = env.step(action)
        assert tables.model_step(world, 0, action) == (obs, reward, terminated, truncated)
        if terminated or truncated:
            obs, _ = env.reset()
            assert tables.model_reset(world, 0) == obs


def test_the_goal_and_the_map_are_known():
    model = tables.read(gym.make("FrozenLake-v1", desc=["SF", "HG"], reward_schedule=(5, -1, 0)))
    assert model.desc == ("SF", "HG")
    assert np.unique(model.next_state[model.success & (model.probability > 0)]).tolist() == [3]
    cliff = tables.read(gym.make("CliffWalking-v1"))
    assert cliff.desc[3] == "SHHHHHHHHHHG"


class LyingReward(TableEnv):
    def step(self, action):
        obs, reward, *rest = super().step(action)
        return obs, reward + (self.s == 3), *rest


class LyingPlace(TableEnv):
    def step(self, action):
        obs, *rest = super().step(action)
        if obs == 2 and action == 1:
            self.s = obs = 0
        return obs, *rest


class OtherDraws(TableEnv):
    def step(self, action):
        self.np_random.random()
        return super().step(action)


class NoDraws(TableEnv):
    """Deterministic, and draws nothing."""

    def reset(self, *, seed=None, options=None):
        gym.Env.reset(self, seed=seed)
        self.s = 0
        return 0, {}

    def step(self, action):
        _, self.s, reward, terminated = self.P[self.s][action][0]
        return self.s, reward, terminated, False, {}


def ring(kind=TableEnv):
    P = {s: {a: [(1.0, (s + 1 + a) % 5, float(s), False)] for a in (0, 1)} for s in range(5)}
    return kind(P, [1.0, 0, 0, 0, 0])


def test_a_user_environment_that_behaves_like_its_P_is_read():
    assert tables.read(ring()).states == 5
    model = tables.read(ring(NoDraws))
    assert not model.step_draws
    assert not model.reset_draws


@pytest.mark.parametrize(
    ("kind", "words"),
    [(LyingReward, "reward or termination"), (LyingPlace, "not behave"), (OtherDraws, "does not draw random numbers")],
)
def test_an_environment_that_does_not_is_refused(kind, words):
    with pytest.raises(envs.NoModelError, match=words):
        tables.read(ring(kind))


def test_hidden_state_is_refused():
    with pytest.raises(envs.NoModelError, match="hidden state"):
        tables.read(gym.make("Taxi-v4", fickle_passenger=True))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda env: gym.wrappers.TransformReward(env, lambda r: 2 * r),
        lambda env: gym.wrappers.TransformObservation(env, lambda o: 15 - o, env.observation_space),
        lambda env: gym.wrappers.TransformAction(env, lambda a: 3 - a, env.action_space),
        lambda env: gym.wrappers.StickyAction(env, 0.5),
        lambda env: gym.wrappers.TimeAwareObservation(env),
        lambda env: gym.wrappers.Autoreset(env),
        lambda env: type("Mine", (gym.wrappers.TimeLimit,), {})(env, 5),
    ],
)
def test_wrappers_that_may_alter_what_is_seen_are_refused(wrap):
    with pytest.raises(envs.NoModelError, match="wrapper"):
        tables.read(wrap(gym.make("FrozenLake-v1")))


def test_harmless_wrappers_and_the_tightest_time_limit():
    env = gym.wrappers.TimeLimit(gym.wrappers.RecordEpisodeStatistics(gym.make("FrozenLake-v1")), 17)
    assert tables.read(env).limit == 17
    assert tables.read(gym.make("CliffWalking-v1")).limit is None


def test_a_P_of_another_form_is_refused():
    env = ring()
    for P in (
        {},
        {s: {0: [], 1: []} for s in range(5)},
        {s: {a: [(0.5, 0, 0.0, False)] for a in (0, 1)} for s in range(5)},
    ):
        env.P = P
        with pytest.raises(envs.NoModelError):
            tables.read(env)
    env.P = {s: {a: [(1.0, 9, 0.0, False)] for a in (0, 1)} for s in range(5)}
    with pytest.raises(envs.NoModelError, match="next state outside"):
        tables.read(env)


def test_rounding_leaves_the_first_outcome_as_gymnasium_does():
    """Sums just below 1: a draw above the last sum picks the first outcome, in categorical_sample as here."""
    P = {0: {0: [(0.1, 0, float(i), True) for i in range(10)]}}
    model = tables.read(TableEnv(P, [1.0]))
    thresholds, _, reward, _ = model.arrays
    assert thresholds[0, 0, -1] < 1.0
    assert reward[0, 0].tolist() == [*map(float, range(10)), 0.0]
