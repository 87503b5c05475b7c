"""Finite observation spaces as state numbers 0..S-1, and the sentences for spaces that are not finite."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np

MOST_STATES = 10_000_000


class SpaceError(ValueError):
    """A space that an agent cannot work with, or a value outside its space."""


class StateIndex:
    """Numbers the observations of a finite space: `index(observation)` is in 0..size-1.

    Discrete (any start), MultiDiscrete (any start), MultiBinary and Tuple of these. Raises SpaceError for others.
    """

    def __init__(self, space: gym.Space[Any], name: str = "The environment") -> None:
        self.space, self.name = space, name
        self.size, self._number = _numbering(space, name)
        if self.size > MOST_STATES:
            raise SpaceError(
                f"{name} has {self.size:,} states; a table holds at most {MOST_STATES:,}. Use a network agent."
            )

    def __call__(self, observation: Any) -> int:
        try:
            number = self._number(observation)
        except (TypeError, ValueError, IndexError):
            number = -1
        if not 0 <= number < self.size:
            raise SpaceError(
                f"{self.name} gave the observation {observation!r}, which lies outside its space {self.space}."
            )
        return number

    def many(self, observations: Any, count: int) -> np.ndarray:
        """The numbers of `count` observations in the form of a batched space -> int64 [count]."""
        from gymnasium.vector.utils import batch_space, iterate

        return np.array([self(o) for o in iterate(batch_space(self.space, count), observations)], dtype=np.int64)


def _numbering(space: gym.Space[Any], name: str) -> tuple[int, Callable[[Any], int]]:
    if isinstance(space, gym.spaces.Discrete):
        start, n = int(space.start), int(space.n)
        return n, lambda o: (int(o) if isinstance(o, np.bool_) else operator.index(o)) - start
    if isinstance(space, gym.spaces.MultiDiscrete):
        sizes, starts = space.nvec.ravel(), space.start.ravel()
    elif isinstance(space, gym.spaces.MultiBinary):
        sizes, starts = np.full(int(np.prod(space.shape)), 2), np.zeros(int(np.prod(space.shape)), int)
    elif isinstance(space, gym.spaces.Tuple):
        parts = [_numbering(part, name) for part in space.spaces]
        return _product([size for size, _ in parts]), lambda o: _join(
            [(s, f(x)) for (s, f), x in zip(parts, o, strict=True)]
        )
    else:
        raise SpaceError(
            f"{name} has the observation space {space}, which is not finite, so a table cannot hold it."
            " Wrap a bounded Box in gymnasium.wrappers.DiscretizeObservation, or use an agent with a network."
        )
    pairs = [(int(n), int(start)) for n, start in zip(sizes, starts, strict=True)]

    def number(observation: Any) -> int:
        values = np.asarray(observation).ravel().tolist()
        return _join([(n, operator.index(v) - start) for (n, start), v in zip(pairs, values, strict=True)])

    return _product([n for n, _ in pairs]), number


def _join(digits: list[tuple[int, int]]) -> int:
    """Digits (size, value) of a number with a base of its own at each place; -1 if one lies outside its size."""
    number = 0
    for size, value in digits:
        if not 0 <= value < size:
            return -1
        number = number * size + value
    return number


def _product(sizes: list[int]) -> int:
    product = 1
    for size in sizes:
        product *= size
    return product


def actions_of(space: gym.Space[Any], name: str = "The environment") -> tuple[int, int]:
    """(number of actions, first action) of a Discrete action space. Raises SpaceError for others."""
    if isinstance(space, gym.spaces.Discrete):
        return int(space.n), int(space.start)
    way = (
        "Wrap it in gymnasium.wrappers.DiscretizeAction to make it so"
        if isinstance(space, gym.spaces.Box)
        else "Wrap it so that each combination is one number (gymnasium.wrappers.TransformAction)"
    )
    raise SpaceError(f"{name} has the action space {space}; value-based agents choose among Discrete actions. {way}.")


def space_to_json(space: gym.Space[Any]) -> dict[str, Any]:
    """A space as JSON values, for a file."""
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
    raise SpaceError(f"The space {space} cannot be written to a file.")


def space_from_json(data: Any) -> gym.Space[Any]:
    """The space that `space_to_json` wrote. Raises SpaceError for anything else."""
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
            dtype = np.dtype(data["dtype"])
            low, high = (
                np.broadcast_to(np.array(data[k], float), data["shape"]).astype(dtype) for k in ("low", "high")
            )
            return gym.spaces.Box(low, high, tuple(data["shape"]), dtype)
    except (KeyError, TypeError, ValueError, AssertionError, gym.error.Error) as error:
        raise SpaceError(f"{data!r} describes no space: {error}") from error
    raise SpaceError(f"{data!r} describes no space.")


def _bounds(bound: np.ndarray) -> Any:
    """The bounds of a Box: one where all are the same; infinity as text, for JSON has none."""
    values = bound.astype(float)
    if values.size and (values == values.flat[0]).all():
        values = values.flat[0]
    return _plain(np.asarray(values).tolist())


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value if np.isfinite(value) else str(value)
