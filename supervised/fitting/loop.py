"""Fitting a model: one loop, with logging and saving in plain sight."""

from __future__ import annotations

import contextlib
import functools
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from supervised import checkpoint, functions, validate
from supervised.checkpoint import CheckpointError, Saved
from supervised.data import split
from supervised.device import choose
from supervised.events import Curves
from supervised.fitting import inspect
from supervised.fitting.fit import Fit, freeze
from supervised.fitting.recipe import Recipe
from supervised.logger import Logger
from supervised.session.session import FIT as CHECKPOINT
from supervised.session.session import Session, say
from supervised.sources import Source, source_of
from supervised.stack import Stack
from supervised.state import from_tree
from supervised.statistics import SHARE, Range, aggregate
from supervised.validate import first_line, flag, function, instance, integer, optional, seeds_of, unwrap

# Tags that are drawn with an interval, and between what they lie.
BANDS: dict[str, Range] = {
    "train/loss": (0.0, None),
    "train/accuracy": SHARE,
    "validation/loss": (0.0, None),
    "validation/accuracy": SHARE,
}
_PARTS = ("train", "validation")


def fit(
    model: nn.Module | Callable[[], nn.Module],
    data: Any,
    recipe: Recipe | None = None,
    *,
    validation: Any = None,
    seeds: int | Iterable[int] = 1,
    device: str = "auto",
    threads: int | None = None,
    logdir: str | Path | None = None,
    resume: bool = False,
    progress: bool = True,
    log_every_epochs: int | None = None,
    look_every_epochs: int | None = None,
    save_every_epochs: int | None = None,
) -> Fit:
    """Fit N members of a model to the same data at once -> the fit.

    model: a function () -> nn.Module, called once for each seed; or a module, which is fitted in place (one seed then).
    data: a pair (x, y) of arrays or tensors [M, ...]; bytes are read as pictures from 0 to 1 and stay bytes in memory. x may
    be a dict or tuple of arrays: the model's forward takes one such. Arrays that are numpy.memmaps, and a
    torch.utils.data.Dataset of pairs (x, y), stay where they are and are read batch by batch, each seed in its own order; what
    a Dataset draws from torch's generator depends on seed, epoch and example alone. A DataLoader gives its Dataset, collate_fn,
    batch_size, drop_last, workers, and with shuffle=False the order; a sampler of its own is refused, for no order of it could
    be repeated. recipe: how (see `Recipe`). validation: data too, or a share of them, drawn the same for every seed (of a series
    give the last part: `supervised.data.split(data, 0.2, shuffle=False)`); None: none.
    seeds: a count (0..n-1), a list or a range; each has first weights, an order of the data and dropout of its own, and
    comes out the same, to the bit on the CPU, as it does alone. threads: of torch; None: one, but all cores for
    convolutions. logdir: where curves and checkpoints go; None: nowhere. resume: go on from logdir's newest whole
    checkpoint, or start if there is none; the model, the data and functions in the recipe are given again (data are known by a
    checksum, of streamed ones of 256 examples; functions by their names), and only epochs, device, progress and the
    cadences may differ. The three cadences are in epochs; None: about 100 points, 5 looks
    inside (histograms, pictures) and 20 checkpoints.

    The members come back in evaluation mode. Raises DataError for data that do not go with the model, ValueError for
    settings, `Diverged` when the loss runs away. Ctrl-C (or SIGTERM) ends the epoch, saves to logdir, says how to go on and
    raises KeyboardInterrupt.
    """
    recipe = Recipe() if recipe is None else instance(recipe, "recipe", Recipe, "a Recipe")
    resume, progress = flag(resume, "resume"), flag(progress, "progress")
    threads = optional(integer, threads, "threads", 1, 1024)
    cadence = {
        "log": _every(log_every_epochs, recipe, 100, "log_every_epochs"),
        "look": _every(look_every_epochs, recipe, 5, "look_every_epochs"),
        "save": _every(save_every_epochs, recipe, 20, "save_every_epochs"),
    }
    train, held_out = _parts(data, validation)
    with Session(logdir, CHECKPOINT) as session:
        saved = session.newest(resume)
        fitted = Fit(_stack(model, seeds_of(seeds), recipe, device), train, held_out, recipe, threads)
        curves = {} if saved is None else _go_on(fitted, saved)
        logger = None
        if fitted.finished:
            say(f"The fit in {session.folder} is finished: nothing is done.")
        if not fitted.finished or session.fell_back:
            describe, save = (functools.partial(write, fitted) for write in (_describe, _save))
            logger = session.log(curves, fitted.step, describe, save)
        fitted.resumed_at = fitted.epoch
        with session.running(_label(fitted), recipe.epochs * fitted.steps_per_epoch, fitted.step, progress) as bar:
            began, said = time.perf_counter(), ""
            while not fitted.finished and not session.interrupted:
                metrics = fitted.advance(lambda: bar.show(fitted.step, said))  # noqa: B023  (called at once)
                said = _said(fitted, metrics)
                seconds = time.perf_counter() - began
                last = fitted.finished
                if logger is not None and (last or fitted.epoch % cadence["look"] == 0):
                    metrics |= inspect.look(fitted, logger)
                    _wrong(fitted, logger)
                if logger is not None and (last or fitted.epoch % cadence["log"] == 0):
                    examples = (fitted.epoch - fitted.resumed_at) * fitted.plan.used * len(fitted.stack.seeds)
                    _log(fitted, logger, metrics, {"time/examples_per_second": examples / seconds})
                if logger is not None and (last or fitted.epoch % cadence["save"] == 0):
                    _save(fitted, logger)
                bar.show(fitted.step, said)
        if session.interrupted and not fitted.finished:
            if logger is not None:
                _save(fitted, logger)
            session.stop(f"after epoch {fitted.epoch:,} of {recipe.epochs:,}")
        fitted.take_best()
        fitted.stack.train(False)
    return fitted


def load(path: str | Path, model: nn.Module | Callable[[], nn.Module], device: str = "auto") -> Stack:
    """The members of a fit that was saved, on weights alone: the best ones where those were kept.

    path: a checkpoint, or the folder of a fit. model: the one that was fitted; a file holds no code.
    Raises CheckpointError for a file that is damaged, foreign or of another model.
    """
    path = validate.path(path, "path")
    path = path / CHECKPOINT if path.is_dir() else path
    state, meta = checkpoint.load(path)
    try:
        kind = meta["kind"]
        seeds = seeds_of(meta["seeds"])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged: {first_line(error)}") from error
    if kind != "fit":
        raise CheckpointError(f"{path} is no fit, but a checkpoint of another kind: {kind}.")
    stack = _stack(model, seeds, Recipe(), device)
    try:
        stack.load_state_dict(from_tree(state["best"] if state["best"] is not None else state["weights"]))
    except (KeyError, TypeError, AttributeError, RuntimeError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged or does not fit this model: {error}") from error
    return stack.train(False)


def _stack(model: Any, seeds: tuple[int, ...], recipe: Recipe, name: str) -> Stack:
    where = choose(name)
    if isinstance(model, nn.Module):
        if len(seeds) != 1:
            raise ValueError(
                f"A module is fitted in place, so with one seed, not {len(seeds)}: give a function that makes one instead."
            )
        return Stack.of([freeze(model, recipe.freeze)], seeds, where)
    function(model, "The model", (), "a torch.nn.Module, or a function () -> torch.nn.Module")

    def make() -> nn.Module:
        made = model()
        return freeze(made, recipe.freeze) if isinstance(made, nn.Module) else made

    return Stack(make, seeds, where)


def _parts(data: Any, validation: Any) -> tuple[Source, Source | None]:
    train = source_of(data, "The training data")
    if validation is None:
        return train, None
    if isinstance(unwrap(validation), (int, float)):
        first, second = split(train, validation)
        return first, second
    return train, source_of(validation, "The validation data")


def _every(given: int | None, recipe: Recipe, times: int, name: str) -> int:
    if given is None:
        return max(1, recipe.epochs // times)
    return integer(given, name, 1, none=True)


def _configuration(fitted: Fit) -> dict[str, Any]:
    return {
        "recipe": fitted.recipe.to_json(),
        "seeds": list(fitted.stack.seeds),
        "data": fitted.fingerprint(),
        "loss": fitted.loss,
    }


def _go_on(fitted: Fit, saved: Saved) -> dict[str, Any]:
    """Put a fit where the saved one was -> what its checkpoint knew of its event files."""
    path, state, meta = saved
    if meta.get("kind") != "fit":
        raise CheckpointError(f"{path} is no fit, but a checkpoint of another kind: {meta.get('kind')}.")
    changed = checkpoint.differences(_current(meta.get("config")), _configuration(fitted))
    free = ("recipe.stop_if_diverging", *([] if fitted.recipe.spans else ["recipe.epochs"]))
    changed = [c for c in changed if c[0] not in free]
    if changed:
        lines = "; ".join(
            "the data are others" if field == "data" else f"{field} was {_shown(old)} and is now {_shown(new)}"
            for field, old, new in changed
        )
        raise CheckpointError(f"The fit in {path.parent} was made with other settings: {lines}. Take another logdir.")
    if meta.get("manner") != str(fitted.manner):
        said = f"was computed in {meta.get('manner')}, and goes on in {fitted.manner}"
        warnings.warn(f"The fit in {path.parent} {said}: it will not be equal to the bit.", stacklevel=3)
    try:
        curves = dict(meta["curves"])
        Curves.of(curves)  # raises ValueError where they are damaged
        fitted.load_state_dict(state)
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise CheckpointError(f"{path}: {error}") from error
    return curves


def _current(config: Any) -> Any:
    """What a saved fit is, as `_configuration` would say it today. What cannot be read is left as it is: it differs."""
    with contextlib.suppress(KeyError, TypeError, ValueError, AttributeError):
        recipe = config["recipe"]
        named = {"loss": recipe["loss"], **recipe.get("metrics", {})}
        stand_ins: dict[str, Any] = {
            name: functions.stand_in(value) for name, value in named.items() if functions.is_function(value)
        }
        return {**config, "recipe": Recipe.from_json(recipe, **stand_ins).to_json()}
    return config


def _shown(value: Any) -> str:
    return f"the function {value.get('name')}" if functions.is_function(value) else repr(value)


def _save(fitted: Fit, logger: Logger) -> None:
    meta = {"kind": "fit", "config": _configuration(fitted), "seeds": list(fitted.stack.seeds)}
    meta |= {"manner": str(fitted.manner), "curves": logger.state_dict()}
    checkpoint.save(logger.folder / CHECKPOINT, fitted.state_dict(), meta)


def _describe(fitted: Fit, logger: Logger) -> None:
    """Write what TensorBoard shows of a fit beside its curves: settings, charts, hyperparameters, the model's graph."""
    name = type(fitted.stack.modules[0]).__name__
    tags = [tag for tag in BANDS if fitted.validation is not None or tag.startswith("train")]
    tags = [tag for tag in tags if fitted.objective.classifies or "accuracy" not in tag]
    tags += [
        f"{part}/{name}" for name in fitted.recipe.metrics for part in _PARTS[: 1 + (fitted.validation is not None)]
    ]
    logger.text("configuration", inspect.markdown(fitted, name))
    logger.bands({tag: tag for tag in tags}, interval=len(fitted.stack.seeds) > 1)
    usual = Recipe().to_json()
    always = ("epochs", "batch_size", "optimizer", "learning_rate")
    chosen = {k: v for k, v in fitted.recipe.to_json().items() if k in always or v != usual[k]}
    logger.hparams({"model": name, "seeds": len(fitted.stack.seeds), **chosen}, tags)
    inspect.graph(fitted, logger)


def _log(fitted: Fit, logger: Logger, metrics: Mapping[str, Any], extra: Mapping[str, float]) -> None:
    own = [f"{part}/{name}" for name in fitted.recipe.metrics for part in _PARTS]
    arrays, together = aggregate(metrics, [*BANDS, *own], BANDS)
    logger.scalars(fitted.step, {**together, **extra})
    logger.seeds(fitted.step, arrays, fitted.stack.seeds)


def _wrong(fitted: Fit, logger: Logger) -> None:
    picture = inspect.wrong_pictures(fitted)
    if picture is not None:
        logger.image(fitted.step, "wrong", picture)


def _label(fitted: Fit) -> str:
    n = len(fitted.stack.seeds)
    return f"{n} seed{'s' * (n > 1)}"


def _said(fitted: Fit, metrics: Mapping[str, Any]) -> str:
    """What stands behind the progress bar."""
    tag = next((t for t in ("validation/accuracy", "validation/loss", "train/accuracy") if t in metrics), "train/loss")
    return f"{tag.replace('/', ' ')} {float(np.mean(metrics[tag])):.4f}"
