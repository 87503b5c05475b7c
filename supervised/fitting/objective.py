"""What a fit minimizes, and what it measures besides: a loss by name or a function, class weights, and metrics.

A function of one's own sees one member: it takes prediction [B, ...] and y [B, ...] and returns one number or more an example,
[B, ...], as torch's losses do with reduction="none". So each member's numbers are the same to the bit as alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from supervised import functions, losses, metrics
from supervised.fitting.recipe import Recipe
from supervised.sources import DataError
from supervised.validate import ArgumentError, choice, first_line, kind_of

Sums = dict[str, tuple[Tensor, Tensor]]  # by tag: a sum over examples, and how much it counts, each [N]


class Objective:
    """The loss of a recipe, or else the model's own, with the recipe's weights and metrics.

    `name` is that of the loss, or of the function. `all_count`: whether no target is losses.IGNORED.
    """

    def __init__(self, recipe: Recipe, model: Any, device: torch.device) -> None:
        """Raises ValueError where no loss is named, or where settings do not belong to it."""
        loss = getattr(model, "loss", None) if recipe.loss is None else recipe.loss
        self.own = loss if callable(loss) and recipe.loss is not None else None
        if self.own is None and not isinstance(loss, str):
            raise ValueError("The loss is missing: the model names none, so the recipe must.")
        self.name = functions.name(loss) if self.own is not None else choice(loss, "loss", losses.LOSSES)
        self.classifies = self.own is None and self.name in metrics.CLASSIFYING
        self.smoothing, self.metrics, self.all_count = recipe.label_smoothing, dict(recipe.metrics), True
        if self.smoothing and not self._is("cross_entropy"):
            raise ValueError(f"label_smoothing belongs to cross_entropy, and the loss is {self.name}.")
        if recipe.class_weights is not None and not self.classifies:
            raise ValueError(
                f"class_weights belong to cross_entropy and binary_cross_entropy, and the loss is {self.name}."
            )
        self.class_weights = None if recipe.class_weights is None else torch.tensor(recipe.class_weights, device=device)

    def _is(self, name: str) -> bool:
        return self.own is None and self.name == name

    @property
    def is_squared_error(self) -> bool:
        """Whether the root of the loss is in units of the targets."""
        return self._is("mse")

    def target(self, y: Tensor, shape: list[int], name: str) -> Tensor:
        """Targets [M, ...] as the loss takes them, for outputs of `shape` per example. Raises DataError."""
        if self.own is not None:
            return y
        return _classes(y, shape, name) if self.name == "cross_entropy" else _numbers(y, shape, self.name, name)

    def classes(self, shape: list[int]) -> int | None:
        """How many classes outputs of `shape` have under cross_entropy. ArgumentError for another number of class weights."""
        count = shape[-1] if self._is("cross_entropy") else None
        wanted = count or 2
        if self.class_weights is not None and len(self.class_weights) != wanted:
            raise ArgumentError(
                f"class_weights is one number for each of {wanted} classes, not {len(self.class_weights)}."
            )
        return count

    def losses(self, prediction: Tensor, y: Tensor) -> tuple[Tensor, Tensor | None]:
        """The loss of each example [N, B, ...], and how much each counts in the mean (None: all the same)."""
        if self.own is not None:
            return _each(self.own, prediction, y), None
        if self.name == "cross_entropy":
            counts = None if self.all_count else y != losses.IGNORED
            loss = losses.cross_entropy(prediction, y, self.smoothing, self.class_weights)
            if self.class_weights is None:
                return loss, counts
            weights = self.class_weights[y.clamp(min=0)]
            return loss, weights if counts is None else weights * counts
        loss = losses.LOSSES[self.name](prediction, y)
        if self.class_weights is None:
            return loss, None
        no, yes = self.class_weights
        weights = no + (yes - no) * y
        return loss * weights, weights

    def per_seed(self, prediction: Tensor, y: Tensor) -> Tensor:
        """The mean loss of each seed, [N]; with class weights the weighted mean, as torch's."""
        loss, counts = self.losses(prediction, y)
        if self.class_weights is None or counts is None:
            return losses.per_seed(loss, counts)
        total = counts.flatten(1).sum(1)
        return loss.flatten(1).sum(1) / torch.where(total > 0, total, 1)

    def measures(self, prediction: Tensor, y: Tensor) -> dict[str, Tensor]:
        """The accuracy of a classification, and the mean of each metric: each [N]."""
        return {tag: losses.per_seed(value.float(), counts) for tag, value, counts in self._measured(prediction, y)}

    def sums(self, prediction: Tensor, y: Tensor) -> Sums:
        """The sums of the loss and of each measure, float64 on the host; batch after batch they add up to the mean over all."""
        loss, weights = self.losses(prediction, y)
        places = y != losses.IGNORED if self._is("cross_entropy") else None
        # float64 on the host: not every device has it.
        found = {"loss": (loss.cpu().double().flatten(1).sum(1), _count(loss, places if weights is None else weights))}
        for tag, value, counts in self._measured(prediction, y):
            counted = value if counts is None else value * counts
            found[tag] = counted.cpu().double().flatten(1).sum(1), _count(value, counts)
        return found

    def _measured(self, prediction: Tensor, y: Tensor) -> list[tuple[str, Tensor, Tensor | None]]:
        """Each measure of each example [N, B, ...], and which count."""
        counts = y != losses.IGNORED if self._is("cross_entropy") and not self.all_count else None
        found: list[tuple[str, Tensor, Tensor | None]] = []
        right = metrics.correct(prediction, y, self.name) if self.classifies else None
        if right is not None:
            found.append(("accuracy", right, counts))
        for tag, metric in self.metrics.items():
            value = _each(metric, prediction, y)
            found.append((tag, value, counts if value.shape == y.shape else None))
        return found

    def check(self, prediction: Tensor, y: Tensor) -> None:
        """Raise ArgumentError where a function of the user fails on these, or does not return numbers for each example."""
        for name, function in {"loss": self.own, **self.metrics}.items():
            if function is None:
                continue
            said = f"{name}={functions.name(function)}"
            try:
                with torch.enable_grad():
                    found = function(prediction[0].detach().requires_grad_(), y[0])
            except (RuntimeError, TypeError, ValueError, IndexError) as error:
                raise ArgumentError(
                    f"{said} failed on prediction {kind_of(prediction[0])} and y {kind_of(y[0])}: {first_line(error)}"
                ) from error
            if not isinstance(found, Tensor) or found.shape[:1] != prediction.shape[1:2]:
                raise ArgumentError(
                    f"{said} must return numbers for each example, a tensor [B, ...] (torch's losses do with"
                    f" reduction='none'); for {prediction.shape[1]} examples it returned {kind_of(found)}."
                )
            if not isinstance(alone := function(prediction[0][:1].detach(), y[0][:1]), Tensor) or (
                alone.shape[1:] != found.shape[1:]
            ):
                raise ArgumentError(
                    f"{said} mixes examples: of {prediction.shape[1]} it returns {kind_of(found)}, of one alone {kind_of(alone)}."
                    f" Are prediction {kind_of(prediction[0])} and y {kind_of(y[0])} of one shape?"
                )
            if name == "loss" and not found.requires_grad:
                raise ArgumentError(f"{said} has no gradient by the prediction, so nothing could be learned from it.")


def _each(function: Callable[[Tensor, Tensor], Tensor], prediction: Tensor, y: Tensor) -> Tensor:
    """A function of the user for each member: [N, B, ...]."""
    return torch.stack([function(one, target) for one, target in zip(prediction, y, strict=True)])


def _count(value: Tensor, counts: Tensor | None) -> Tensor:
    """How much values [N, ...] count in all, float64 [N]."""
    if counts is None:
        return torch.full((len(value),), value[0].numel(), dtype=torch.float64)
    return counts.flatten(1).sum(1).cpu().double()


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
