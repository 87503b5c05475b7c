"""Indexing of finite observation spaces by states 0..S-1, and error messages for spaces that are not finite."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator, Mapping
from typing import Any

import gymnasium as gym
import numpy as np

from supervised.validate import shown

MOST_STATES = 10_000_000
UNBOUNDED = 2**31  # a range this large is that of the data type, not real bounds


class SpaceError(ValueError):
    """A space that an agent does not support, or a value outside its space."""


class StateIndex:
    """Maps the observations of a finite space to state indices: `index(observation)` is in 0..size-1.

    Supports Discrete and MultiDiscrete (with any start), MultiBinary, bounded integer Boxes, and nested Tuples and Dicts of
    these. Raises SpaceError for other spaces.
    """

    def __init__(self, space: gym.Space[Any], name: str = "The environment") -> None:
        self.space, self.name = space, name
        self._number = _numbering(space, name, space)
        self.size = self._number.size
        self._is_number = isinstance(space, gym.spaces.Discrete) and space.start == 0  # an int is its own index
        if self.size > MOST_STATES:
            count = f"{self.size:,}" if self.size < 10**15 else f"some 10^{int(math.log10(self.size))}"
            raise SpaceError(f"{name} has {count} states; a table holds at most {MOST_STATES:,}. Use a network agent.")

    def __call__(self, observation: Any) -> int:
        if self._is_number and observation.__class__ is int and 0 <= observation < self.size:
            plain: int = observation
            return plain
        try:
            number: int = self._number(observation)
        except (TypeError, ValueError, IndexError, KeyError):
            number = -1
        if not 0 <= number < self.size:
            raise SpaceError(
                f"{self.name} returned the observation {shown(observation)}, which is outside its space {self.space}."
            )
        return number

    def many(self, observations: Any, count: int) -> np.ndarray:
        """Return the indices int64 [count] of `count` observations, batched as in a vector environment."""
        from gymnasium.vector.utils import batch_space, iterate

        return np.array([self(o) for o in iterate(batch_space(self.space, count), observations)], dtype=np.int64)

    def each(self, observations: Any) -> tuple[np.ndarray, tuple[int, ...]]:
        """Return the indices int64 [B] of an observation or a batch of them, and the batch shape, () or (B,).

        Raises SpaceError for anything else.
        """
        try:
            batch = _axes(self.space, observations) == 1
            if batch and not isinstance(self.space, (gym.spaces.Dict, gym.spaces.Tuple)):
                observations = np.asarray(observations)
            count = len(next(_leaves(observations))) if batch else 1
            found = self.many(observations, count) if batch else np.array([self(observations)])
        except (TypeError, ValueError, IndexError, KeyError) as error:
            if isinstance(error, SpaceError):
                raise
            raise SpaceError(f"{shown(observations)} is neither an observation of {self.space} nor a batch.") from None
        return found, (count,) if batch else ()


class _One:
    """Index of a Discrete space."""

    def __init__(self, space: gym.spaces.Discrete) -> None:
        self.size, self.start = int(space.n), int(space.start)

    def __call__(self, observation: Any) -> int:
        number = int(observation) if isinstance(observation, np.bool_) else operator.index(observation)
        return number - self.start


class _Digits:
    """Index of arrays of integers, each with its own lowest value and number of values."""

    def __init__(self, shape: tuple[int, ...], starts: list[int], counts: list[int]) -> None:
        self.shape, self.size = shape, math.prod(counts)
        self.pairs = list(zip(counts, starts, strict=True))

    def __call__(self, observation: Any) -> int:
        values = np.asarray(observation)
        if values.shape != self.shape:
            return -1
        digits = values.ravel().tolist()
        return _join([(n, operator.index(v) - start) for (n, start), v in zip(self.pairs, digits, strict=True)])


class _Parts:
    """Index of a Tuple or Dict, composed of the indices of its parts."""

    def __init__(self, keys: list[Any] | None, parts: list[Any]) -> None:
        self.keys, self.parts = keys, parts
        self.size = math.prod(part.size for part in parts)

    def __call__(self, observation: Any) -> int:
        values = observation if self.keys is None else [observation[key] for key in self.keys]
        return _join([(part.size, part(x)) for part, x in zip(self.parts, values, strict=True)])


def _numbering(space: gym.Space[Any], name: str, whole: gym.Space[Any]) -> Any:
    """Return the index of `space`, which is `whole` or a part of it. Raises SpaceError if it is not finite."""
    if isinstance(space, gym.spaces.Discrete):
        return _One(space)
    if isinstance(space, gym.spaces.Tuple):
        return _Parts(None, [_numbering(part, name, whole) for part in space.spaces])
    if isinstance(space, gym.spaces.Dict):
        parts = [_numbering(part, name, whole) for part in space.spaces.values()]
        return _Parts(list(space.spaces), parts)
    if isinstance(space, gym.spaces.MultiDiscrete):
        return _Digits(space.shape, space.start.ravel().tolist(), space.nvec.ravel().tolist())
    if isinstance(space, gym.spaces.MultiBinary):
        numbers = math.prod(space.shape)
        return _Digits(space.shape, [0] * numbers, [2] * numbers)
    where = "" if space is whole else f"a part {space} of "
    if isinstance(space, gym.spaces.Box) and space.dtype.kind in "iub":
        low, high = (bound.astype(object).ravel().tolist() for bound in (space.low, space.high))
        counts = [int(b) - int(a) + 1 for a, b in zip(low, high, strict=True)]
        if math.prod(counts) <= MOST_STATES or max(counts, default=0) < UNBOUNDED:
            return _Digits(space.shape, [int(a) for a in low], counts)
        raise SpaceError(
            f"{name} has {where}the observation space {whole}: integers without tight bounds, which do not fit into a table."
            " Bound the Box by the lowest and highest values that occur, or use an agent with a network."
        )
    bounded = space is whole and isinstance(space, gym.spaces.Box) and space.is_bounded()
    wrapper = "DiscretizeObservation" if bounded else "TransformObservation"
    raise SpaceError(
        f"{name} has {where}the observation space {shown(whole)}, which is not finite and does not fit into a table. Convert"
        f" it to bounded integers with gymnasium.wrappers.{wrapper}, or use an agent with a network."
    )


def _axes(space: gym.Space[Any], observations: Any) -> int:
    """Return the number of batch axes of observations. Raises ValueError if it differs between parts."""
    if isinstance(space, gym.spaces.Dict):
        found = {_axes(part, observations[key]) for key, part in space.spaces.items()}
    elif isinstance(space, gym.spaces.Tuple):
        found = {_axes(part, x) for part, x in zip(space.spaces, observations, strict=True)}
    else:
        found = {np.ndim(observations) - len(space.shape or ())}
    if len(found) > 1:
        raise ValueError("The parts of the observation have different numbers of batch axes.")
    return found.pop()


def _leaves(observations: Any) -> Iterator[Any]:
    """Iterate over the arrays of an observation."""
    if isinstance(observations, (Mapping, tuple)):
        for part in observations.values() if isinstance(observations, Mapping) else observations:
            yield from _leaves(part)
    else:
        yield observations


def _join(digits: list[tuple[int, int]]) -> int:
    """Combine mixed-radix digits (size, value) into a number; -1 if a digit is out of range."""
    number = 0
    for size, value in digits:
        if not 0 <= value < size:
            return -1
        number = number * size + value
    return number


def actions_of(space: gym.Space[Any], name: str = "The environment") -> tuple[int, int]:
    """Return (number of actions, first action) of a Discrete action space. Raises SpaceError for other spaces."""
    if isinstance(space, gym.spaces.Discrete):
        return int(space.n), int(space.start)
    way = (
        "Discretize it with gymnasium.wrappers.DiscretizeAction"
        if isinstance(space, gym.spaces.Box)
        else "Map each combination to one number with gymnasium.wrappers.TransformAction"
    )
    raise SpaceError(f"{name} has the action space {shown(space)}; value-based agents need Discrete actions. {way}.")


def space_to_json(space: gym.Space[Any]) -> dict[str, Any]:
    """Return a space as JSON values, for a file."""
    if isinstance(space, gym.spaces.Discrete):
        return {"type": "Discrete", "n": int(space.n), "start": int(space.start)}
    if isinstance(space, gym.spaces.MultiDiscrete):
        return {"type": "MultiDiscrete", "nvec": space.nvec.tolist(), "start": space.start.tolist()}
    if isinstance(space, gym.spaces.MultiBinary):
        return {"type": "MultiBinary", "n": space.n if isinstance(space.n, int) else list(space.n)}
    if isinstance(space, gym.spaces.Tuple):
        return {"type": "Tuple", "spaces": [space_to_json(part) for part in space.spaces]}
    if isinstance(space, gym.spaces.Dict):
        return {"type": "Dict", "spaces": {key: space_to_json(part) for key, part in space.spaces.items()}}
    if isinstance(space, gym.spaces.Box):
        low, high = (_bounds(bound) for bound in (space.low, space.high))
        return {"type": "Box", "low": low, "high": high, "shape": list(space.shape), "dtype": str(space.dtype)}
    raise SpaceError(f"The space {space} cannot be saved to a file.")


def space_from_json(data: Any) -> gym.Space[Any]:
    """Return the space written by `space_to_json`. Raises SpaceError for anything else."""
    try:
        kind = data["type"]
        if kind == "Discrete":
            return gym.spaces.Discrete(data["n"], start=data["start"])
        if kind == "MultiDiscrete":
            return gym.spaces.MultiDiscrete(data["nvec"], start=data["start"])
        if kind == "MultiBinary":
            return gym.spaces.MultiBinary(data["n"])
        if kind == "Tuple":
            return gym.spaces.Tuple([space_from_json(part) for part in data["spaces"]])
        if kind == "Dict":
            return gym.spaces.Dict({key: space_from_json(part) for key, part in data["spaces"].items()})
        if kind == "Box":
            dtype, shape = np.dtype(data["dtype"]), tuple(data["shape"])
            low, high = (_read_bounds(data[k], shape, dtype) for k in ("low", "high"))
            return gym.spaces.Box(low, high, shape, dtype)
    except (KeyError, TypeError, ValueError, OverflowError, AssertionError, gym.error.Error) as error:
        raise SpaceError(f"{shown(data)} does not describe a space: {error}") from error
    raise SpaceError(f"{shown(data)} does not describe a space.")


def _bounds(bound: np.ndarray) -> Any:
    """Return the bounds of a Box for JSON: a single number if all are equal; integers as ints, and infinity as text."""
    whole = bound.dtype.kind in "iub"
    values = bound.astype(object if whole else float)
    if values.size and (values == values.flat[0]).all():
        values = np.asarray(values.flat[0], values.dtype)
    return _plain(values.tolist(), whole)


def _plain(value: Any, whole: bool) -> Any:
    if isinstance(value, list):
        return [_plain(item, whole) for item in value]
    if whole:
        return int(value)
    return value if math.isfinite(value) else str(value)


def _read_bounds(data: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
    """Return the bounds written by `_bounds`; for integers also floats of older versions, clipped to the type's range."""
    if dtype.kind not in "iub":
        return np.broadcast_to(np.array(data, float), shape).astype(dtype)
    limits = (0, 1) if dtype.kind == "b" else (int(np.iinfo(dtype).min), int(np.iinfo(dtype).max))
    numbers = [min(max(int(x), limits[0]), limits[1]) for x in np.array(data, object).ravel().tolist()]
    return np.broadcast_to(np.array(numbers, dtype).reshape(np.shape(data)), shape)
