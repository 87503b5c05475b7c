"""Quantiles of the return at fixed fractions: QR-DQN.

Dabney, Rowland, Bellemare and Munos (2018), "Distributional Reinforcement Learning with Quantile Regression", algorithm 1. With
`rescale` the quantiles are values of h (`rl.targets.rescaled`), which keeps their order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from rl import losses, networks, targets
from rl.core.types import Batch
from rl.deep.heads.head import Head, HeadLoss, Outputs, best_next
from supervised.models.layers import named


@final
@dataclass(frozen=True)
class Quantile(Head):
    """Pulls quantiles of Q(s, a), at (2 i + 1) / 2 Z, towards those of r + discount * Q_next(s', argmax_b Q_choice(s', b)).

    quantiles: Z. kappa: of `rl.losses.quantile_huber`. dueling: the network makes a state value and advantages of each quantile.
    """

    quantiles: int = 51
    kappa: float = 1.0
    dueling: bool = False
    rescale: bool = False

    def size(self, actions: int) -> int:
        return self.quantiles * (actions + self.dueling)

    def module(self, network: nn.Module) -> nn.Module:
        if not self.dueling:
            return network
        return named([("network", network), ("dueling", networks.Dueling(self.quantiles))])

    def distribution(self, y: Tensor) -> tuple[Tensor, Tensor]:
        values = self._values(y)
        return values, torch.full_like(values, 1 / self.quantiles)

    def q(self, y: Tensor) -> Tensor:
        return self._values(y).mean(-1)

    def loss(self, outputs: Outputs, batch: Batch, measured: bool) -> HeadLoss:
        y, next_y, choice = outputs
        predicted = losses.taken(self._by_action(y), batch.action)
        value = losses.taken(self._values(next_y), best_next(self.q(choice), batch.next_mask))
        ahead = batch.discount[..., None]
        sought = batch.reward[..., None] + torch.where(ahead == 0, 0.0, ahead * value)
        sought = targets.rescaled(sought) if self.rescale else sought
        fraction = (torch.arange(self.quantiles, device=y.device) + 0.5).to(y.dtype) / self.quantiles
        error, slope = losses.quantile_huber(predicted, sought, fraction, self.kappa)
        # Clipped, an error that is not finite would pass for one of 1.
        slope = slope.masked_fill(~torch.isfinite(error)[..., None], torch.nan)
        scale = 1.0 / error.shape[1] if batch.weight is None else batch.weight[..., None] / error.shape[1]
        gradient = losses.at_taken(slope * scale, self._by_action(y), batch.action).flatten(2)
        td_error = sought.mean(-1) - predicted.mean(-1)
        return HeadLoss(gradient, td_error, self._metrics(y, error, td_error, batch.weight) if measured else {}, error)

    def _by_action(self, y: Tensor) -> Tensor:
        """[N, B, A * Z] -> [N, B, A, Z]."""
        return y.reshape(*y.shape[:-1], -1, self.quantiles)

    def _values(self, y: Tensor) -> Tensor:
        return targets.unscaled(self._by_action(y)) if self.rescale else self._by_action(y)

    def _metrics(self, y: Tensor, error: Tensor, td_error: Tensor, weight: Tensor | None) -> dict[str, Tensor]:
        q = self.q(y)
        return {
            "train/loss": (error if weight is None else error * weight).mean(1),
            "train/td_error": td_error.abs().mean(1),
            "train/q_mean": q.mean((1, 2)),
            "train/q_max": q.amax((1, 2)),
        }
