"""A fit in progress: N members of a model, and everything needed to train them epoch by epoch."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from supervised import metrics
from supervised.device import compute_plan, keep_memory
from supervised.fitting.batches import Batches
from supervised.fitting.check_data import check_data, fingerprint
from supervised.fitting.divergence import DivergenceMonitor
from supervised.fitting.early_stopping import EarlyStopping
from supervised.fitting.evaluator import Evaluator
from supervised.fitting.members import set_channels_last, train
from supervised.fitting.objective import Objective
from supervised.fitting.recipe import Recipe
from supervised.fitting.updates import Optimizers, update_of
from supervised.renamed import former_attributes
from supervised.sources import Plan, Source, source_of
from supervised.stack import Stack
from supervised.state import from_tree, to_tree
from supervised.validate import first_line


@former_attributes
class Fit:
    """N members being fitted to the same data, each in its own order. `advance()` runs one epoch.

    stack: the members. epoch, step: the number of epochs and optimizer steps so far. history: a row of metrics for each epoch.
    """

    def __init__(
        self,
        stack: Stack,
        train: Source,
        validation: Source | None,
        recipe: Recipe,
        threads: int | None = None,
    ) -> None:
        keep_memory()
        given = [train, *([] if validation is None else [validation])]
        sources = [source.to(stack.device) for source in given]
        self.stack, self.recipe = stack, recipe
        self.objective = Objective(recipe, stack.modules[0], stack.device)
        self.loss = self.objective.name
        precision = "fp32" if recipe.optimizer == "LBFGS" else recipe.precision  # its line search needs every digit
        shape = getattr(sources[0].sample.x, "shape", (0,))[1:]
        plan = compute_plan(stack.modules[0], shape, stack.device, precision, threads)
        self.compute_plan = dataclasses.replace(plan, compiled=stack.compiled and not plan.bf16)
        set_channels_last(stack, self.compute_plan.channels_last)
        names = ("The training data", "The validation data")
        checked = [
            check_data(stack, source, self.objective, name) for source, name in zip(sources, names, strict=False)
        ]
        self.train, self.classes, self.recurrent = checked[0]
        self.validation: Source | None = checked[1].data if len(checked) > 1 else None
        self._fingerprint = fingerprint(given, [part.data for part in checked])
        self.batches = Batches(stack, self.train, recipe, self.recurrent)
        self.steps_per_epoch = self.batches.steps
        self.optimizers = Optimizers(stack, recipe, recipe.epochs * self.steps_per_epoch)
        self.update = update_of(stack, self.objective, recipe, self.compute_plan, self.recurrent, self.optimizers)
        self.divergence = DivergenceMonitor(stack, recipe, self.objective, checked[0], self.optimizers.learning_rates)
        self.early_stopping = EarlyStopping(stack, recipe, validation is not None)
        self.evaluator = Evaluator(stack, self.objective, self.compute_plan, self.train.sample.x)
        self.epoch = self.step = 0
        self.resumed_at = 0  # the epoch at which the last call of `fit` started
        self.history: list[dict[str, Any]] = []

    # -- training ------------------------------------------------------------------------------------------------------

    def advance(self, tick: Callable[[], None] | None = None) -> dict[str, Any]:
        """Run one epoch -> its metrics, each float64 [N]. tick: called after each step. Raises Diverged if the loss diverges."""
        with self.compute_plan.at_work(self.stack.device):
            for module in self.stack.modules:
                train(module, self.recipe.freeze)
            steps: list[tuple[float, dict[str, Tensor]]] = []  # share of the epoch, loss and measures, each [N]
            state: Any = None
            for x, y, share, begins, last in self.batches.epoch(self.epoch):
                rates = self.optimizers.learning_rates() if last else []
                found, state, extra = self.update.step(x, y, None if begins else state, last)
                steps.append((share, found))
                self.step += 1
                self.divergence.look(found["loss"], self.step)
                self.optimizers.step_ended()
                if tick is not None:
                    tick()
            self.epoch += 1
            self.optimizers.epoch_ended()
            self.divergence.report(self.step)
            return self._record({"train/learning_rate": rates, **_fetched(extra), **_means(steps)})

    def _record(self, epoch: dict[str, Any]) -> dict[str, Any]:
        """Add the validation metrics to those of an epoch and append all to the history -> the metrics, float64 [N]."""
        if self.validation is not None:
            epoch |= {f"validation/{tag}": value for tag, value in self.evaluator.measure(self.validation).items()}
        row = {tag: np.asarray(value, np.float64) for tag, value in epoch.items()}
        if self.validation is not None:
            self.early_stopping.update(row["validation/loss"], self.epoch)
        self.history.append({"epoch": self.epoch, "step": self.step, **row})
        return row

    @property
    def plan(self) -> Plan:
        """The layout of an epoch: batch size, number of examples, and whether they are shuffled."""
        return self.batches.plan

    @property
    def finished(self) -> bool:
        """Whether all epochs are done, or every seed has stopped early."""
        return self.epoch >= self.recipe.epochs or bool(self.stopped.all())

    @property
    def stopped(self) -> np.ndarray:
        """Which seeds have stopped early, bool [N]."""
        return self.early_stopping.stopped

    @property
    def lowest(self) -> np.ndarray:
        """The lowest validation loss of each seed, [N]."""
        return self.early_stopping.lowest

    @property
    def best_epoch(self) -> np.ndarray:
        """The epoch of each seed's lowest validation loss, int64 [N]."""
        return self.early_stopping.best_epoch

    def take_best(self) -> None:
        """Restore each member's weights with the lowest validation loss, if they were kept."""
        self.early_stopping.restore_best()

    def learning_rates(self) -> list[float]:
        """Return the current learning rate of each seed."""
        return self.optimizers.learning_rates()

    # -- evaluation ----------------------------------------------------------------------------------------------------

    def predict(self, x: Any) -> Tensor:
        """Compute each member's outputs for the same x [M, ...] -> [N, M, ...], in eval mode and without a gradient.

        x: as in `fit`. The outputs are on the device of x, or on the CPU for arrays; so are those of `probabilities` and
        `ensemble`. Raises DataError if x does not fit the model.
        """
        return self.evaluator.predict(x)

    def probabilities(self, x: Any) -> Tensor:
        """Compute each member's predicted probabilities, [N, M, ...]: softmax or sigmoid of `predict`, depending on the loss."""
        return metrics.probabilities(self.predict(x), "" if self.objective.own else self.loss)

    def ensemble(self, x: Any) -> Tensor:
        """Compute the mean of the members' probabilities, [M, ...]."""
        return self.probabilities(x).mean(0)

    def evaluate(self, data: Any) -> dict[str, np.ndarray]:
        """Compute each member's loss, accuracy or root mean squared error, and metrics on the same data, each float64 [N].

        data: a pair (x, y), a Dataset or a DataLoader, as in `fit`. Raises DataError if the data do not fit the model.
        """
        source = source_of(data).to(self.stack.device)
        return self.evaluator.measure(check_data(self.stack, source, self.objective, "The data").data)

    # -- saving --------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return everything a resumed fit needs, as arrays and JSON values."""
        return {
            "weights": to_tree(self.stack.state_dict()),
            "forward": to_tree(self.stack.random_state()),
            **self.batches.state_dict(),
            **self.optimizers.state_dict(),
            **self.early_stopping.state_dict(),
            "watchman": self.divergence.state_dict(),
            "epoch": self.epoch,
            "step": self.step,
            "history": {tag: np.array([row[tag] for row in self.history]) for tag in (self.history or [{}])[0]},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load a state returned by `state_dict`. Raises ValueError if it is damaged or belongs to a different fit."""
        try:
            self.stack.load_state_dict(from_tree(state["weights"]))
            self.stack.load_random_state(from_tree(state["forward"]))
            for part in (self.batches, self.optimizers, self.early_stopping):
                part.load_state_dict(state)
            self.divergence.load_state_dict(state["watchman"])
            self.epoch, self.step = int(state["epoch"]), int(state["step"])
            columns = {tag: list(np.asarray(column)) for tag, column in state["history"].items()}
            self.history = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
            if not (0 <= self.epoch <= self.step < 2**62 and len(self.history) == self.epoch):
                raise ValueError("its counters contradict each other")
        except (KeyError, TypeError, AttributeError, IndexError, RuntimeError, ValueError) as error:
            raise ValueError(
                f"The saved fit is damaged or belongs to a different model: {first_line(error)}"
            ) from error

    def fingerprint(self) -> str:
        """Return a checksum of the training and validation data, to recognize them."""
        return self._fingerprint


def _means(steps: list[tuple[float, dict[str, Tensor]]]) -> dict[str, Tensor]:
    """Return loss and metrics [N] over an epoch, each step weighted by its share of the examples."""
    share = torch.tensor([s for s, _ in steps], dtype=torch.float64)[:, None, None]
    rows = torch.stack([torch.stack(list(found.values())) for _, found in steps])
    means = (share * rows.cpu().double()).sum(0)  # on the host, since not every device supports float64
    return {f"train/{tag}": mean for tag, mean in zip(steps[0][1], means, strict=True)}


def _fetched(measures: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """Copy metrics [N] from a device to arrays, in a single transfer."""
    rows = torch.stack(list(measures.values())).cpu().numpy() if measures else ()
    return dict(zip(measures, rows, strict=True))
