"""Expected values: one output for each action, Q(s, a), or the value and advantages of a dueling network.

Mnih et al. (2015), "Human-level control", equation 1; van Hasselt, Guez and Silver (2016), equation 4; Wang et al. (2016),
equation 9.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from torch import Tensor, nn

from rl import losses, network_layers, targets
from rl.core import jit
from rl.core.types import Batch, no_such_action
from rl.deep.heads.bootstrap import BEST_ACTION, Bootstrap
from rl.deep.heads.head import Bootstrapped, HeadLoss, Outputs, no_weight
from rl.deep.moving import tensors_of
from supervised.models.layers import named

HUBER = 0  # compile-time constant of `errors`, replaced by `jit`


def errors(
    next_q: Any, chooser: Any, q: Any, action: Any, reward: Any, discount: Any, weight: Any, error: Any, gradient: Any
) -> bool:
    """Compute `Scalar.loss` for values [N, B, A] as a scalar loop to be compiled, with bit-identical results.

    Writes error [N, B] and the gradient of the mean loss into gradient [N, B, A], which starts as zeros. weight: [N, B], or
    [N, 0] for weights of 1. Returns False if an action does not exist.
    """
    share = np.float32(-1.0 / q.shape[1])
    for k in range(q.shape[0]):
        for b in range(q.shape[1]):
            if not 0 <= action[k, b] < q.shape[2]:
                return False
            target = reward[k, b]
            if discount[k, b] != 0:
                best = 0
                for a in range(1, q.shape[2]):
                    value = chooser[k, b, a]
                    if value > chooser[k, b, best] or math.isnan(value):  # select NaN, so that it is noticed
                        best = a
                target = target + discount[k, b] * next_q[k, b, best]
            found = target - q[k, b, action[k, b]]
            error[k, b] = found
            slope = min(max(found, np.float32(-1)), np.float32(1)) if HUBER else np.float32(2) * found
            if not math.isfinite(found):  # it would be clipped to 1, unnoticed
                slope = np.float32(np.nan)
            scale = weight[k, b] * share if weight.shape[1] else share
            gradient[k, b, action[k, b]] = slope * scale
    return True


@final
@dataclass(frozen=True)
class Scalar(Bootstrapped):
    """Fits Q(s, a) to r + discount * Q_next(s', argmax_b Q_choice(s', b)), or to another target of `bootstrap`.

    cost: one of `rl.losses.LOSSES`. dueling: the network outputs a state value and advantages. rescale: the network outputs
    h(Q), with the target h(r + discount * h^-1(y_next)) (`rl.targets.rescaled`); TD errors are in this scale.
    """

    cost: str = "huber"
    dueling: bool = False
    rescale: bool = False
    bootstrap: Bootstrap = BEST_ACTION

    def size(self, actions: int) -> int:
        return actions + 1 if self.dueling else actions

    def module(self, network: nn.Module) -> nn.Module:
        return named([("network", network), ("dueling", network_layers.Dueling())]) if self.dueling else network

    def q(self, y: Tensor) -> Tensor:
        return targets.unscaled(y) if self.rescale else y

    def loss(self, outputs: Outputs, batch: Batch, measured: bool) -> HeadLoss:
        q, next_q, choice = outputs.y, self.q(outputs.next_y), self.q(outputs.next_choice)
        value = self.bootstrap.value(next_q, choice, batch.next_mask)
        ahead = torch.where(batch.discount == 0, 0.0, batch.discount * value)  # after a termination nothing is read
        target = self.rewarded(outputs, batch) + ahead
        target = targets.rescaled(target) if self.rescale else target
        error = target - losses.select(q, batch.action)
        share = -1.0 / error.shape[1]
        scale = share if batch.weight is None else batch.weight * share
        _, slope = losses.LOSSES[self.cost]
        steep = slope(error).masked_fill(~torch.isfinite(error), torch.nan)  # it would be clipped to 1, unnoticed
        gradient = losses.scatter_to_action(steep * scale, q, batch.action)
        return HeadLoss(gradient, error, self._metrics(self.q(q), error, batch.weight) if measured else {})

    def q_of(self, y: np.ndarray) -> np.ndarray:
        return super().q_of(y) if self.rescale else y

    def loss_of(self, outputs: Outputs, batch: Batch, measured: bool) -> HeadLoss:
        fast = jit.compiled(errors, HUBER=int(self.cost == "huber"))
        if fast is None or not self.is_plain(batch):
            return super().loss_of(outputs, batch, measured)
        q, next_q, choice = outputs.y, outputs.next_y, outputs.next_choice
        error, gradient = np.empty_like(batch.reward), np.zeros_like(q)
        weight = no_weight if batch.weight is None else batch.weight
        if not fast(next_q, choice, q, batch.action, batch.reward, batch.discount, weight, error, gradient):
            raise no_such_action(q.shape[2])
        metrics = self._metrics(*map(tensors_of, (q, error, batch.weight))) if measured else {}
        return HeadLoss(gradient, error, metrics)

    def _metrics(self, q: Tensor, error: Tensor, weight: Tensor | None) -> dict[str, Tensor]:
        loss, _ = losses.LOSSES[self.cost]
        cost = loss(error) if weight is None else loss(error) * weight
        return {
            "train/loss": cost.mean(1),
            "train/td_error": error.abs().mean(1),
            "train/q_mean": q.mean((1, 2)),
            "train/q_max": q.amax((1, 2)),
        }
