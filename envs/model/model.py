"""A finite Markov decision process as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

Outcomes = Sequence[tuple[float, int, float, bool]]  # (probability, next state, reward, terminated)


class NotATable(ValueError):
    """No finite model could be read from the environment, or it does not behave like its model; the message says why."""


@dataclass(frozen=True, eq=False)
class Model:
    """A finite Markov decision process with S states, A actions and up to K outcomes of each pair.

    The outcomes keep the order that the environment lists them in, since its random number picks one by that order.
    """

    name: str
    probability: np.ndarray  # float64 [S, A, K], 0 behind the last outcome
    outcomes: np.ndarray  # int64 [S, A], how many there are
    next_state: np.ndarray  # int64 [S, A, K]
    reward: np.ndarray  # float64 [S, A, K]
    terminated: np.ndarray  # bool [S, A, K]
    start: np.ndarray  # float64 [S]
    limit: int | None  # steps after which an episode is truncated
    success: np.ndarray | None = None  # bool [S, A, K]: the outcome reaches the goal; None: no goal is known
    desc: tuple[str, ...] | None = None  # the map, a letter a state, where there is one
    step_draws: bool = True  # whether a step and a reset take a number from the environment's generator
    reset_draws: bool = True
    mask: np.ndarray | None = None  # bool [S, A], the actions that are allowed; None: all

    @classmethod
    def of(cls, name: str, rows: Sequence[Sequence[Outcomes]], start: Any, limit: int | None = None) -> Model:
        """The model whose outcomes of action a in state s are `rows[s][a]`; start [S] says how likely each state comes first."""
        outcomes = np.array([[len(outcome) for outcome in row] for row in rows], np.int64)
        shape = (*outcomes.shape, int(outcomes.max()))
        probability, reward = np.zeros(shape), np.zeros(shape)
        next_state, terminated = np.zeros(shape, np.int64), np.zeros(shape, np.bool_)
        for s, row in enumerate(rows):
            for a, outcome in enumerate(row):
                k = len(outcome)
                probability[s, a, :k] = [float(o[0]) for o in outcome]
                next_state[s, a, :k] = [int(o[1]) for o in outcome]
                reward[s, a, :k] = [float(o[2]) for o in outcome]
                terminated[s, a, :k] = [bool(o[3]) for o in outcome]
        first = np.array(start, dtype=np.float64).ravel()
        return cls(name, probability, outcomes, next_state, reward, terminated, first, limit)

    @property
    def states(self) -> int:
        return int(self.next_state.shape[0])

    @property
    def actions(self) -> int:
        return int(self.next_state.shape[1])

    @property
    def ends(self) -> bool:
        """Whether there is an outcome that ends an episode."""
        return bool((self.terminated & (self.probability > 0)).any())

    @cached_property
    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """thresholds, next_state, reward and terminated in the form of `World`.

        Gymnasium takes the first outcome whose running sum is above u, or the first of all where rounding leaves none:
        that is the outcome numbered by how many sums are not above u, with the first one again behind the last.
        """
        sums = np.cumsum(self.probability, -1)
        behind = np.arange(sums.shape[2]) >= self.outcomes[..., None]
        last = self.outcomes[..., None]

        def extended(array: np.ndarray) -> np.ndarray:
            longer = np.concatenate([array, array[..., :1]], -1)
            np.put_along_axis(longer, last, array[..., :1], -1)
            return longer

        return np.where(behind, 2.0, sums), extended(self.next_state), extended(self.reward), extended(self.terminated)

    def same_as(self, other: Model) -> bool:
        """Whether both are the same process, whatever they are called."""
        mine, theirs = vars(self), vars(other)
        return all(
            np.array_equal(mine[name], theirs[name]) for name in mine if isinstance(theirs.get(name), np.ndarray)
        ) and (self.limit, self.step_draws, self.reset_draws, self.mask is None) == (
            *(other.limit, other.step_draws, other.reset_draws),
            other.mask is None,
        )
