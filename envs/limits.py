"""After how many steps an environment cuts its episodes, as far as that can be seen from outside."""

from __future__ import annotations

from typing import Any

import gymnasium as gym

from envs.contract import layers

# Attributes and settings by which environments that truncate themselves keep their limit (MiniGrid, older wrappers, ALE).
ATTRIBUTES = ("max_episode_steps", "_max_episode_steps", "max_steps")
SETTINGS = ("max_num_frames_per_episode", "max_episode_steps", "max_steps")


def time_limit(env: gym.Env[Any, Any]) -> int | None:
    """The smallest limit of the TimeLimit wrappers around `env`, or that of its spec; None: no limit is known."""
    limits: list[Any] = [x._max_episode_steps for x in layers(env) if isinstance(x, gym.wrappers.TimeLimit)]
    if not limits and env.spec is not None:
        limits = [env.spec.max_episode_steps]
    return min((int(limit) for limit in limits if _is_limit(limit)), default=None)


def own_limit(env: gym.Env[Any, Any]) -> int | None:
    """A limit that the environment seems to keep by itself: the largest value under a usual name; None: there is none."""
    found: list[Any] = [vars(layer).get(name) for layer in layers(env) for name in ATTRIBUTES]
    if env.spec is not None:
        found += [env.spec.kwargs.get(name) for name in SETTINGS]
    return max((int(limit) for limit in found if _is_limit(limit)), default=None)


def _is_limit(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
