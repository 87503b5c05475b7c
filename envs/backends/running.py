"""Running statistics that wrappers keep, such as those of NormalizeObservation: found, saved, pooled and frozen.

Moments are an object with the numbers `mean`, `var` and `count` (Gymnasium's RunningMeanStd and its like). A layer of an
environment keeps running statistics when moments are among its attributes, or it is such an object itself.
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
Statistics = list[dict[str, Moments]]  # of each layer that keeps some, from the outermost in: its moments by attribute


class Running:
    """The running statistics of one environment. `bool(running)` is False where it keeps none."""

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        self.layers = [layer for layer in layers(env) if _moments_of(layer)]

    def __bool__(self) -> bool:
        return bool(self.layers)

    @property
    def names(self) -> list[str]:
        """The layers' classes, from the outermost in."""
        return [type(layer).__name__ for layer in self.layers]

    def statistics(self) -> Statistics:
        """The moments as they are now, copied."""
        return [
            {
                name: {part: np.array(getattr(found, part)) for part in NAMES}
                for name, found in _moments_of(layer).items()
            }
            for layer in self.layers
        ]

    def state(self) -> list[dict[str, Any]]:
        """All numbers that the layers keep, moments included, copied: what an episode begins from."""
        return [_numbers(layer) for layer in self.layers]

    def load_state(self, state: Sequence[Mapping[str, Any]]) -> None:
        """Put back what `state` gave, to the bit. Raises ValueError for the state of other layers."""
        self._check(len(state))
        for layer, saved in zip(self.layers, state, strict=True):
            _put_back(layer, saved)

    def freeze(self, statistics: Statistics) -> None:
        """Take these moments and update them no more. Raises ValueError for those of other layers."""
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
                f"The statistics are of {count} wrappers, but the environment has {len(self.layers)} that keep some"
                f" ({', '.join(self.names) or 'none'})."
            )


def checked(statistics: Any) -> Statistics | None:
    """Statistics from a file. Raises ValueError for anything else; None stays."""
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
    """The moments of all samples that several environments have seen; those of one are left as they are, to the bit."""
    together = statistics[0]
    for other in statistics[1:]:
        together = [
            {name: _joined(found, layer[name]) for name, found in mine.items()}
            for mine, layer in zip(together, other, strict=True)
        ]
    return together


def per_seed(rows: Sequence[Statistics] | None, seeds: int) -> list[Statistics] | None:
    """The statistics of N * E environments -> those of each of N seeds, pooled; None where none are kept."""
    if not rows or not rows[0]:
        return None
    each = len(rows) // seeds
    return [pooled(rows[k * each : (k + 1) * each]) for k in range(seeds)]


def _joined(one: Moments, two: Moments) -> Moments:
    """The moments of two sets of samples together (Chan, Golub and LeVeque 1979)."""
    count = one["count"] + two["count"]
    apart = two["mean"] - one["mean"]
    squares = one["var"] * one["count"] + two["var"] * two["count"] + apart**2 * one["count"] * two["count"] / count
    mean = one["mean"] + apart * two["count"] / count
    found = {"mean": mean, "var": squares / count, "count": count}
    return {part: np.asarray(value, one[part].dtype) for part, value in found.items()}


def _moments_of(layer: Any) -> dict[str, Any]:
    """The moments among a layer's attributes by name; "" where it is some itself."""
    found = {name: value for name, value in vars(layer).items() if _is_moments(value)}
    return {"": layer} if _is_moments(layer) else found


def _is_moments(value: Any) -> bool:
    own = getattr(value, "__dict__", {})
    return not isinstance(value, type) and all(_is_number(own.get(name)) for name in NAMES)


def _is_number(value: Any) -> bool:
    return isinstance(value, (bool, int, float, np.ndarray, np.generic)) and np.asarray(value).dtype.kind in NUMERIC


def _numbers(layer: Any) -> dict[str, Any]:
    """A layer's numbers and arrays of numbers by attribute, copied; of moments those inside."""
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
            raise ValueError(f"The saved statistics do not fit {type(layer).__name__}: it keeps no {name!r} like it.")


def _like(present: Any, saved: np.ndarray) -> Any:
    """A saved number as what stands in its place now is: a Python number, or an array of one's own."""
    return type(present)(saved.item()) if isinstance(present, (bool, int, float)) else np.array(saved)


def _nothing(*_: Any, **__: Any) -> None:
    """Stands in the place of `update` where statistics are frozen."""
