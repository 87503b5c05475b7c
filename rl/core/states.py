"""What agents remember of episodes, looked at."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from rl.core.types import State


def host_state(state: State) -> dict[str, np.ndarray]:
    """A state in arrays, wherever it lies."""
    return {name: np.asarray(part.cpu() if isinstance(part, Tensor) else part) for name, part in state.items()}


def state_norm(state: State) -> np.ndarray | None:
    """The norm of what is remembered in each row, its mean over the rows, [N]; None where nothing is."""
    if not state:
        return None
    total: Any = 0.0
    for part in host_state(state).values():
        found = part.astype(np.float64)
        total = total + np.square(found).reshape(*found.shape[:2], -1).sum(-1)
    norms: np.ndarray = np.sqrt(total).mean(1).astype(np.float32)
    return norms
