"""Prioritized sweeping: a learned model is planned with where values are most out of date; and R-MAX, which explores by it.

Moore and Atkeson (1993), Peng and Williams (1993); Sutton and Barto (2018), section 8.4, with the expected backups of its last
paragraphs. R-MAX: Brafman and Tennenholtz (2002): what has not been tried often enough is taken to be as good as can be.

Deviations: how urgent a pair is, is how far it lies from what the model says of it, and not a bound on that. R-MAX plans by the
same sweeps instead of solving its model each time, and its model goes on learning when a pair is known.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from rl.core.registry import add_presets, register
from rl.explore import Greedy, TableExplore, highest
from rl.tabular.agent import MOST_TIMES, Tabular, Transition, check_count, check_number, check_unused
from rl.tabular.learned_model import check_outcomes, count, expected_backup, least_seen_outcome, outcome_of, outcomes_of
from supervised.schedules import Schedule


class Swept(NamedTuple):
    """A table, a model of the world (see `rl.tabular.learned_model`), what leads to each state, and how urgent each pair is.

    Outcomes are numbered ((s * A) + a) * K + k. Those that lead to a state are a list: its first is head - 1, and after an
    outcome i comes after[i] - 1, until there is a 0. peak is a tree over pairs: node i is the larger of 2 i and 2 i + 1.
    """

    q: Any  # float64 [S, A]
    visits: Any  # int64 [S, A]
    following: Any  # int64 [S, A, K]
    times: Any  # int64 [S, A, K]
    discount: Any  # float64 [S, A, K]
    reward: Any  # float64 [S, A, K]
    head: Any  # int64 [S]
    after: Any  # int64 [S * A * K]
    peak: Any  # float64 [2 * S * A]
    planning: Any  # int64 [1], most backups after each step
    threshold: Any  # float64 [1], below which nothing is urgent
    known: Any  # int64 [1], how often a pair is tried before the model is believed
    mask: Any = None  # float64 [S, A], added to q: 0 where an action is allowed, -infinity where not; None: all are


def make_urgent(peak: Any, i: int, urgency: float) -> None:
    """Say how urgent pair i is."""
    i += peak.shape[0] // 2
    peak[i] = urgency
    while i > 1:
        i //= 2
        peak[i] = max(peak[2 * i], peak[2 * i + 1])


def most_urgent(peak: Any) -> int:
    """The pair that peak[1] is of."""
    i = 1
    while i < peak.shape[0] // 2:
        i = 2 * i if peak[2 * i] == peak[i] else 2 * i + 1
    pair: int = i - peak.shape[0] // 2
    return pair


def link(table: Swept, next_s: int, i: int) -> None:
    """Let outcome i be one that leads to next_s."""
    table.after[i] = table.head[next_s]
    table.head[next_s] = i + 1


def unlink(table: Swept, next_s: int, i: int) -> None:
    """Take outcome i out of those that lead to next_s."""
    if table.head[next_s] == i + 1:
        table.head[next_s] = table.after[i]
    else:
        before = table.head[next_s] - 1
        while table.after[before] != i + 1:
            before = table.after[before] - 1
        table.after[before] = table.after[i]


def remember(table: Swept, t: Transition) -> None:
    """Put a real step into the model, and its outcome among those that lead to where it led."""
    k = outcome_of(table, t)
    if k < 0:
        k = least_seen_outcome(table, t.s, t.a)
        i = (t.s * table.q.shape[1] + t.a) * table.times.shape[2] + k
        if table.times[t.s, t.a, k] > 0 and table.discount[t.s, t.a, k] != 0.0:
            unlink(table, table.following[t.s, t.a, k], i)
        table.times[t.s, t.a, k] = 0
        if t.discount != 0.0:
            link(table, t.next_s, i)
    count(table, t, k)


def refresh_priority(table: Swept, s: int, a: int) -> None:
    """Let a pair wait for a backup if it lies off what the model says, and the model is believed."""
    if table.visits[s, a] >= table.known[0]:
        i = s * table.q.shape[1] + a
        urgency = abs(expected_backup(table, s, a) - table.q[s, a])
        if urgency > table.threshold[0] and urgency > table.peak[table.peak.shape[0] // 2 + i]:
            make_urgent(table.peak, i, urgency)


def learn(table: Swept, t: Transition, rng: Any) -> float:
    """Remember the step, then back up the most urgent pairs, Q(s, a) <- sum_k p_k (r_k + discount_k * max Q(s'_k, .)), and
    look at what leads to each state whose value moved -> the step's TD error.
    """
    remember(table, t)
    error: float = t.reward - table.q[t.s, t.a]
    if t.discount != 0.0:
        error += t.discount * highest(table.q, t.next_s, table.mask)
    refresh_priority(table, t.s, t.a)
    actions, outcomes = table.q.shape[1], table.times.shape[2]
    for _ in range(table.planning[0]):
        if table.peak[1] <= table.threshold[0]:
            break
        pair = most_urgent(table.peak)
        make_urgent(table.peak, pair, 0.0)
        s, a = pair // actions, pair % actions
        before = highest(table.q, s, table.mask)
        table.q[s, a] = expected_backup(table, s, a)
        if highest(table.q, s, table.mask) != before:
            i = table.head[s]
            while i > 0:
                leading = (i - 1) // outcomes
                refresh_priority(table, leading // actions, leading % actions)
                i = table.after[i - 1]
    return error


@register
@dataclass(frozen=True)
class PrioritizedSweeping(Tabular):
    """Prioritized sweeping.

    planning_steps: most backups after each real step. threshold: how far a value may lie off before it waits for one. outcomes:
    how many different ones the model keeps of each pair: as many as it can have, or 1 for a world that is certain, and may
    change. There is no step size: the model's mean is taken as it is. The rest as in `Tabular`.
    """

    step_size: float | Schedule = 1.0
    planning_steps: int = 10
    threshold: float = 1e-5
    outcomes: int = 8

    rule = staticmethod(learn)
    respects_masks: ClassVar[bool] = True
    state_type: ClassVar[type] = Swept

    def __post_init__(self) -> None:
        super().__post_init__()
        check_unused(self, "step_size", "the model's mean is taken as it is")
        check_unused(self, "count_bonus", "its model would keep it")
        check_count(self, "planning_steps")
        check_count(self, "outcomes", 10_000)
        check_number(self, "threshold")

    def check_model(self, model: Any) -> None:
        check_outcomes(self, model)

    @property
    def backups_per_step(self) -> int:
        return self.planning_steps

    def seed_arrays(self, states: int, actions: int) -> dict[str, np.ndarray]:
        found = outcomes_of(states, actions, self.outcomes)
        found |= {"head": np.zeros(states, np.int64), "after": np.zeros(states * actions * self.outcomes, np.int64)}
        return found | {"peak": np.zeros(2 * states * actions)}

    def rule_params(self) -> dict[str, np.ndarray]:
        planning, threshold = np.array([self.planning_steps]), np.array([float(self.threshold)])
        return {"planning": planning, "threshold": threshold, "known": np.array([1])}

    def index_bounds(self, states: int, actions: int) -> dict[str, int]:
        slots = states * actions * self.outcomes
        return {"following": states, "times": MOST_TIMES, "head": slots + 1, "after": slots + 1}

    def validate_state(self, arrays: Mapping[str, Any], states: int, actions: int) -> None:
        super().validate_state(arrays, states, actions)
        if "head" not in arrays:  # these are not the tables, but what goes with an episode
            return
        for k in range(len(arrays["head"])):  # a list that goes in circles would be followed for ever
            following, after = arrays["following"][k].ravel(), arrays["after"][k]
            used = (arrays["times"][k] > 0) & (arrays["discount"][k] != 0)
            peak, listed, most = arrays["peak"][k], list[int](), int(used.sum())
            tree = np.maximum(peak[2::2], peak[3::2]) == peak[1 : len(peak) // 2]
            leaves = peak[len(peak) // 2 :] > 0
            good = bool(tree.all() and (peak >= 0).all() and (arrays["times"][k].sum(-1).ravel()[leaves] > 0).all())
            for s in range(states):
                i = int(arrays["head"][k, s])
                while i > 0 and good:
                    good = bool(following[i - 1] == s) and len(listed) < most
                    listed.append(i - 1)
                    i = int(after[i - 1])
            if not good or sorted(listed) != np.flatnonzero(used.ravel()).tolist():
                raise ValueError(
                    "The saved lists of what leads to each state, or of what is urgent, contradict the model."
                )


@register
@dataclass(frozen=True)
class RMax(PrioritizedSweeping):
    """R-MAX.

    known_after: how often a pair is tried before the model is believed. initial_q: what a pair is worth until then; as much as
    can be reached, or more: r_max / (1 - gamma). The rest as in `PrioritizedSweeping`.
    """

    explore: TableExplore = Greedy()
    initial_q: float | tuple[float, float] = 100.0
    planning_steps: int = 1000
    known_after: int = 50

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count(self, "known_after")

    def rule_params(self) -> dict[str, np.ndarray]:
        return super().rule_params() | {"known": np.array([self.known_after])}


add_presets("from a model", {"prioritized-sweeping": PrioritizedSweeping(), "r-max": RMax()})
