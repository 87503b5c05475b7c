"""Prioritized sweeping, which plans with a learned model where values change most, and R-MAX, which uses it to explore.

Moore and Atkeson (1993), Peng and Williams (1993); Sutton and Barto (2018), section 8.4, with the expected backups of its last
paragraphs. R-MAX: Brafman and Tennenholtz (2002); pairs that have not been tried often enough are assumed to be optimal.

Deviations: a pair's priority is its exact Bellman error under the model, not a bound on it. R-MAX plans by the same sweeps
instead of solving its model at each change, and its model keeps learning after a pair has become known.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from rl.core.registry import add_presets, register
from rl.explore import Greedy, TableExplore, highest
from rl.tabular.agent import TabularConfig, Transition, check_count, check_number, check_unused
from rl.tabular.learned_model import check_outcomes, count, expected_backup, least_seen_outcome, outcome_of, outcomes_of
from rl.tabular.rule import MOST_TIMES
from supervised.schedules import Schedule


class Swept(NamedTuple):
    """A table, a learned model (see `rl.tabular.learned_model`), the predecessors of each state, and the pairs' priorities.

    Outcomes are numbered ((s * A) + a) * K + k. The outcomes that lead to a state form a linked list: the first is head - 1, the
    successor of outcome i is after[i] - 1, and 0 ends the list. peak is a max-tree over pairs: node i is the maximum of nodes
    2 i and 2 i + 1.
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
    planning: Any  # int64 [1], maximum number of backups after each step
    threshold: Any  # float64 [1], the minimum priority
    known: Any  # int64 [1], visits of a pair before its model is used
    mask: Any = None  # float64 [S, A], added to q: 0 if allowed, -infinity if forbidden; None: all actions are allowed


def make_urgent(peak: Any, i: int, urgency: float) -> None:
    """Set the priority of pair i."""
    i += peak.shape[0] // 2
    peak[i] = urgency
    while i > 1:
        i //= 2
        peak[i] = max(peak[2 * i], peak[2 * i + 1])


def most_urgent(peak: Any) -> int:
    """Return the pair with the highest priority, peak[1]."""
    i = 1
    while i < peak.shape[0] // 2:
        i = 2 * i if peak[2 * i] == peak[i] else 2 * i + 1
    pair: int = i - peak.shape[0] // 2
    return pair


def link(table: Swept, next_s: int, i: int) -> None:
    """Add outcome i to the predecessors of next_s."""
    table.after[i] = table.head[next_s]
    table.head[next_s] = i + 1


def unlink(table: Swept, next_s: int, i: int) -> None:
    """Remove outcome i from the predecessors of next_s."""
    if table.head[next_s] == i + 1:
        table.head[next_s] = table.after[i]
    else:
        before = table.head[next_s] - 1
        while table.after[before] != i + 1:
            before = table.after[before] - 1
        table.after[before] = table.after[i]


def remember(table: Swept, t: Transition) -> None:
    """Add a real step to the model, and its outcome to the predecessors of the next state."""
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
    """Raise a pair's priority to its Bellman error under the model, if that exceeds the threshold and the pair is known."""
    if table.visits[s, a] >= table.known[0]:
        i = s * table.q.shape[1] + a
        urgency = abs(expected_backup(table, s, a) - table.q[s, a])
        if urgency > table.threshold[0] and urgency > table.peak[table.peak.shape[0] // 2 + i]:
            make_urgent(table.peak, i, urgency)


def learn(table: Swept, t: Transition, rng: Any) -> float:
    """Add the step to the model, then back up the pairs of highest priority; return the step's TD error.

    Q(s, a) <- sum_k p_k (r_k + discount_k * max Q(s'_k, .)). Where a state's value changes, its predecessors' priorities are
    updated.
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
class PrioritizedSweeping(TabularConfig):
    """Prioritized sweeping; for its other settings see `TabularConfig`. Backups are expected values: there is no step size."""

    step_size: float | Schedule = 1.0
    """Not used: backups are expected values under the model."""
    planning_steps: int = 10
    """The maximum number of backups after each real step."""
    threshold: float = 1e-5
    """The minimum Bellman error at which a pair enters the priority queue."""
    outcomes: int = 8
    """The number of distinct outcomes that the model keeps for each state-action pair: at least as many as a pair can have, or 1
    for a deterministic environment, which may then change over time."""

    rule = staticmethod(learn)
    respects_masks: ClassVar[bool] = True
    state_type: ClassVar[type] = Swept

    def __post_init__(self) -> None:
        super().__post_init__()
        check_unused(self, "step_size", "its backups are expected values under the model")
        check_unused(self, "count_bonus", "the model would store it as part of the reward")
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
        if "head" not in arrays:  # these are the per-episode arrays
            return
        for k in range(len(arrays["head"])):  # a cyclic list would never end
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
                raise ValueError("The saved predecessor lists or priorities are inconsistent with the saved model.")


@register
@dataclass(frozen=True)
class RMax(PrioritizedSweeping):
    """R-MAX; for its other settings see `PrioritizedSweeping`."""

    explore: TableExplore = Greedy()
    """As in `TabularConfig`; greedy by default."""
    initial_q: float | tuple[float, float] = 100.0
    """The value of a pair until it is known: at least the highest possible return, r_max / (1 - gamma)."""
    planning_steps: int = 1000
    """The maximum number of backups after each real step."""
    known_after: int = 50
    """The number of visits after which a pair is known, so that the model is used for it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count(self, "known_after")

    def rule_params(self) -> dict[str, np.ndarray]:
        return super().rule_params() | {"known": np.array([self.known_after])}


add_presets("from a model", {"prioritized-sweeping": PrioritizedSweeping(), "r-max": RMax()})
