"""Weighted Q-learning: weights the next action values by each action's probability of being the best, to reduce estimation bias.

D'Eramo, Nuara and Restelli (2016), "Estimating Maximum Expected Value through Gaussian Approximation", algorithm 1: the value
of s' is sum_b w_b Q(s', b), where w_b is the probability that b is the best action if each mean is normally distributed with the
variance of its estimate. Deviations: instead of an integral, the best action of one sample of the means is used, which has the
same expectation. The initial value counts as a first target.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from rl.core.registry import add_presets, register
from rl.explore import forbidden
from rl.tabular.agent import TabularConfig, Transition

MAX_DEVIATION = 1e10  # the standard deviation while a single target has all the weight


class Spread(NamedTuple):
    """A table and the uncertainty of its estimates."""

    q: Any  # float64 [S, A]
    visits: Any  # int64 [S, A]
    square: Any  # float64 [S, A], the mean of the squared targets
    share: Any  # float64 [S, A], the sum of the squared weights of the targets in the mean: 1 / n for a plain mean of n
    deviation: Any  # float64 [S, A], the standard deviation of the estimate Q(s, a)
    mask: Any = None  # float64 [S, A], added to q: 0 if allowed, -infinity if forbidden; None: all actions are allowed


def spread_of(square: float, mean: float, share: float) -> Any:
    """Return the standard deviation of a weighted mean from the mean of the squares; MAX_DEVIATION if share is 1."""
    found = MAX_DEVIATION
    if share < 1.0:
        found = math.sqrt(max(square - mean * mean, 0.0) * share / (1.0 - share))
    return found


def learn(table: Spread, t: Transition, rng: Any) -> float:
    """Apply Q(s, a) <- Q(s, a) + step_size * (r + discount * Q(s', b) - Q(s, a)) and return the TD error.

    b is the best allowed action of one sample of the means.
    """
    target = t.reward
    if t.discount != 0.0:
        best, arg = -math.inf, 0
        for b in range(table.q.shape[1]):
            value = table.q[t.next_s, b] + table.deviation[t.next_s, b] * rng.standard_normal()
            better = value > best and not forbidden(table.mask, t.next_s, b)
            arg = b if better else arg
            best = value if better else best
        target += t.discount * table.q[t.next_s, arg]
    error: float = target - table.q[t.s, t.a]
    table.q[t.s, t.a] += t.step_size * error
    table.square[t.s, t.a] += t.step_size * (target * target - table.square[t.s, t.a])
    share = (1.0 - t.step_size) * (1.0 - t.step_size) * table.share[t.s, t.a] + t.step_size * t.step_size
    table.share[t.s, t.a] = share
    table.deviation[t.s, t.a] = spread_of(table.square[t.s, t.a], table.q[t.s, t.a], share)
    return error


@register
@dataclass(frozen=True)
class WeightedQ(TabularConfig):
    """Weighted Q-learning; for its settings see `TabularConfig`."""

    rule = staticmethod(learn)
    respects_masks: ClassVar[bool] = True
    state_type: ClassVar[type] = Spread

    def seed_arrays(self, states: int, actions: int) -> dict[str, np.ndarray]:
        pairs = (states, actions)
        return {"square": np.zeros(pairs), "share": np.ones(pairs), "deviation": np.full(pairs, MAX_DEVIATION)}

    def init_from_q(self, tables: dict[str, np.ndarray]) -> None:
        tables["square"][:] = tables["q"] ** 2


add_presets("learning from one step", {"weighted-q": WeightedQ()})
