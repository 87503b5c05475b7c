"""Random streams: one generator per seed and purpose, none shared.

Seed k draws only from its own generator, so its numbers do not depend on which other seeds run beside it. `Streams` wrap
numpy generators on the host. `Draws` wrap torch generators on any device; only their counts are saved.
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

# numpy derives independent generators from (seed, purpose): exploration never shares numbers with the environment.
PURPOSES = {
    "agent": 0,
    "initial": 1,
    "policy": 2,
    "weights": 3,
    "forward": 4,
    "data": 5,
    "augment": 6,
    "replay": 7,
    "target": 8,  # forward passes of a target network, which thus share no draws with those of the online network
    "noise": 9,  # this and the following belong to agents, see `rl.deep.agent.DeepAgent.streams`
    "fractions": 10,
    "rollout": 11,  # the order of minibatches
}

STATE_BYTES = (5056, 16, 44)  # sizes of the generator states of torch on CPU, CUDA and MPS


def generator(seed: int, purpose: str) -> np.random.Generator:
    """Return the generator of `seed` for one purpose, independent of every other seed and purpose."""
    sequence = np.random.SeedSequence(seed, spawn_key=(PURPOSES[purpose],))
    return np.random.Generator(np.random.PCG64(sequence))


def torch_seed(seed: int, purpose: str) -> int:
    """Return a seed for a torch generator, drawn from the stream of `seed` for this purpose."""
    return int(generator(seed, purpose).integers(2**63))


class Streams:
    """N generators, one per seed; draws are tensors [N, *shape].

    seeds: a count (0..n-1), a list, a range, an array or a tensor. purpose: one of PURPOSES.
    """

    def __init__(self, seeds: int | Sequence[int], purpose: str = "agent") -> None:
        choice(purpose, "purpose", PURPOSES)
        self.seeds = seeds_of(seeds)
        self.generators = [generator(seed, purpose) for seed in self.seeds]

    @explained("sizes that are nonnegative whole numbers")
    def uniform(self, *shape: int) -> Tensor:
        """Draw uniform numbers in [0, 1), float64 [N, *shape]."""
        return torch.from_numpy(self.random(shape))

    def random(self, shape: tuple[int, ...]) -> np.ndarray:
        """Draw uniform numbers as an array."""
        return np.stack([rng.random(shape) for rng in self.generators])

    @explained("sizes that are nonnegative whole numbers")
    def normal(self, *shape: int) -> Tensor:
        """Draw standard normal numbers, float64 [N, *shape]."""
        return torch.from_numpy(np.stack([rng.standard_normal(shape) for rng in self.generators]))

    @explained("high, a positive whole number, and sizes")
    def integers(self, high: int, *shape: int) -> Tensor:
        """Draw whole numbers in 0..high-1, int64 [N, *shape]."""
        return torch.from_numpy(np.stack([rng.integers(high, size=shape) for rng in self.generators]))

    def state_dict(self) -> Any:
        """Return the state of each generator as JSON values."""
        return [dict(rng.bit_generator.state) for rng in self.generators]

    def load_state_dict(self, state: Any) -> None:
        """Load a state returned by `state_dict`. Raises ValueError for anything else."""
        try:
            for rng, saved in zip(self.generators, state, strict=True):
                rng.bit_generator.state = saved
        except (TypeError, ValueError, KeyError, OverflowError) as error:
            raise ValueError(f"The saved random streams are damaged: {first_line(error)}") from error


class BufferedStreams(Streams):
    """`Streams` that draw in blocks, for loops in which N separate draws per step would be slow.

    draw: the method of numpy's generators, called with a size, that `random` draws by: uniform by default, or standard_normal.
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
        self.drawn = np.zeros((len(self.seeds), 0))  # numbers in the buffer, [N, number]

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


Ahead = BufferedStreams  # its former name


class Draws:
    """N torch generators on a device, reseeded for every unit of work from (seed, purpose, count).

    A unit of work is everything between two calls of `begin`, such as a forward pass; `counts` is the number of units in which
    each seed has drawn. Since this is the whole state, it can be loaded on any device: the same device then continues with the
    same numbers, another one with its own numbers for these counts.
    """

    def __init__(self, seeds: Sequence[int], purpose: str, device: torch.device | str = "cpu") -> None:
        self.counts = [0] * len(seeds)
        self._keys = [torch_seed(seed, purpose) for seed in seeds]
        self._generators = [torch.Generator(device) for _ in seeds]
        self._begun = [False] * len(seeds)

    def begin(self) -> None:
        """Begin a unit of work."""
        self._begun = [False] * len(self._begun)

    def generator(self, k: int) -> torch.Generator:
        """Return the k-th seed's generator; the first call in a unit of work reseeds it and increments its count."""
        if not self._begun[k]:
            self._start(k)
            self._begun[k] = True
            self.counts[k] += 1
        return self._generators[k]

    @contextlib.contextmanager
    def everywhere(self, k: int) -> Iterator[None]:
        """Context manager for a unit of work in which the device's global torch generator draws from the k-th seed's stream.

        The global generator is restored afterwards. The unit is counted only if something was drawn.
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
        """Return the counts, int64 [N]."""
        return torch.tensor(self.counts, dtype=torch.int64)

    def load_state(self, state: Tensor, what: str) -> None:
        """Load a state returned by `state`. Raises ValueError for anything else.

        Generator states, uint8 [N, bytes], as older checkpoints contain, cannot be moved between devices: the counts start at 0
        instead, with a warning. what: what is drawn, for that warning; empty: nothing, so no warning.
        """
        n = len(self.counts)
        if state.dtype == torch.uint8 and state.ndim == 2 and len(state) == n and state.shape[1] in STATE_BYTES:
            self.counts = [0] * n
            if what:
                warnings.warn(
                    f"The checkpoint is from an earlier version that saved random streams in another form: {what} continues"
                    " with different random numbers. Everything else is restored exactly.",
                    stacklevel=3,
                )
            return
        if state.dtype != torch.int64 or state.shape != (n,) or bool((state < 0).any()):
            raise ValueError(
                f"The saved random streams must be nonnegative counts, int64 [{n}], not {str(state.dtype).removeprefix('torch.')}"
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
    """Return the functions that get and set the state of a device's global torch generator."""
    if device.type == "cpu":
        return torch.get_rng_state, torch.set_rng_state
    module = getattr(torch, device.type)
    if device.type == "mps":  # has a single device, so no device argument
        return module.get_rng_state, module.set_rng_state
    return (lambda: module.get_rng_state(device)), (lambda state: module.set_rng_state(state, device))
