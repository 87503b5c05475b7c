"""How a loop steps its world: Gymnasium environments here, a finite model where `rl.core.jit` puts its functions instead."""

from __future__ import annotations

from typing import Any


def world_step(world: Any, e: int, a: int) -> tuple[int, float, bool, bool]:
    """One step of a Gymnasium environment."""
    step: tuple[int, float, bool, bool] = world[e].step(a)
    return step


def world_reset(world: Any, e: int) -> int:
    """A new episode of a Gymnasium environment."""
    state: int = world[e].reset()
    return state
