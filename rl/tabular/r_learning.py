"""R-learning: maximizes the average reward per step in continuing tasks.

Schwartz (1993); Mahadevan (1996); Sutton and Barto (1998), section 6.7, figure 6.16. No proof of convergence is known.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from rl.core.registry import add_presets, register
from rl.explore import highest
from rl.tabular.agent import TabularConfig, Transition, check_number, check_unused
from supervised.schedules import Schedule


class Average(NamedTuple):
    """Relative (differential) values and the average reward."""

    q: Any  # float64 [S, A], values relative to the average reward
    visits: Any  # int64 [S, A]
    gain: Any  # float64 [1], the average reward per step, rho
    rate: Any  # float64 [1], beta, the step size of the gain
    mask: Any = None  # float64 [S, A], added to q: 0 if allowed, -infinity if forbidden; None: all actions are allowed


def learn(table: Average, t: Transition, rng: Any) -> float:
    """Update Q and, after a greedy action, the gain; return the TD error of Q.

    Q(s, a) += step_size * (r - gain + max Q(s', .) - Q(s, a)), then, if a is greedy in s,
    gain += beta * (r - gain + max Q(s', .) - max Q(s, .)).
    """
    if t.discount == 0.0:
        raise ValueError(
            "An episode terminated, but R-learning is only for continuing tasks: use an agent with a discount."
        )
    error: float = t.reward - table.gain[0] + highest(table.q, t.next_s, table.mask) - table.q[t.s, t.a]
    table.q[t.s, t.a] += t.step_size * error
    best = highest(table.q, t.s, table.mask)
    if table.q[t.s, t.a] == best:
        table.gain[0] += table.rate[0] * (t.reward - table.gain[0] + highest(table.q, t.next_s, table.mask) - best)
    return error


@register
@dataclass(frozen=True)
class RLearning(TabularConfig):
    """R-learning, for undiscounted continuing tasks; for its other settings see `TabularConfig`."""

    gamma: float | Schedule = 1.0
    """Must be 1: R-learning is undiscounted."""
    gain_step_size: float = 0.001
    """Beta, the step size of the average reward, in [0, 1]."""

    rule = staticmethod(learn)
    respects_masks: ClassVar[bool] = True
    state_type: ClassVar[type] = Average
    continuing: ClassVar[bool] = True
    why_no_discounts: ClassVar[str | None] = "it has no gamma that the discount could multiply"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_unused(self, "gamma", "nothing is discounted")
        check_number(self, "gain_step_size", 1)

    def check_model(self, model: Any) -> None:
        if model.ends:
            raise ValueError(f"RLearning is only for continuing tasks, but episodes of {model.name} can terminate.")

    def seed_arrays(self, states: int, actions: int) -> dict[str, np.ndarray]:
        return {"gain": np.zeros(1)}

    def rule_params(self) -> dict[str, np.ndarray]:
        return {"rate": np.array([float(self.gain_step_size)])}


add_presets("without an end", {"r-learning": RLearning()})
