"""Conversion of observations to arrays of their space's dtype; a value outside the space is an error, never cast into it.

Integer spaces (Discrete, MultiDiscrete, MultiBinary, Box of integers or bools) accept whole numbers within their bounds, of any
numeric dtype. Float boxes accept any number, even beyond their bounds, since many environments violate the bounds they declare,
except NaN, infinity where the bound is finite, and values that overflow the dtype.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector.utils import concatenate, create_empty_array

from envs.backends.contract import NUMERIC

PLAIN = (gym.spaces.Box, gym.spaces.Discrete, gym.spaces.MultiDiscrete, gym.spaces.MultiBinary)


class Misfit(ValueError):
    """Raised for an observation that does not fit its space; the message says why. row: its index among those given."""

    def __init__(self, row: int, why: str) -> None:
        super().__init__(why)
        self.row = row


class Fit:
    """Stacks single observations of a space, or checks batches, giving arrays [R, *O] or dicts or tuples of arrays.

    Raises Misfit. Spaces other than the PLAIN ones, Dict and Tuple are stacked by Gymnasium and not checked.
    """

    def __init__(self, space: gym.Space[Any]) -> None:
        self.space = space
        self._check = _checker(space) if isinstance(space, PLAIN) else None
        inner = getattr(space, "spaces", {}) if self._check is None else {}
        pairs = inner.items() if isinstance(inner, Mapping) else enumerate(inner)
        self._parts = {key: Fit(part) for key, part in pairs}

    def stack(self, observations: Sequence[Any]) -> Any:
        """Stack R single observations -> [R, *O]."""
        if self._check is not None:
            try:
                rows = np.array(observations)
            except (TypeError, ValueError):
                return self._one_by_one(observations)
            return self._check(rows) if rows.dtype.kind in NUMERIC else self._one_by_one(observations)
        if not self._parts:
            out: Any = create_empty_array(self.space, n=len(observations))
            return concatenate(self.space, observations, out)
        for row, observation in enumerate(observations):
            self._has_parts(row, observation)
        return self._gather({key: fit.stack([o[key] for o in observations]) for key, fit in self._parts.items()})

    def check(self, batch: Any) -> Any:
        """Check R observations of a batched space and convert them to the space's dtypes."""
        if self._check is not None:
            return self._check(np.asarray(batch))
        if not self._parts:
            return batch
        return self._gather({key: fit.check(batch[key]) for key, fit in self._parts.items()})

    def _gather(self, parts: dict[Any, Any]) -> Any:
        return tuple(parts.values()) if isinstance(self.space, gym.spaces.Tuple) else parts

    def _has_parts(self, row: int, observation: Any) -> None:
        if isinstance(self.space, gym.spaces.Dict):
            good = isinstance(observation, Mapping) and observation.keys() >= self._parts.keys()
        else:
            good = isinstance(observation, (tuple, list)) and len(observation) == len(self._parts)
        if not good:
            raise Misfit(row, f"its parts are not those of its space {self.space}")

    def _one_by_one(self, observations: Sequence[Any]) -> np.ndarray:
        """Stack observations that do not form a numeric array one by one, to find the invalid one."""
        assert self._check is not None
        rows = []
        for row, observation in enumerate(observations):
            try:
                array = np.asarray(observation)
                array = np.asarray(array.tolist()) if array.dtype == object else array
                rows.append(self._check(array[None])[0])
            except Misfit as misfit:
                raise Misfit(row, str(misfit)) from None
            except (TypeError, ValueError):
                raise Misfit(row, "it is not an array of numbers") from None
        return np.array(rows)


def _checker(space: gym.Space[Any]) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function that converts rows [R, ...] to the space's dtype and raises Misfit for values that do not fit."""
    assert space.dtype is not None
    assert space.shape is not None
    dtype, shape = np.dtype(space.dtype), tuple(space.shape)
    real = dtype.kind == "f"
    low, high = _bounds(space)
    full = not real and dtype.kind != "O" and _is_full(dtype, low, high)

    def check(rows: np.ndarray) -> np.ndarray:
        if rows.shape[1:] != shape:
            raise Misfit(0, f"its shape is {list(rows.shape[1:])}, but that of its space {space} is {list(shape)}")
        same = rows.dtype == dtype
        if not same and rows.dtype.kind not in NUMERIC:
            raise Misfit(0, f"its values are of type {rows.dtype}, but those of its space {space} are numbers")
        if real:
            cast = rows if same else _quietly(rows, dtype)
            if not np.isfinite(cast).all():
                meant = np.isinf(rows) & _allows_infinity(cast, low, high)
                _refuse(rows, ~(np.isfinite(cast) | meant), space)
            return cast
        if same and full:
            return rows
        _refuse(rows, _outside(rows, low, high), space)
        return rows if same else rows.astype(dtype)

    return check


def _outside(rows: np.ndarray, low: Any, high: Any) -> np.ndarray:
    """Return which values are not whole numbers within the bounds."""
    wrong: np.ndarray = ~((rows >= low) & (rows <= high))
    if rows.dtype.kind == "f":
        wrong |= rows != np.floor(rows)
    return wrong


def _refuse(rows: np.ndarray, wrong: np.ndarray, space: gym.Space[Any]) -> None:
    if wrong.any():
        row, *place = (int(i) for i in np.argwhere(wrong)[0])
        at = f" at {place}" if place else ""
        raise Misfit(row, f"the value {rows[(row, *place)]}{at} is outside its space {space}")


def _bounds(space: gym.Space[Any]) -> tuple[Any, Any]:
    """Return the lowest and the highest value: arrays, or single numbers if they are the same everywhere."""
    if isinstance(space, gym.spaces.Discrete):
        return int(space.start), int(space.start) + int(space.n) - 1
    if isinstance(space, gym.spaces.MultiDiscrete):
        return space.start, space.start + (space.nvec - 1)
    if isinstance(space, gym.spaces.MultiBinary):
        return 0, 1
    assert isinstance(space, gym.spaces.Box)
    return _single(space.low), _single(space.high)


def _single(bound: np.ndarray) -> Any:
    return bound.flat[0].item() if bound.size and (bound == bound.flat[0]).all() else bound


def _is_full(dtype: np.dtype[Any], low: Any, high: Any) -> bool:
    """Return whether the bounds include every value of an integer dtype."""
    lowest, highest = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    return bool(np.all(low <= lowest) and np.all(high >= highest))


def _quietly(rows: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    with np.errstate(over="ignore"):
        return rows.astype(dtype)


def _allows_infinity(values: np.ndarray, low: Any, high: Any) -> np.ndarray:
    allowed: np.ndarray = np.where(values > 0, np.isinf(high), np.isinf(low))
    return allowed
