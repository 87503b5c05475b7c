"""Early stopping, and keeping the weights with the lowest validation loss."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from supervised.fitting.recipe import Recipe
from supervised.stack import Stack
from supervised.state import from_tree, to_tree


class EarlyStopping:
    """Each seed's lowest validation loss, its epoch and, if kept, its weights, and which seeds have stopped.

    lowest float64 [N]; best_epoch int64 [N]; stopped bool [N]; best: weights by name, each [N, ...], or None.
    """

    def __init__(self, stack: Stack, recipe: Recipe, validated: bool) -> None:
        """Raises ValueError if the recipe requires validation data and there are none."""
        self.stack, self.patience = stack, recipe.patience_epochs
        self.keeps_best = recipe.patience_epochs is not None if recipe.keep_best is None else recipe.keep_best
        if (self.keeps_best or self.patience is not None) and not validated:
            raise ValueError("patience_epochs and keep_best depend on the validation loss: pass validation data.")
        n = len(stack.seeds)
        self.lowest, self.best_epoch, self.stopped = np.full(n, math.inf), np.zeros(n, np.int64), np.zeros(n, bool)
        self.best: dict[str, Tensor] | None = None

    def update(self, loss: np.ndarray, epoch: int) -> None:
        """Add the validation loss [N] of an epoch."""
        better = (loss < self.lowest) & ~self.stopped
        self.lowest, self.best_epoch = np.where(better, loss, self.lowest), np.where(better, epoch, self.best_epoch)
        if self.keeps_best and better.any():
            self._keep(better)
        if self.patience is not None:
            self.stopped |= epoch - self.best_epoch >= self.patience

    def _keep(self, better: np.ndarray) -> None:
        """Copy the weights of these seeds."""
        now = self.stack.state_dict()
        if self.best is None:
            self.best = {name: value.clone() for name, value in now.items()}
        for name, value in now.items():
            for k in np.flatnonzero(better):
                self.best[name][k].copy_(value[k])

    def restore_best(self) -> None:
        """Restore each member's weights with the lowest validation loss, if they were kept."""
        if self.best is not None:
            self.stack.load_state_dict(self.best)

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed fit needs to stop at the same epoch with the same weights."""
        best = to_tree(self.best)
        return {"best": best, "lowest": self.lowest, "best_epoch": self.best_epoch, "stopped": self.stopped}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load a state returned by `state_dict`. Raises ValueError for another number of seeds."""
        best = from_tree(state["best"])
        self.best = None if best is None else {name: value.to(self.stack.device) for name, value in best.items()}
        n = len(self.stack.seeds)
        self.lowest, self.best_epoch = state["lowest"].reshape(n).copy(), state["best_epoch"].reshape(n).copy()
        self.stopped = state["stopped"].reshape(n).copy()
