"""R-learning: not the sum of discounted rewards is made large, but what comes in per step, in tasks without an end.

Schwartz (1993); Mahadevan (1996); Sutton and Barto (1998), section 6.7, figure 6.16. It has no proof of convergence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from rl.core.registry import add_presets, register
from rl.explore import highest
from rl.tabular.agent import Tabular, Transition, check_number, check_unused
from supervised.schedules import Schedule


class Average(NamedTuple):
    """Values counted from the average reward, and that."""

    q: Any  # float64 [S, A], relative values
    visits: Any  # int64 [S, A]
    gain: Any  # float64 [1], what is had per step, rho
    rate: Any  # float64 [1], beta, how fast that is learned
    mask: Any = None  # float64 [S, A], added to q: 0 where an action is allowed, -infinity where not; None: all are


def learn(table: Average, t: Transition, rng: Any) -> float:
    """Q(s, a) += step_size * (r - gain + max Q(s', .) - Q(s, a)), then, if a is greedy in s,
    gain += beta * (r - gain + max Q(s', .) - max Q(s, .)) -> the first error.
    """
    if t.discount == 0.0:
        raise ValueError(
            "An episode came to its end, but R-learning is for tasks without: take an agent with a discount."
        )
    error: float = t.reward - table.gain[0] + highest(table.q, t.next_s, table.mask) - table.q[t.s, t.a]
    table.q[t.s, t.a] += t.step_size * error
    best = highest(table.q, t.s, table.mask)
    if table.q[t.s, t.a] == best:
        table.gain[0] += table.rate[0] * (t.reward - table.gain[0] + highest(table.q, t.next_s, table.mask) - best)
    return error


@register
@dataclass(frozen=True)
class RLearning(Tabular):
    """R-learning, for tasks without an end. gain_step_size: beta, in [0, 1]. Nothing is discounted. The rest as in `Tabular`."""

    gamma: float | Schedule = 1.0
    gain_step_size: float = 0.001

    rule = staticmethod(learn)
    respects_masks: ClassVar[bool] = True
    state_type: ClassVar[type] = Average
    continuing: ClassVar[bool] = True
    why_no_discounts: ClassVar[str | None] = "it has no gamma that they could multiply"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_unused(self, "gamma", "nothing is discounted")
        check_number(self, "gain_step_size", 1)

    def check_model(self, model: Any) -> None:
        if model.ends:
            raise ValueError(f"RLearning is for tasks without an end, but {model.name} has endings.")

    def seed_arrays(self, states: int, actions: int) -> dict[str, np.ndarray]:
        return {"gain": np.zeros(1)}

    def rule_params(self) -> dict[str, np.ndarray]:
        return {"rate": np.array([float(self.gain_step_size)])}


add_presets("without an end", {"r-learning": RLearning()})
