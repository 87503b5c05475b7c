"""The batches of an epoch: the training data in each seed's own order, augmented and cut as the recipe specifies."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from supervised.fitting.check_data import as_input, check_recipe, shapes
from supervised.fitting.recipe import Recipe
from supervised.sources import Data, Source
from supervised.stack import Stack
from supervised.state import from_tree, to_tree
from supervised.streams import Draws, Streams


class Batches:
    """The training data, and the random streams that shuffle and augment them.

    plan: the layout of an epoch. steps: optimizer steps per epoch.
    """

    def __init__(self, stack: Stack, source: Source, recipe: Recipe, recurrent: bool) -> None:
        """Raises DataError if the recipe does not suit the data."""
        self.source, self.augment, self.stack = source, recipe.augment, stack
        self.plan = source.plan(recipe.batch_size)
        check_recipe(stack, source.sample, recipe, self.plan)
        self.pieces = _time_pieces(recipe.bptt_steps, source.sample, recurrent)
        self.steps = math.ceil(self.plan.used / self.plan.size) * len(self.pieces)
        self.order = Streams(stack.seeds, "data")
        self.augmenters = Draws(stack.seeds, "augment", stack.device)

    def epoch(self, number: int) -> Iterator[tuple[Any, Tensor, float, bool, bool]]:
        """Yield for each step x [N, B, ...] and y [N, B, ...], its share of the epoch's examples, whether a recurrent model
        starts from a new state, and whether the step is the last. number: the number of previous epochs."""
        size, m, _ = self.plan
        order = self._draw_order().to(self.stack.device, non_blocking=True)
        seen, last_piece = 0, len(self.pieces) - 1
        for examples, y in self.source.batches(order, size, self.stack.seeds, number):
            x, share = as_input(examples), y.shape[1] / m / len(self.pieces)
            if self.augment:
                x = self._augmented(x)
            seen += y.shape[1]
            if not last_piece:
                yield x, y, share, True, seen == m
                continue
            for i, piece in enumerate(self.pieces):
                yield x[:, :, piece], y[:, :, piece], share, i == 0, seen == m and i == last_piece

    def _draw_order(self) -> Tensor:
        """Draw the order of examples, indices [N, M]."""
        _, m, shuffled = self.plan
        rows = [g.permutation(self.source.size)[:m] if shuffled else np.arange(m) for g in self.order.generators]
        return torch.from_numpy(np.stack(rows))

    def _augmented(self, x: Tensor) -> Tensor:
        """Augment images [N, B, ...] as the recipe specifies, each seed's from its own stream."""
        members = []
        self.augmenters.begin()
        for k, member in enumerate(x):
            altered = member
            for augmentation in self.augment:
                altered = augmentation(altered, self.augmenters.generator(k))
            members.append(altered)
        return torch.stack(members)

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the random streams."""
        return {"augment": to_tree(self.augmenters.state()), "order": self.order.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load a state returned by `state_dict`."""
        self.augmenters.load_state(from_tree(state["augment"]), "augment" if self.augment else "")
        self.order.load_state_dict(state["order"])


def _time_pieces(length: int | None, sample: Data, recurrent: bool) -> list[slice]:
    """Return the pieces of sequences for truncated backpropagation through time; length None: a single piece."""
    if length is None:
        return [slice(None)]
    if not recurrent:
        raise ValueError("bptt_steps requires a recurrent model, but this one returns no state.")
    x, y = sample
    if not isinstance(x, Tensor) or y.ndim < 2 or x.ndim < 2 or x.shape[1] != y.shape[1]:
        raise ValueError(
            "bptt_steps cuts both x [M, T, ...] and y [M, T, ...], so there must be a target at each time step:"
            f" for one example x is {shapes(x)} and y is {shapes(y)}."
        )
    return [slice(t, t + length) for t in range(0, x.shape[1], length)]
