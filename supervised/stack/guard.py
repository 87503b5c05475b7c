"""Skipping optimizer steps if a gradient is NaN or infinite.

On a GPU, checking the gradient makes the host wait for the device. Torch's fused optimizers need no check: if their
`found_inf`, a number on the device, is 1, they leave weights, moments and step counts unchanged; `torch.amp.GradScaler` relies
on this too.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor


class LeftOut(NamedTuple):
    """The first skipped step: its origin, and the number of skipped steps not reported yet, including this one."""

    origin: Any
    unseen: int


class Guard:
    """Checks the gradient before each step."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer

    @staticmethod
    def of(optimizer: torch.optim.Optimizer, device: torch.device) -> Guard:
        """Return the cheapest guard: a `DeviceGuard`, which does not wait, for fused optimizers on CUDA, else a `Guard`."""
        fused = device.type == "cuda" and all(group.get("fused") for group in optimizer.param_groups)
        return DeviceGuard(optimizer, device) if fused else Guard(optimizer)

    def step(self, norm: Tensor, origin: Any) -> LeftOut | None:
        """Take the optimizer's step and return None, or skip it and return what is known of skipped steps.

        norm [N]: the norm of each member's gradient; if one is NaN or infinite, the step of all members is skipped. origin: what
        to report if the step is skipped.
        """
        if not np.isfinite(norm.cpu().numpy()).all():
            return LeftOut(origin, 0)
        self.optimizer.step()
        return None

    def look(self) -> LeftOut | None:
        """Return the skipped steps since the last look that `step` has not reported, and resume taking steps."""
        return None

    def forget(self) -> None:
        """Reset, as after loading other weights."""

    def follow(self, target: Tensor, source: Tensor, rate: float) -> None:
        """Move `target` towards `source` by the share `rate` (1: copy), unless the last step was skipped."""
        if rate == 1.0:
            target.copy_(source)
        else:
            target.lerp_(source, rate)


class DeviceGuard(Guard):
    """Leaves the decision to the device. After a skipped step, all steps are skipped until `look` is called.

    The weights are then those before the first bad gradient. It calls `look` itself every MOST_UNSEEN steps, whose origins it
    keeps.
    """

    MOST_UNSEEN = 16

    def __init__(self, optimizer: torch.optim.Optimizer, device: torch.device) -> None:
        super().__init__(optimizer)
        self.bad = torch.zeros((), device=device)  # 1 after the first bad gradient
        self.left_out = torch.zeros((), device=device)  # how many steps were skipped since the last look
        self.origins: list[Any] = []  # of the steps since the last look

    def step(self, norm: Tensor, origin: Any) -> LeftOut | None:
        left_out = self.look() if len(self.origins) >= self.MOST_UNSEEN else None
        if left_out is not None:
            return left_out
        self.bad = torch.where(norm.amax() < torch.inf, self.bad, 1.0)  # a NaN is not below infinity
        self.optimizer.found_inf = self.bad  # type: ignore[attr-defined]  # which torch looks for
        self.optimizer.step()
        self.left_out.add_(self.bad)
        self.origins.append(origin)
        return None

    def look(self) -> LeftOut | None:
        if not self.origins:
            return None
        origins, count = self.origins, int(self.left_out)  # the host waits
        self.origins = []
        if not count:
            return None
        self.forget()
        return LeftOut(origins[-count], count)

    def forget(self) -> None:
        self.bad = torch.zeros_like(self.bad)
        self.left_out.zero_()
        self.origins = []

    def follow(self, target: Tensor, source: Tensor, rate: float) -> None:
        new = source if rate == 1.0 else target.lerp(source, rate)
        target.copy_(torch.where(self.bad > 0, target, new))
