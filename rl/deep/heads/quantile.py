"""QR-DQN: quantiles of the return at fixed fractions.

Dabney, Rowland, Bellemare and Munos (2018), "Distributional Reinforcement Learning with Quantile Regression", algorithm 1. With
`rescale` the quantiles are values of h (`rl.targets.rescaled`), which keeps their order.
"""

from __future__ import annotations

import functools
from abc import abstractmethod
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from torch import Tensor

from rl import losses, targets
from rl.core import jit
from rl.core.types import Batch, no_such_action
from rl.deep.heads import kernels
from rl.deep.heads.bootstrap import BEST_ACTION, Bootstrap
from rl.deep.heads.distributional import Distributional, share
from rl.deep.heads.head import HeadLoss, Outputs, no_weight
from rl.deep.moving import tensors_of


class QuantileRegression(Distributional):
    """The base class of quantile heads, with the quantile Huber loss (Dabney et al. 2018, equation 10)."""

    kappa: float

    @abstractmethod
    def fraction(self, outputs: Outputs) -> Tensor:
        """Return the fractions of the quantiles in `outputs.y`, [Z] or [N, B, Z]."""

    def fraction_of(self, outputs: Outputs) -> np.ndarray:
        """Like `fraction`, with arrays: [N, B, Z] or [1, 1, Z]."""
        fraction: np.ndarray = self.fraction(Outputs(*map(tensors_of, outputs))).numpy()
        return fraction.reshape(*(1,) * (3 - fraction.ndim), *fraction.shape)

    def distribution(self, y: Tensor) -> tuple[Tensor, Tensor]:
        values = self.values(y)
        return values, torch.full_like(values, 1 / values.shape[-1])

    def q(self, y: Tensor) -> Tensor:
        return self.values(y).mean(-1)

    def loss(self, outputs: Outputs, batch: Batch, measured: bool) -> HeadLoss:
        y = outputs.y
        predicted = losses.select(self.by_action(y), batch.action)
        value = self.bootstrap.value(self.values(outputs.next_y), self.q(outputs.next_choice), batch.next_mask)
        ahead = batch.discount[..., None]
        sought = self.rewarded(outputs, batch)[..., None] + torch.where(ahead == 0, 0.0, ahead * value)
        sought = targets.rescaled(sought) if self.rescale else sought
        error, slope = losses.quantile_huber(predicted, sought, self.fraction(outputs), self.kappa)
        # The Huber slope would clip an error that is not finite to 1, unnoticed.
        slope = slope.masked_fill(~torch.isfinite(error)[..., None], torch.nan)
        scale = share(batch.weight, error.shape[1])
        gradient = losses.scatter_to_action(slope * scale, self.by_action(y), batch.action).reshape(y.shape)
        td_error = sought.mean(-1) - predicted.mean(-1)
        metrics = self.metrics(self.q(y), error, td_error, batch.weight) if measured else {}
        return HeadLoss(gradient, td_error, metrics, error)

    def loss_of(self, outputs: Outputs, batch: Batch, measured: bool) -> HeadLoss:
        fast = jit.compiled(kernels.quantile_errors)
        if fast is None or not self.is_plain(batch):
            return super().loss_of(outputs, batch, measured)
        y, next_y, q = self.by_action(outputs.y), self.by_action(outputs.next_y), self.q_of(outputs.next_choice)
        error, td_error = np.empty_like(batch.reward), np.empty_like(batch.reward)
        gradient = np.zeros_like(outputs.y)
        sound = fast(
            *(next_y, q, y, batch.action, batch.reward, batch.discount),
            *(no_weight if batch.weight is None else batch.weight, np.float32(self.kappa)),
            *(self.fraction_of(outputs), error, td_error, self.by_action(gradient)),
            *(np.empty(next_y.shape[3], np.float32), np.empty(y.shape[3], np.float32)),
        )
        if not sound:
            raise no_such_action(y.shape[2])
        numbers = map(tensors_of, (self.q_of(outputs.y), error, td_error, batch.weight))
        return HeadLoss(gradient, td_error, self.metrics(*numbers) if measured else {}, error)

    def q_of(self, y: np.ndarray) -> np.ndarray:
        found: np.ndarray = super().q_of(y) if self.rescale else self.by_action(y).mean(-1)
        return found

    def values(self, y: Tensor) -> Tensor:
        """Return the quantiles [N, B, A, Z], in units of scaled rewards."""
        return targets.unscaled(self.by_action(y)) if self.rescale else self.by_action(y)


@final
@dataclass(frozen=True)
class Quantile(QuantileRegression):
    """Fits return quantiles of (s, a) at (2 i + 1) / 2 Z to those of r + discount * Q_next(s', argmax_b Q_choice(s', b)).

    quantiles: Z. kappa: see `rl.losses.quantile_huber`. dueling: the network outputs a state value and advantages per quantile.
    """

    quantiles: int = 51
    kappa: float = 1.0
    dueling: bool = False
    rescale: bool = False
    bootstrap: Bootstrap = BEST_ACTION

    @property
    def width(self) -> int:
        return self.quantiles

    def fraction(self, outputs: Outputs) -> Tensor:
        y = outputs.y
        return (torch.arange(self.quantiles, device=y.device) + 0.5).to(y.dtype) / self.quantiles

    def fraction_of(self, outputs: Outputs) -> np.ndarray:
        return self._fractions

    @functools.cached_property
    def _fractions(self) -> np.ndarray:
        # Multiplied by 1 / Z, where `fraction` divides by Z, so that earlier runs resume bit-identically.
        quantiles = np.float32(self.quantiles)
        return ((np.arange(self.quantiles, dtype=np.float32) + np.float32(0.5)) * (np.float32(1) / quantiles))[
            None, None
        ]
