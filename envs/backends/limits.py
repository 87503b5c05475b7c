"""After how many steps an environment cuts its episodes, as far as that can be seen from outside."""

from __future__ import annotations

from typing import Any

import gymnasium as gym

from envs.backends.contract import layers

# Attributes and settings by which environments that truncate themselves keep their limit (MiniGrid, older wrappers, ALE).
ATTRIBUTES = ("max_episode_steps", "_max_episode_steps", "max_steps")
LARGEST = 200_000  # what is above is meant as "never"
SETTINGS = ("max_num_frames_per_episode", "max_episode_steps", "max_steps")


def time_limit(env: gym.Env[Any, Any]) -> int | None:
    """The smallest limit of the TimeLimit wrappers around `env`, wherever they stand; None: nothing is known to cut it."""
    limits: list[Any] = [x._max_episode_steps for x in layers(env) if isinstance(x, gym.wrappers.TimeLimit)]
    return min((int(limit) for limit in limits if _is_limit(limit)), default=None)


def own_limit(env: gym.Env[Any, Any]) -> int | None:
    """A limit that the environment seems to keep by itself; None: there is none.

    The largest value under a usual name, of attributes and of the spec (which binds nobody without a TimeLimit wrapper).
    """
    found: list[Any] = [vars(layer).get(name) for layer in layers(env) for name in ATTRIBUTES]
    if env.spec is not None:
        found += [env.spec.max_episode_steps, *(env.spec.kwargs.get(name) for name in SETTINGS)]
    return max((min(limit, LARGEST) for limit in found if _is_limit(limit)), default=None)


def _is_limit(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
