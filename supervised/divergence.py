"""Training that runs away: seen early, and told in a sentence that names the likely cause."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from supervised.fitting import Fit

EVERY = 20  # steps between two looks: each waits for the device
LOOKS = 2  # so many in a row must find the loss far off: it may leap once, and come back
WORSE = 3.0  # far off: this many times the loss of the best constant answer,
GROWN = 1.5  # and this many times the loss of the first step
LARGE = 50.0  # numbers beyond this want scaling


class Diverged(FloatingPointError):
    """The loss became infinite or NaN, or grew far beyond what answering the same to everything would cost."""


class Watchman:
    """Looks at the loss of every step; NaN is noticed at once, a loss that grows after some steps."""

    def __init__(self, fit: Fit) -> None:
        self.fit = fit
        n, device = len(fit.stack.seeds), fit.stack.device
        self.bad_step = torch.zeros(n, dtype=torch.int64, device=device)  # the first step with a loss that is no number
        self.bad_loss = torch.zeros(n, device=device)
        self.sum = torch.zeros(n, device=device)  # of the losses since the last look
        self.count = 0
        self.start: Tensor | None = None  # the loss of the first step
        self.far = torch.zeros(n, dtype=torch.int64, device=device)  # looks in a row that found it far off

    def look(self, loss: Tensor) -> None:
        """Take in the loss [N] of the step that was just done. Raises Diverged at every 20th if it has run away."""
        if not self.fit.recipe.stop_if_diverging:
            return
        self.start = loss if self.start is None else self.start
        new = ~torch.isfinite(loss) & (self.bad_step == 0)
        self.bad_loss = torch.where(new, loss.to(self.bad_loss.dtype), self.bad_loss)
        self.bad_step = torch.where(new, self.fit.step, self.bad_step)
        self.sum = self.sum + loss
        self.count += 1
        if self.count == EVERY:
            self.report()
            mean = self.sum / self.count
            far = (mean > WORSE * self._constant()) & (mean > GROWN * self.start)
            self.far = torch.where(far, self.far + 1, 0)
            self.sum, self.count = torch.zeros_like(self.sum), 0
            if (self.far == LOOKS).any():
                k = int((self.far == LOOKS).nonzero()[0])
                self._stop(k, self.fit.step, float(mean[k]), "grew to")

    def report(self) -> None:
        """Raise Diverged if some loss was no number."""
        if self.bad_step.any():
            k = int(self.bad_step.nonzero()[0])
            self._stop(k, int(self.bad_step[k]), float(self.bad_loss[k]), "became")

    def _constant(self) -> float:
        """The loss of the best answer that is the same for all examples."""
        y = self.fit.train.y
        if self.fit.classes is not None:
            return math.log(max(self.fit.classes, 2))
        if self.fit.loss == "binary_cross_entropy":
            return math.log(2)
        spread = float(y.flatten(1).var(0, correction=0).mean()) if len(y) > 1 else 0.0
        return max(spread, 1e-12)

    def _stop(self, k: int, step: int, loss: float, how: str) -> None:
        fit = self.fit
        rate = fit.learning_rates()[k]
        largest_x = float(fit.train.x.abs().max()) if fit.train.x.dtype != torch.uint8 else 1.0
        largest_y = float(fit.train.y.abs().max()) if fit.classes is None else 0.0
        if largest_x > LARGE and fit.train.x.is_floating_point():
            cause = (
                f"the inputs reach {largest_x:.3g}: scale them (supervised.data.scale) or take a smaller learning rate"
            )
        elif largest_y > LARGE:
            cause = (
                f"the targets reach {largest_y:.3g}: scale them (supervised.data.scale) or take a smaller learning rate"
            )
        else:
            cause = f"the learning rate {rate:g} is too large: try {rate / 10:g}"
            if fit.recurrent and fit.recipe.clip_norm is None:
                cause += ", or clip the gradient (clip_norm=1)"
        raise Diverged(
            f"Training diverged: at step {step:,} the loss of seed {fit.stack.seeds[k]} {how} {loss:.4g}. Likely cause:"
            f" {cause}. With stop_if_diverging=False it goes on all the same."
        )

    def state_dict(self) -> dict[str, Any]:
        """What a resumed fit needs to notice the same at the same step."""
        start = None if self.start is None else self.start.cpu().numpy()
        return {"sum": self.sum.cpu().numpy(), "count": self.count, "start": start, "far": self.far.cpu().numpy()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what `state_dict` gave."""
        self.sum = torch.from_numpy(state["sum"].copy()).to(self.sum.device)
        self.far = torch.from_numpy(state["far"].copy()).to(self.far.device)
        self.count = int(state["count"])
        start = state["start"]
        self.start = None if start is None else torch.from_numpy(start.copy()).to(self.sum.device)
