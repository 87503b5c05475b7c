"""Speedy Q-learning: each round moves by the whole difference that the last round made, and by a falling share of the rest.

Azar, Munos, Ghavamzadeh and Kappen (2011), "Speedy Q-learning". Deviations, since here pairs come as acting brings them: a
round lasts until every pair that was ever met was tried again, and a pair learns from its first try in a round alone. (When a
round ends depends on what the tries brought, so that the mean over all of them would lean towards what ends it soon.) The
paper's proof is for rounds in which each pair is drawn by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from rl.core.registry import add_presets, register
from rl.explore import UCB, TableExplore, highest
from rl.tabular.agent import MOST_TIMES, Tabular, Transition, check_unused
from supervised.schedules import Schedule


class Rounds(NamedTuple):
    """Tables of two rounds, and what each pair's first try in the present one has brought."""

    q: Any  # float64 [S, A], of the present round
    visits: Any  # int64 [S, A]
    old: Any  # float64 [S, A], of the round before
    by_old: Any  # float64 [S, A], r + discount * max old(s', .)
    by_q: Any  # float64 [S, A], of r + discount * max q(s', .)
    tried: Any  # int64 [S, A], 1: in this round
    counts: Any  # int64 [3], pairs ever met, pairs tried in this round, rounds done
    mask: Any = None  # float64 [S, A], added to q: 0 where an action is allowed, -infinity where not; None: all are


def learn(table: Rounds, t: Transition, rng: Any) -> float:
    """Note what a pair's first try in a round brought, as the last table and as this one would have it -> the TD error."""
    now = t.reward
    if t.discount != 0.0:
        now += t.discount * highest(table.q, t.next_s, table.mask)
    error: float = now - table.q[t.s, t.a]
    if table.tried[t.s, t.a] == 0:
        before = t.reward
        if t.discount != 0.0:
            before += t.discount * highest(table.old, t.next_s, table.mask)
        table.by_old[t.s, t.a] = before
        table.by_q[t.s, t.a] = now
        table.tried[t.s, t.a] = 1
        table.counts[0] += table.visits[t.s, t.a] == 1
        table.counts[1] += 1
        if table.counts[1] == table.counts[0]:
            next_round(table)
    return error


def next_round(table: Rounds) -> None:
    """q(s, a) <- q(s, a) + share * (by_old - q(s, a)) + (1 - share) * (by_q - by_old), share = 1 / (rounds + 1)."""
    share = 1.0 / (table.counts[2] + 1)
    for s in range(table.q.shape[0]):
        for a in range(table.q.shape[1]):
            value = table.q[s, a]
            if table.tried[s, a] == 1:
                by_old = table.by_old[s, a]
                table.q[s, a] += share * (by_old - value) + (1.0 - share) * (table.by_q[s, a] - by_old)
            table.old[s, a] = value
            table.tried[s, a] = 0
    table.counts[1] = 0
    table.counts[2] += 1


@register
@dataclass(frozen=True)
class SpeedyQ(Tabular):
    """Speedy Q-learning. There is no step size: rounds are counted. The rest as in `Tabular`.

    It learns no faster than its rarest pair comes round, so by default it tries in each state what was tried least.
    """

    step_size: float | Schedule = 1.0
    explore: TableExplore = UCB(1000.0)

    rule = staticmethod(learn)
    respects_masks: ClassVar[bool] = True
    state_type: ClassVar[type] = Rounds

    def __post_init__(self) -> None:
        super().__post_init__()
        check_unused(self, "step_size", "it counts rounds")

    def seed_arrays(self, states: int, actions: int) -> dict[str, np.ndarray]:
        values = {name: np.zeros((states, actions)) for name in ("old", "by_old", "by_q")}
        return {**values, "tried": np.zeros((states, actions), np.int64), "counts": np.zeros(3, np.int64)}

    def index_bounds(self, states: int, actions: int) -> dict[str, int]:
        return {"tried": 2, "counts": MOST_TIMES}

    def init_from_q(self, tables: dict[str, np.ndarray]) -> None:
        tables["old"][:] = tables["q"]


add_presets("learning from one step", {"speedy-q": SpeedyQ()})
