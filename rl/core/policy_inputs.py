"""Checks and conversions of the arguments of policies, and of their results."""

from __future__ import annotations

import math
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from envs.backends.running import Running, Statistics
from rl.explore import BOLTZMANN, EPSILON_GREEDY, GAUSSIAN_NOISE
from supervised.validate import ArgumentError, integer, number, shown


def frozen(env: gym.Env[Any, Any], statistics: Statistics | None) -> gym.Env[Any, Any]:
    """Return `env` with running statistics frozen into its wrappers; unchanged if statistics is None."""
    if statistics is not None:
        Running(env).freeze(statistics)
    return env


def as_answer(actions: np.ndarray, shape: tuple[int, ...]) -> np.ndarray | np.int64:
    """Return actions [B] as int64 [B], or a single action as an np.int64, which environments can use as a dict key."""
    return actions.astype(np.int64) if shape else np.int64(actions[0])


def as_array(values: Any) -> np.ndarray:
    """Convert to an array; ragged input becomes an object array."""
    try:
        return np.asarray(values.detach().cpu() if isinstance(values, torch.Tensor) else values)
    except ValueError:  # lists of different lengths
        return np.empty((), object)


def as_floats(values: Any, name: str) -> np.ndarray:
    """Convert to float64. name: the argument's, for the error."""
    try:
        return np.array(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        raise ArgumentError(f"{name} must be an array of numbers, not {shown(values)}.") from None


def as_start(given: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Return episode_start as bool [1, B]. Raises ArgumentError if the dtype or the shape differs."""
    start = as_array(given)
    if start.size != math.prod(shape) or start.dtype.kind not in "biuf":
        raise ArgumentError(
            f"episode_start must be bool {list(shape)}, true for observations that start an episode, not {shown(given)}."
        )
    return start.astype(bool).reshape(1, -1)


def as_mask(given: Any, shape: tuple[int, ...], actions: int) -> np.ndarray:
    """Return an action mask as bool [1, B, A]. Raises ArgumentError if the dtype or the shape differs."""
    mask = as_array(given)
    if mask.shape != (*shape, actions) or mask.dtype.kind not in "biu":
        raise ArgumentError(
            f"action_masks must be bool {[*shape, actions]}, true for allowed actions, not {shown(given)}."
        )
    if not mask.astype(bool).any(-1).all():
        raise ArgumentError("action_masks allows no action; at least one must be allowed.")
    return mask.astype(bool).reshape(1, -1, actions)


def check_rule(explore: Any, level: Any) -> tuple[int, float]:
    """Check the exploration rule of a policy and its epsilon, temperature or scale. Raises ArgumentError for invalid ones."""
    limits = {EPSILON_GREEDY: (0.0, 1.0), BOLTZMANN: (1e-12, math.inf), GAUSSIAN_NOISE: (0.0, math.inf)}
    explore = integer(explore, "explore")
    if explore not in limits:
        raise ArgumentError(
            f"explore must be a kind of rule that a policy supports, {', '.join(map(str, limits))}, not {explore}."
        )
    return explore, number(level, f"level of the rule {explore}", *limits[explore])
