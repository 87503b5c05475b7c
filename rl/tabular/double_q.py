"""Double Q-learning: two tables; each evaluates the other's greedy action, which removes maximization bias.

van Hasselt (2010), algorithm 1; Sutton and Barto (2018), section 6.7, equation 6.10.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from rl.core.registry import add_presets, register
from rl.explore import greedy_action
from rl.tabular.agent import TabularConfig, Transition


class TwoTables(NamedTuple):
    """Two estimates and their mean, from which actions are selected."""

    q: Any  # float64 [S, A], the mean of the two
    visits: Any  # int64 [S, A]
    one: Any  # float64 [S, A]
    two: Any  # float64 [S, A]
    mask: Any = None  # float64 [S, A], added to q: 0 if allowed, -infinity if forbidden; None: all actions are allowed


def learn(table: TwoTables, t: Transition, rng: Any) -> float:
    """Update one of the two tables, chosen by a fair coin, and return the TD error.

    Q1(s, a) <- Q1(s, a) + step_size * (r + discount * Q2(s', argmax Q1(s', .)) - Q1(s, a)), or with the tables swapped. Ties of
    the argmax go to the first action.
    """
    first = rng.random() < 0.5
    target = t.reward
    error: float = 0.0
    if first:
        if t.discount != 0.0:
            target += t.discount * table.two[t.next_s, greedy_action(table.one, t.next_s, 0.0, False, table.mask)]
        error = target - table.one[t.s, t.a]
        table.one[t.s, t.a] += t.step_size * error
    else:
        if t.discount != 0.0:
            target += t.discount * table.one[t.next_s, greedy_action(table.two, t.next_s, 0.0, False, table.mask)]
        error = target - table.two[t.s, t.a]
        table.two[t.s, t.a] += t.step_size * error
    table.q[t.s, t.a] = 0.5 * (table.one[t.s, t.a] + table.two[t.s, t.a])
    return error


@register
@dataclass(frozen=True)
class DoubleQ(TabularConfig):
    """Double Q-learning; for its settings see `TabularConfig`. On average each table learns from half of the steps."""

    rule = staticmethod(learn)
    respects_masks: ClassVar[bool] = True
    state_type: ClassVar[type] = TwoTables

    def seed_arrays(self, states: int, actions: int) -> dict[str, np.ndarray]:
        return {name: np.zeros((states, actions)) for name in ("one", "two")}

    def init_from_q(self, tables: dict[str, np.ndarray]) -> None:
        tables["one"][:] = tables["two"][:] = tables["q"]


add_presets("learning from one step", {"double-q": DoubleQ()})
