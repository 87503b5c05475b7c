"""One random generator a seed, and none shared.

A draw for seed k comes from seed k's generator alone, so seed k draws the same numbers alone as among others. `Streams` are
numpy's, on the host; `Draws` are torch's, on any device, and only their counts are saved.
"""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from supervised.validate import choice, explained, first_line, seeds_of

# numpy derives independent generators from (seed, purpose): exploration never uses the numbers that an environment does.
PURPOSES = {
    "agent": 0,
    "initial": 1,
    "policy": 2,
    "weights": 3,
    "forward": 4,
    "data": 5,
    "augment": 6,
    "replay": 7,
    "target": 8,  # what a target network draws in a forward pass, so that it shares no draw with the online one
    "noise": 9,  # the rest are agents' own, see `rl.deep.agent.DeepAgent.streams`
    "fractions": 10,
}

STATE_BYTES = (5056, 16, 44)  # of a torch generator of the CPU, of CUDA and of MPS


def generator(seed: int, purpose: str) -> np.random.Generator:
    """The generator of `seed` for one purpose; independent of every other seed and purpose."""
    sequence = np.random.SeedSequence(seed, spawn_key=(PURPOSES[purpose],))
    return np.random.Generator(np.random.PCG64(sequence))


def torch_seed(seed: int, purpose: str) -> int:
    """A seed for a torch generator, drawn from the stream of `seed` for this purpose."""
    return int(generator(seed, purpose).integers(2**63))


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
        return torch.from_numpy(self.random(shape))

    def random(self, shape: tuple[int, ...]) -> np.ndarray:
        """The same as an array."""
        return np.stack([rng.random(shape) for rng in self.generators])

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
    """The same streams, with numbers drawn in blocks: for loops in which a draw for each of N seeds would take long.

    draw: what `random` hands out, a method of numpy's generators that is given a size: uniform numbers, or standard_normal ones.
    """

    BLOCK = 1024

    def __init__(
        self,
        seeds: Sequence[int],
        purpose: str = "agent",
        draw: Callable[[np.random.Generator, int], np.ndarray] = np.random.Generator.random,
    ) -> None:
        super().__init__(seeds, purpose)
        self._draw = draw
        self.drawn = np.zeros((len(self.seeds), 0))  # not yet handed out

    def random(self, shape: tuple[int, ...]) -> np.ndarray:
        size = math.prod(shape)
        if self.drawn.shape[1] < size:
            block = np.stack([self._draw(rng, max(size, self.BLOCK)) for rng in self.generators])
            self.drawn = np.concatenate([self.drawn, block], axis=1)
        numbers, self.drawn = self.drawn[:, :size], self.drawn[:, size:]
        return numbers.reshape(len(self.seeds), *shape)

    def state_dict(self) -> Any:
        return {"generators": super().state_dict(), "drawn": self.drawn}

    def load_state_dict(self, state: Any) -> None:
        super().load_state_dict(state["generators"])
        drawn = state["drawn"]
        if drawn.ndim != 2 or len(drawn) != len(self.seeds) or drawn.dtype != np.float64:
            raise ValueError("The saved random streams are damaged.")
        self.drawn = drawn.copy()


class Draws:
    """N torch generators on a device, each begun anew for every piece of work from (seed, purpose, count).

    A piece is whatever lies between two calls of `begin`, such as a forward pass; `counts` says in how many pieces each seed
    has drawn. As nothing else is kept, a state does not depend on the device: on the same one the same numbers follow, on
    another one that device's numbers for the same counts.
    """

    def __init__(self, seeds: Sequence[int], purpose: str, device: torch.device | str = "cpu") -> None:
        self.counts = [0] * len(seeds)
        self._keys = [torch_seed(seed, purpose) for seed in seeds]
        self._generators = [torch.Generator(device) for _ in seeds]
        self._begun = [False] * len(seeds)

    def begin(self) -> None:
        """Begin a piece of work."""
        self._begun = [False] * len(self._begun)

    def generator(self, k: int) -> torch.Generator:
        """The generator of the k-th seed, at its beginning the first time in a piece of work, which counts it."""
        if not self._begun[k]:
            self._start(k)
            self._begun[k] = True
            self.counts[k] += 1
        return self._generators[k]

    @contextlib.contextmanager
    def everywhere(self, k: int) -> Iterator[None]:
        """A piece of work in which torch's global generator of the device draws as the k-th seed's does.

        Afterwards the global generator is as it was before. The piece counts only if something was drawn.
        """
        generator = self._start(k)
        get, put = _global_state(generator.device)
        before, start = get(), generator.get_state()
        put(start)
        try:
            yield
        finally:
            self.counts[k] += not torch.equal(get(), start)
            put(before)

    def state(self) -> Tensor:
        """The counts, int64 [N]."""
        return torch.tensor(self.counts, dtype=torch.int64)

    def load_state(self, state: Tensor, what: str) -> None:
        """Put back what `state` gave. Raises ValueError for anything else.

        The states of generators, uint8 [N, bytes], which checkpoints held before, cannot be carried from one device to
        another: the counts begin at 0 then, with a warning that names what is drawn otherwise. what: that name; empty where
        nothing is drawn, and no warning is due.
        """
        n = len(self.counts)
        if state.dtype == torch.uint8 and state.ndim == 2 and len(state) == n and state.shape[1] in STATE_BYTES:
            self.counts = [0] * n
            if what:
                warnings.warn(
                    f"The checkpoint was made by an earlier version, which saved random streams in another form: {what} goes on"
                    " with other random numbers than it would have. All else is as it was.",
                    stacklevel=3,
                )
            return
        if state.dtype != torch.int64 or state.shape != (n,) or bool((state < 0).any()):
            raise ValueError(
                f"The saved random streams are counts from 0 on, int64 [{n}], not {str(state.dtype).removeprefix('torch.')}"
                f" {list(state.shape)}{' with negative ones' * (state.shape == (n,))}."
            )
        self.counts = state.tolist()

    def _start(self, k: int) -> torch.Generator:
        # SplitMix64 (Steele, Lea and Flood 2014). Torch's CPU generator uses the lower 32 bits of its seed.
        mask = 2**64 - 1
        z = (self._keys[k] + (self.counts[k] + 1) * 0x9E3779B97F4A7C15) & mask
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        return self._generators[k].manual_seed(z ^ (z >> 31))


def _global_state(device: torch.device) -> tuple[Callable[[], Tensor], Callable[[Tensor], None]]:
    """How the state of torch's global generator of a device is read, and how it is set."""
    if device.type == "cpu":
        return torch.get_rng_state, torch.set_rng_state
    module = getattr(torch, device.type)
    if device.type == "mps":  # it has one device, and no argument for it
        return module.get_rng_state, module.set_rng_state
    return (lambda: module.get_rng_state(device)), (lambda state: module.set_rng_state(state, device))
