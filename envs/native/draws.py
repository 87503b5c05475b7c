"""The random numbers of the copies of a game: uniform numbers in [0, 1), separate for each copy.

Both kinds draw blocks ahead, which does not change the numbers. `reset` draws for an explicit reset of rows, `step` for a step
of all rows; the last columns of `step` are for the automatic resets that may occur in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from envs.native.arrays import Arrays
from envs.native.random import keys_of

BLOCK = 16_384  # words that are drawn ahead in one call
STEP, RESET = 0, 1 << 31  # domains of the counter


class Draws(Protocol):
    """The random numbers of R copies of a game that needs `step` numbers per step and `reset` numbers per reset."""

    def reset(self, rows: np.ndarray) -> Any:
        """Return the numbers for a reset of these rows, float64 [len(rows), reset]."""

    def step(self) -> Any:
        """Return the numbers of the next step of all rows, float64 [R, step]."""

    def again(self, rows: np.ndarray) -> Any:
        """Return the numbers for the automatic resets of these rows in this step, float64 [len(rows), reset]."""

    def state_dict(self) -> dict[str, np.ndarray]:
        """Return the state of the generators, arrays [R, ...]."""

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Restore a state returned by `state_dict`."""


class Counted:
    """Counter-based random numbers (see `envs.native.random`)."""

    def __init__(self, arrays: Arrays, seeds: Sequence[int], step: int, reset: int) -> None:
        self.arrays, self.keys, self.sizes = arrays, keys_of(seeds), (step, reset)
        self.resets = np.zeros(len(seeds), np.int64)  # explicit ones, of each row
        self.t = -1  # of the current step
        self.ahead = max(1, BLOCK // (len(seeds) * max(1, step + reset)))
        self.first = 0  # the step that the block begins with
        self.block: Any = None

    @staticmethod
    def copy_bytes(step: int, reset: int) -> int:
        """Return approximately how many bytes the numbers of a copy take."""
        return 60 * (step + reset + 1)

    def reset(self, rows: np.ndarray) -> Any:
        keys = tuple(key[rows] for key in self.keys)
        found = self.arrays.uniform(keys, self.resets[rows, None], self.sizes[1], RESET)[:, 0]
        self.resets[rows] += 1
        return found

    def step(self) -> Any:
        self.t += 1
        if self.block is None or not self.first <= self.t < self.first + self.ahead:
            self.first = self.t
            at = np.arange(self.t, self.t + self.ahead)
            self.block = self.arrays.uniform(self.keys, at, sum(self.sizes), STEP)
        return self.block[:, self.t - self.first, : self.sizes[0]]

    def again(self, rows: Any) -> Any:
        return self.block[rows, self.t - self.first, self.sizes[0] :]

    def state_dict(self) -> dict[str, np.ndarray]:
        return {"t": np.full(len(self.resets), self.t), "resets": self.resets}

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        self.t, self.block = int(state["t"][0]), None
        self.resets[:] = state["resets"]


class Generators:
    """Random numbers from each copy's own PCG64, as in Gymnasium's single environments; for games that draw only at resets."""

    def __init__(self, arrays: Arrays, seeds: Sequence[int], step: int, reset: int) -> None:
        assert step == 0
        self.arrays, self.size = arrays, reset
        self.generators = [np.random.Generator(np.random.PCG64(seed)) for seed in seeds]
        self.ahead = max(1, min(256, BLOCK * 64 // (len(seeds) * reset)))
        self.block = np.zeros((len(seeds), self.ahead, reset))
        self.used = np.full(len(seeds), self.ahead)
        self.before: list[Any] = [
            generator.bit_generator.state for generator in self.generators
        ]  # when the blocks were drawn
        self._nothing = np.zeros((len(seeds), 0))

    @staticmethod
    def copy_bytes(step: int, reset: int) -> int:
        """Return approximately how many bytes the numbers of a copy take, mostly for its generator."""
        return 1500 + 8 * reset

    def reset(self, rows: np.ndarray) -> Any:
        used = self.used[rows]
        if used.max(initial=0) == self.ahead:
            for row in rows[used == self.ahead].tolist():
                self._draw(row)
            used = self.used[rows]
        found = self.block[rows, used]
        self.used[rows] = used + 1
        return self.arrays.array(found, "float64")

    def _draw(self, row: int) -> None:
        generator = self.generators[row]
        self.before[row] = generator.bit_generator.state
        self.block[row] = generator.random((self.ahead, self.size))
        self.used[row] = 0

    def step(self) -> Any:
        return self._nothing

    def again(self, rows: Any) -> Any:
        return self.reset(self.arrays.host(rows))

    def state_dict(self) -> dict[str, np.ndarray]:
        words = [_words(self._now(row)) for row in range(len(self.used))]
        return {"generator": np.array(words, np.uint64)}

    def _now(self, row: int) -> Mapping[str, Any]:
        """Return the state of a row's generator at the next number that is used."""
        if self.used[row] == self.ahead:
            state: Mapping[str, Any] = self.generators[row].bit_generator.state
            return state
        return self._after(row, int(self.used[row]))

    def before_reset(self, row: int) -> Mapping[str, Any]:
        """Return the state of a row's generator before the numbers of its last reset."""
        return self._after(row, int(self.used[row]) - 1)

    def _after(self, row: int, resets: int) -> Mapping[str, Any]:
        """Return the state of a row's generator after so many resets of its block."""
        ahead: Any = np.random.PCG64()
        ahead.state = self.before[row]
        ahead.advance(resets * self.size)
        found: Mapping[str, Any] = ahead.state
        return found

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        for generator, words in zip(self.generators, state["generator"], strict=True):
            generator.bit_generator.state = _pcg64(words)
        self.used[:] = self.ahead


def _words(state: Mapping[str, Any]) -> list[int]:
    """Return the state of a PCG64 as four words of 64 bits."""
    inside = state["state"]
    return [part >> shift & (1 << 64) - 1 for part in (inside["state"], inside["inc"]) for shift in (64, 0)]


def _pcg64(words: np.ndarray) -> dict[str, Any]:
    high, low, inc_high, inc_low = map(int, words)
    inside = {"state": high << 64 | low, "inc": inc_high << 64 | inc_low}
    return {"bit_generator": "PCG64", "state": inside, "has_uint32": 0, "uinteger": 0}
