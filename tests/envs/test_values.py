"""Observations that lie outside their space are refused, never cast into it."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces as S

import envs
from envs.backends.values import Fit, Misfit

BYTES = S.Box(0, 255, (2,), np.uint8)


@pytest.mark.parametrize(
    ("space", "value"),
    [
        (BYTES, [0.2, 0.9]),
        (BYTES, [300, 0]),
        (BYTES, [0, -1]),
        (BYTES, [np.nan, 0]),
        (BYTES, [np.inf, 0]),
        (BYTES, ["1", "2"]),
        (BYTES, [None, 1]),
        (BYTES, None),
        (BYTES, [1, 2, 3]),
        (BYTES, 1),
        (S.Box(0, 1, (2,), np.uint8), [0, 2]),
        (S.Box(-3, 3, (2,), np.int64), [0, 4]),
        (S.Box(0, 1, (2,), np.bool_), [0, 2]),
        (S.Discrete(5), 2.7),
        (S.Discrete(5), 5),
        (S.Discrete(5), -1),
        (S.Discrete(5, start=3), 2),
        (S.Discrete(5), np.nan),
        (S.Discrete(5), [2]),
        (S.Discrete(5), "2"),
        (S.MultiDiscrete([3, 3]), [0, -1]),
        (S.MultiDiscrete([3, 3]), [0, 3]),
        (S.MultiDiscrete([3, 3], start=[1, 1]), [0, 1]),
        (S.MultiDiscrete([3, 3]), [0.5, 1]),
        (S.MultiBinary(3), [0, 2, 1]),
        (S.MultiBinary(3), [0, -1, 1]),
        (S.Box(-1, 1, (2,)), [np.nan, 0]),
        (S.Box(-1, 1, (2,)), [np.inf, 0]),
        (S.Box(-1, np.inf, (2,)), [-np.inf, 0]),
        (S.Box(-np.inf, np.inf, (2,), np.float32), np.array([1e300, 0])),
        (S.Box(-1, 1, (2,), np.float16), np.array([1e5, 0])),
        (S.Box(-1, 1, (2,)), [1j, 0]),
        (S.Dict({"a": S.Discrete(2), "b": BYTES}), {"a": 0}),
        (S.Dict({"a": S.Discrete(2), "b": BYTES}), {"a": 0, "b": [0, 256]}),
        (S.Dict({"a": S.Discrete(2), "b": BYTES}), [0, [0, 0]]),
        (S.Tuple([S.Discrete(2), BYTES]), (0, [0, 0], 1)),
        (S.Tuple([S.Discrete(2), S.Tuple([S.Discrete(2)])]), (0, (2,))),
        (S.Tuple([S.Discrete(2), BYTES]), 0),
    ],
)
def test_what_does_not_fit(space, value):
    good = space.sample()
    with pytest.raises(Misfit) as told:
        Fit(space).stack([good, good, value])
    assert told.value.row in (0, 2)  # a shape that all rows share is told of the first
    with pytest.raises(Misfit):
        Fit(space).stack([value])


@pytest.mark.parametrize(
    ("space", "value"),
    [
        (BYTES, np.array([0, 255], np.int64)),
        (BYTES, [0, 255]),
        (BYTES, np.array([0.0, 255.0])),
        (BYTES, np.array([0, 255], object)),
        (BYTES, torch.tensor([0, 255])),
        (S.Box(-9, 9, (2,)), np.array([1, 2], np.float16)),
        (S.Box(-9, 9, (2,)), np.array([1, 2], np.float64)),
        (S.Box(-9, 9, (2,)), np.array([1, 2])),
        (S.Box(-9, 9, (2,)), [True, 2]),
        (S.Box(-9, 9, (2,)), [10.0, -(2.0**100)]),  # many environments declare bounds that they do not keep
        (S.Box(-np.inf, np.inf, (2,)), [np.inf, -np.inf]),
        (S.Box(0, 2**64 - 1, (1,), np.uint64), np.array([2**64 - 1], np.uint64)),
        (S.Box(-(2**63), 2**63 - 1, (1,), np.int64), [-(2**63)]),
        (S.Box(0, 1, (2,), np.bool_), [0, 1]),
        (S.Discrete(2), np.False_),
        (S.Discrete(2), True),
        (S.Discrete(2), np.array(1)),
        (S.Discrete(5, start=-3), np.int8(-3)),
        (S.MultiBinary(3), [True, 0, np.True_]),
        (S.MultiDiscrete([3, 3], start=[1, 1]), [1, 3]),
        (S.Dict({"a": S.Discrete(2), "b": BYTES}), {"a": 0, "b": [0, 255], "more": "is not read"}),
        (S.Tuple([S.Discrete(2), BYTES]), [0, [0, 255]]),
    ],
)
def test_what_fits_keeps_its_value(space, value):
    fit = Fit(space)
    stacked = fit.stack([value, value])

    def same(part, rows, given):
        if isinstance(part, S.Dict):
            for key in part:
                same(part[key], rows[key], given[key])
        elif isinstance(part, S.Tuple):
            for i, own in enumerate(part):
                same(own, rows[i], given[i])
        else:
            assert rows.dtype == part.dtype
            assert rows.shape == (2, *part.shape)
            assert (rows[1] == np.asarray(given)).all()

    same(space, stacked, value)
    same(space, fit.check(stacked), value)


def test_stacking_is_gymnasiums():
    from gymnasium.vector.utils import concatenate, create_empty_array

    for space in (
        S.Box(0, 255, (4, 3), np.uint8),
        S.Box(-1, 1, (2, 2), np.float64),
        S.Discrete(7, start=2),
        S.Dict({"x": S.MultiBinary((2, 2)), "y": S.Tuple([S.Discrete(3), S.MultiDiscrete([2, 5])])}),
        S.Text(5),
    ):
        space.seed(3)
        samples = [space.sample() for _ in range(4)]
        ours = Fit(space).stack(samples)
        theirs = concatenate(space, samples, create_empty_array(space, 4))
        assert str(ours) == str(theirs)


def environment(space, values):
    class Gives(gym.Env):
        observation_space, action_space = space, S.Discrete(2)

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            self.t = 0
            return values[0], {}

        def step(self, action):
            self.t += 1
            return values[self.t % len(values)], 1.0, False, self.t >= 9, {}

    return Gives


def test_the_error_names_seed_episode_step_and_value():
    world = envs.make(environment(BYTES, [np.array([0, 1]), np.array([7, 300])]), seeds=[5, 8], envs_per_seed=2)
    world.reset()
    with pytest.raises(envs.EnvError, match=r"Gives \(seed 5, episode 0, step 1\).*the value 300 at \[1\] is outside"):
        world.step(np.zeros((2, 2), int))


@pytest.mark.parametrize(
    "id_", ["CartPole-v1", "Acrobot-v1", "MountainCar-v0", "Blackjack-v1", "Taxi-v4", "Pendulum-v1"]
)
def test_gymnasiums_own_environments_are_never_refused(id_):
    world = envs.make(id_, seeds=4)
    world.reset()
    rng = np.random.default_rng(0)
    for _ in range(300):
        actions = rng.integers(world.rows.actions, size=(4, 1)) if world.rows.actions else rng.normal(size=(4, 1, 1))
        world.step(actions)


def test_native_vector_environments_are_checked_too():
    world = envs.make(gym.make_vec("CartPole-v1", 2), seeds=1, envs_per_seed=2)
    world.reset()
    for _ in range(100):
        assert world.step(np.ones((1, 2), int)).next_obs.dtype == torch.float32
