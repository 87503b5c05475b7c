"""Schedules: how a hyperparameter changes with time.

A schedule is a frozen description. `curve(horizon_steps)` turns it into a `Curve`, nine plain numbers that
`value_at` reads. `value_at` is ordinary scalar Python, written so that numba can compile it and give the same bits:
it uses `math.pow`, because numpy's powers differ from the compiled ones in the last bit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, runtime_checkable

Unit = Literal["steps", "episodes", "visits"]
UNITS: tuple[Unit, ...] = ("steps", "episodes", "visits")

CONSTANT, LINEAR, EXPONENTIAL, INVERSE = 0, 1, 2, 3
STEPS, EPISODES, VISITS = 0, 1, 2


class Curve(NamedTuple):
    """A schedule as numbers, for loops that may be compiled."""

    kind: int
    unit: int
    start: float
    end: float
    horizon: float
    offset: float
    power: float
    stairs: bool


def value_at(curve: Curve, time: int) -> float:
    """The value of `curve` at `time`, counted in the curve's own unit."""
    if curve.kind == CONSTANT:
        return curve.start
    if curve.kind == LINEAR:
        return curve.start + (curve.end - curve.start) * min(1.0, time / curve.horizon)
    if curve.kind == EXPONENTIAL:
        return curve.start * math.pow(curve.end / curve.start, min(1.0, time / curve.horizon))
    x = time / curve.horizon
    if curve.stairs:
        x = math.floor(x) * 1.0
    x += curve.offset
    if curve.power != 1.0:
        x = math.pow(x, curve.power)
    return max(curve.end, curve.start / x)


@runtime_checkable
class Schedule(Protocol):
    """What every schedule can do."""

    @property
    def unit(self) -> Unit: ...

    def curve(self, horizon_steps: int) -> Curve:
        """The schedule as numbers; `horizon_steps` is used where the schedule names no horizon of its own."""
        ...

    def bounds(self) -> tuple[float, float]:
        """The smallest and the largest value it can take."""
        ...


@dataclass(frozen=True)
class Constant:
    """The same value for ever."""

    value: float
    unit: Unit = "steps"

    def __post_init__(self) -> None:
        _check_numbers(self, "value")

    def curve(self, horizon_steps: int) -> Curve:
        return Curve(CONSTANT, UNITS.index(self.unit), float(self.value), 0.0, 1.0, 0.0, 1.0, False)

    def bounds(self) -> tuple[float, float]:
        return self.value, self.value


@dataclass(frozen=True)
class Linear:
    """From `start` to `end` in a straight line over `horizon` units, then `end`.

    horizon=None: over `fraction` of the steps that the run was made for.
    """

    start: float
    end: float
    horizon: int | None = None
    unit: Unit = "steps"
    fraction: float = 1.0

    def __post_init__(self) -> None:
        _check_numbers(self, "start", "end")
        _check_horizon(self, self.horizon, self.unit)
        _check_fraction(self, self.horizon, self.fraction)

    def curve(self, horizon_steps: int) -> Curve:
        horizon = float(self.horizon or max(horizon_steps * self.fraction, 1.0))
        return Curve(LINEAR, UNITS.index(self.unit), float(self.start), float(self.end), horizon, 0.0, 1.0, False)

    def bounds(self) -> tuple[float, float]:
        return min(self.start, self.end), max(self.start, self.end)


@dataclass(frozen=True)
class Exponential:
    """From `start` to `end` by a constant factor a unit over `horizon` units, then `end`; both above zero.

    horizon=None: over `fraction` of the steps that the run was made for.
    """

    start: float
    end: float
    horizon: int | None = None
    unit: Unit = "steps"
    fraction: float = 1.0

    def __post_init__(self) -> None:
        _check_numbers(self, "start", "end")
        _check_horizon(self, self.horizon, self.unit)
        _check_fraction(self, self.horizon, self.fraction)
        if self.start <= 0 or self.end <= 0:
            raise ValueError(
                f"Exponential goes by a constant factor, so start and end must be above 0, not {self.start} and {self.end}."
            )

    def curve(self, horizon_steps: int) -> Curve:
        horizon = float(self.horizon or max(horizon_steps * self.fraction, 1.0))
        return Curve(EXPONENTIAL, UNITS.index(self.unit), float(self.start), float(self.end), horizon, 0.0, 1.0, False)

    def bounds(self) -> tuple[float, float]:
        return min(self.start, self.end), max(self.start, self.end)


@dataclass(frozen=True)
class Inverse:
    """`max(end, start / (time / every + offset) ** power)`; with `stairs`, `time / every` is rounded down.

    The lectures' epsilon 1/(episode//100 + 1) is `Inverse(1.0, every=100, stairs=True, unit="episodes")`; the step size
    of stochastic approximation, visits**-0.6 with a floor, is `Inverse(1.0, end=0.01, power=0.6, unit="visits")`.
    """

    start: float
    end: float = 0.0
    every: int = 1
    offset: float = 1.0
    power: float = 1.0
    stairs: bool = False
    unit: Unit = "steps"

    def __post_init__(self) -> None:
        _check_numbers(self, "start", "end", "offset", "power")
        _check_horizon(self, self.every, self.unit)
        if self.offset <= 0 or self.power <= 0:
            raise ValueError(f"Inverse needs offset and power above 0, not {self.offset} and {self.power}.")

    def curve(self, horizon_steps: int) -> Curve:
        return Curve(
            INVERSE,
            UNITS.index(self.unit),
            float(self.start),
            float(self.end),
            float(self.every),
            float(self.offset),
            float(self.power),
            bool(self.stairs),
        )

    def bounds(self) -> tuple[float, float]:
        first = max(self.end, self.start / self.offset**self.power)
        return min(self.end, first), first


def as_schedule(value: float | Schedule) -> Schedule:
    """A number becomes a `Constant`; a schedule stays what it is."""
    if isinstance(value, bool) or not isinstance(value, (int, float, Schedule)):
        raise TypeError(
            f"{value!r} is neither a number nor a schedule (Constant, Linear, Exponential or Inverse of supervised.schedules)."
        )
    try:
        return Constant(float(value)) if isinstance(value, (int, float)) else value
    except OverflowError:
        raise ValueError("A number in the place of a schedule is too large to be counted with.") from None


def check_range(name: str, schedule: Schedule, low: float, high: float, units: tuple[Unit, ...]) -> None:
    """Raise a ValueError unless every value of `schedule` lies in [low, high] and its unit is one of `units`."""
    smallest, largest = schedule.bounds()
    if not (low <= smallest and largest <= high):
        found = f"{smallest}" if smallest == largest else f"{smallest} to {largest}"
        raise ValueError(f"{name} must lie in [{low:g}, {high:g}], not {found}.")
    if schedule.unit not in units and not isinstance(schedule, Constant):
        raise ValueError(f"{name} can be scheduled in {' or '.join(units)}, not in {schedule.unit}.")


def _check_numbers(schedule: object, *names: str) -> None:
    for name in names:
        value = getattr(schedule, name)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise ValueError(f"{type(schedule).__name__}: {name} must be a finite number, not {value!r}.")


def _check_horizon(schedule: object, horizon: int | None, unit: str) -> None:
    name = type(schedule).__name__
    if unit not in UNITS:
        raise ValueError(f"{name}: unit must be one of {', '.join(UNITS)}, not {unit!r}.")
    if horizon is None and unit != "steps":
        raise ValueError(f"{name} in {unit} needs a horizon: only a run's steps are known beforehand.")
    if horizon is not None and (isinstance(horizon, bool) or not isinstance(horizon, int) or horizon < 1):
        raise ValueError(f"{name}: the horizon must be a whole number of {unit} from 1 on, not {horizon!r}.")


def _check_fraction(schedule: object, horizon: int | None, fraction: float) -> None:
    name = type(schedule).__name__
    if isinstance(fraction, bool) or not isinstance(fraction, (int, float)) or not 0 < fraction <= 1:
        raise ValueError(f"{name}: fraction, the share of the run that it spans, lies in (0, 1], not {fraction!r}.")
    if horizon is not None and fraction != 1.0:
        raise ValueError(
            f"{name} spans either {horizon} units or a fraction of the run: give horizon or fraction, not both."
        )
