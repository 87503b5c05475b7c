"""Checks that model and data match, on two examples before training."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from supervised.augment import Noise
from supervised.fitting.members import train
from supervised.fitting.objective import Objective
from supervised.fitting.recipe import Recipe
from supervised.losses import IGNORED
from supervised.sources import Data, DataError, Plan, Source, leaves, over
from supervised.stack import Stack, owned
from supervised.validate import first_line


class Checked(NamedTuple):
    """The data, converted for model and loss, and properties of the model."""

    data: Source
    classes: int | None  # of cross_entropy
    recurrent: bool  # whether the model returns a state too


def as_input(x: Any) -> Any:
    """Scale uint8 images to [0, 1]; leave anything else unchanged. x: a tensor, or a dict or tuple of tensors."""
    return over(lambda part: part.float().div_(255) if part.dtype == torch.uint8 else part, x)


def first(output: Any) -> Any:
    """Return a model's output without its state."""
    return output[0] if isinstance(output, tuple) else output


def shapes(x: Any) -> Any:
    """Return the shapes of inputs without the example axis, for messages."""
    return over(lambda part: list(part.shape[1:]), x)


def check_data(stack: Stack, source: Source, objective: Objective, name: str) -> Checked:
    """Run two examples through the members and compare the outputs with y. Raises DataError if they do not match."""
    x, floats = over(lambda part: part[:2].to(stack.device), source.sample.x), False
    try:
        try:
            output = _answer(stack, x)
        except (RuntimeError, TypeError):
            # Whole numbers stay indices if the model accepts them, and become floats otherwise.
            floats = any(not _is_number(part) for part in leaves(x))
            if not floats:
                raise
            output = _answer(stack, over(_numbers, x))
    except (RuntimeError, IndexError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(
            f"{name} do not fit the model: one example of x is {shapes(source.sample.x)}. {first_line(error)}"
        ) from error
    answer = first(output)
    if not isinstance(answer, Tensor):
        raise ValueError(
            f"The model must return a tensor, or a tuple that begins with one, not {type(answer).__name__}."
        )
    if answer.shape[:2] != (len(stack.seeds), min(2, source.size)):
        raise DataError(
            f"{name}: for {min(2, source.size)} examples a member returns {list(answer.shape[1:])}, not one output each."
        )
    shape = list(answer.shape[2:])

    def adapt(data: Data) -> Data:
        return Data(over(_numbers, data.x) if floats else data.x, objective.target(data.y, shape, name))

    adapted = source.adapted(adapt)
    y = adapted.sample.y[:2].to(stack.device)
    objective.check(answer.float(), y.expand(len(stack.seeds), *y.shape))
    known = adapted.known
    objective.all_count &= known is not None and bool((known.y != IGNORED).all())
    return Checked(adapted, objective.classes(shape), isinstance(output, tuple))


def _is_number(part: Tensor) -> bool:
    return part.is_floating_point() or part.dtype == torch.uint8


def _numbers(part: Tensor) -> Tensor:
    return part if _is_number(part) else part.float()


def _answer(stack: Stack, x: Any) -> Any:
    n = len(stack.seeds)
    with stack.eval_mode():
        return stack(over(lambda part: part.expand(n, *part.shape), as_input(x)))


def check_recipe(stack: Stack, data: Data, recipe: Recipe, plan: Plan) -> None:
    """Raise DataError if the recipe does not suit the data. data: all examples, or a sample."""
    if plan.size == 1 or plan.used % plan.size == 1:
        _check_single(stack, data, recipe, f"{plan.used} in batches of {plan.size}")
    if recipe.augment and (not isinstance(data.x, Tensor) or data.x.ndim < 3):
        said = list(data.x.shape) if isinstance(data.x, Tensor) else f"a {type(data.x).__name__}"
        raise DataError(f"augment requires images [M, ..., height, width], but x is {said}.")
    noisy = any(isinstance(augmentation, Noise) for augmentation in recipe.augment)
    if noisy and data.x.is_floating_point() and (data.x.min() < 0 or data.x.max() > 1):
        raise DataError("Noise clamps pixels to [0, 1], but x exceeds that range: use uint8 or floats from 0 to 1.")


def _check_single(stack: Stack, data: Data, recipe: Recipe, said: str) -> None:
    """Raise DataError if the model does not accept a single example in training mode: torch's batch norm raises ValueError."""
    copy = train(owned(stack.modules[0]), recipe.freeze)
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            copy(as_input(over(lambda part: part[:1].to(stack.device), data.x)))
    except ValueError as error:
        raise DataError(
            f"The last batch would contain a single example ({said}), which has no variance for batch norm: choose another"
            f" batch_size. {first_line(error)}"
        ) from error


def fingerprint(given: Sequence[Source], used: Sequence[Source]) -> str:
    """Return a checksum of each tensor of the data, as originally given (so that nothing is copied back from a device) but in
    the type in which they are used."""
    tensors = ([source.tensors() for source in parts] for parts in zip(given, used, strict=True))
    pairs = [pair for parts in tensors for pair in zip(*parts, strict=True)]
    return "-".join(f"{zlib.crc32(g.cpu().to(u.dtype).contiguous().numpy().data):08x}" for g, u in pairs)
