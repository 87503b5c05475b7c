"""What a table learns of the world: which outcomes each pair has had, how often each came, and what it brought.

Up to K outcomes a pair, told apart by the next state and by whether it ended; where there is no room the rarest gives way, so K
must be as many as a pair can have, or the model is wrong. With K = 1 the last outcome is believed, reward and all, which suits a
world that is certain, and may change.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rl.core.registry import name_of
from rl.explore import highest
from rl.tabular.agent import Transition

SEMI_MARKOV = 0  # 1: steps have discounts of their own, so the mean is kept; else the last, for gamma may change


def outcomes_of(states: int, actions: int, outcomes: int) -> dict[str, np.ndarray]:
    """The arrays of an empty model, each [S, A, K]: next state, discount, mean reward, and how often it came."""
    shape = (states, actions, outcomes)
    whole = {name: np.zeros(shape, np.int64) for name in ("following", "times")}
    return whole | {name: np.zeros(shape) for name in ("discount", "reward")}


def check_outcomes(description: Any, model: Any) -> None:
    """Raise ValueError where a pair has more outcomes than the agent's model keeps, unless that keeps the last alone."""
    most = int(model.outcomes.max())
    if 1 < description.outcomes < most:
        raise ValueError(
            f"{name_of(description)} keeps {description.outcomes} outcomes of each state and action, but {model.name} has"
            f" up to {most}: give outcomes={most} (or 1, to believe the last alone)."
        )


def outcome_of(table: Any, t: Transition) -> int:
    """Which outcome of its pair a step is; -1: none that is known."""
    place = -1
    for k in range(table.times.shape[2]):
        same = table.following[t.s, t.a, k] == t.next_s and (table.discount[t.s, t.a, k] == 0.0) == (t.discount == 0.0)
        if table.times[t.s, t.a, k] > 0 and same:
            place = k
    return place


def least_seen_outcome(table: Any, s: int, a: int) -> int:
    """The outcome that came least often: a free place, if there is one."""
    place = 0
    for k in range(1, table.times.shape[2]):
        if table.times[s, a, k] < table.times[s, a, place]:
            place = k
    return place


def count(table: Any, t: Transition, k: int) -> None:
    """Count a step as outcome k of its pair; a place that held another is emptied before."""
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
    """r + discount * max Q(s', .) of an outcome."""
    value = table.reward[s, a, k]
    if table.discount[s, a, k] != 0.0:
        value += table.discount[s, a, k] * highest(table.q, table.following[s, a, k], table.mask)
    return value


def sample_backup(table: Any, s: int, a: int, rng: Any) -> Any:
    """What a step that the model makes up is worth: an outcome is drawn by how often it came."""
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
    """The mean worth of a pair's outcomes, each by how often it came: Sutton and Barto (2018), equation 8.1."""
    total = 0
    value = 0.0
    for k in range(table.times.shape[2]):
        n = table.times[s, a, k]
        if n > 0:
            total += n
            value += n * backup(table, s, a, k)
    return value / total
