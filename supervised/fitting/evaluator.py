"""Predictions and metrics of a fit's members in eval mode."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from supervised.device import ComputePlan
from supervised.fitting.check_data import as_input, first
from supervised.fitting.objective import Objective
from supervised.sources import DataError, Source, inputs_of, over
from supervised.stack import Stack
from supervised.validate import first_line

CHUNK = 1000  # examples per forward pass in evaluation


class Evaluator:
    """Computes predictions without a gradient, chunk by chunk. trained: an x from the training data."""

    def __init__(self, stack: Stack, objective: Objective, compute_plan: ComputePlan, trained: Any) -> None:
        self.stack, self.objective, self.compute_plan, self.trained = stack, objective, compute_plan, trained

    def predict(self, x: Any) -> Tensor:
        """Like `Fit.predict`."""
        source = inputs_of(x)
        place = source.sample.tensors()[0].device
        with self.compute_plan.at_work(self.stack.device):
            try:
                parts = [self._outputs(over(_like, part.x, self.trained)).to(place) for part in source.chunks(CHUNK)]
            except (RuntimeError, TypeError, IndexError, KeyError) as error:
                said = over(lambda part: list(part.shape), source.sample.x)
                raise DataError(f"x {said} does not fit the model: {first_line(error)}") from error
        return torch.cat(parts, 1)

    def measure(self, data: Source) -> dict[str, np.ndarray]:
        """Compute loss and metrics of each member over all data, each float64 [N]."""
        n = len(self.stack.seeds)
        sums: dict[str, Tensor] = {}  # by tag: the sum over examples and the sum of their weights, float64 [2, N]
        with self.compute_plan.at_work(self.stack.device):
            for x, y in data.chunks(CHUNK):
                for tag, (total, count) in self.objective.sums(self._outputs(x), y.expand(n, *y.shape)).items():
                    sums[tag] = sums.get(tag, 0) + torch.stack([total, count])
        tags, totals = list(sums), torch.stack(list(sums.values())).numpy()
        found = {tag: total / np.where(count > 0, count, 1) for tag, (total, count) in zip(tags, totals, strict=True)}
        return {**found, "rmse": np.sqrt(found["loss"])} if self.objective.is_squared_error else found

    def _outputs(self, x: Any) -> Tensor:
        """Compute each member's outputs for x [M, ...], float32 [N, M, ...]."""
        x, n = over(lambda part: part.to(self.stack.device), as_input(x)), len(self.stack.seeds)
        with self.stack.eval_mode(), self.compute_plan.autocast(self.stack.device):
            prediction: Tensor = first(self.stack(over(lambda part: part.expand(n, *part.shape), x)))
        return prediction.float()


def _like(part: Tensor, trained: Tensor) -> Tensor:
    """Convert whole numbers to floats if the model was trained with floats."""
    return part.float() if part.dtype != torch.uint8 and trained.is_floating_point() else part
