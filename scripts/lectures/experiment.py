"""The options that experiments share. An experiment is a dataclass; its fields are its flags, and `run` does the work."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

import supervised
from lectures.report import Report
from supervised import Data, DataError, Fit, Recipe, mnist
from supervised.device import choose
from supervised.validate import integer, seeds_of


@dataclass
class Experiment(ABC):
    """One experiment of the lecture notes."""

    logdir: Path | None = None
    """Folder of this run. Default: a new one under runs/."""

    def check(self) -> None:
        """Raise ValueError for an invalid flag, before any work."""
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            for one in value if isinstance(value, tuple) else (value,):
                if type(one) is int:
                    integer(one, f"--{field.name.replace('_', '-')}", 1)

    @abstractmethod
    def run(self, report: Report) -> None:
        """Do the work and add the results to the report."""


@dataclass
class Seeded(Experiment):
    """An experiment with random seeds."""

    seeds: int = 10
    """Number of seeds."""

    @property
    def all_seeds(self) -> tuple[int, ...]:
        """Return the seeds 0 .. seeds - 1."""
        return seeds_of(self.seeds)

    def generators(self) -> list[torch.Generator]:
        """Return a random generator for each seed."""
        return [torch.Generator().manual_seed(seed) for seed in self.all_seeds]


@dataclass
class Fitted(Seeded):
    """An experiment that fits models with `supervised.fit`."""

    epochs: int | None = None
    """Epochs for every model. Default: as many as its recipe says."""
    device: str = "auto"
    """Device: auto, cpu, cuda, ..."""
    threads: int | None = None
    """Number of torch threads. Default: one, and all cores for convolutions. Use 1 on a shared machine."""
    resume: bool = False
    """Continue the run in logdir, or the newest one of this experiment under runs/."""

    def check(self) -> None:
        """Raise ValueError for an invalid flag, before any work."""
        super().check()
        choose(self.device)

    def fit(
        self,
        report: Report,
        name: str,
        make: Callable[[], nn.Module] | nn.Module,
        data: Any,
        recipe: Recipe,
        *,
        seeds: Any = None,
        **more: Any,
    ) -> Fit:
        """Call `supervised.fit` with this command's flags; curves and checkpoints go into the subfolder `name` of the run."""
        recipe = recipe if self.epochs is None else dataclasses.replace(recipe, epochs=self.epochs)
        seeds = self.all_seeds if seeds is None else seeds
        plural = "s" * (len(seeds) > 1)
        report.print(
            f"{name or 'training'}: {recipe.epochs:,} epochs of {len(data[0]):,} examples, {len(seeds)} seed{plural}"
        )
        fitted = supervised.fit(
            make,
            data,
            recipe,
            seeds=seeds,
            device=self.device,
            threads=self.threads,
            logdir=report.folder / name,
            resume=self.resume,
            **more,
        )
        report.fits.append(fitted.epoch > fitted.resumed_at)
        return fitted


@dataclass
class OnDigits(Fitted):
    """An experiment on handwritten digits."""

    seeds: int = 3
    """Number of seeds."""
    data_dir: Path | None = None
    """Folder of MNIST's four idx files, compressed (.gz) or not. Default: this user's cache, or a download."""
    data: Literal["auto", "mnist", "digits"] = "auto"
    """mnist: MNIST; digits: scikit-learn's 1 797 small images, available offline; auto: MNIST if available, otherwise digits."""

    def digits(self, report: Report, pictures: int | None = None) -> mnist.Digits:
        """Return the data chosen by the flags; the small digits, with a note, if MNIST is unavailable.

        pictures: train on this many images only, the first ones.
        """
        found = mnist.digits() if self.data == "digits" else self._mnist(report)
        report.facts["data"] = found.name
        return found if pictures is None else found._replace(train=Data(*(part[:pictures] for part in found.train)))

    def note(self, report: Report, text: str) -> str:
        """Return the notes' figure, marked if it is for other data."""
        return text if not text or report.facts["data"] == "MNIST" else f"(MNIST) {text}"

    def _mnist(self, report: Report) -> mnist.Digits:
        try:
            return mnist.mnist(self.data_dir)
        except DataError as error:
            if self.data == "mnist" or self.data_dir is not None:
                raise
            report.console.print(f"MNIST is not available: {error}", style="yellow")
            report.console.print(
                "Using scikit-learn's 1 797 digits of 8x8 pixels instead. The notes' figures do not apply to these.\n",
                style="yellow",
            )
            return mnist.digits()
