"""Running statistics of wrappers such as NormalizeObservation: finding, saving, pooling and freezing them.

Moments are an object with the numbers `mean`, `var` and `count`, such as Gymnasium's RunningMeanStd. A layer of an environment
has running statistics if one of its attributes is such an object, or if it is one itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np

from envs.backends.contract import NUMERIC, layers

NAMES = ("mean", "var", "count")
SWITCHES = ("update_running_mean", "_update_running_mean")

Moments = dict[str, np.ndarray]  # mean, var and count
Statistics = list[dict[str, Moments]]  # moments by attribute, for each layer that has some, outermost first


class Running:
    """The running statistics of one environment. `bool(running)` is False if it has none."""

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        self.layers = [layer for layer in layers(env) if _moments_of(layer)]

    def __bool__(self) -> bool:
        return bool(self.layers)

    @property
    def names(self) -> list[str]:
        """The layers' classes, outermost first."""
        return [type(layer).__name__ for layer in self.layers]

    def statistics(self) -> Statistics:
        """Return a copy of the current moments."""
        return [
            {
                name: {part: np.array(getattr(found, part)) for part in NAMES}
                for name, found in _moments_of(layer).items()
            }
            for layer in self.layers
        ]

    def state(self) -> list[dict[str, Any]]:
        """Return a copy of all numbers that the layers store, moments included: the state at the start of an episode."""
        return [_numbers(layer) for layer in self.layers]

    def load_state(self, state: Sequence[Mapping[str, Any]]) -> None:
        """Restore a state returned by `state`, bit for bit. Raises ValueError if the layers differ."""
        self._check(len(state))
        for layer, saved in zip(self.layers, state, strict=True):
            _put_back(layer, saved)

    def freeze(self, statistics: Statistics) -> None:
        """Load these moments and stop updating them. Raises ValueError if the layers differ."""
        self._check(len(statistics))
        for layer, saved in zip(self.layers, statistics, strict=True):
            _put_back(layer, saved)
            switches = [name for name in SWITCHES if hasattr(layer, name)]
            for name in switches:
                setattr(layer, name, False)
            for found in _moments_of(layer).values() if not switches else ():
                for update in ("update", "update_from_moments"):
                    if callable(getattr(found, update, None)):
                        setattr(found, update, _nothing)

    def _check(self, count: int) -> None:
        if count != len(self.layers):
            raise ValueError(
                f"The saved statistics are those of {count} wrapper{'s' * (count != 1)}, but the environment has"
                f" {len(self.layers)} that compute statistics ({', '.join(self.names) or 'none'})."
            )


def checked(statistics: Any) -> Statistics | None:
    """Check statistics from a file; None stays. Raises ValueError for anything else."""
    good = statistics is None or (
        isinstance(statistics, list)
        and all(isinstance(layer, dict) for layer in statistics)
        and all(isinstance(m, dict) and m.keys() == set(NAMES) for layer in statistics for m in layer.values())
        and all(_is_number(part) for layer in statistics for moments in layer.values() for part in moments.values())
    )
    if not good:
        raise ValueError("The saved running statistics are not lists of mean, var and count.")
    found: Statistics | None = statistics
    return found


def pooled(statistics: Sequence[Statistics]) -> Statistics:
    """Return the moments of all samples that several environments have seen; those of a single one are returned unchanged."""
    together = statistics[0]
    for other in statistics[1:]:
        together = [
            {name: _joined(found, layer[name]) for name, found in mine.items()}
            for mine, layer in zip(together, other, strict=True)
        ]
    return together


def per_seed(rows: Sequence[Statistics] | None, seeds: int) -> list[Statistics] | None:
    """Pool the statistics of N * E environments for each of N seeds; return None if there are none."""
    if not rows or not rows[0]:
        return None
    each = len(rows) // seeds
    return [pooled(rows[k * each : (k + 1) * each]) for k in range(seeds)]


def _joined(one: Moments, two: Moments) -> Moments:
    """Return the moments of the union of two sets of samples (Chan, Golub and LeVeque 1979)."""
    count = one["count"] + two["count"]
    apart = two["mean"] - one["mean"]
    squares = one["var"] * one["count"] + two["var"] * two["count"] + apart**2 * one["count"] * two["count"] / count
    mean = one["mean"] + apart * two["count"] / count
    found = {"mean": mean, "var": squares / count, "count": count}
    return {part: np.asarray(value, one[part].dtype) for part, value in found.items()}


def _moments_of(layer: Any) -> dict[str, Any]:
    """Return the moments among a layer's attributes by name, under "" if the layer is one itself."""
    found = {name: value for name, value in vars(layer).items() if _is_moments(value)}
    return {"": layer} if _is_moments(layer) else found


def _is_moments(value: Any) -> bool:
    own = getattr(value, "__dict__", {})
    return not isinstance(value, type) and all(_is_number(own.get(name)) for name in NAMES)


def _is_number(value: Any) -> bool:
    return isinstance(value, (bool, int, float, np.ndarray, np.generic)) and np.asarray(value).dtype.kind in NUMERIC


def _numbers(layer: Any) -> dict[str, Any]:
    """Return copies of a layer's numbers and numeric arrays by attribute, nested for moments."""
    found: dict[str, Any] = {}
    for name, value in vars(layer).items():
        if _is_moments(value):
            found[name] = _numbers(value)
        elif _is_number(value):
            found[name] = np.array(value)
    return found


def _put_back(layer: Any, saved: Mapping[str, Any]) -> None:
    for name, value in saved.items():
        present = layer if name == "" else getattr(layer, name, None)
        if isinstance(value, Mapping):
            _put_back(present, value)
        elif _is_number(present) and _is_number(value) and np.asarray(present).shape == np.asarray(value).shape:
            setattr(layer, name, _like(present, np.asarray(value)))
        else:
            raise ValueError(f"The saved statistics do not fit {type(layer).__name__}: it has no matching {name!r}.")


def _like(present: Any, saved: np.ndarray) -> Any:
    """Convert a saved number to the type of the present one: a Python number, or a new array."""
    return type(present)(saved.item()) if isinstance(present, (bool, int, float)) else np.array(saved)


def _nothing(*_: Any, **__: Any) -> None:
    """Replaces `update` of frozen statistics."""
