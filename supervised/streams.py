"""One random generator a seed, and none shared.

A draw for seed k comes from seed k's generator alone, so seed k draws the same numbers alone as among others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from supervised.validate import choice, explained, first_line, seeds_of

# numpy derives independent generators from (seed, purpose): exploration never uses the numbers that an environment does.
PURPOSES = {"agent": 0, "initial": 1, "policy": 2, "weights": 3, "forward": 4, "data": 5, "augment": 6, "replay": 7}


def generator(seed: int, purpose: str) -> np.random.Generator:
    """The generator of `seed` for one purpose; independent of every other seed and purpose."""
    sequence = np.random.SeedSequence(seed, spawn_key=(PURPOSES[purpose],))
    return np.random.Generator(np.random.PCG64(sequence))


class Streams:
    """N generators, one a seed. Draws come back as tensors [N, *shape].

    seeds: a count (0..n-1), a list, a range, an array or a tensor. purpose: one of PURPOSES.
    """

    def __init__(self, seeds: int | Sequence[int], purpose: str = "agent") -> None:
        choice(purpose, "purpose", PURPOSES)
        self.seeds = seeds_of(seeds)
        self.generators = [generator(seed, purpose) for seed in self.seeds]

    @explained("sizes that are whole numbers from 0 on")
    def uniform(self, *shape: int) -> Tensor:
        """Numbers in [0, 1), float64 [N, *shape]."""
        return torch.from_numpy(np.stack([rng.random(shape) for rng in self.generators]))

    @explained("sizes that are whole numbers from 0 on")
    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers, float64 [N, *shape]."""
        return torch.from_numpy(np.stack([rng.standard_normal(shape) for rng in self.generators]))

    @explained("high, a whole number from 1 on, and sizes")
    def integers(self, high: int, *shape: int) -> Tensor:
        """Whole numbers in 0..high-1, int64 [N, *shape]."""
        return torch.from_numpy(np.stack([rng.integers(high, size=shape) for rng in self.generators]))

    def state_dict(self) -> Any:
        """The state of each generator, as JSON values."""
        return [dict(rng.bit_generator.state) for rng in self.generators]

    def load_state_dict(self, state: Any) -> None:
        """Put back what `state_dict` gave. Raises ValueError for anything else."""
        try:
            for rng, saved in zip(self.generators, state, strict=True):
                rng.bit_generator.state = saved
        except (TypeError, ValueError, KeyError, OverflowError) as error:
            raise ValueError(f"The saved random streams are damaged: {first_line(error)}") from error


class Ahead(Streams):
    """The same streams, with uniform numbers drawn in blocks: for loops in which a draw for each of N seeds would take long."""

    BLOCK = 1024

    def __init__(self, seeds: Sequence[int], purpose: str = "agent") -> None:
        super().__init__(seeds, purpose)
        self.drawn = np.zeros((len(self.seeds), 0))  # not yet handed out

    def uniform(self, *shape: int) -> Tensor:
        size = math.prod(shape)
        if self.drawn.shape[1] < size:
            block = np.stack([rng.random(max(size, self.BLOCK)) for rng in self.generators])
            self.drawn = np.concatenate([self.drawn, block], axis=1)
        numbers, self.drawn = self.drawn[:, :size], self.drawn[:, size:]
        return torch.from_numpy(numbers.reshape(len(self.seeds), *shape))

    def state_dict(self) -> Any:
        return {"generators": super().state_dict(), "drawn": self.drawn}

    def load_state_dict(self, state: Any) -> None:
        super().load_state_dict(state["generators"])
        drawn = state["drawn"]
        if drawn.ndim != 2 or len(drawn) != len(self.seeds) or drawn.dtype != np.float64:
            raise ValueError("The saved random streams are damaged.")
        self.drawn = drawn.copy()
