"""Recurrent states of agents: copies on the host, and norms."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from rl.core.types import State


def host_state(state: State) -> dict[str, np.ndarray]:
    """Return a state as numpy arrays, from whatever device."""
    return {name: np.asarray(part.cpu() if isinstance(part, Tensor) else part) for name, part in state.items()}


def state_norm(state: State) -> np.ndarray | None:
    """Return the norm of the state, averaged over rows, float32 [N]; None for an empty state."""
    if not state:
        return None
    total: Any = 0.0
    for part in host_state(state).values():
        found = part.astype(np.float64)
        total = total + np.square(found).reshape(*found.shape[:2], -1).sum(-1)
    norms: np.ndarray = np.sqrt(total).mean(1).astype(np.float32)
    return norms
