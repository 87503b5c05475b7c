"""Dyna-Q and Dyna-Q+: between two real steps the table learns from steps that a learned model makes up.

Sutton (1990); Sutton and Barto (2018), section 8.2, and section 8.3 for Dyna-Q+, which finds what has not been tried for long
tempting. Deviation: the book's model believes the last outcome, as ours does with outcomes=1; with more it counts how often each
came, and draws among them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from rl.core.registry import add_presets, register
from rl.explore import highest
from rl.tabular.agent import MOST_TIMES, Tabular, Transition, check_count, check_number, check_unused
from rl.tabular.learned_model import check_outcomes, count, least_seen_outcome, outcome_of, outcomes_of, sample_backup
from rl.tabular.q_learning import learn as learn_once


class Planned(NamedTuple):
    """A table, and a model of what each pair has brought: up to K different outcomes, and how often each came."""

    q: Any  # float64 [S, A]
    visits: Any  # int64 [S, A]
    following: Any  # int64 [S, A, K], the next state
    discount: Any  # float64 [S, A, K]
    reward: Any  # float64 [S, A, K], the mean
    times: Any  # int64 [S, A, K], 0: no such outcome yet
    rate: Any  # float64 [S, A], the step size when it was last tried
    tried: Any  # int64 [S, A], when that was; 0: never
    state: Any  # int64 [S * A], the pairs that can be made up,
    action: Any  # int64 [S * A]
    count: Any  # int64 [1], and how many there are
    clock: Any  # int64 [1], steps so far
    planning: Any  # int64 [1], steps that are made up after each real one
    bonus: Any  # float64 [1], kappa
    mask: Any = None  # float64 [S, A], added to q: 0 where an action is allowed, -infinity where not; None: all are


def add_pair(table: Planned, s: int, a: int) -> None:
    """Let a pair be made up from now on."""
    table.state[table.count[0]] = s
    table.action[table.count[0]] = a
    table.count[0] += 1


def add_bonus_pairs(table: Planned, t: Transition) -> None:
    """Let all actions of a state be made up: what was never tried is taken to lead back, for no reward (Dyna-Q+)."""
    for b in range(table.q.shape[1]):
        if table.tried[t.s, b] != 0:
            return
    for b in range(table.q.shape[1]):
        add_pair(table, t.s, b)
        table.rate[t.s, b] = t.step_size


def remember(table: Planned, t: Transition) -> None:
    """Put a real step into the model."""
    k = outcome_of(table, t)
    if k < 0:
        k = least_seen_outcome(table, t.s, t.a)
        table.times[t.s, t.a, k] = 0
    count(table, t, k)
    table.rate[t.s, t.a] = t.step_size
    table.tried[t.s, t.a] = table.clock[0]


def simulated_target(table: Planned, s: int, a: int, gamma: float, rng: Any) -> Any:
    """What a step of the model is worth, the bonus included."""
    value = gamma * highest(table.q, s, table.mask) if table.tried[s, a] == 0 else sample_backup(table, s, a, rng)
    if table.bonus[0] > 0.0:
        value += table.bonus[0] * math.sqrt(table.clock[0] - table.tried[s, a])
    return value


def learn(table: Planned, t: Transition, rng: Any) -> float:
    """Q-learning from the real step, then from `planning` steps of the model -> the real step's TD error.

    With a bonus a made-up step brings bonus * sqrt(steps since the pair was really tried) more.
    """
    error = learn_once(table, t, rng)  # type: ignore[arg-type]  # it has a table's q
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
class DynaQ(Tabular):
    """Dyna-Q.

    planning_steps: made-up steps after each real one. bonus: kappa of Dyna-Q+; 0 for Dyna-Q. outcomes: how many different ones
    the model keeps of each pair: as many as it can have, or 1 for a world that is certain, and may change. A made-up step has the
    step size of the pair's last real one, and the discount that its outcome had then. The rest as in `Tabular`.
    """

    planning_steps: int = 10
    bonus: float = 0.0
    outcomes: int = 8

    rule = staticmethod(learn)
    respects_masks: ClassVar[bool] = True
    state_type: ClassVar[type] = Planned

    def __post_init__(self) -> None:
        super().__post_init__()
        check_unused(self, "count_bonus", "its model would keep it; give a bonus")
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
            if sorted(pairs.tolist()) != np.flatnonzero(known).tolist():  # else the list would outgrow its room
                raise ValueError("The saved pairs that can be made up are not those that were tried.")


add_presets("from a model", {"dyna-q": DynaQ(), "dyna-q-plus": DynaQ(bonus=1e-4)})
