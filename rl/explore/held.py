"""Temporally extended epsilon-greedy: an exploring action is held for several steps.

Dabney, Ostrovski and Barreto (2021), "Temporally-Extended Epsilon-Greedy Exploration": with probability epsilon a random action
is taken for n steps, with P(n) proportional to n**-hold. A sequence of equal actions reaches states that independent random
actions hardly ever reach (MountainCar's flag). This module has the rule over arrays, for agents with networks and tile coding,
and the distribution of durations; the tabular loops use `rl.explore.scalar.held_action`.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np


class Held:
    """The exploring actions that are held in E environments of N seeds."""

    def __init__(self, seeds: int, envs: int, hold: float, most_steps: int) -> None:
        """hold: the exponent of the durations. most_steps: the longest duration."""
        self.steps = np.zeros((seeds, envs), np.int64)  # for which the action is still held
        self.action = np.zeros((seeds, envs), np.int64)
        self.chance = durations(hold, most_steps)

    def select(
        self,
        q: np.ndarray,
        epsilon: np.ndarray,
        u: np.ndarray,
        allowed: np.ndarray | None,
        random_ties: bool,
        begins: np.ndarray | None = None,
    ) -> np.ndarray:
        """Select an action for each environment, int64 [N, E], and count the steps of those that are held.

        q [N, E, A], epsilon [N, E], u float64 [N, E, 3] uniform in [0, 1), allowed bool [N, E, A] or None. An action that is
        no longer allowed is released. begins: None, or bool [N, E], where an episode begins: nothing is held there, and
        environments elsewhere keep the action selected before.
        """
        if begins is not None:
            self.let_go(begins)
        anything = np.ones(q.shape, np.bool_) if allowed is None else allowed
        values = np.where(anything, q, -np.inf)
        best = values == values.max(-1, keepdims=True)
        if not random_ties:
            best = np.arange(q.shape[-1]) == values.argmax(-1)[..., None]
        holding = (self.steps > 0) & np.take_along_axis(anything, self.action[..., None], -1)[..., 0]
        starting = ~holding & (u[..., 0] < epsilon)
        drawn = ranked(np.where(starting[..., None], anything, best), u[..., 1])
        steps = np.where(holding, self.steps - 1, 0)
        steps[starting] = np.searchsorted(self.chance, u[..., 2][starting], side="right")
        selecting = np.True_ if begins is None else begins
        self.steps = np.where(selecting, steps, self.steps)
        self.action = np.where(selecting & ~holding, drawn, self.action)
        return self.action.copy()

    def let_go(self, rows: np.ndarray) -> None:
        """Hold no action in the environments where rows [N, E] is true: their episodes have ended."""
        self.steps[rows] = 0

    def state_dict(self) -> dict[str, np.ndarray]:
        return {"steps": self.steps.copy(), "action": self.action.copy()}

    def load_state_dict(self, state: dict[str, np.ndarray]) -> None:
        """Restore a state returned by `state_dict`. Raises ValueError for anything else."""
        for name in ("steps", "action"):
            if state[name].shape != self.steps.shape or state[name].dtype != np.int64 or (state[name] < 0).any():
                raise ValueError("The saved exploring actions do not match.")
        self.steps, self.action = state["steps"].copy(), state["action"].copy()


@lru_cache
def durations(hold: float, most_steps: int) -> np.ndarray:
    """Return the probability of at most 1, 2, ..., most_steps - 1 steps, where that of n steps is proportional to n**-hold."""
    weight = np.arange(1, most_steps + 1, dtype=np.float64) ** -hold
    found: np.ndarray = weight.cumsum()[:-1] / weight.sum()
    return found


def ranked(candidates: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Return one of the candidates, bool [N, E, A], chosen by u [N, E] in [0, 1): int64 [N, E]."""
    place = np.minimum((u * candidates.sum(-1)).astype(np.int64), candidates.sum(-1) - 1)
    found: np.ndarray = (candidates.cumsum(-1) > place[..., None]).argmax(-1)
    return found
