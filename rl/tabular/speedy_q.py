"""Speedy Q-learning: each round applies the full change between two successive backups, and a decaying share of the remainder.

Azar, Munos, Ghavamzadeh and Kappen (2011), "Speedy Q-learning". Deviations, since here the behavior policy determines which pairs
are sampled: a round lasts until every pair seen so far has been tried again, and a pair learns only from its first try in a
round. (When a round ends depends on the outcomes of the tries, so a mean over all of them would be biased towards outcomes that
end it early.) The paper's proof is for rounds in which each pair is sampled independently.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from rl.core.registry import add_presets, register
from rl.explore import UCB, TableExplore, highest
from rl.tabular.agent import TabularConfig, Transition, check_unused
from rl.tabular.rule import MOST_TIMES
from supervised.schedules import Schedule


class Rounds(NamedTuple):
    """The tables of two rounds, and the backups of each pair's first try in the current round."""

    q: Any  # float64 [S, A], the table of the current round
    visits: Any  # int64 [S, A]
    old: Any  # float64 [S, A], the table of the previous round
    by_old: Any  # float64 [S, A], r + discount * max old(s', .)
    by_q: Any  # float64 [S, A], r + discount * max q(s', .)
    tried: Any  # int64 [S, A], 1: tried in this round
    counts: Any  # int64 [3], pairs ever seen, pairs tried in this round, rounds completed
    mask: Any = None  # float64 [S, A], added to q: 0 if allowed, -infinity if forbidden; None: all actions are allowed


def learn(table: Rounds, t: Transition, rng: Any) -> float:
    """Store the backups of a pair's first try in a round, under the previous and the current table; return the TD error."""
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
    """Update all tried pairs and start the next round.

    q(s, a) <- q(s, a) + share * (by_old - q(s, a)) + (1 - share) * (by_q - by_old), with share = 1 / (rounds + 1).
    """
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
class SpeedyQ(TabularConfig):
    """Speedy Q-learning, whose step size depends on the number of rounds; for its other settings see `TabularConfig`.

    A round takes until its least visited pair is tried, so by default exploration favors the least tried action of each state.
    """

    step_size: float | Schedule = 1.0
    """Not used: the step size depends on the number of rounds."""
    explore: TableExplore = UCB(1000.0)
    """As in `TabularConfig`; by default UCB with a large scale, which selects the least tried action."""

    rule = staticmethod(learn)
    respects_masks: ClassVar[bool] = True
    state_type: ClassVar[type] = Rounds

    def __post_init__(self) -> None:
        super().__post_init__()
        check_unused(self, "step_size", "its step size follows from the number of rounds")

    def seed_arrays(self, states: int, actions: int) -> dict[str, np.ndarray]:
        values = {name: np.zeros((states, actions)) for name in ("old", "by_old", "by_q")}
        return {**values, "tried": np.zeros((states, actions), np.int64), "counts": np.zeros(3, np.int64)}

    def index_bounds(self, states: int, actions: int) -> dict[str, int]:
        return {"tried": 2, "counts": MOST_TIMES}

    def init_from_q(self, tables: dict[str, np.ndarray]) -> None:
        tables["old"][:] = tables["q"]


add_presets("learning from one step", {"speedy-q": SpeedyQ()})
