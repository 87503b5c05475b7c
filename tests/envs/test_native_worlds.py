"""Native worlds against the single environments of the same ids, given the same random numbers."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode

import envs
from envs.native.arrays import Host
from envs.native.finite import Finite
from envs.native.register import MINATAR, NATIVE

DRAWN = {  # by one uniform number a step and a reset
    "FrozenLake-v1": "FrozenLake-v1",
    "CliffWalkingSlippery-v1": "CliffWalkingSlippery-v1",
    "Taxi-v4": "Taxi-v4",
    "Coin-v0": "envs/Coin-v0",
    "MaximizationBias-v0": "envs/MaximizationBias-v0",
    "DynaMaze-v0": "envs/DynaMaze-v0",
    "TMaze-v0": "envs/TMaze-v0",
    "MemoryChain-v0": "envs/MemoryChain-v0",
    "RepeatFirst-v0": "envs/RepeatFirst-v0",
    "RepeatPrevious-v0": "envs/RepeatPrevious-v0",
    "FrozenLake-Window-v1": "envs/FrozenLake-Window-v1",
}


class Scripted:
    """A random generator whose numbers are given."""

    def __init__(self):
        self.next = []

    def random(self):
        return self.next.pop(0)

    def __getattr__(self, name):
        raise AssertionError(f"The original drew by {name}.")


def follow(name, steps, copies=4, seed=0):
    """Play random actions in native copies and in originals that get their numbers; compare all that is returned."""
    vector = gym.make_vec(f"envs/{name}", copies, autoreset_mode=AutoresetMode.DISABLED)
    singles = [gym.make(DRAWN[name]) for _ in range(copies)]
    game, rng, ends = vector.game, np.random.default_rng(seed), 0
    drawn = {}

    def recorded(method):
        original = getattr(vector.draws, method)

        def draw(*rows):
            found = original(*rows)
            drawn[method] = np.array(found)
            return found

        setattr(vector.draws, method, draw)

    vector.reset(seed=seed)
    for method in ("reset", "step"):
        recorded(method)
    rngs = [Scripted() for _ in singles]
    for single, own in zip(singles, rngs, strict=True):
        single.reset(seed=0)
        single.unwrapped.np_random = own

    def reset(rows):
        obs, info = vector.reset(options={"reset_mask": np.isin(np.arange(copies), rows)})
        for at, i in enumerate(rows):
            rngs[i].next = drawn["reset"][at].tolist() if game.reset_draws else []
            own, _ = singles[i].reset()
            assert np.array_equal(obs[i], own), (name, obs[i], own)
        return info

    info = reset(np.arange(copies))
    for _ in range(steps // copies):
        action = rng.integers(vector.single_action_space.n, size=copies) + vector.single_action_space.start
        obs, reward, terminated, truncated, info = vector.step(action)
        for i, single in enumerate(singles):
            rngs[i].next = drawn["step"][i].tolist()
            own, *rest, own_info = single.step(action[i])
            assert np.array_equal(obs[i], own)
            assert [np.float32(rest[0]), *rest[1:]] == [reward[i], terminated[i], truncated[i]]
            if "action_mask" in own_info:
                assert np.array_equal(own_info["action_mask"], info["action_mask"][i])
        over = np.flatnonzero(terminated | truncated)
        if len(over):
            reset(over)
            ends += len(over)
    return ends


@pytest.mark.parametrize("name", DRAWN)
def test_a_copy_is_the_original_with_the_same_numbers(name):
    assert follow(name, 800) >= 1 or name == "CliffWalkingSlippery-v1"


@pytest.mark.full
@pytest.mark.parametrize("name", DRAWN)
def test_a_million_transitions_are_the_originals(name):
    assert follow(name, 1_000_000, copies=20, seed=1) > 100


@pytest.mark.parametrize("name", ["CartPole-NoVelocity-v1", "MountainCar-NoVelocity-v0"])
def test_views_without_velocities_are_the_wrapped_originals(name):
    vector, single = gym.make_vec(f"envs/{name}", 2), gym.make(f"envs/{name}")
    rng = np.random.default_rng(0)
    seen, own = vector.reset(seed=[9, 4])[0], single.reset(seed=4)[0]
    for _ in range(300):
        assert np.array_equal(seen[1], own)
        assert vector.single_observation_space == single.observation_space
        action = rng.integers(vector.single_action_space.n, size=2)
        seen, reward, terminated, truncated, _ = vector.step(action)
        own, *rest, _ = single.step(action[1])
        assert rest == [reward[1], terminated[1], truncated[1]]
        if terminated[1] or truncated[1]:
            seen, own = vector.step(action)[0], single.reset()[0]


WORLDS = sorted(name for name, spec in gym.registry.items() if name.startswith("envs/") and spec.vector_entry_point)


@pytest.mark.parametrize("name", WORLDS)
def test_torch_gives_the_bits_of_numpy_where_nothing_is_rounded(name):
    if name in {"envs/CartPole-v1", "envs/Acrobot-v1", "envs/CartPole-NoVelocity-v1", "envs/MountainCar-v0"}:
        pytest.skip("sines, see test_native")
    host, device = (gym.make_vec(name, 5, device=place) for place in ("cpu", "cpu:0"))
    rng = np.random.default_rng(0)
    seen, own = host.reset(seed=0)[0], device.reset(seed=0)[0]
    exact = "MountainCar" not in name
    for _ in range(40):
        assert np.allclose(seen, own.numpy(), atol=0 if exact else 1e-6)
        assert host.observation_space.contains(seen)
        action = rng.integers(host.single_action_space.n, size=5) + host.single_action_space.start
        seen, *rest, _ = host.step(action)
        own, *others, _ = device.step(torch.from_numpy(action))
        for mine, theirs in zip(rest, others, strict=True):
            assert np.array_equal(mine, theirs.numpy())
    saved = device.state_dict()
    device.step(torch.from_numpy(action))
    assert np.allclose(device.load_state_dict(saved).numpy(), seen, atol=0 if exact else 1e-6)


@pytest.mark.parametrize("name", [f"envs/{name}" for name in MINATAR])
def test_single_copies_pass_gymnasiums_check(name):
    assert name in NATIVE
    env = gym.make(name, render_mode="rgb_array", minimal=False)
    assert env.action_space.n == 6
    check_env(env.unwrapped)
    first, again = (env.reset(seed=3)[0] for _ in range(2))
    assert np.array_equal(first, again)
    vector = gym.make_vec(name, 2, minimal=False)
    assert np.array_equal(vector.reset(seed=2)[0][1], first)


def test_a_world_whose_model_changes_has_no_native_form():
    assert gym.spec("envs/BlockingMaze-v0").vector_entry_point is None
    with pytest.raises(envs.EnvError, match="no native version"):
        Finite(Host(), gym.make("envs/BlockingMaze-v0"))
