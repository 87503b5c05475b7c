"""Weighted Q-learning: the best next action is judged by how likely each is to be the best, neither too high nor too low.

D'Eramo, Nuara and Restelli (2016), "Estimating the Maximum Expected Value through Gaussian Approximation", algorithm 1: the
value of s' is sum_b w_b Q(s', b), w_b being the probability that b is the best if each mean is normal with the variance of its
estimate. Deviation: no integral is taken; one draw of the means names the best, which has the same mean.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from rl.agents.table import Moment, Tabular

ANYTHING = 1e10  # the deviation of what was seen once at most


class Spread(NamedTuple):
    """A table, and how sure it is."""

    q: Any  # float64 [S, A]
    visits: Any  # int64 [S, A]
    square: Any  # float64 [S, A], the mean of the squared targets
    share: Any  # float64 [S, A], the sum of the squared weights of the targets in the mean: 1 / n for a plain mean of n


def deviation(table: Spread, s: int, a: int) -> Any:
    """The standard deviation of the estimate Q(s, a)."""
    share = table.share[s, a]
    found = ANYTHING
    if share < 1.0:
        spread = max(table.square[s, a] - table.q[s, a] * table.q[s, a], 0.0)
        found = math.sqrt(spread * share / (1.0 - share))
    return found


def learn(table: Spread, t: Moment, rng: Any) -> float:
    """Q(s, a) <- Q(s, a) + step_size * (r + discount * Q(s', b) - Q(s, a)), b being the best of a draw of the means.

    -> the TD error.
    """
    target = t.reward
    if t.discount != 0.0:
        best, arg = -math.inf, 0
        for b in range(table.q.shape[1]):
            value = table.q[t.s2, b] + deviation(table, t.s2, b) * rng.standard_normal()
            if value > best:
                best, arg = value, b
        target += t.discount * table.q[t.s2, arg]
    error: float = target - table.q[t.s, t.a]
    table.q[t.s, t.a] += t.step_size * error
    table.square[t.s, t.a] += t.step_size * (target * target - table.square[t.s, t.a])
    table.share[t.s, t.a] = (1.0 - t.step_size) ** 2 * table.share[t.s, t.a] + t.step_size * t.step_size
    return error


@dataclass(frozen=True)
class WeightedQ(Tabular):
    """Weighted Q-learning; for its settings see `Tabular`."""

    rule = staticmethod(learn)
    memory: ClassVar[type] = Spread

    def tables(self, states: int, actions: int) -> dict[str, np.ndarray]:
        return {"square": np.zeros((states, actions)), "share": np.ones((states, actions))}

    def begin(self, tables: dict[str, np.ndarray]) -> None:
        tables["square"][:] = tables["q"] ** 2
