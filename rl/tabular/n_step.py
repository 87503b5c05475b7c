"""n-step SARSA and n-step Tree Backup: updates towards n-step returns.

Sutton and Barto (2018), sections 7.2 (equation 7.5) and 7.5 (equation 7.16). At a truncation the last n - 1 steps bootstrap from
the episode's final state; at a termination there is nothing to bootstrap from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from rl.core.registry import add_presets, register
from rl.explore import TableExplore, forbidden, highest
from rl.tabular.agent import OnPolicyConfig, TabularConfig, Transition, check_count
from supervised.schedules import Schedule


class Window(NamedTuple):
    """A table and the steps of each environment whose updates are pending, in a ring buffer of length n."""

    q: Any  # float64 [S, A]
    visits: Any  # int64 [S, A]
    state: Any  # int64 [E, n]
    action: Any  # int64 [E, n]
    reward: Any  # float64 [E, n]
    discount: Any  # float64 [E, n]
    rate: Any  # float64 [E, n], the step size at the time of the step
    first: Any  # int64 [E], the index of the oldest step
    count: Any  # int64 [E], the number of stored steps
    mask: Any = None  # float64 [S, A], added to q: 0 if allowed, -infinity if forbidden; None: all actions are allowed


def add_step(table: Window, t: Transition) -> None:
    """Append a step to the ring buffer."""
    i = (table.first[t.env] + table.count[t.env]) % table.state.shape[1]
    table.state[t.env, i] = t.s
    table.action[t.env, i] = t.a
    table.reward[t.env, i] = t.reward
    table.discount[t.env, i] = t.discount
    table.rate[t.env, i] = t.step_size
    table.count[t.env] += 1


def learn_oldest(table: Window, e: int, value: float) -> Any:
    """Update the oldest step's Q towards `value`, drop the step, and return its absolute error."""
    i = table.first[e]
    s, a = table.state[e, i], table.action[e, i]
    error = value - table.q[s, a]
    table.q[s, a] += table.rate[e, i] * error
    table.first[e] = (i + 1) % table.state.shape[1]
    table.count[e] -= 1
    return abs(error)


def sarsa_return(table: Window, e: int, tail: float) -> Any:
    """Return r1 + d1 (r2 + d2 (... + dn tail)), starting with the oldest step."""
    n = table.state.shape[1]
    value = tail
    for back in range(table.count[e]):
        i = (table.first[e] + table.count[e] - 1 - back) % n
        value = table.reward[e, i] + table.discount[e, i] * value
    return value


def tree_return(table: Window, e: int, tail: float) -> Any:
    """Return the Tree Backup return: after a non-greedy step it uses the greedy action's value instead of what happened."""
    n = table.state.shape[1]
    value = tail
    for back in range(table.count[e]):
        i = (table.first[e] + table.count[e] - 1 - back) % n
        if back > 0:  # weight the next step's return by the greedy policy's probability of its action
            j = (i + 1) % n
            s, a = table.state[e, j], table.action[e, j]
            best = highest(table.q, s, table.mask)
            ties = 0
            for b in range(table.q.shape[1]):
                ties += table.q[s, b] == best and not forbidden(table.mask, s, b)
            share = 1.0 / ties if table.q[s, a] == best else 0.0
            value = (1.0 - share) * best + share * value
        value = table.reward[e, i] + table.discount[e, i] * value
    return value


def learn_sarsa(table: Window, t: Transition, rng: Any) -> float:
    """Update the oldest of n steps, or all pending ones at the end of an episode; return the sum of their absolute errors."""
    add_step(table, t)
    error = 0.0
    tail = 0.0
    if t.discount != 0.0:
        tail = table.q[t.next_s, t.next_a]
    while table.count[t.env] == table.state.shape[1] or (t.episode_end and table.count[t.env] > 0):
        error += learn_oldest(table, t.env, sarsa_return(table, t.env, tail))
    return error


def learn_tree(table: Window, t: Transition, rng: Any) -> float:
    """Update like n-step SARSA but off-policy: evaluate the greedy policy, without importance sampling."""
    add_step(table, t)
    error = 0.0
    while table.count[t.env] == table.state.shape[1] or (t.episode_end and table.count[t.env] > 0):
        tail = 0.0
        if t.discount != 0.0:
            tail = highest(table.q, t.next_s, table.mask)
        error += learn_oldest(table, t.env, tree_return(table, t.env, tail))
    return error


@register
@dataclass(frozen=True)
class NStepSARSA(OnPolicyConfig):
    """n-step SARSA; for its other settings see `OnPolicyConfig`."""

    n: int = 3
    """The number of steps n in the n-step return."""

    rule = staticmethod(learn_sarsa)
    respects_masks: ClassVar[bool] = True
    state_type: ClassVar[type] = Window
    needs_next_action: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count(self, "n")

    def episode_arrays(self, states: int, actions: int) -> dict[str, np.ndarray]:
        whole, real = np.zeros(self.n, np.int64), np.zeros(self.n)
        rings = {"state": whole, "action": whole, "reward": real, "discount": real, "rate": real}
        return {**rings, "first": np.array(0), "count": np.array(0)}

    def index_bounds(self, states: int, actions: int) -> dict[str, int]:
        return {"state": states, "action": actions, "first": self.n, "count": self.n}


@register
@dataclass(frozen=True)
class TreeBackup(NStepSARSA):
    """n-step Tree Backup for the greedy policy; for its other settings see `NStepSARSA` and `TabularConfig`."""

    step_size: float | Schedule = TabularConfig.step_size
    """As in `TabularConfig`; the default is max(0.01, visits**-0.6)."""
    explore: TableExplore = TabularConfig.explore
    """As in `TabularConfig`; by default epsilon decays linearly from 1 to 0.05 over the run."""

    rule = staticmethod(learn_tree)
    respects_masks: ClassVar[bool] = True
    needs_next_action: ClassVar[bool] = False
    on_policy: ClassVar[bool] = False


add_presets("from many", {"n-step-sarsa": NStepSARSA(), "tree-backup": TreeBackup()})
