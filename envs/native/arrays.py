"""The array backends of native environments: numpy on the host, torch on a device.

Games are written once, with `xp` (the module numpy or torch) and the few operations whose names differ between the two.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from envs.native.random import host_threefry, threefry


class Arrays(Protocol):
    """The array operations that a game needs."""

    xp: Any  # the module numpy or torch

    def array(self, values: Any, kind: str) -> Any:
        """Return values as an array of this dtype, such as "float64"."""

    def cast(self, array: Any, kind: str) -> Any:
        """Convert an array to another dtype."""

    def actions(self, given: Any) -> Any:
        """Return whole numbers as an int64 array; None for anything else."""

    def below(self, numbers: Any, count: int) -> bool:
        """Return whether all numbers, int64 [R], are in 0..count - 1."""

    def numbers(self, count: int) -> Any:
        """Return 0, 1, ... count - 1, int64."""

    def rows(self, table: Any, numbers: Any) -> Any:
        """Return the rows of a table [T, *S] with these numbers, int64 [*N]: [*N, *S]."""

    def columns(self, parts: Sequence[Any], kind: str) -> Any:
        """Stack arrays [R] as the columns of an array [R, len(parts)] of this dtype."""

    def replaced(self, array: Any, rows: Any, fresh: Any) -> Any:
        """Return a copy of an array with some rows, int64 [M], replaced."""

    def put(self, state: dict[str, Any], rows: Any, fresh: dict[str, Any]) -> dict[str, Any]:
        """Replace the rows of the state where `rows`, bool [R], is true by `fresh`, the state of those rows alone."""

    def where(self, rows: Any) -> Any:
        """Return the numbers of the rows where `rows` bool [R] is true."""

    def uniform(self, keys: Any, steps: Any, count: int, domain: int) -> Any:
        """Return uniform numbers of 24 bits in [0, 1), float64 [R, T, count], for counters `steps` [T] or [R, T]."""

    def host(self, array: Any) -> np.ndarray:
        """Return an array on the host."""

    def here(self, array: np.ndarray) -> Any:
        """Convert a host array to this backend, without a copy if possible."""

    def free(self) -> int | None:
        """Return the free memory in bytes; None if unknown."""


class Host:
    """The numpy backend."""

    xp: Any = np

    def array(self, values: Any, kind: str) -> np.ndarray:
        return np.array(values, kind)

    def cast(self, array: np.ndarray, kind: str) -> np.ndarray:
        return array.astype(kind)

    def actions(self, given: Any) -> np.ndarray | None:
        found = np.asarray(given)
        return found.astype(np.int64, copy=False) if found.dtype.kind in "iub" else None

    def below(self, numbers: np.ndarray, count: int) -> bool:
        # Negative numbers are large as unsigned ones: one pass instead of two.
        return bool(np.ascontiguousarray(numbers).view(np.uint64).max() < count)

    def numbers(self, count: int) -> np.ndarray:
        return np.arange(count)

    def rows(self, table: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        return table.take(numbers, 0)  # several times as fast as indexing

    def columns(self, parts: Sequence[np.ndarray], kind: str) -> np.ndarray:
        found = np.empty((len(parts[0]), len(parts)), kind)  # rounded in place, which is faster than stacking
        for i, part in enumerate(parts):
            found[:, i] = part
        return found

    def replaced(self, array: np.ndarray, rows: np.ndarray, fresh: np.ndarray) -> np.ndarray:
        found = array.copy()
        found[rows] = fresh
        return found

    def put(self, state: dict[str, Any], rows: np.ndarray, fresh: dict[str, Any]) -> dict[str, Any]:
        for name, part in state.items():
            part[rows] = fresh[name]
        return state

    def where(self, rows: np.ndarray) -> np.ndarray:
        return rows.nonzero()[0]  # a little faster than flatnonzero

    def uniform(self, keys: Any, steps: np.ndarray, count: int, domain: int) -> np.ndarray:
        # The rows come last inside, so that keys are added along contiguous memory.
        at = np.broadcast_to(np.asarray(steps, np.uint32), (len(keys[0]), np.shape(steps)[-1])).T
        pairs = np.arange(-(-count // 2), dtype=np.uint32)[:, None, None] | np.uint32(domain)
        shape = (len(pairs), *at.shape)
        counter = np.broadcast_to(at, shape), np.broadcast_to(pairs, shape)
        words = np.stack(host_threefry((keys[0].reshape(-1), keys[1].reshape(-1)), counter), 1)
        uniform: np.ndarray = (words.reshape(2 * len(pairs), *at.shape)[:count] >> np.uint32(8)) * 2.0**-24
        return uniform.transpose(2, 1, 0)

    def host(self, array: np.ndarray) -> np.ndarray:
        return array

    def here(self, array: np.ndarray) -> np.ndarray:
        return array

    def free(self) -> int | None:
        from supervised.device import available_memory  # which imports torch

        return available_memory()


class Device:
    """The torch backend, on a device given by name. Raises ArgumentError for a device that is not available."""

    def __init__(self, device: str) -> None:
        import torch

        from supervised.device import choose

        self.xp: Any = torch
        self.device = choose(device)

    def array(self, values: Any, kind: str) -> Any:
        return self.xp.as_tensor(np.array(values, kind), device=self.device)

    def cast(self, array: Any, kind: str) -> Any:
        return array.to(getattr(self.xp, kind))

    def actions(self, given: Any) -> Any | None:
        found = self.xp.as_tensor(given, device=self.device)
        return None if found.is_floating_point() or found.is_complex() else found.long()

    def below(self, numbers: Any, count: int) -> bool:
        return bool(((numbers >= 0) & (numbers < count)).all())

    def numbers(self, count: int) -> Any:
        return self.xp.arange(count, device=self.device)

    def rows(self, table: Any, numbers: Any) -> Any:
        return table[numbers]

    def columns(self, parts: Sequence[Any], kind: str) -> Any:
        return self.cast(self.xp.stack(tuple(parts), -1), kind)

    def replaced(self, array: Any, rows: Any, fresh: Any) -> Any:
        found = array.clone()
        found[rows] = fresh
        return found

    def put(self, state: dict[str, Any], rows: Any, fresh: dict[str, Any]) -> dict[str, Any]:
        for name, part in state.items():
            part[rows] = fresh[name]
        return state

    def where(self, rows: Any) -> Any:
        return rows.nonzero().flatten()

    def uniform(self, keys: Any, steps: Any, count: int, domain: int) -> Any:
        xp = self.xp
        at = self.array(steps, "int64").expand(len(keys[0]), -1)
        pairs = xp.arange(-(-count // 2), device=self.device) | domain
        own = tuple(self.array(key.astype(np.int64), "int64") for key in keys)
        words = xp.stack(threefry(own, (at[..., None] + 0 * pairs, pairs + 0 * at[..., None])), -1)
        return (words.reshape(*at.shape, 2 * len(pairs))[..., :count] >> 8) * 2.0**-24

    def host(self, array: Any) -> np.ndarray:
        found: np.ndarray = array if isinstance(array, np.ndarray) else array.cpu().numpy()
        return found

    def here(self, array: np.ndarray) -> Any:
        return self.xp.as_tensor(array, device=self.device)

    def free(self) -> int | None:
        if self.device.type == "cuda":
            return int(self.xp.cuda.mem_get_info(self.device)[0])
        return Host().free()


def place(device: str) -> Arrays:
    """Return the backend for a device: numpy for "cpu", else torch. Raises ArgumentError for a device that is not available."""
    return Host() if isinstance(device, str) and device == "cpu" else Device(device)
