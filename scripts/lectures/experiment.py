"""The options that experiments share. Each experiment is a dataclass whose fields are its flags and whose `run` is its work."""

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
    """The folder of this run; a new one under runs/ if not given."""

    def check(self) -> None:
        """Raise ValueError for a flag that cannot be, before anything is done."""
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            for one in value if isinstance(value, tuple) else (value,):
                if type(one) is int:
                    integer(one, f"--{field.name.replace('_', '-')}", 1)

    @abstractmethod
    def run(self, report: Report) -> None:
        """Do the work, and lay what was found on the report."""


@dataclass
class Seeded(Experiment):
    """An experiment that draws at random."""

    seeds: int = 10
    """How many seeds."""

    @property
    def all_seeds(self) -> tuple[int, ...]:
        """The seeds 0 .. seeds - 1."""
        return seeds_of(self.seeds)

    def generators(self) -> list[torch.Generator]:
        """A random generator for each seed."""
        return [torch.Generator().manual_seed(seed) for seed in self.all_seeds]


@dataclass
class Fitted(Seeded):
    """An experiment that fits models with `supervised.fit`."""

    epochs: int | None = None
    """Passes over the data, for every model; if not given, as many as its recipe says."""
    device: str = "auto"
    """auto, cpu, cuda, ..."""
    threads: int | None = None
    """Threads of torch; if not given one, and all cores for convolutions. Give 1 on a machine that others use too."""
    resume: bool = False
    """Go on with the run in logdir, or with the newest of the same experiment under runs/."""

    def check(self) -> None:
        """Raise ValueError for a flag that cannot be, before anything is done."""
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
        """`supervised.fit` with this command's flags; its curves and checkpoints go into the folder NAME of the run."""
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
    """How many seeds."""
    data_dir: Path | None = None
    """The folder of MNIST's four idx files, packed (.gz) or not; if not given, this user's cache or a download."""
    data: Literal["auto", "mnist", "digits"] = "auto"
    """digits: scikit-learn's 1 797 small ones, at hand everywhere; auto: those where MNIST cannot be had."""

    def digits(self, report: Report, pictures: int | None = None) -> mnist.Digits:
        """The data that the flags ask for; where MNIST cannot be had, the small digits, said aloud.

        pictures: train on the first so many alone.
        """
        found = mnist.digits() if self.data == "digits" else self._mnist(report)
        report.facts["data"] = found.name
        return found if pictures is None else found._replace(train=Data(*(part[:pictures] for part in found.train)))

    def note(self, report: Report, text: str) -> str:
        """The notes' figure, marked where it is not for the data at hand."""
        return text if not text or report.facts["data"] == "MNIST" else f"(MNIST) {text}"

    def _mnist(self, report: Report) -> mnist.Digits:
        try:
            return mnist.mnist(self.data_dir)
        except DataError as error:
            if self.data == "mnist" or self.data_dir is not None:
                raise
            report.console.print(f"MNIST is not at hand: {error}", style="yellow")
            report.console.print(
                "Instead: scikit-learn's 1 797 digits of 8x8 pixels. The notes' figures are not for these.\n",
                style="yellow",
            )
            return mnist.digits()
