"""How a loop steps its environments: the functions for Gymnasium, which `rl.core.jit` replaces for a finite model."""

from __future__ import annotations

from typing import Any


def world_step(world: Any, e: int, a: int) -> tuple[int, float, bool, bool]:
    """Take one step in a Gymnasium environment."""
    step: tuple[int, float, bool, bool] = world[e].step(a)
    return step


def world_reset(world: Any, e: int) -> int:
    """Start a new episode in a Gymnasium environment."""
    state: int = world[e].reset()
    return state
