"""Categorical return distributions on a fixed support: C51 and HL-Gauss.

Bellemare, Dabney and Munos (2017), "A Distributional Perspective on Reinforcement Learning", algorithm 1; Imani and White
(2018), "Improving Regression Performance with Distributional Losses", and Farebrother et al. (2024), "Stop Regressing: Training
Value Functions via Classification". The loss is the cross-entropy of a softmax, as in `supervised`'s classification, with soft
targets. With `rescale` the atoms are values of h (`rl.targets.rescaled`).
"""

from __future__ import annotations

import functools
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
from supervised.losses import cross_entropy, cross_entropy_slope


@final
@dataclass(frozen=True)
class Categorical(Distributional):
    """Fits the return distribution of (s, a) to that of r + discount * Q_next(s', argmax_b Q_choice(s', b)).

    low, high: the first and last of `atoms` evenly spaced values. deviation: None for the projected distribution as the target
    (C51), or the standard deviation of a normal distribution around the scalar target, in distances between atoms (HL-Gauss).
    dueling: the network outputs a state value and advantages for each atom.
    """

    low: float
    high: float
    atoms: int = 51
    deviation: float | None = None
    dueling: bool = False
    rescale: bool = False
    bootstrap: Bootstrap = BEST_ACTION

    @property
    def width(self) -> int:
        return self.atoms

    def support(self, y: Tensor) -> Tensor:
        """Return the atoms [Z], in the scale of the network, with the dtype and device of y."""
        return torch.linspace(self.low, self.high, self.atoms, dtype=y.dtype, device=y.device)

    def values(self, y: Tensor) -> Tensor:
        """Return the returns [Z] that the atoms stand for."""
        return targets.unscaled(self.support(y)) if self.rescale else self.support(y)

    def distribution(self, y: Tensor) -> tuple[Tensor, Tensor]:
        probability = self.by_action(y).softmax(-1)
        return self.values(y).expand_as(probability), probability

    def q(self, y: Tensor) -> Tensor:
        found: Tensor = (self.by_action(y).softmax(-1) * self.values(y)).sum(-1)
        return found

    def q_of(self, y: np.ndarray) -> np.ndarray:
        fast = jit.compiled(kernels.categorical_q)
        if fast is None or self.rescale:
            return super().q_of(y)
        q = np.empty((*y.shape[:2], y.shape[2] // self.atoms), np.float32)
        fast(self.by_action(y), self._atoms, q, np.empty(self.atoms, np.float32))
        return q

    def loss_of(self, outputs: Outputs, batch: Batch, measured: bool) -> HeadLoss:
        fast = jit.compiled(kernels.categorical_errors, HL_GAUSS=int(self.deviation is not None))
        if fast is None or not self.is_plain(batch):
            return super().loss_of(outputs, batch, measured)
        y, next_y, choice = outputs.y, outputs.next_y, outputs.next_choice
        error, td_error, edge = (np.empty_like(batch.reward) for _ in range(3))
        gradient, room = np.zeros_like(y), np.empty((2, self.atoms), np.float32)
        width = np.float32((self.deviation or 0.0) * (self.high - self.low) / (self.atoms - 1))
        sound = fast(
            *(self.by_action(next_y), self.by_action(choice), choice is not next_y),
            *(self.by_action(y), batch.action, batch.reward, batch.discount),
            *(no_weight if batch.weight is None else batch.weight, self._atoms, width),
            *(error, td_error, edge, self.by_action(gradient), *room),
        )
        if not sound:
            raise no_such_action(y.shape[2] // self.atoms)
        metrics = {}
        if measured:
            numbers = map(tensors_of, (self.q_of(y), error, td_error, batch.weight))
            metrics = {**self.metrics(*numbers), "train/edge_mass": tensors_of(edge).mean(1)}
        return HeadLoss(gradient, td_error, metrics, error)

    @functools.cached_property
    def _atoms(self) -> np.ndarray:
        return np.linspace(self.low, self.high, self.atoms, dtype=np.float32)

    def loss(self, outputs: Outputs, batch: Batch, measured: bool) -> HeadLoss:
        y = outputs.y
        logits = losses.select(self.by_action(y), batch.action)
        target = self._target(outputs, batch)
        error = cross_entropy(logits, target)
        scale = share(batch.weight, error.shape[1])
        slope = cross_entropy_slope(logits, target) * scale
        # An infinite target would be clipped to the last atom, unnoticed.
        finite = torch.isfinite(batch.reward) & torch.isfinite(batch.discount)
        slope = slope.masked_fill(~finite[..., None], torch.nan)
        gradient = losses.scatter_to_action(slope, self.by_action(y), batch.action).flatten(2)
        td_error = ((target - logits.softmax(-1)) * self.values(y)).sum(-1)
        metrics = {}
        if measured:
            edge = target[..., 0] + target[..., -1]
            metrics = {**self.metrics(self.q(y), error, td_error, batch.weight), "train/edge_mass": edge.mean(1)}
        return HeadLoss(gradient, td_error, metrics, error)

    def _target(self, outputs: Outputs, batch: Batch) -> Tensor:
        """Return the target probabilities [N, B, Z] of the atoms."""
        next_y, choice = outputs.next_y, self.q(outputs.next_choice)
        support, reward = self.support(next_y), self.rewarded(outputs, batch)
        next_p = self.by_action(next_y).softmax(-1)
        values, probability = self.bootstrap.mixture(self.values(next_y), next_p, choice, batch.next_mask)
        discount = batch.discount[..., None]  # after a termination nothing is read, not even a NaN
        values = torch.where(discount == 0, 0.0, discount * values)
        probability = torch.where(discount == 0, 1.0 / probability.shape[-1], probability)
        if self.deviation is None:
            return targets.projected(self._h(reward[..., None] + values), probability, support)
        value = reward + (probability * values).sum(-1)
        return targets.smeared(self._h(value), support, self.deviation * float(support[1] - support[0]))

    def _h(self, value: Tensor) -> Tensor:
        return targets.rescaled(value) if self.rescale else value
