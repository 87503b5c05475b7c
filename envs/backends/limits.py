"""Time limits of environments, as far as they can be detected."""

from __future__ import annotations

from typing import Any

import gymnasium as gym

from envs.backends.contract import layers

# Attributes and settings with the limit of environments that truncate by themselves (MiniGrid, older wrappers, ALE).
ATTRIBUTES = ("max_episode_steps", "_max_episode_steps", "max_steps")
LARGEST = 200_000  # larger limits mean "never"
SETTINGS = ("max_num_frames_per_episode", "max_episode_steps", "max_steps")


def time_limit(env: gym.Env[Any, Any]) -> int | None:
    """Return the smallest limit of all TimeLimit wrappers around `env`, or None if there is none."""
    limits: list[Any] = [x._max_episode_steps for x in layers(env) if isinstance(x, gym.wrappers.TimeLimit)]
    return min((int(limit) for limit in limits if _is_limit(limit)), default=None)


def own_limit(env: gym.Env[Any, Any]) -> int | None:
    """Return a limit that the environment seems to enforce by itself, or None.

    This is the largest value under a common name, of attributes and of the spec (which has no effect without a TimeLimit).
    """
    found: list[Any] = [vars(layer).get(name) for layer in layers(env) for name in ATTRIBUTES]
    if env.spec is not None:
        found += [env.spec.max_episode_steps, *(env.spec.kwargs.get(name) for name in SETTINGS)]
    return max((min(limit, LARGEST) for limit in found if _is_limit(limit)), default=None)


def _is_limit(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
