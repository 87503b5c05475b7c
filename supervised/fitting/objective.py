"""The objective of a fit: a loss by name or as a function, class weights, and metrics.

A user-defined function is called for one member at a time: it takes prediction [B, ...] and y [B, ...] and returns one or more
numbers per example, [B, ...], as torch's losses do with reduction="none". Results are thus bit-identical to each member alone.
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

Sums = dict[str, tuple[Tensor, Tensor]]  # by tag: the sum over examples and the sum of their weights, each [N]


class Objective:
    """The loss of a recipe, or by default the model's own, with the recipe's weights and metrics.

    name: that of the loss, or of the function. all_count: whether no target is losses.IGNORED.
    """

    def __init__(self, recipe: Recipe, model: Any, device: torch.device) -> None:
        """Raises ValueError if there is no loss, or if settings do not apply to it."""
        loss = getattr(model, "loss", None) if recipe.loss is None else recipe.loss
        self.own = loss if callable(loss) and recipe.loss is not None else None
        if self.own is None and not isinstance(loss, str):
            raise ValueError("The loss is missing: the model defines none, so the recipe must.")
        self.name = functions.name(loss) if self.own is not None else choice(loss, "loss", losses.LOSSES)
        self.classifies = self.own is None and self.name in metrics.CLASSIFYING
        self.smoothing, self.metrics, self.all_count = recipe.label_smoothing, dict(recipe.metrics), True
        if self.smoothing and not self._is("cross_entropy"):
            raise ValueError(f"label_smoothing applies only to cross_entropy, but the loss is {self.name}.")
        if recipe.class_weights is not None and not self.classifies:
            raise ValueError(
                f"class_weights apply only to cross_entropy and binary_cross_entropy, but the loss is {self.name}."
            )
        self.class_weights = None if recipe.class_weights is None else torch.tensor(recipe.class_weights, device=device)

    def _is(self, name: str) -> bool:
        return self.own is None and self.name == name

    @property
    def is_squared_error(self) -> bool:
        """Whether the root of the loss is in units of the targets."""
        return self._is("mse")

    def target(self, y: Tensor, shape: list[int], name: str) -> Tensor:
        """Convert targets [M, ...] for the loss, given outputs of `shape` per example. Raises DataError if they do not fit."""
        if self.own is not None:
            return y
        return _classes(y, shape, name) if self.name == "cross_entropy" else _numbers(y, shape, self.name, name)

    def classes(self, shape: list[int]) -> int | None:
        """Return the number of classes under cross_entropy, else None. Raises ArgumentError unless class weights match it."""
        count = shape[-1] if self._is("cross_entropy") else None
        wanted = count or 2
        if self.class_weights is not None and len(self.class_weights) != wanted:
            raise ArgumentError(
                f"class_weights must be one number for each of {wanted} classes, not {len(self.class_weights)}."
            )
        return count

    def losses(self, prediction: Tensor, y: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the loss of each example [N, B, ...], and the weight of each in the mean (None: equal weights)."""
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
        """Return the mean loss of each seed, [N]; with class weights the weighted mean, as in torch."""
        loss, counts = self.losses(prediction, y)
        if self.class_weights is None or counts is None:
            return losses.per_seed(loss, counts)
        total = counts.flatten(1).sum(1)
        return loss.flatten(1).sum(1) / torch.where(total > 0, total, 1)

    def measures(self, prediction: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Return the accuracy, for classification, and the mean of each metric, each [N]."""
        return {tag: losses.per_seed(value.float(), counts) for tag, value, counts in self._measured(prediction, y)}

    def sums(self, prediction: Tensor, y: Tensor) -> Sums:
        """Return the sums of loss and metrics with their weights, float64 on the host, to be accumulated over batches."""
        loss, weights = self.losses(prediction, y)
        places = y != losses.IGNORED if self._is("cross_entropy") else None
        # On the host, since not every device supports float64.
        found = {"loss": (loss.cpu().double().flatten(1).sum(1), _count(loss, places if weights is None else weights))}
        for tag, value, counts in self._measured(prediction, y):
            counted = value if counts is None else value * counts
            found[tag] = counted.cpu().double().flatten(1).sum(1), _count(value, counts)
        return found

    def _measured(self, prediction: Tensor, y: Tensor) -> list[tuple[str, Tensor, Tensor | None]]:
        """Return the name and value of each metric per example [N, B, ...], and which examples to include."""
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
        """Raise ArgumentError if a user-defined function fails on these, or does not return numbers for each example."""
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
                    f"{said} mixes examples: for {prediction.shape[1]} it returns {kind_of(found)}, for one {kind_of(alone)}."
                    f" Do prediction {kind_of(prediction[0])} and y {kind_of(y[0])} have the same shape?"
                )
            if name == "loss" and not found.requires_grad:
                raise ArgumentError(
                    f"{said} has no gradient with respect to the prediction, so nothing could be learned from it."
                )


def _each(function: Callable[[Tensor, Tensor], Tensor], prediction: Tensor, y: Tensor) -> Tensor:
    """Apply a user-defined function to each member -> [N, B, ...]."""
    return torch.stack([function(one, target) for one, target in zip(prediction, y, strict=True)])


def _count(value: Tensor, counts: Tensor | None) -> Tensor:
    """Return the total weight of values [N, ...], float64 [N]."""
    if counts is None:
        return torch.full((len(value),), value[0].numel(), dtype=torch.float64)
    return counts.flatten(1).sum(1).cpu().double()


def _classes(y: Tensor, shape: list[int], name: str) -> Tensor:
    if y.is_floating_point() or not shape or list(y.shape[1:]) != shape[:-1]:
        raise DataError(
            f"{name}: cross_entropy takes whole numbers y of shape {['M', *shape[:-1]]}, one for each output of the model,"
            f" not {y.dtype} of {['M', *y.shape[1:]]}."
        )
    y = y.long()
    wrong = ((y < 0) | (y >= shape[-1])) & (y != losses.IGNORED)
    if wrong.any():
        place = tuple(int(i) for i in wrong.nonzero()[0])
        raise DataError(
            f"{name}: y[{', '.join(map(str, place))}] is {int(y[place])}, but the model has the classes 0 to {shape[-1] - 1}."
        )
    return y


def _numbers(y: Tensor, shape: list[int], loss: str, name: str) -> Tensor:
    y = y.float()
    if [*y.shape[1:], 1] == shape:  # [M] for [M, 1]
        y = y[..., None]
    if list(y.shape[1:]) != shape:
        raise DataError(f"{name}: the model returns {shape} per example, but y is {list(y.shape[1:])}.")
    wrong = (y < 0) | (y > 1)
    if loss == "binary_cross_entropy" and wrong.any():
        place = tuple(int(i) for i in wrong.nonzero()[0])
        raise DataError(
            f"{name}: y[{', '.join(map(str, place))}] is {y[place].item():g}; binary targets must be in [0, 1]."
        )
    return y
