"""Stepping a finite model, in scalar functions that run both as Python and compiled."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from envs.model.model import Model


class ModelState(NamedTuple):
    """A model and the state of E environments, for scalar loops: plain arrays and generators."""

    thresholds: Any  # float64 [S, A, K], cumulative probabilities; 2 after the last outcome
    next_state: Any  # [S, A, K + 1], as in Model; after the last outcome the first one again
    reward: Any
    terminated: Any
    start: Any  # float64 [S], cumulative
    limit: int  # 0: none
    step_draws: bool
    reset_draws: bool
    state: Any  # int64 [E]
    elapsed: Any  # int64 [E]
    generators: Any  # E generators


def model_reset(world: Any, e: int) -> int:
    """Start an episode in environment e -> its initial state."""
    u = world.generators[e].random() if world.reset_draws else 0.0
    s = 0
    for i in range(world.start.shape[0]):
        if world.start[i] > u:
            s = i
            break
    world.state[e] = s
    world.elapsed[e] = 0
    return s


def model_step(world: Any, e: int, a: int) -> tuple[int, float, bool, bool]:
    """Take action a in environment e -> (next state, reward, terminated, truncated)."""
    s = world.state[e]
    u = world.generators[e].random() if world.step_draws else 0.0
    k = 0
    for i in range(world.thresholds.shape[2]):
        k += world.thresholds[s, a, i] <= u
    s2 = world.next_state[s, a, k]
    world.state[e] = s2
    elapsed = world.elapsed[e] + 1
    world.elapsed[e] = elapsed
    return s2, world.reward[s, a, k], world.terminated[s, a, k], world.limit > 0 and elapsed >= world.limit


def world_of(
    model: Model, state: np.ndarray, elapsed: np.ndarray, generators: tuple[np.random.Generator, ...]
) -> ModelState:
    """Return E environments of `model`; the caller owns state and elapsed, int64 [E]."""
    return ModelState(
        *model.arrays,
        np.cumsum(model.start),
        model.limit or 0,
        model.step_draws,
        model.reset_draws,
        state,
        elapsed,
        generators,
    )
