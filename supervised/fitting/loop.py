"""The training loop of a fit, including logging and saving."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from torch import nn

from supervised.data import split
from supervised.fitting.files import load, restore
from supervised.fitting.fit import Fit
from supervised.fitting.members import stack_of
from supervised.fitting.recipe import Recipe
from supervised.fitting.report import Report
from supervised.session import FIT as CHECKPOINT
from supervised.session import Cadences, Session, say
from supervised.sources import Source, source_of
from supervised.validate import ArgumentError, flag, instance, integer, optional, seeds_of, unwrap

__all__ = ["CHECKPOINT", "fit", "load"]


def fit(
    model: nn.Module | Callable[[], nn.Module],
    data: Any,
    recipe: Recipe | None = None,
    *,
    validation: Any = None,
    seeds: int | Iterable[int] = 1,
    device: str = "auto",
    threads: int | None = None,
    compiled: bool = False,
    logdir: str | Path | None = None,
    resume: bool = False,
    progress: bool = True,
    log_every_epochs: int | None = None,
    look_every_epochs: int | None = None,
    save_every_epochs: int | None = None,
) -> Fit:
    """Fit N members of a model to the same data at once -> the fit.

    model: a function () -> nn.Module, called once per seed; or a module, which is fitted in place (with one seed).
    data: a pair (x, y) of arrays or tensors [M, ...]; uint8 is kept in memory and scaled to [0, 1] when read. x may be a dict or
    tuple of arrays, if the model's forward takes one. numpy.memmaps, and a torch.utils.data.Dataset of pairs (x, y), are read
    batch by batch, in each seed's own order; what a Dataset draws from torch's generator depends only on seed, epoch and
    example. A DataLoader provides its Dataset, collate_fn, batch_size, drop_last, workers, and with shuffle=False the order; a
    custom sampler is an error, since its order could not be reproduced.
    recipe: the settings (see `Recipe`). validation: data as above, or a share of the training data, the same for every seed (for
    a time series pass the last part: `supervised.data.split(data, 0.2, shuffle=False)`); None: no validation.
    seeds: a count (0..n-1), a list or a range. Each seed has its own initial weights, order of the data and dropout; on the CPU
    its results are bit-identical to training it alone. threads: torch threads; None: one, but all cores for convolutions.
    compiled: use compiled code for chains of linear layers, layer normalizations and ReLUs, and for sequence models with GRU or
    tanh cells, where possible (see `Stack`); results are equal up to rounding, not bit-identical.
    logdir: the folder for curves and checkpoints; None: nothing is written. resume: continue from the newest intact checkpoint in
    logdir, or start if there is none. Model, data and functions in the recipe must be passed again (data are recognized by a
    checksum, streamed data by that of 256 examples, functions by their names); only epochs, device, progress and the cadences
    may differ.
    The three cadences are in epochs; None: about 100 points, 5 inspections (histograms, misclassified images) and 20
    checkpoints.

    The members are returned in eval mode. Raises DataError if the data do not fit the model, ValueError for invalid settings,
    `Diverged` if the loss diverges. On Ctrl-C (or SIGTERM) the current epoch is finished and saved to logdir, and a
    KeyboardInterrupt tells how to resume.
    """
    recipe = Recipe() if recipe is None else instance(recipe, "recipe", Recipe, "a Recipe")
    resume, progress, compiled = flag(resume, "resume"), flag(progress, "progress"), flag(compiled, "compiled")
    if compiled and recipe.optimizer == "LBFGS":
        raise ArgumentError("LBFGS requires autograd's gradients: compiled must be False.")
    threads = optional(integer, threads, "threads", 1, 1024)
    cadences = _cadences(recipe.epochs, log=log_every_epochs, look=look_every_epochs, save=save_every_epochs)
    train, held_out = _parts(data, validation)
    with Session(logdir, CHECKPOINT) as session:
        saved = session.newest(resume)
        stack = stack_of(model, seeds_of(seeds), recipe.freeze, device, compiled)
        fitted = Fit(stack, train, held_out, recipe, threads)
        curves = {} if saved is None else restore(fitted, saved)
        fitted.resumed_at = fitted.epoch
        if fitted.finished:
            say(f"The fit in {session.folder} is already finished: nothing to do.")
        report = Report(fitted, session, curves)
        with session.running(report.label, recipe.epochs * fitted.steps_per_epoch, fitted.step, progress) as bar:
            report.start_clock()
            while not fitted.finished and not session.interrupted:
                before = fitted.epoch
                metrics = fitted.advance(lambda: bar.show(fitted.step, report.text))
                report.count(metrics)
                if cadences.due("look", before, fitted.epoch, fitted.finished):
                    metrics |= report.inspect()
                if cadences.due("log", before, fitted.epoch, fitted.finished):
                    report.log(metrics)
                if cadences.due("save", before, fitted.epoch, fitted.finished):
                    report.save()
                bar.show(fitted.step, report.text)
        if session.interrupted and not fitted.finished:
            report.save()
            session.stop(f"after epoch {fitted.epoch:,} of {recipe.epochs:,}")
    fitted.take_best()
    fitted.stack.train(False)
    return fitted


def _parts(data: Any, validation: Any) -> tuple[Source, Source | None]:
    """Return the training data and the validation data."""
    train = source_of(data, "The training data")
    if validation is None:
        return train, None
    if isinstance(unwrap(validation), (int, float)):
        first, second = split(train, validation)
        return first, second
    return train, source_of(validation, "The validation data")


def _cadences(epochs: int, **given: int | None) -> Cadences:
    """Return the epochs between logs, inspections and checkpoints."""
    usual = {name: max(1, epochs // times) for name, times in (("log", 100), ("look", 5), ("save", 20))}
    every = {name: optional(integer, value, f"{name}_every_epochs", 1) for name, value in given.items()}
    return Cadences(usual | {name: value for name, value in every.items() if value is not None})
