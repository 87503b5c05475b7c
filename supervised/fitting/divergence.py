"""Early detection of divergence, reported with its likely cause."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from supervised.fitting.check_data import Checked
from supervised.fitting.objective import Objective
from supervised.fitting.recipe import Recipe
from supervised.sources import leaves
from supervised.stack import Stack

EVERY = 20  # steps between two checks, each of which waits for the device
LOOKS = 2  # consecutive checks that must find the loss far off, since a single spike may recover
WORSE = 3.0  # far off: more than this many times the loss of the best constant prediction
GROWN = 1.5  # and more than this many times the loss of the first step
LARGE = 50.0  # data beyond this should be scaled


class Diverged(FloatingPointError):
    """Raised when the loss becomes infinite or NaN, or grows far beyond that of a constant prediction."""


class DivergenceMonitor:
    """Checks the recent losses at intervals and stops a fit that has diverged."""

    def __init__(
        self,
        stack: Stack,
        recipe: Recipe,
        objective: Objective,
        checked: Checked,
        learning_rates: Callable[[], list[float]],
    ) -> None:
        """checked: the training data. learning_rates: a function that returns the seeds' current learning rates."""
        self.seeds, self.recipe, self.objective, self.checked = stack.seeds, recipe, objective, checked
        self.learning_rates = learning_rates
        self.recent: list[Tensor] = []  # the losses [N] since the last check
        self.start: Tensor | None = None  # the loss of the first step
        # The number of consecutive checks that have found the loss far off, [N].
        self.far = torch.zeros(len(stack.seeds), dtype=torch.int64, device=stack.device)

    def look(self, loss: Tensor, step: int) -> None:
        """Add the loss [N] of a step. Every 20th call raises Diverged if the fit has diverged."""
        self.start = loss if self.start is None else self.start
        self.recent.append(loss)
        if len(self.recent) == EVERY:
            recent, self.recent = torch.stack(self.recent), []
            mean = recent.mean(0)
            far = (mean > WORSE * self._constant) & (mean > GROWN * self.start)
            self.far = torch.where(far, self.far + 1, 0)
            self._judge(recent, self.far == LOOKS, step)

    def report(self, step: int) -> None:
        """Raise Diverged if a loss since the last check is NaN or infinite. step: the last of these steps."""
        if self.recent:
            self._judge(torch.stack(self.recent), torch.zeros_like(self.far, dtype=torch.bool), step)

    def _judge(self, recent: Tensor, grown: Tensor, step: int) -> None:
        """Raise Diverged if a loss [steps, N] is NaN or infinite, or `grown`, bool [N], is set. Waits for the device once."""
        wrong = ~torch.isfinite(recent)
        if not self.recipe.stop_if_diverging or not bool(wrong.any() | grown.any()):
            return
        if wrong.any():
            i, k = (int(n) for n in wrong.nonzero()[0])
            self._stop(k, step - len(recent) + 1 + i, float(recent[i, k]), "became")
        k = int(grown.nonzero()[0])
        self._stop(k, step, float(recent.mean(0)[k]), "grew to")

    @functools.cached_property
    def _constant(self) -> float:
        """The loss of the best constant prediction; infinite for a user-defined loss."""
        if self.objective.own is not None:
            return math.inf
        y = self.checked.data.sample.y
        if self.checked.classes is not None:
            return math.log(max(self.checked.classes, 2))
        if self.objective.name == "binary_cross_entropy":
            return math.log(2)
        spread = float(y.flatten(1).var(0, correction=0).mean()) if len(y) > 1 else 0.0
        return max(spread, 1e-12)

    def _stop(self, k: int, step: int, loss: float, how: str) -> None:
        rate = self.learning_rates()[k]
        x, y = self.checked.data.sample
        largest_x = max((float(part.abs().max()) for part in leaves(x) if part.is_floating_point()), default=0.0)
        largest_y = float(y.abs().max()) if self.checked.classes is None else 0.0
        if largest_x > LARGE:
            cause = (
                f"the inputs reach {largest_x:.3g}: scale them (supervised.data.scale) or use a smaller learning rate"
            )
        elif largest_y > LARGE:
            cause = (
                f"the targets reach {largest_y:.3g}: scale them (supervised.data.scale) or use a smaller learning rate"
            )
        else:
            cause = f"the learning rate {rate:g} is too large: try {rate / 10:g}"
            if self.checked.recurrent and self.recipe.clip_norm is None:
                cause += ", or clip the gradient (clip_norm=1)"
        raise Diverged(
            f"Training diverged: at step {step:,} the loss of seed {self.seeds[k]} {how} {loss:.4g}. Likely cause:"
            f" {cause}. To continue anyway, set stop_if_diverging=False."
        )

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed fit needs to stop at the same step."""
        recent = torch.stack(self.recent).cpu().numpy() if self.recent else None
        start = None if self.start is None else self.start.cpu().numpy()
        return {"recent": recent, "start": start, "far": self.far.cpu().numpy()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load a state returned by `state_dict`. Raises ValueError for another number of seeds."""
        recent, start, far = (
            None if part is None else torch.from_numpy(part.copy()).to(self.far.device)
            for part in (state["recent"], state["start"], state["far"])
        )
        assert far is not None
        self.recent = [] if recent is None else list(recent)
        self.start, self.far = start, far
        if far.shape != (len(self.seeds),) or any(loss.shape != far.shape for loss in self.recent):
            raise ValueError("its losses are for a different number of seeds")
