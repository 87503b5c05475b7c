"""A tabular model learned from experience: the outcomes of each state-action pair, their counts and mean rewards.

A pair has up to K outcomes, distinguished by the next state and by termination. When all slots are used, a new outcome replaces
the least frequent one, so the model is correct only if K is at least the number of outcomes that a pair can have. With K = 1 the
model keeps just the last outcome and its reward, which suits deterministic environments, including those that change over time.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rl.core.registry import name_of
from rl.explore import highest
from rl.tabular.agent import Transition

SEMI_MARKOV = 0  # 1: steps have their own discounts, so keep their mean; 0: keep the last, since gamma may change


def outcomes_of(states: int, actions: int, outcomes: int) -> dict[str, np.ndarray]:
    """Return the arrays of an empty model, each [S, A, K]: next state, discount, mean reward and count."""
    shape = (states, actions, outcomes)
    whole = {name: np.zeros(shape, np.int64) for name in ("following", "times")}
    return whole | {name: np.zeros(shape) for name in ("discount", "reward")}


def check_outcomes(config: Any, model: Any) -> None:
    """Raise ValueError if a pair has more outcomes than the agent's model keeps, unless it keeps just the last one."""
    most = int(model.outcomes.max())
    if 1 < config.outcomes < most:
        raise ValueError(
            f"{name_of(config)} keeps {config.outcomes} outcomes of each state and action, but {model.name} has"
            f" up to {most}: set outcomes={most} (or 1, to keep only the last outcome)."
        )


def outcome_of(table: Any, t: Transition) -> int:
    """Return the index of a step's outcome among those of its pair; -1 if it is new."""
    place = -1
    for k in range(table.times.shape[2]):
        same = table.following[t.s, t.a, k] == t.next_s and (table.discount[t.s, t.a, k] == 0.0) == (t.discount == 0.0)
        if table.times[t.s, t.a, k] > 0 and same:
            place = k
    return place


def least_seen_outcome(table: Any, s: int, a: int) -> int:
    """Return the index of the least frequent outcome of a pair, which is a free slot if there is one."""
    place = 0
    for k in range(1, table.times.shape[2]):
        if table.times[s, a, k] < table.times[s, a, place]:
            place = k
    return place


def count(table: Any, t: Transition, k: int) -> None:
    """Count a step as outcome k of its pair; a slot with count 0 is initialized first."""
    if table.times.shape[2] == 1:
        table.times[t.s, t.a, k] = 0
    if table.times[t.s, t.a, k] == 0:
        table.following[t.s, t.a, k] = t.next_s
        table.reward[t.s, t.a, k] = 0.0
        table.discount[t.s, t.a, k] = 0.0
    table.times[t.s, t.a, k] += 1
    if SEMI_MARKOV == 1:
        table.discount[t.s, t.a, k] += (t.discount - table.discount[t.s, t.a, k]) / table.times[t.s, t.a, k]
    else:
        table.discount[t.s, t.a, k] = t.discount
    table.reward[t.s, t.a, k] += (t.reward - table.reward[t.s, t.a, k]) / table.times[t.s, t.a, k]


def backup(table: Any, s: int, a: int, k: int) -> Any:
    """Return r + discount * max Q(s', .) for outcome k of a pair."""
    value = table.reward[s, a, k]
    if table.discount[s, a, k] != 0.0:
        value += table.discount[s, a, k] * highest(table.q, table.following[s, a, k], table.mask)
    return value


def sample_backup(table: Any, s: int, a: int, rng: Any) -> Any:
    """Return the backup of an outcome sampled in proportion to its count."""
    total = 0
    for k in range(table.times.shape[2]):
        total += table.times[s, a, k]
    left = rng.random() * total
    k = 0
    while left >= table.times[s, a, k] and k < table.times.shape[2] - 1:
        left -= table.times[s, a, k]
        k += 1
    return backup(table, s, a, k)


def expected_backup(table: Any, s: int, a: int) -> Any:
    """Return the mean backup over a pair's outcomes, weighted by their counts: Sutton and Barto (2018), equation 8.1."""
    total = 0
    value = 0.0
    for k in range(table.times.shape[2]):
        n = table.times[s, a, k]
        if n > 0:
            total += n
            value += n * backup(table, s, a, k)
    return value / total
