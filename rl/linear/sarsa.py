"""Semi-gradient SARSA(lambda) with tile coding: Q(s, a) is the sum of the weights of the active tiles of s.

Sutton and Barto (2018), section 12.7: the first box with accumulating and replacing traces; the second, true online, with Dutch
traces. Deviations: traces below 1e-4 are dropped. At a truncation no next action is taken, so the update bootstraps from the
expected value under the behavior policy; then the traces are reset.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from rl.core.registry import add_presets, register
from rl.core.spaces import actions_of
from rl.explore import EpsilonGreedy, Explore
from rl.linear.tile_coding import Bounds, coding_of
from rl.tabular.agent import check_count, check_expected, check_number
from rl.tabular.traces import DUTCH, KINDS, REPLACING, TRACE_CUTOFF
from supervised import lazy
from supervised.schedules import Schedule, setting
from supervised.validate import ArgumentError, as_float, choice, shown, store

if TYPE_CHECKING:
    from rl.linear.agent import LinearAgent


class EligibilityTraces(NamedTuple):
    """The traces of R environments, and a list of the (tile, action) pairs with a nonzero trace, as tile * A + action."""

    trace: Any  # float64 [R, F * A]
    listed: Any  # int64 [R, F * A]
    size: Any  # int64 [R]
    old: Any  # float64 [R], for Dutch traces: Q(s', a') as of the previous step


class TransitionBatch(NamedTuple):
    """One step of each of R environments."""

    tiles: Any  # int64 [R, T], the active tiles of s
    action: Any  # int64 [R]
    reward: Any  # float64 [R]
    discount: Any  # float64 [R], gamma times the step's own discount, or 0 after a termination
    following: Any  # float64 [R], Q(s', a')
    over: Any  # bool [R], whether the episode has terminated or been truncated
    valid: Any  # bool [R], false where the call only reset the environment
    step_size: Any  # float64 [R]
    scale: Any  # float64 [R], the step's own discount


def learn(
    weights: Any, m: EligibilityTraces, t: TransitionBatch, gamma: float, decay: float, kind: int, errors: Any
) -> None:
    """Apply w += step_size / T * error * trace row by row and write the TD errors into errors [R].

    error = r + discount * Q(s', a') - Q(s, a).
    """
    actions, grids = weights.shape[2], t.tiles.shape[1]
    rows = t.tiles.shape[0] // weights.shape[0]
    for r in range(t.tiles.shape[0]):
        errors[r] = 0.0
        if not t.valid[r]:
            continue
        w, a, rate = weights[r // rows], t.action[r], t.step_size[r] / grids
        value, seen = 0.0, 0.0
        for i in range(grids):
            value += w[t.tiles[r, i], a]
        following = 0.0 if t.discount[r] == 0.0 else t.following[r]
        errors[r] = t.reward[r] + t.discount[r] * following - value
        decay_traces(m, r, gamma * decay)
        for i in range(grids):
            seen += m.trace[r, t.tiles[r, i] * actions + a]
        for i in range(grids):
            update_trace(m, r, t.tiles[r, i] * actions + a, kind, rate * seen)
        q_correction = value - m.old[r] if kind == DUTCH else 0.0
        for j in range(m.size[r]):
            place = m.listed[r, j]
            w[place // actions, place % actions] += rate * (errors[r] + q_correction) * m.trace[r, place]
        if kind == DUTCH:
            for i in range(grids):
                w[t.tiles[r, i], a] -= rate * q_correction
            m.old[r] = following
        if t.over[r]:
            reset_traces(m, r)
        elif t.scale[r] != 1.0:
            decay_traces(m, r, t.scale[r])


def decay_traces(m: EligibilityTraces, r: int, factor: float) -> None:
    """Decay all traces of an environment and drop those below TRACE_CUTOFF."""
    j = 0
    while j < m.size[r]:
        place = m.listed[r, j]
        m.trace[r, place] *= factor
        if abs(m.trace[r, place]) < TRACE_CUTOFF:  # Dutch traces can be negative
            m.trace[r, place] = 0.0
            m.size[r] -= 1
            m.listed[r, j] = m.listed[r, m.size[r]]
        else:
            j += 1


def update_trace(m: EligibilityTraces, r: int, place: int, kind: int, share: float) -> None:
    """Start or update the trace of an active tile. share: the step size times the summed traces of the active tiles."""
    before = m.trace[r, place]
    if before == 0.0:
        m.listed[r, m.size[r]] = place
        m.size[r] += 1
    after = before + 1.0
    if kind == REPLACING:
        after = 1.0
    elif kind == DUTCH:
        after = before + 1.0 - share
    m.trace[r, place] = after


def reset_traces(m: EligibilityTraces, r: int) -> None:
    """Reset all traces of an environment to 0."""
    for j in range(m.size[r]):
        m.trace[r, m.listed[r, j]] = 0.0
    m.size[r] = 0
    m.old[r] = 0.0


@register
@dataclass(frozen=True)
class LinearSARSA:
    """Semi-gradient SARSA(lambda) with tile coding. All weights start at 0, which is optimistic if rewards are negative."""

    gamma: float = 1.0
    """The discount factor, in [0, 1]."""
    step_size: float | Schedule = 0.5
    """The step size alpha, in [0, 1], divided by the number of tilings: a number or a schedule in steps or episodes."""
    explore: Explore = field(default_factory=lambda: EpsilonGreedy(0.0))
    """The exploration rule: rl.explore's EpsilonGreedy, Greedy or Boltzmann."""
    lambda_: float = 0.9
    """The trace decay lambda, in [0, 1]."""
    traces: str = "replacing"
    """The kind of traces: "replacing", "accumulating" or "dutch"."""
    tilings: int = 8
    """The number of tilings (grids of tiles)."""
    tiles: int = 8
    """The number of tiles of each tiling along each axis."""
    bounds: Bounds | None = None
    """The range to tile, (lowest, highest), each with one number per dimension; None: the bounds of the observation space."""

    def __post_init__(self) -> None:
        check_number(self, "gamma", 1)
        check_number(self, "lambda_", 1)
        store(self, setting, "step_size", low=0.0, high=1.0, units=("steps", "episodes"))
        if not isinstance(self.explore, Explore):
            raise ArgumentError(f"explore must be EpsilonGreedy, Greedy or Boltzmann, not {shown(self.explore)}.")
        check_expected(self)
        check_count(self, "tilings")
        check_count(self, "tiles")
        store(self, choice, "traces", known=KINDS)
        store(self, _bounds, "bounds", none=True)

    def check_spaces(self, observation_space: Any, action_space: Any) -> None:
        """Raise SpaceError for what cannot be tiled, and for actions that are not Discrete."""
        coding_of(observation_space, self.tilings, self.tiles, self.bounds)
        actions_of(action_space)

    def build(self, observation_space: Any, action_space: Any, seeds: Any = 1, device: str = "cpu") -> LinearAgent:
        """Return the live agent, with all weights 0. Raises SpaceError unless observations are a bounded Box of a few numbers."""
        from rl.linear.agent import LinearAgent

        return LinearAgent(self, observation_space, action_space, seeds, device)


def _bounds(value: Any, name: str, **_: Any) -> Bounds:
    """Return (lowest, highest) as tuples of floats. Raises ArgumentError for anything else."""
    try:
        low, high = (tuple(as_float(x) for x in part) for part in value)
    except (TypeError, ValueError):  # nothing to unpack, or not two of them
        low, high = (math.nan,), (math.nan,)
    if len(low) != len(high) or not all(math.isfinite(x) for x in (*low, *high)):
        raise ArgumentError(
            f"{name} must be (lowest, highest), two sequences of finite numbers of the same length, or None, not {shown(value)}."
        )
    return low, high


add_presets("tiles", {"linear-sarsa": LinearSARSA()})

__getattr__, _ = lazy.names(__name__, {"LinearAgent": "rl.linear.agent"})
