"""Learning from windows: unroll, take the steps behind the burn-in, and let the head say what each of them costs.

Members have windows of their own lengths, so a head is asked for one member at a time, about the steps that exist: what is
padded is never read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from rl.core.types import Batch, SequenceBatch
from rl.deep.heads.head import HeadLoss, Outputs
from rl.deep.learner import Learner
from rl.deep.reading import Read, Reading


class Steps(NamedTuple):
    """The steps of a member's windows that carry a loss."""

    row: np.ndarray  # int64 [M], which window
    time: np.ndarray  # int64 [M], which step of it


class SequenceLearner(Learner):
    """As `Learner`, from an rl.SequenceBatch whose numbers lie on the host."""

    reading: Reading
    priority_mix = 0.9

    def found(self, batch: SequenceBatch, measured: bool) -> tuple[HeadLoss, Callable[[Any], None]]:  # type: ignore[override]  # of windows
        """What is to be learned from windows, TD errors [N, B, T] and priorities [N, B]."""
        read = self.reading.windows(self.asked, self.arrays.encode_windows(batch.obs), batch)
        steps = [loss_steps(batch, k) for k in range(len(batch.reward))]
        losses = [self._of_member(batch, read, k, at, measured) for k, at in enumerate(steps)]
        gradient = self.arrays.placed([loss.gradient for loss in losses], read.outputs.y, [tuple(at) for at in steps])
        td_error = np.zeros(batch.reward.shape, np.float32)
        priority = np.zeros(batch.reward.shape[:2], np.float32)
        errors = self.arrays.host_rows([loss.td_error for loss in losses])
        own = [loss.priority for loss in losses if loss.priority is not None]
        sizes = self.arrays.host_rows(own) if own else errors
        for k, at in enumerate(steps):
            td_error[k][tuple(at)] = errors[k]
            priority[k] = mixed_priority(sizes[k], at.row, priority.shape[1], self.priority_mix)
        metrics = {name: torch.cat([loss.metrics[name] for loss in losses]) for name in losses[0].metrics}
        if measured:
            metrics["train/padding"] = padding(batch)
        return HeadLoss(gradient, td_error, metrics, priority), read.backward

    def _of_member(self, batch: SequenceBatch, read: Read, k: int, at: Steps, measured: bool) -> HeadLoss:
        future = at.row, read.bootstrap[k][tuple(at)]
        y, next_y, choice, own_y, fractions = read.outputs
        outputs = Outputs(
            self.arrays.rows(y, k, *at),
            self.arrays.rows(next_y, k, *future),
            self.arrays.rows(choice, k, *future),
            None if own_y is None else self.arrays.rows(own_y, k, *at),
            None if fractions is None else self.arrays.rows(fractions, k, *at),
        )
        scale = np.float32(self.reward_scale)
        transitions = Batch(
            None,
            batch.action[k][tuple(at)][None],
            (batch.reward[k][tuple(at)] * scale)[None],
            batch.discount[k][tuple(at)][None],
            None,
            None if batch.next_mask is None else batch.next_mask[k][tuple(at)][None],
            None if batch.weight is None else batch.weight[k][at.row][None],
            mask=None if batch.mask is None else batch.mask[k][tuple(at)][None],
        )
        return self.arrays.loss(self.head, outputs, self.arrays.numbers(transitions), measured)


def loss_steps(batch: SequenceBatch, k: int) -> Steps:
    """The steps of the k-th seed's windows behind their burn-in, window after window."""
    time = np.arange(batch.reward.shape[2])
    counted = (time >= np.asarray(batch.burn_in[k])[:, None]) & (time < np.asarray(batch.length[k])[:, None])
    return Steps(*np.nonzero(counted))


def mixed_priority(error: np.ndarray, row: np.ndarray, rows: int, mix: float) -> np.ndarray:
    """mix * max |error| + (1 - mix) * mean |error| of each window: error and row [M] -> float32 [rows].

    Kapturowski et al. (2019), section 2.3, with mix .9 there as eta. 0 for a window of which no step carries a loss.
    """
    size = np.abs(error.astype(np.float64))
    most = np.zeros(rows)
    np.maximum.at(most, row, size)
    count = np.bincount(row, minlength=rows)
    mean = np.bincount(row, size, rows) / np.maximum(count, 1)
    found: np.ndarray = (mix * most + (1 - mix) * mean).astype(np.float32)
    return found


def padding(batch: SequenceBatch) -> Tensor:
    """The share of each seed's windows that holds no steps, [N]: of B windows as long as the longest of the seed."""
    length = np.asarray(batch.length)
    share: np.ndarray = 1 - length.mean(1) / length.max(1)
    return torch.from_numpy(share.astype(np.float32))
