"""SARSA and Expected SARSA: the table learns the value of acting as it does, exploration included.

SARSA: Rummery and Niranjan (1994); Sutton and Barto (2018), section 6.4, equation 6.7. Expected SARSA: van Seijen et al. (2009);
Sutton and Barto, section 6.6, equation 6.9.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from rl.core.registry import add_presets, register
from rl.explore import expected
from rl.tabular.agent import OnPolicy, Table, Transition, check_expected


def learn_sarsa(table: Table, t: Transition, rng: Any) -> float:
    """Q(s, a) <- Q(s, a) + step_size * (r + discount * Q(s', a') - Q(s, a)), where a' is what is done next -> the TD error."""
    q = table.q
    target = t.reward
    if t.discount != 0.0:
        target += t.discount * q[t.next_s, t.next_a]
    error: float = target - q[t.s, t.a]
    q[t.s, t.a] += t.step_size * error
    return error


def learn_expected(table: Table, t: Transition, rng: Any) -> float:
    """As SARSA, with the mean of Q(s', .) over what may be done next in place of one draw -> the TD error."""
    q = table.q
    target = t.reward
    if t.discount != 0.0:
        target += t.discount * expected(q, t.next_s, t.explore, t.level, table.mask)
    error: float = target - q[t.s, t.a]
    q[t.s, t.a] += t.step_size * error
    return error


@register
@dataclass(frozen=True)
class SARSA(OnPolicy):
    """SARSA; for its settings see `OnPolicy`. Where an episode is cut short, a next action is drawn for its value's sake."""

    rule = staticmethod(learn_sarsa)
    respects_masks: ClassVar[bool] = True
    needs_next_action: ClassVar[bool] = True


@register
@dataclass(frozen=True)
class ExpectedSARSA(OnPolicy):
    """Expected SARSA; for its settings see `OnPolicy`. explore: EpsilonGreedy, Greedy or Boltzmann, whose mean is known."""

    rule = staticmethod(learn_expected)
    respects_masks: ClassVar[bool] = True
    needs_policy: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_expected(self)


add_presets("learning from one step", {"sarsa": SARSA(), "expected-sarsa": ExpectedSARSA()})
