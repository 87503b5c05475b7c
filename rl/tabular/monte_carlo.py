"""Monte-Carlo control: at the end of an episode each visited pair is updated towards the return that followed it.

Sutton and Barto (2018), section 5.4, first-visit and every-visit. Deviations: a truncated episode bootstraps from Q(s', a'), as
elsewhere in this package; in an episode longer than `memory_steps`, the earliest steps are not learned from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from rl.core.registry import add_presets, register
from rl.tabular.agent import OnPolicyConfig, Transition, check_count
from supervised.validate import flag, store


class Episode(NamedTuple):
    """A table and the steps of each environment's current episode, in a ring buffer of length L."""

    q: Any  # float64 [S, A]
    visits: Any  # int64 [S, A]
    state: Any  # int64 [E, L]
    action: Any  # int64 [E, L]
    reward: Any  # float64 [E, L]
    discount: Any  # float64 [E, L]
    rate: Any  # float64 [E, L], the step size at the time of the step
    time: Any  # int64 [E], steps of the episode so far
    met: Any  # int64 [E, S, A], the time of a pair's first visit in the episode, counted from 1; 0: not visited
    every: Any  # int64 [1], 1: every-visit; 0: first-visit
    mask: Any = None  # float64 [S, A], added to q: 0 if allowed, -infinity if forbidden; None: all actions are allowed


def learn(table: Episode, t: Transition, rng: Any) -> float:
    """Store the step; at the end of the episode update its pairs from the last to the first. Return the sum of absolute errors.

    G <- r + discount * G, Q(s, a) += step_size * (G - Q(s, a)).
    """
    length = table.state.shape[1]
    i = table.time[t.env] % length
    table.state[t.env, i] = t.s
    table.action[t.env, i] = t.a
    table.reward[t.env, i] = t.reward
    table.discount[t.env, i] = t.discount
    table.rate[t.env, i] = t.step_size
    table.time[t.env] += 1
    if table.met[t.env, t.s, t.a] == 0:
        table.met[t.env, t.s, t.a] = table.time[t.env]
    total = 0.0
    if t.episode_end:
        value = 0.0
        if t.discount != 0.0:
            value = table.q[t.next_s, t.next_a]
        last = table.time[t.env]
        for back in range(min(last, length)):
            i = (last - 1 - back) % length
            s, a = table.state[t.env, i], table.action[t.env, i]
            value = table.reward[t.env, i] + table.discount[t.env, i] * value
            if table.every[0] == 1 or table.met[t.env, s, a] == last - back:
                error = value - table.q[s, a]
                table.q[s, a] += table.rate[t.env, i] * error
                total += abs(error)
        for s in range(table.met.shape[1]):
            for a in range(table.met.shape[2]):
                table.met[t.env, s, a] = 0
        table.time[t.env] = 0
    return total


@register
@dataclass(frozen=True)
class MonteCarlo(OnPolicyConfig):
    """Monte-Carlo control; for its other settings see `OnPolicyConfig`."""

    every_visit: bool = False
    """Whether to learn from every visit to a pair in an episode (every-visit), or only from the first (first-visit)."""
    memory_steps: int = 10_000
    """The number of most recent steps of an episode to store."""

    rule = staticmethod(learn)
    respects_masks: ClassVar[bool] = True
    state_type: ClassVar[type] = Episode
    needs_next_action: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count(self, "memory_steps")
        store(self, flag, "every_visit")

    def episode_arrays(self, states: int, actions: int) -> dict[str, np.ndarray]:
        whole, real = np.zeros(self.memory_steps, np.int64), np.zeros(self.memory_steps)
        rings = {"state": whole, "action": whole, "reward": real, "discount": real, "rate": real}
        return {**rings, "time": np.array(0), "met": np.zeros((states, actions), np.int64)}

    def rule_params(self) -> dict[str, np.ndarray]:
        return {"every": np.array([int(self.every_visit)])}

    def index_bounds(self, states: int, actions: int) -> dict[str, int]:
        return {"state": states, "action": actions, "time": 2**62}


add_presets("from many", {"monte-carlo": MonteCarlo()})
