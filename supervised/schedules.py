"""Schedules: how a hyperparameter changes over time.

A schedule is a frozen dataclass. `curve(horizon_steps)` turns it into a `Curve`, a tuple of plain numbers that `value_at`
evaluates. `value_at` is scalar Python that numba compiles with bit-identical results; it uses `math.pow`, because numpy's
powers differ from compiled ones in the last bit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

from supervised.validate import ArgumentError, as_float, flag, integer, number, shown, store

Unit = Literal["steps", "episodes", "visits"]
UNITS: tuple[Unit, ...] = ("steps", "episodes", "visits")

MOST = 1e100  # the largest magnitude of a value, so that sums, products and quotients of two stay finite
CONSTANT, LINEAR, EXPONENTIAL, INVERSE = 0, 1, 2, 3
STEPS, EPISODES, VISITS = 0, 1, 2


class Curve(NamedTuple):
    """A schedule as plain numbers, for compiled loops."""

    kind: int
    unit: int
    start: float
    end: float
    horizon: float
    offset: float
    power: float
    stairs: bool


def value_at(curve: Curve, time: int) -> float:
    """Return the value of `curve` at `time`, in the curve's unit."""
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
    """The interface of all schedules."""

    @property
    def unit(self) -> Unit: ...

    def curve(self, horizon_steps: int) -> Curve:
        """Return the schedule as numbers; `horizon_steps` is the horizon of a schedule that has none of its own."""
        ...

    def bounds(self) -> tuple[float, float]:
        """Return the smallest and the largest value the schedule can take."""
        ...


@dataclass(frozen=True)
class Constant:
    """A constant value."""

    value: float
    unit: Unit = "steps"

    def __post_init__(self) -> None:
        store(self, number, "value", low=-MOST, high=MOST)
        _check_unit(self)

    def curve(self, horizon_steps: int) -> Curve:
        return Curve(CONSTANT, UNITS.index(self.unit), self.value, 0.0, 1.0, 0.0, 1.0, False)

    def bounds(self) -> tuple[float, float]:
        return self.value, self.value


@dataclass(frozen=True)
class Linear:
    """Linear from `start` to `end` over `horizon` units, then `end`.

    horizon: None: the `fraction` of the run's steps.
    """

    start: float
    end: float
    horizon: int | None = None
    unit: Unit = "steps"
    fraction: float = 1.0

    def __post_init__(self) -> None:
        store(self, number, "start", "end", low=-MOST, high=MOST)
        _check_span(self)

    def curve(self, horizon_steps: int) -> Curve:
        horizon = float(self.horizon or max(horizon_steps * self.fraction, 1.0))
        return Curve(LINEAR, UNITS.index(self.unit), self.start, self.end, horizon, 0.0, 1.0, False)

    def bounds(self) -> tuple[float, float]:
        return min(self.start, self.end), max(self.start, self.end)


@dataclass(frozen=True)
class Exponential:
    """Geometric decay or growth from `start` to `end` over `horizon` units, then `end`; both in [1e-100, 1e100].

    horizon: None: the `fraction` of the run's steps.
    """

    start: float
    end: float
    horizon: int | None = None
    unit: Unit = "steps"
    fraction: float = 1.0

    def __post_init__(self) -> None:
        store(self, number, "start", "end", low=1 / MOST, high=MOST)
        _check_span(self)

    def curve(self, horizon_steps: int) -> Curve:
        horizon = float(self.horizon or max(horizon_steps * self.fraction, 1.0))
        return Curve(EXPONENTIAL, UNITS.index(self.unit), self.start, self.end, horizon, 0.0, 1.0, False)

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
        store(self, number, "start", "end", low=-MOST, high=MOST)
        store(self, number, "offset", low=1e-15, high=1e15)
        store(self, number, "power", low=0.0, high=10.0, above=True)  # time ** power cannot overflow
        store(self, flag, "stairs")
        _check_unit(self)
        store(self, integer, "every", low=1)

    def curve(self, horizon_steps: int) -> Curve:
        return Curve(
            INVERSE,
            UNITS.index(self.unit),
            self.start,
            self.end,
            float(self.every),
            self.offset,
            self.power,
            self.stairs,
        )

    def bounds(self) -> tuple[float, float]:
        first = max(self.end, self.start / self.offset**self.power)
        return min(self.end, first), first


KINDS: dict[str, Any] = {kind.__name__: kind for kind in (Constant, Linear, Exponential, Inverse)}


def as_schedule(value: float | Schedule, name: str = "A schedule") -> Schedule:
    """Turn a number into a `Constant`; return a schedule unchanged. Raises ArgumentError for anything else."""
    found = setting(value, name)
    return Constant(found) if isinstance(found, float) else found


def setting(
    value: Any, name: str, low: float = -MOST, high: float = MOST, units: tuple[Unit, ...] = UNITS
) -> float | Schedule:
    """Check a setting that may be scheduled: return a number as a float, or a schedule unchanged.

    Raises ArgumentError for anything else, for values outside [low, high], and for a schedule whose unit is not in `units`.
    """
    if isinstance(value, Schedule) and not isinstance(value, type):
        check_range(name, value, low, high, units)
        return value
    if not math.isfinite(as_float(value)):
        raise ArgumentError(
            f"{name} must be a finite number, or a schedule (Constant, Linear, Exponential or Inverse of"
            f" supervised.schedules), not {shown(value)}."
        )
    return number(value, name, low, high)


def check_range(name: str, schedule: Schedule, low: float, high: float, units: tuple[Unit, ...]) -> None:
    """Raise ArgumentError unless every value of `schedule` lies in [low, high] and its unit is one of `units`."""
    smallest, largest = schedule.bounds()
    if not (low <= smallest and largest <= high):
        found = f"{smallest}" if smallest == largest else f"{smallest} to {largest}"
        raise ArgumentError(f"{name} must lie in [{low:g}, {high:g}], not {found}.")
    if schedule.unit not in units and not isinstance(schedule, Constant):
        raise ArgumentError(f"{name} can be scheduled in {' or '.join(units)}, not in {schedule.unit}.")


def _check_unit(schedule: Any) -> None:
    if not isinstance(schedule.unit, str) or schedule.unit not in UNITS:
        raise ArgumentError(
            f"{type(schedule).__name__}: unit must be one of {', '.join(UNITS)}, not {shown(schedule.unit)}."
        )


def _check_span(schedule: Any) -> None:
    """Check the unit, horizon and fraction of a schedule that ends."""
    name = type(schedule).__name__
    _check_unit(schedule)
    if schedule.horizon is None and schedule.unit != "steps":
        raise ArgumentError(
            f"{name} in {schedule.unit} needs a horizon: only the number of steps of a run is known in advance."
        )
    store(schedule, integer, "horizon", low=1, none=True)
    store(schedule, number, "fraction", low=0.0, high=1.0, above=True)
    if schedule.horizon is not None and schedule.fraction != 1.0:
        raise ArgumentError(
            f"{name} spans either {schedule.horizon} units or a fraction of the run: give horizon or fraction, not both."
        )
