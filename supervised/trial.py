"""Does the model take these data? Tried on two examples, before anything is trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from supervised import losses
from supervised.augment import Noise
from supervised.data import Data, DataError
from supervised.recipe import Recipe
from supervised.stack import Stack, owned
from supervised.validate import first_line


class Trial(NamedTuple):
    """What came out: the data with y as the loss wants it, and what the model is."""

    data: Data
    classes: int | None  # of cross_entropy
    recurrent: bool  # whether the model answers a state too
    all_count: bool  # whether no target is losses.IGNORED


def as_input(x: Tensor) -> Tensor:
    """Pictures of bytes as numbers from 0 to 1; anything else as it is."""
    return x.float().div_(255) if x.dtype == torch.uint8 else x


def first(output: Any) -> Any:
    """A model's answer, without its state."""
    return output[0] if isinstance(output, tuple) else output


def try_out(stack: Stack, data: Data, loss: str, name: str) -> Trial:
    """Put two examples through the members, and hold their answers against y. Raises DataError where they do not go together."""
    try:
        try:
            output = _answer(stack, data.x)
        except (RuntimeError, TypeError):
            if data.x.is_floating_point() or data.x.dtype == torch.uint8:
                raise
            # Whole numbers are indices where the model takes them, and numbers elsewhere.
            data = Data(data.x.float(), data.y)
            output = _answer(stack, data.x)
    except (RuntimeError, IndexError, ValueError, TypeError) as error:
        raise DataError(
            f"{name} do not go into the model: an x is {list(data.x.shape[1:])}. {first_line(error)}"
        ) from error
    answer = first(output)
    if not isinstance(answer, Tensor):
        raise ValueError(
            f"The model must answer a tensor, or a tuple that begins with one, not {type(answer).__name__}."
        )
    if answer.shape[:2] != (len(stack.seeds), min(2, len(data.x))):
        raise DataError(
            f"{name}: to {min(2, len(data.x))} examples a member answers {list(answer.shape[1:])}; it must answer one by one."
        )
    recurrent, shape = isinstance(output, tuple), list(answer.shape[2:])
    if loss == "cross_entropy":
        y = _classes(data.y, shape, name)
        return Trial(Data(data.x, y), shape[-1], recurrent, bool((y != losses.IGNORED).all()))
    return Trial(Data(data.x, _numbers(data.y, shape, loss, name)), None, recurrent, True)


def _answer(stack: Stack, x: Tensor) -> Any:
    with stack.judged():
        return stack(as_input(x[:2]).expand(len(stack.seeds), *x[:2].shape))


def check_recipe(stack: Stack, data: Data, recipe: Recipe) -> None:
    """Raise DataError where the recipe asks of the data what they cannot give."""
    m = len(data.x)
    size = min(recipe.batch_size or m, m)
    if size == 1 or m % size == 1:
        _check_single(stack, data, recipe, f"{m} in batches of {size}")
    if recipe.augment and data.x.ndim < 3:
        raise DataError(f"augment alters pictures [M, ..., height, width], and x is {list(data.x.shape)}.")
    noisy = any(isinstance(augmentation, Noise) for augmentation in recipe.augment)
    if noisy and data.x.is_floating_point() and (data.x.min() < 0 or data.x.max() > 1):
        raise DataError("Noise keeps pixels in 0..1, and x goes beyond: give bytes or numbers from 0 to 1.")


def _check_single(stack: Stack, data: Data, recipe: Recipe, said: str) -> None:
    """Raise DataError where the model, as it is when trained, does not take one example: torch's batch-norm raises ValueError."""
    copy = train(owned(stack.modules[0]), recipe.freeze)
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            copy(as_input(data.x[:1]))
    except ValueError as error:
        raise DataError(
            f"The last batch would hold a single example ({said}), of which batch-norm knows no spread: take another"
            f" batch_size. {first_line(error)}"
        ) from error


def train(module: nn.Module, freeze: Sequence[str]) -> nn.Module:
    """Put a module into training mode -> the module. What is frozen computes as if judged: batch-norm does not count on."""
    module.train()
    parts = dict(module.named_modules())
    for name in freeze:
        if name in parts:
            parts[name].eval()
    return module


def _classes(y: Tensor, shape: list[int], name: str) -> Tensor:
    if y.is_floating_point() or not shape or list(y.shape[1:]) != shape[:-1]:
        raise DataError(
            f"{name}: cross_entropy takes whole numbers y of shape {['M', *shape[:-1]]}, one for each answer of the model,"
            f" not {y.dtype} of {['M', *y.shape[1:]]}."
        )
    y = y.long()
    wrong = ((y < 0) | (y >= shape[-1])) & (y != losses.IGNORED)
    if wrong.any():
        place = tuple(int(i) for i in wrong.nonzero()[0])
        raise DataError(
            f"{name}: y[{', '.join(map(str, place))}] is {int(y[place])}, but the model knows the classes 0 to {shape[-1] - 1}."
        )
    return y


def _numbers(y: Tensor, shape: list[int], loss: str, name: str) -> Tensor:
    y = y.float()
    if [*y.shape[1:], 1] == shape:  # [M] for [M, 1]
        y = y[..., None]
    if list(y.shape[1:]) != shape:
        raise DataError(f"{name}: the model answers {shape} to each example, and y is {list(y.shape[1:])}.")
    wrong = (y < 0) | (y > 1)
    if loss == "binary_cross_entropy" and wrong.any():
        place = tuple(int(i) for i in wrong.nonzero()[0])
        raise DataError(f"{name}: y[{', '.join(map(str, place))}] is {y[place].item():g}; yes and no are 1 and 0.")
    return y
