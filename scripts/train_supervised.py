#!/usr/bin/env python
"""The lecture notes' supervised experiments: N seeds at once, the notes' figure beside ours, the test set read once.

python scripts/train_supervised.py mnist-mlp                        MNIST from the cache, downloaded if need be
python scripts/train_supervised.py mnist-cnn --net best --data-dir DIR
python scripts/train_supervised.py hihello                          needs no data
tensorboard --logdir runs                                           look at it
"""

from __future__ import annotations

import dataclasses
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import common
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

import supervised
from supervised import CNN, MLP, RNN, Fit, Recipe, SoftmaxRegression, data, mnist, results
from supervised.augment import Affine
from supervised.data import DataError
from supervised.rnn import free_running

Shape = tuple[int, ...]


@dataclass
class Settings:
    """Train one of the lecture notes' models with N seeds at once and judge it on the test set."""

    experiment: Annotated[
        Literal["mnist-softmax", "mnist-mlp", "mnist-deep", "mnist-cnn", "mnist-ensemble", "hihello"],
        tyro.conf.Positional,
    ]
    """What to train."""
    net: Literal["lecture", "best"] = "lecture"
    """For mnist-cnn: the notes' three convolutions as written, or our best; mnist-ensemble always takes the best."""
    data_dir: Path | None = None
    """The folder of MNIST's four idx files, packed (.gz) or not; if not given, this user's cache or a download."""
    data: Literal["auto", "mnist", "digits"] = "auto"
    """digits: scikit-learn's 1 797 small ones, at hand everywhere; auto: those where MNIST cannot be had."""
    seeds: int | None = None
    """How many seeds; if not given 3, for the ensemble 5 members, for hihello 10."""
    epochs: int | None = None
    """Passes over the data; if not given, as many as the experiment's recipe says."""
    hold_out: float = 0.0
    """Share of the training data to validate on, for choosing settings; 0: train on all of it."""
    device: str = "auto"
    """auto, cpu, cuda, ..."""
    threads: int | None = None
    """Threads of torch; if not given one, and all cores for convolutions. Give 1 on a machine that others use too."""
    logdir: Path | None = None
    """The folder of this run; a new one under runs/ if not given."""
    resume: bool = False
    """Go on with the run in logdir, or with the newest of the same experiment under runs/."""


@dataclass(frozen=True)
class Experiment:
    """A model for pictures of a shape, how it is fitted, and what the notes report."""

    title: str
    make: Callable[[Shape], nn.Module]
    recipe: Recipe
    note: str
    seeds: int = 3


def lecture_cnn(shape: Shape) -> nn.Module:
    """The notes' class model as written: convolutions without bias, drawn from normal(0.01), then Xavier with biases from
    normal(1); three tenths dropped everywhere."""
    net = CNN((1, *shape), 10, (32, 64, 128), widths=(625,), bias=False, dropout=0.3, dense_dropout=0.3, init="xavier")
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.normal_(layer.weight, std=0.01)
        elif isinstance(layer, nn.Linear):
            nn.init.normal_(layer.bias)
    return net


def best_cnn(shape: Shape) -> nn.Module:
    """Three pairs of convolutions with batch-norm."""
    return CNN((1, *shape), 10, (24, 48, 96), block="vgg", norm=True, dropout=0.1)


BEST = Recipe(
    epochs=10,
    batch_size=100,
    learning_rate=3e-3,
    schedule="OneCycleLR",
    augment=(Affine(degrees=10, scale=0.1, shear=5, shift=0.05),),
)
FADING = Recipe(epochs=15, batch_size=100, schedule="LinearLR")
EXPERIMENTS = {
    "mnist-softmax": Experiment(
        "softmax regression",
        lambda shape: SoftmaxRegression(math.prod(shape), 10, init="zeros"),
        dataclasses.replace(FADING, epochs=30),
        ".8951 (SGD .1, 15 epochs), .9225 (SGD .4, 100 epochs)",
    ),
    "mnist-mlp": Experiment(
        "MLP 256-256, Xavier, Adam", lambda shape: MLP(math.prod(shape), 10, (256, 256), init="xavier"), FADING, ".9783"
    ),
    "mnist-deep": Experiment(
        "MLP 512-512-512-512, Xavier, dropout .3",
        lambda shape: MLP(math.prod(shape), 10, (512,) * 4, init="xavier", dropout=0.3),
        dataclasses.replace(FADING, augment=(Affine(degrees=10, scale=0.1, shear=5, shift=0.05),)),
        ".9804",
    ),
    "mnist-cnn": Experiment(
        "CNN with 3 convolutions as written", lecture_cnn, Recipe(epochs=15, batch_size=100), ".9938"
    ),
    "mnist-cnn-best": Experiment("best single CNN", best_cnn, BEST, "none"),
    "mnist-ensemble": Experiment("ensemble of the best CNN", best_cnn, BEST, ".9952 (7 of the lecture's)", seeds=5),
}


def digits(settings: Settings, console: Console) -> mnist.Digits:
    """The data that the settings ask for; where MNIST cannot be had, the small digits, said aloud."""
    if settings.data == "digits":
        return mnist.digits()
    try:
        return mnist.mnist(settings.data_dir)
    except DataError as error:
        if settings.data == "mnist" or settings.data_dir is not None:
            raise
        console.print(f"MNIST is not at hand: {error}", style="yellow")
        console.print(
            "Instead: scikit-learn's 1 797 digits of 8x8 pixels. The notes' figures are not for these.\n",
            style="yellow",
        )
        return mnist.digits()


def pictures(settings: Settings, console: Console, logdir: Path) -> dict[str, Any]:
    """Train on MNIST and judge on its test set -> figures."""
    name = settings.experiment
    experiment = EXPERIMENTS["mnist-cnn-best" if (name, settings.net) == ("mnist-cnn", "best") else name]
    found = digits(settings, console)
    shape = tuple(found.train.x.shape[1:])
    recipe = (
        experiment.recipe if settings.epochs is None else dataclasses.replace(experiment.recipe, epochs=settings.epochs)
    )
    seeds = experiment.seeds if settings.seeds is None else settings.seeds
    m = f"{len(found.train.x):,}"
    console.print(
        f"{experiment.title} on {m} pictures of {found.name}, {recipe.epochs} epochs, {seeds} seeds. The run lies in {logdir}"
    )
    fitted = supervised.fit(
        lambda: experiment.make(shape),
        found.train,
        recipe,
        validation=settings.hold_out or None,
        seeds=seeds,
        device=settings.device,
        threads=settings.threads,
        logdir=logdir,
        resume=settings.resume,
    )
    console.print(f"Computed in {fitted.manner}.")
    figures: dict[str, Any] = {
        "data": found.name,
        "note": experiment.note,
        "recipe": recipe.to_json(),
        "title": experiment.title,
    }
    if fitted.validation is not None:
        figures["validation_accuracy"] = results.summary(
            fitted.evaluate(fitted.validation)["accuracy"], fitted.stack.seeds
        )
    # The test set, once.
    answers = fitted.probabilities(found.test.x)
    right = (answers.argmax(-1).cpu() == found.test.y).double().mean(1).numpy()
    figures["test_accuracy"] = results.summary(right, fitted.stack.seeds)
    if name == "mnist-ensemble":
        figures["ensemble_accuracy"] = float((answers.mean(0).argmax(-1).cpu() == found.test.y).double().mean())
    return figures


def hihello(settings: Settings, console: Console, logdir: Path) -> dict[str, Any]:
    """Teach RNN, LSTM and GRU to say the next letter of "hihello" -> figures."""
    characters, train = data.next_characters("hihello")
    recipe = Recipe(epochs=settings.epochs or 50, batch_size=1, learning_rate=0.1)
    figures: dict[str, Any] = {"note": "learns it", "recipe": recipe.to_json(), "title": "hihello", "cells": {}}
    for cell in ("rnn", "lstm", "gru"):
        fitted = supervised.fit(
            lambda cell=cell: RNN(len(characters), len(characters), hidden=5, cell=cell),
            train,
            recipe,
            seeds=10 if settings.seeds is None else settings.seeds,
            device=settings.device,
            threads=settings.threads,
            logdir=logdir / cell,
            resume=settings.resume,
        )
        said = [characters.decode(text[0]) for text in written(fitted, characters.encode("h")[None])]
        figures["cells"][cell] = {
            "accuracy": results.summary(fitted.evaluate(train)["accuracy"], fitted.stack.seeds),
            "steps_to_all_right": steps_to_all_right(fitted),
            "free_running": dict(zip(map(str, fitted.stack.seeds), ["h" + text for text in said], strict=True)),
        }
    return figures


def written(fitted: Fit, first: Tensor) -> list[Tensor]:
    """What each member writes by itself after `first`."""
    return [free_running(module, first.to(fitted.stack.device), 6) for module in fitted.stack.modules]  # type: ignore[arg-type]


def steps_to_all_right(fitted: Fit) -> dict[str, int | None]:
    """After how many steps a seed was right about every letter for good; None: never."""
    right = np.stack([row["train/accuracy"] for row in fitted.history]) == 1.0
    found: dict[str, int | None] = {}
    for k, seed in enumerate(fitted.stack.seeds):
        wrong = np.flatnonzero(~right[:, k])
        # Row i tells what was right before step i + 1: after i steps.
        last = -1 if not len(wrong) else int(wrong[-1])
        found[str(seed)] = None if last == len(right) - 1 else last + 1
    return found


def report(console: Console, figures: dict[str, Any]) -> None:
    """Say on the terminal what came out, the notes' figure beside it."""
    table = Table()
    if "cells" in figures:
        for column in ("cell", "right, mean over seeds", "steps to all right", "free-running text"):
            table.add_column(column)
        for cell, found in figures["cells"].items():
            steps = [s for s in found["steps_to_all_right"].values() if s is not None]
            total = len(found["steps_to_all_right"])
            took = f"{min(steps)} to {max(steps)}" if steps else "never"
            said = ", ".join(sorted(set(found["free_running"].values()))[:4])
            table.add_row(cell, f"{found['accuracy']['mean']:.4f}", f"{took} ({len(steps)} of {total} seeds)", said)
    else:
        for column in ("experiment", "test accuracy", "95 % over seeds", "the notes"):
            table.add_column(column)
        found = figures["test_accuracy"]
        low, high = found["interval_95"]
        band = "one seed: none" if low is None else f"[{low:.4f}, {high:.4f}]"
        note = figures["note"] if figures["data"] == "MNIST" else f"(MNIST) {figures['note']}"
        ensemble = "ensemble_accuracy" in figures
        title = "its members alone" if ensemble else figures["title"]
        if ensemble:
            table.add_row(figures["title"], f"{figures['ensemble_accuracy']:.4f}", "", note)
        table.add_row(title, f"{found['mean']:.4f}", band, "" if ensemble else note)
    console.print(table)
    if "test_accuracy" in figures:
        each = ", ".join(f"{seed}: {value:.4f}" for seed, value in figures["test_accuracy"]["per_seed"].items())
        console.print(f"each seed's test accuracy  {each}")


def main(settings: Settings, console: Console) -> None:
    if settings.seeds is not None and settings.seeds < 1:
        raise ValueError(f"--seeds is a whole number from 1 on, not {settings.seeds}.")
    if settings.epochs is not None and settings.epochs < 1:
        raise ValueError(f"--epochs is a whole number from 1 on, not {settings.epochs}.")
    logdir = common.folder(settings.logdir, Path("runs") / settings.experiment, settings.resume)
    began = time.perf_counter()
    train = hihello if settings.experiment == "hihello" else pictures
    figures = train(settings, console, logdir)
    figures |= {"wall_seconds": time.perf_counter() - began, "command": " ".join(sys.argv), **results.about()}
    results.write(figures, logdir / "result.json")
    report(console, figures)
    console.print(f"wall time  {figures['wall_seconds']:.1f} s", highlight=False)
    console.print(f"The run lies in {logdir}: result.json, fit.safetensors and the curves.", soft_wrap=True)
    console.print(f"Look at it:  tensorboard --logdir {logdir}", soft_wrap=True)


if __name__ == "__main__":
    sys.exit(common.command(Settings, main))
