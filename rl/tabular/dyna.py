"""Dyna-Q and Dyna-Q+: between real steps the table also learns from steps simulated by a learned model.

Sutton (1990); Sutton and Barto (2018), section 8.2, and section 8.3 for Dyna-Q+, which adds a bonus for pairs that have not been
tried for a long time. Deviation: the book's model keeps only the last outcome of each pair, as this one does with outcomes=1;
with more outcomes it counts how often each occurred and samples among them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from rl.core.registry import add_presets, register
from rl.explore import highest
from rl.tabular.agent import TabularConfig, Transition, check_count, check_number, check_unused
from rl.tabular.learned_model import check_outcomes, count, least_seen_outcome, outcome_of, outcomes_of, sample_backup
from rl.tabular.q_learning import learn as learn_once
from rl.tabular.rule import MOST_TIMES


class Planned(NamedTuple):
    """A table and a model that keeps up to K distinct outcomes of each pair and their counts."""

    q: Any  # float64 [S, A]
    visits: Any  # int64 [S, A]
    following: Any  # int64 [S, A, K], the next state
    discount: Any  # float64 [S, A, K]
    reward: Any  # float64 [S, A, K], the mean reward
    times: Any  # int64 [S, A, K], how often the outcome occurred; 0: unused slot
    rate: Any  # float64 [S, A], the step size at the pair's last real visit
    tried: Any  # int64 [S, A], the time of that visit; 0: never
    state: Any  # int64 [S * A], the states of the pairs that can be simulated
    action: Any  # int64 [S * A], the actions of these pairs
    count: Any  # int64 [1], the number of these pairs
    clock: Any  # int64 [1], environment steps so far
    planning: Any  # int64 [1], simulated steps after each real one
    bonus: Any  # float64 [1], kappa
    mask: Any = None  # float64 [S, A], added to q: 0 if allowed, -infinity if forbidden; None: all actions are allowed


def add_pair(table: Planned, s: int, a: int) -> None:
    """Add a pair to those that can be simulated."""
    table.state[table.count[0]] = s
    table.action[table.count[0]] = a
    table.count[0] += 1


def add_bonus_pairs(table: Planned, t: Transition) -> None:
    """Add all actions of a new state (Dyna-Q+); untried actions are assumed to lead back to it with reward 0."""
    for b in range(table.q.shape[1]):
        if table.tried[t.s, b] != 0:
            return
    for b in range(table.q.shape[1]):
        add_pair(table, t.s, b)
        table.rate[t.s, b] = t.step_size


def remember(table: Planned, t: Transition) -> None:
    """Add a real step to the model."""
    k = outcome_of(table, t)
    if k < 0:
        k = least_seen_outcome(table, t.s, t.a)
        table.times[t.s, t.a, k] = 0
    count(table, t, k)
    table.rate[t.s, t.a] = t.step_size
    table.tried[t.s, t.a] = table.clock[0]


def simulated_target(table: Planned, s: int, a: int, gamma: float, rng: Any) -> Any:
    """Return the target of a simulated step, the exploration bonus included."""
    value = gamma * highest(table.q, s, table.mask) if table.tried[s, a] == 0 else sample_backup(table, s, a, rng)
    if table.bonus[0] > 0.0:
        value += table.bonus[0] * math.sqrt(table.clock[0] - table.tried[s, a])
    return value


def learn(table: Planned, t: Transition, rng: Any) -> float:
    """Apply Q-learning to the real step, then to `planning` simulated steps, and return the real step's TD error.

    With a bonus, a simulated step's reward is raised by bonus * sqrt(steps since the pair's last real visit).
    """
    error = learn_once(table, t, rng)  # type: ignore[arg-type]  # it has the q of a QTable
    if table.bonus[0] > 0.0:
        add_bonus_pairs(table, t)
    elif table.tried[t.s, t.a] == 0:
        add_pair(table, t.s, t.a)
    table.clock[0] += 1
    remember(table, t)
    for _ in range(table.planning[0]):
        i = min(int(rng.random() * table.count[0]), table.count[0] - 1)
        s, a = table.state[i], table.action[i]
        table.q[s, a] += table.rate[s, a] * (simulated_target(table, s, a, t.gamma, rng) - table.q[s, a])
    return error


@register
@dataclass(frozen=True)
class DynaQ(TabularConfig):
    """Dyna-Q; for its other settings see `TabularConfig`.

    A simulated step uses the step size of the pair's last real visit and the discount that its outcome had then.
    """

    planning_steps: int = 10
    """The number of simulated steps after each real step."""
    bonus: float = 0.0
    """The bonus factor kappa of Dyna-Q+; 0 for Dyna-Q."""
    outcomes: int = 8
    """The number of distinct outcomes that the model keeps for each state-action pair: at least as many as a pair can have, or 1
    for a deterministic environment, which may then change over time."""

    rule = staticmethod(learn)
    respects_masks: ClassVar[bool] = True
    state_type: ClassVar[type] = Planned

    def __post_init__(self) -> None:
        super().__post_init__()
        check_unused(self, "count_bonus", "the model would store it as part of the reward; set bonus instead")
        check_count(self, "planning_steps")
        check_count(self, "outcomes", 10_000)
        check_number(self, "bonus")

    def check_model(self, model: Any) -> None:
        check_outcomes(self, model)

    @property
    def backups_per_step(self) -> int:
        return self.planning_steps

    def seed_arrays(self, states: int, actions: int) -> dict[str, np.ndarray]:
        pairs, whole = (states, actions), np.int64
        return {
            **outcomes_of(states, actions, self.outcomes),
            **{"rate": np.zeros(pairs), "tried": np.zeros(pairs, whole)},
            **{name: np.zeros(states * actions, whole) for name in ("state", "action")},
            **{name: np.zeros(1, whole) for name in ("count", "clock")},
        }

    def rule_params(self) -> dict[str, np.ndarray]:
        return {"planning": np.array([self.planning_steps]), "bonus": np.array([float(self.bonus)])}

    def index_bounds(self, states: int, actions: int) -> dict[str, int]:
        most = {"times": MOST_TIMES, "tried": MOST_TIMES, "clock": MOST_TIMES}
        return most | {"following": states, "state": states, "action": actions, "count": states * actions + 1}

    def validate_state(self, arrays: Mapping[str, Any], states: int, actions: int) -> None:
        super().validate_state(arrays, states, actions)
        for k in range(len(arrays.get("count", ()))):
            tried = arrays["tried"][k] > 0
            known = tried | (tried.any(1, keepdims=True) & (self.bonus > 0))
            count = int(arrays["count"][k, 0])
            pairs = arrays["state"][k, :count] * actions + arrays["action"][k, :count]
            if sorted(pairs.tolist()) != np.flatnonzero(known).tolist():  # else the list could overflow
                raise ValueError("The saved list of pairs to simulate does not match the pairs that were tried.")


add_presets("from a model", {"dyna-q": DynaQ(), "dyna-q-plus": DynaQ(bonus=1e-4)})
