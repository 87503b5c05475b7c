"""Quantiles of the return at fixed fractions: QR-DQN.

Dabney, Rowland, Bellemare and Munos (2018), "Distributional Reinforcement Learning with Quantile Regression", algorithm 1. With
`rescale` the quantiles are values of h (`rl.targets.rescaled`), which keeps their order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from torch import Tensor

from rl import losses, targets
from rl.core import jit
from rl.core.types import Batch, no_such_action
from rl.deep.heads import kernels
from rl.deep.heads.distributional import Distributional, share
from rl.deep.heads.head import HeadLoss, Outputs, best_next, no_weight
from rl.deep.moving import tensors_of


@final
@dataclass(frozen=True)
class Quantile(Distributional):
    """Pulls quantiles of Q(s, a), at (2 i + 1) / 2 Z, towards those of r + discount * Q_next(s', argmax_b Q_choice(s', b)).

    quantiles: Z. kappa: of `rl.losses.quantile_huber`. dueling: the network makes a state value and advantages of each quantile.
    """

    quantiles: int = 51
    kappa: float = 1.0
    dueling: bool = False
    rescale: bool = False

    @property
    def width(self) -> int:
        return self.quantiles

    def distribution(self, y: Tensor) -> tuple[Tensor, Tensor]:
        values = self._values(y)
        return values, torch.full_like(values, 1 / self.quantiles)

    def q(self, y: Tensor) -> Tensor:
        return self._values(y).mean(-1)

    def loss_of(self, outputs: Outputs, batch: Batch, measured: bool) -> HeadLoss:
        fast = jit.compiled(kernels.quantile_errors)
        if fast is None or self.rescale or batch.next_mask is not None:
            return super().loss_of(outputs, batch, measured)
        y, next_y, choice = outputs
        error, td_error = np.empty_like(batch.reward), np.empty_like(batch.reward)
        gradient = np.zeros_like(y)
        sound = fast(
            *(self.by_action(next_y), self.q_of(choice), self.by_action(y), batch.action, batch.reward, batch.discount),
            *(no_weight if batch.weight is None else batch.weight, np.float32(self.kappa)),
            *(error, td_error, self.by_action(gradient), *np.empty((2, self.quantiles), np.float32)),
        )
        if not sound:
            raise no_such_action(y.shape[2] // self.quantiles)
        numbers = map(tensors_of, (self.q_of(y), error, td_error, batch.weight))
        return HeadLoss(gradient, td_error, self.metrics(*numbers) if measured else {}, error)

    def q_of(self, y: np.ndarray) -> np.ndarray:
        found: np.ndarray = super().q_of(y) if self.rescale else self.by_action(y).mean(-1)
        return found

    def loss(self, outputs: Outputs, batch: Batch, measured: bool) -> HeadLoss:
        y, next_y, choice = outputs
        predicted = losses.taken(self.by_action(y), batch.action)
        value = losses.taken(self._values(next_y), best_next(self.q(choice), batch.next_mask))
        ahead = batch.discount[..., None]
        sought = batch.reward[..., None] + torch.where(ahead == 0, 0.0, ahead * value)
        sought = targets.rescaled(sought) if self.rescale else sought
        fraction = (torch.arange(self.quantiles, device=y.device) + 0.5).to(y.dtype) / self.quantiles
        error, slope = losses.quantile_huber(predicted, sought, fraction, self.kappa)
        # Clipped, an error that is not finite would pass for one of 1.
        slope = slope.masked_fill(~torch.isfinite(error)[..., None], torch.nan)
        scale = share(batch.weight, error.shape[1])
        gradient = losses.at_taken(slope * scale, self.by_action(y), batch.action).flatten(2)
        td_error = sought.mean(-1) - predicted.mean(-1)
        return HeadLoss(
            gradient, td_error, self.metrics(self.q(y), error, td_error, batch.weight) if measured else {}, error
        )

    def _values(self, y: Tensor) -> Tensor:
        return targets.unscaled(self.by_action(y)) if self.rescale else self.by_action(y)
