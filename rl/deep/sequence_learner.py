"""Learning from windows: unroll the network and apply the head's loss to the steps after the burn-in.

Window lengths differ between members, so the head is called for one member at a time, only with existing steps: padding is
never read.
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
    """The steps of a member's windows that contribute to the loss."""

    row: np.ndarray  # int64 [M], the index of the window
    time: np.ndarray  # int64 [M], the step within it


class SequenceLearner(Learner):
    """A `Learner` for an rl.SequenceBatch whose numbers are on the host."""

    reading: Reading
    priority_mix = 0.9

    def found(self, batch: SequenceBatch, measured: bool) -> tuple[HeadLoss, Callable[[Any], None]]:  # type: ignore[override]  # of windows
        """Return the loss of windows, with TD errors [N, B, T] and priorities [N, B], and the backward function."""
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
    """Return the steps of the k-th seed's windows after their burn-in, window by window."""
    time = np.arange(batch.reward.shape[2])
    counted = (time >= np.asarray(batch.burn_in[k])[:, None]) & (time < np.asarray(batch.length[k])[:, None])
    return Steps(*np.nonzero(counted))


def mixed_priority(error: np.ndarray, row: np.ndarray, rows: int, mix: float) -> np.ndarray:
    """Return mix * max |error| + (1 - mix) * mean |error| of each window, float32 [rows], from error and row [M].

    Kapturowski et al. (2019), section 2.3, where mix is eta = .9. 0 for windows without a step that contributes to the loss.
    """
    size = np.abs(error.astype(np.float64))
    most = np.zeros(rows)
    np.maximum.at(most, row, size)
    count = np.bincount(row, minlength=rows)
    mean = np.bincount(row, size, rows) / np.maximum(count, 1)
    found: np.ndarray = (mix * most + (1 - mix) * mean).astype(np.float32)
    return found


def padding(batch: SequenceBatch) -> Tensor:
    """Return the fraction of padding in each seed's windows, [N], if all were padded to the longest of the seed."""
    length = np.asarray(batch.length)
    share: np.ndarray = 1 - length.mean(1) / length.max(1)
    return torch.from_numpy(share.astype(np.float32))
