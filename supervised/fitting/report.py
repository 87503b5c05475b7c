"""Logging a fit to TensorBoard and the terminal while it trains."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from supervised.fitting import files, inspect
from supervised.fitting.check_data import as_input
from supervised.fitting.fit import Fit
from supervised.fitting.recipe import Recipe
from supervised.logger import Logger
from supervised.session import FIT as CHECKPOINT
from supervised.session import Session
from supervised.shapes import ShapeError, layer_table, table_text
from supervised.statistics import SHARE, Range, aggregate

# Tags that are drawn with an interval, and the range of their values.
BANDS: dict[str, Range] = {
    "train/loss": (0.0, None),
    "train/accuracy": SHARE,
    "validation/loss": (0.0, None),
    "validation/accuracy": SHARE,
}
PARTS = ("train", "validation")
SHOWN = (
    "validation/accuracy",
    "validation/loss",
    "train/accuracy",
    "train/loss",
)  # beside the progress bar: the first of these that exists


class Report:
    """Logs, inspects and saves a fit. Without a logdir nothing is written."""

    def __init__(self, fitted: Fit, session: Session, curves: Mapping[str, Any]) -> None:
        """curves: the state of the event files in the checkpoint that the fit resumes from; {}: the fit is new."""
        self.fit, self.text, self.examples_per_second = fitted, "", 0.0  # text: shown beside the progress bar
        n = len(fitted.stack.seeds)
        self.label = f"{n} seed{'s' * (n > 1)}"
        # Nothing is written for a finished fit, except to replace a damaged checkpoint.
        writes = not fitted.finished or session.fell_back
        self.logger = session.log(curves, fitted.step, self._describe, self._save) if writes else None
        self.start_clock()

    def start_clock(self) -> None:
        """Start measuring examples per second."""
        self.began = time.perf_counter()

    def count(self, metrics: Mapping[str, Any]) -> None:
        """Update the examples per second and the text after an epoch with these metrics."""
        fitted = self.fit
        examples = (fitted.epoch - fitted.resumed_at) * fitted.plan.used * len(fitted.stack.seeds)
        self.examples_per_second = examples / (time.perf_counter() - self.began)
        tag = next(tag for tag in SHOWN if tag in metrics)
        self.text = f"{tag.replace('/', ' ')} {float(np.mean(metrics[tag])):.4f}"

    def inspect(self) -> dict[str, Any]:
        """Write histograms and misclassified images -> metrics such as the share of dead units, each [N]."""
        if self.logger is None:
            return {}
        found = inspect.log_inspection(self.fit, self.logger)
        picture = inspect.wrong_pictures(self.fit)
        if picture is not None:
            self.logger.image(self.fit.step, "wrong", picture)
        return found

    def log(self, metrics: Mapping[str, Any]) -> None:
        """Write the metrics of an epoch."""
        fitted = self.fit
        if self.logger is None:
            return
        own = [f"{part}/{name}" for name in fitted.recipe.metrics for part in PARTS]
        arrays, together = aggregate(metrics, [*BANDS, *own], BANDS)
        self.logger.scalars(fitted.step, {**together, "time/examples_per_second": self.examples_per_second})
        self.logger.seeds(fitted.step, arrays, fitted.stack.seeds)

    def save(self) -> None:
        """Write a checkpoint."""
        if self.logger is not None:
            self._save(self.logger)

    def _save(self, logger: Logger) -> None:
        files.save(self.fit, logger.folder / CHECKPOINT, logger.state_dict())

    def _describe(self, logger: Logger) -> None:
        """Write what TensorBoard shows besides the curves: settings, charts, hyperparameters, the model's graph."""
        fitted = self.fit
        name = type(fitted.stack.modules[0]).__name__
        parts = PARTS[: 1 + (fitted.validation is not None)]
        tags = [tag for tag in BANDS if tag.split("/")[0] in parts]
        tags = [tag for tag in tags if fitted.objective.classifies or "accuracy" not in tag]
        tags += [f"{part}/{metric}" for metric in fitted.recipe.metrics for part in parts]
        logger.text("configuration", markdown(fitted, name))
        logger.bands({tag: tag for tag in tags}, interval=len(fitted.stack.seeds) > 1)
        usual = Recipe().to_json()
        always = ("epochs", "batch_size", "optimizer", "learning_rate")
        chosen = {k: v for k, v in fitted.recipe.to_json().items() if k in always or v != usual[k]}
        logger.hparams({"model": name, "seeds": len(fitted.stack.seeds), **chosen}, tags)
        inspect.graph(fitted, logger)


def markdown(fitted: Fit, name: str) -> str:
    """Return the settings of a fit as a Markdown table for the Text tab. name: that of the model."""
    rows = [
        ("model", name),
        ("seeds", ", ".join(map(str, fitted.stack.seeds))),
        (
            "computed",
            f"{fitted.compute_plan}, on {fitted.stack.device}, member{'s all at once' if fitted.stack.batched else ' by member'}",
        ),
        (
            "examples",
            f"{fitted.train.size:,}" + (f", validation {fitted.validation.size:,}" if fitted.validation else ""),
        ),
    ]
    rows += list((fitted.recipe.to_json() | {"loss": fitted.loss}).items())
    text = "\n".join(["| setting | value |", "| --- | --- |", *(f"| {key} | {value} |" for key, value in rows)])
    x = fitted.train.sample.x
    if not isinstance(x, Tensor):
        return text
    try:
        layers = layer_table(fitted.stack.modules[0], list(x.shape[1:]), as_input(x[:1]).dtype)
    except ShapeError:
        return text
    return f"{text}\n\n```\n{table_text(layers)}\n```"
