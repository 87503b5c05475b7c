"""A finite Markov decision process as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from supervised.renamed import former_name

Outcomes = Sequence[tuple[float, int, float, bool]]  # (probability, next state, reward, terminated)


class NoModelError(ValueError):
    """Raised if an environment has no finite model, or does not behave like its model; the message says why."""


@dataclass(frozen=True, eq=False)
class Model:
    """A finite Markov decision process with S states, A actions and up to K outcomes per pair.

    Outcomes keep the environment's order, since that order determines which one a random number selects.
    """

    name: str
    probability: np.ndarray  # float64 [S, A, K], 0 after the last outcome
    outcomes: np.ndarray  # int64 [S, A], their number
    next_state: np.ndarray  # int64 [S, A, K]
    reward: np.ndarray  # float64 [S, A, K]
    terminated: np.ndarray  # bool [S, A, K]
    start: np.ndarray  # float64 [S]
    limit: int | None  # steps after which an episode is truncated
    success: np.ndarray | None = None  # bool [S, A, K]: the outcome reaches the goal; None: no goal is known
    desc: tuple[str, ...] | None = None  # the map, one letter per state; None: there is none
    step_draws: bool = True  # whether a step, and a reset, draws a number from the environment's generator
    reset_draws: bool = True
    mask: np.ndarray | None = None  # bool [S, A], the actions that are allowed; None: all

    @classmethod
    def of(cls, name: str, rows: Sequence[Sequence[Outcomes]], start: Any, limit: int | None = None) -> Model:
        """Create a model from the outcomes `rows[s][a]` of action a in state s, and the initial state distribution, start [S]."""
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
        """The number of states."""
        return int(self.next_state.shape[0])

    @property
    def actions(self) -> int:
        """The number of actions."""
        return int(self.next_state.shape[1])

    @property
    def ends(self) -> bool:
        """Whether any outcome terminates an episode."""
        return bool((self.terminated & (self.probability > 0)).any())

    @cached_property
    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """thresholds, next_state, reward and terminated in the format of `ModelState`.

        Gymnasium selects the first outcome whose cumulative probability exceeds u, or the very first if rounding leaves none:
        the index is the number of sums that do not exceed u, with the first outcome repeated after the last.
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
        """Return whether both models are the same process; names are not compared."""
        mine, theirs = vars(self), vars(other)
        return all(
            np.array_equal(mine[name], theirs[name]) for name in mine if isinstance(theirs.get(name), np.ndarray)
        ) and (self.limit, self.step_draws, self.reset_draws, self.mask is None) == (
            *(other.limit, other.step_draws, other.reset_draws),
            other.mask is None,
        )


__getattr__ = former_name(__name__)
