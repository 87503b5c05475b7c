"""Policies in other hands: into env.step, through pickle and files, asked for their values; tables over composite spaces."""

from __future__ import annotations

import copy
import itertools
import json
import pickle

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces as S
from gymnasium.vector.utils import concatenate, create_empty_array

import rl
from rl.core.spaces import SpaceError, StateIndex, space_from_json, space_to_json


def cells(high=4, shape=(2,), kind=np.int64):
    return S.Box(0, high, shape, kind)


class Any(gym.Env):
    """Observations drawn from a space."""

    def __init__(self, space):
        self.observation_space, self.action_space = space, S.Discrete(3, start=1)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        self.observation_space.seed(int(self.np_random.integers(2**31)))
        return self.observation_space.sample(), {}

    def step(self, action):
        self.t += 1
        return self.observation_space.sample(), float(action), False, self.t >= 9, {}


@pytest.mark.parametrize(
    "name", ["FrozenLake-v1", "Taxi-v3", "Taxi-v4", "CliffWalking-v1", "Blackjack-v1", "CartPole-v1"]
)
def test_an_answer_goes_straight_into_an_environment(name):
    if name not in gym.registry:
        pytest.skip("not in this gymnasium")
    agent = rl.QLearning() if name != "CartPole-v1" else rl.DQN(learn_after_steps=50, batch_size=8)
    policy = rl.train(name, agent, steps=100, progress=False).policy()
    env = gym.make(name)
    obs, _ = env.reset(seed=0)
    for deterministic in (True, False):
        action, state = policy.predict(obs, "state", None, deterministic)
        assert type(action) is np.int64
        assert (action.shape, state) == ((), "state")
        env.reset(seed=0)
        env.step(policy.predict(obs)[0])


KINDS = {
    "table": ("FrozenLake-v1", rl.QLearning()),
    "mlp": ("CartPole-v1", rl.DQN(learn_after_steps=50, batch_size=8)),
    "mlp by torch": ("CartPole-v1", rl.DQN(learn_after_steps=50, batch_size=8, compiled=False, dueling=True)),
    "tiles": ("MountainCar-v0", rl.LinearSARSA()),
    "cnn": (lambda: Any(S.Box(0, 255, (6, 6, 3), np.uint8)), rl.DQN(learn_after_steps=50, batch_size=8)),
    "parts": (
        lambda: Any(S.Dict({"a": S.Discrete(3), "b": S.Box(-1, 1, (2,))})),
        rl.DQN(learn_after_steps=50, batch_size=8),
    ),
    "cells": (lambda: Any(S.Dict({"a": S.Discrete(3), "b": cells()})), rl.QLearning()),
}


@pytest.mark.parametrize("kind", KINDS)
def test_copies_answer_the_same(kind, tmp_path):
    """Pickle, deepcopy and a file: values, greedy actions and draws."""
    env, agent = KINDS[kind]
    policy = rl.train(env, agent, steps=100, progress=False).policy()
    policy.predict(policy.observation_space.sample(), deterministic=False)  # its stream has moved
    policy.save(tmp_path / "policy")
    copies = [pickle.loads(pickle.dumps(policy, protocol)) for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1)]
    copies.append(copy.deepcopy(policy))
    space = policy.observation_space
    many = [space.sample() for _ in range(5)]
    batch = concatenate(space, many, create_empty_array(space, 5))
    expected = [policy.predict(batch, deterministic=False)[0].tolist() for _ in range(5)]
    for copied in copies:
        assert [copied.predict(batch, deterministic=False)[0].tolist() for _ in range(5)] == expected
    for other in (*copies, rl.load_policy(tmp_path / "policy")):
        np.testing.assert_array_equal(other.q(batch), policy.q(batch))
        assert other.predict(batch)[0].tolist() == policy.predict(batch)[0].tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_values_of_one_and_of_many(kind):
    env, agent = KINDS[kind]
    policy = rl.train(env, agent, steps=60, progress=False).policy()
    space, actions = policy.observation_space, int(policy.action_space.n)
    many = [space.sample() for _ in range(4)]
    values = policy.q(concatenate(space, many, create_empty_array(space, 4)))
    assert values.shape == (4, actions)
    for obs, row in zip(many, values, strict=True):
        one = policy.q(obs)
        assert one.shape == (actions,)
        np.testing.assert_allclose(one, row, rtol=1e-4, atol=1e-6)
        assert policy.predict(obs)[0] == one.argmax() + int(policy.action_space.start)


def test_the_values_of_a_table_are_the_agents():
    run = rl.train("FrozenLake-v1", rl.QLearning(), steps=500, progress=False)
    assert run.policy().q(np.arange(16)).tolist() == run.policy().table.tolist() == run.agent.table[0].tolist()


FINITE = [
    S.Dict({"b": cells(), "a": S.Box(-1, 1, (), np.int8)}),
    S.Box(0, 1, (2, 2), np.bool_),
    S.Box(250, 255, (1,), np.uint8),
    S.Tuple((S.Dict({"z": S.Discrete(3, start=-1)}), S.Box(np.array([0, 5]), np.array([2, 6]), dtype=np.uint16))),
    S.Dict({"inner": S.Dict({"y": S.MultiBinary(2), "x": S.MultiDiscrete([2, 3], start=[-1, 4])}), "c": S.Discrete(2)}),
]


def every(space):
    """All observations of a finite space, in the order of their numbers."""
    if isinstance(space, S.Discrete):
        return [int(space.start) + i for i in range(int(space.n))]
    if isinstance(space, S.Dict):
        parts = [every(part) for part in space.spaces.values()]
        return [dict(zip(space.spaces, values, strict=True)) for values in itertools.product(*parts)]
    if isinstance(space, S.Tuple):
        return list(itertools.product(*(every(part) for part in space.spaces)))
    if isinstance(space, S.MultiBinary):
        space = S.Box(0, 1, space.shape, np.int8)
    if isinstance(space, S.MultiDiscrete):
        space = S.Box(space.start, space.start + space.nvec - 1, space.shape, np.int64)
    sides = [range(int(a), int(b) + 1) for a, b in zip(space.low.ravel(), space.high.ravel(), strict=True)]
    return [np.array(values, space.dtype).reshape(space.shape) for values in itertools.product(*sides)]


@pytest.mark.parametrize("space", FINITE, ids=str)
def test_finite_spaces_are_numbered_in_the_order_of_their_parts(space):
    index = StateIndex(space)
    assert [index(obs) for obs in every(space)] == list(range(index.size))
    found, shape = index.each(concatenate(space, every(space)[:3], create_empty_array(space, 3)))
    assert (found.tolist(), shape) == ([0, 1, 2], (3,))
    run = rl.train(lambda: Any(space), rl.QLearning(), steps=60, seeds=2, envs_per_seed=2, progress=False)
    assert run.agent.table.shape == (2, index.size, 3)


def test_observations_that_a_finite_space_does_not_hold():
    index = StateIndex(S.Dict({"a": S.Discrete(2), "b": cells(1)}), "Grid")
    for wrong in (
        {"a": 0},
        {"a": 0, "b": [0, 2]},
        {"a": 0, "b": [0.5, 0]},
        {"a": 2, "b": [0, 0]},
        {"a": 0, "b": [0]},
        3,
        None,
    ):
        with pytest.raises(SpaceError, match=r"Grid returned the observation .* which is outside its space"):
            index(wrong)
        with pytest.raises(SpaceError):
            index.each(wrong)


def test_spaces_that_are_too_large_or_not_finite():
    for space, said in (
        (S.MultiBinary(40), "has 1,099,511,627,776 states; a table holds at most 10,000,000"),
        (S.Box(0, 255, (84, 84), np.uint8), r"has some 10\^16992 states"),
        (S.Box(0, 10**6, (2,), np.int64), "has 1,000,002,000,001 states"),
        (S.Box(-(2**31), 2**31 - 1, (1,), np.int32), "without tight bounds"),
    ):
        with pytest.raises(SpaceError, match=said):
            StateIndex(space)


LIMITS = [np.iinfo(kind) for kind in (np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64)]


@pytest.mark.parametrize("limit", LIMITS, ids=lambda limit: str(limit.dtype))
def test_bounds_of_whole_numbers_survive_a_file_exactly(limit):
    top = int(limit.max)
    for low, high in (
        (int(limit.min), top),
        (0, top - 1),
        (np.array([0, 1], limit.dtype), np.array([top, top - 1], limit.dtype)),
    ):
        space = S.Box(low, high, (2,), limit.dtype)
        text = json.dumps(space_to_json(space), allow_nan=False)
        again = space_from_json(json.loads(text))
        assert again == space
        assert again.high.tolist() == space.high.tolist()
        assert again.low.tolist() == space.low.tolist()


def test_bounds_as_older_files_have_them():
    """As floats, which the largest int64 is not."""
    old = {"type": "Box", "low": 0.0, "high": 9.223372036854776e18, "shape": [2], "dtype": "int64"}
    assert space_from_json(old) == S.Box(0, 2**63 - 1, (2,), np.int64)
    old = {"type": "Box", "low": 0.0, "high": 255.0, "shape": [4, 4], "dtype": "uint8"}
    assert space_to_json(space_from_json(old)) == old
