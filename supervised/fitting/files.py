"""Saving and resuming fits, and loading only their members."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from supervised import checkpoint, functions, validate
from supervised.checkpoint import CheckpointError, Saved
from supervised.events import Curves
from supervised.fitting.fit import Fit
from supervised.fitting.members import stack_of
from supervised.fitting.recipe import Recipe
from supervised.session import FIT as CHECKPOINT
from supervised.stack import Stack
from supervised.state import from_tree
from supervised.validate import first_line, seeds_of


def save(fitted: Fit, path: Path, curves: dict[str, Any]) -> None:
    """Write a checkpoint of a fit. curves: the state of the event files, a logger's `state_dict`."""
    meta = {"kind": "fit", "config": _configuration(fitted), "seeds": list(fitted.stack.seeds)}
    meta |= {"compute_plan": str(fitted.compute_plan), "curves": curves}
    checkpoint.save(path, fitted.state_dict(), meta)


def load(path: str | Path, model: nn.Module | Callable[[], nn.Module], device: str = "auto") -> Stack:
    """Load the members of a saved fit, with their best weights if those were kept, but no training state.

    path: a checkpoint, or the folder of a fit. model: the model that was fitted, since files contain no code. Raises
    CheckpointError if the file is damaged, is not a fit, or belongs to a different model.
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
        raise CheckpointError(f"{path} is not a fit but a checkpoint of a different kind: {kind}.")
    stack = stack_of(model, seeds, (), device)
    try:
        stack.load_state_dict(from_tree(state["best"] if state["best"] is not None else state["weights"]))
    except (KeyError, TypeError, AttributeError, RuntimeError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged or does not fit this model: {error}") from error
    return stack.train(False)


def restore(fitted: Fit, saved: Saved) -> dict[str, Any]:
    """Restore a fit from a checkpoint -> the state of its event files.

    Raises CheckpointError if the checkpoint is damaged, is of a different kind, or has different settings or data.
    """
    path, state, meta = saved
    if meta.get("kind") != "fit":
        raise CheckpointError(f"{path} is not a fit but a checkpoint of a different kind: {meta.get('kind')}.")
    _check_settings(fitted, saved)
    before = meta.get("compute_plan", meta.get("manner"))  # "manner" in files of former versions
    if before != str(fitted.compute_plan):
        said = f"was computed in {before}, and continues in {fitted.compute_plan}"
        warnings.warn(f"The fit in {path.parent} {said}: results will not be bit-identical.", stacklevel=3)
    try:
        curves = dict(meta["curves"])
        Curves.of(curves)  # raises ValueError if they are damaged
        fitted.load_state_dict(state)
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise CheckpointError(f"{path}: {error}") from error
    return curves


def _check_settings(fitted: Fit, saved: Saved) -> None:
    """Raise CheckpointError if the saved fit has other data, or other settings than those that may change."""
    changed = checkpoint.differences(_current(saved.meta.get("config")), _configuration(fitted))
    free = ("recipe.stop_if_diverging", *([] if fitted.recipe.spans else ["recipe.epochs"]))
    changed = [c for c in changed if c[0] not in free]
    if changed:
        lines = "; ".join(
            "the data differ" if field == "data" else f"{field} was {_shown(old)} and is now {_shown(new)}"
            for field, old, new in changed
        )
        raise CheckpointError(
            f"The fit in {saved.path.parent} was created with other settings: {lines}. Choose another logdir."
        )


def _configuration(fitted: Fit) -> dict[str, Any]:
    return {
        "recipe": fitted.recipe.to_json(),
        "seeds": list(fitted.stack.seeds),
        "data": fitted.fingerprint(),
        "loss": fitted.loss,
        "compiled": fitted.stack.wants_compiled,
    }


def _current(config: Any) -> Any:
    """Return a saved configuration in the current form; one that cannot be read is returned unchanged, and so differs."""
    with contextlib.suppress(KeyError, TypeError, ValueError, AttributeError):
        recipe = config["recipe"]
        named = {"loss": recipe["loss"], **recipe.get("metrics", {})}
        stand_ins: dict[str, Any] = {
            name: functions.stand_in(value) for name, value in named.items() if functions.is_function(value)
        }
        return {"compiled": False, **config, "recipe": Recipe.from_json(recipe, **stand_ins).to_json()}
    return config


def _shown(value: Any) -> str:
    return f"the function {value.get('name')}" if functions.is_function(value) else repr(value)
