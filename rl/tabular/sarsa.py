"""SARSA and Expected SARSA: learn the action values of the behavior policy, exploration included.

SARSA: Rummery and Niranjan (1994); Sutton and Barto (2018), section 6.4, equation 6.7. Expected SARSA: van Seijen et al. (2009);
Sutton and Barto, section 6.6, equation 6.9.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from rl.core.registry import add_presets, register
from rl.explore import expected
from rl.tabular.agent import OnPolicyConfig, QTable, Transition, check_expected


def learn_sarsa(table: QTable, t: Transition, rng: Any) -> float:
    """Apply Q(s, a) <- Q(s, a) + step_size * (r + discount * Q(s', a') - Q(s, a)), a' the next action; return the TD error."""
    q = table.q
    target = t.reward
    if t.discount != 0.0:
        target += t.discount * q[t.next_s, t.next_a]
    error: float = target - q[t.s, t.a]
    q[t.s, t.a] += t.step_size * error
    return error


def learn_expected(table: QTable, t: Transition, rng: Any) -> float:
    """Update like SARSA with the mean of Q(s', .) under the behavior policy in place of Q(s', a'); return the TD error.

    While an exploring action is held, the policy takes it for sure, so the mean is its value.
    """
    q = table.q
    target = t.reward
    if t.discount != 0.0:
        target += t.discount * expected(q, t.next_s, t.explore, t.level, table.mask)
    error: float = target - q[t.s, t.a]
    q[t.s, t.a] += t.step_size * error
    return error


@register
@dataclass(frozen=True)
class SARSA(OnPolicyConfig):
    """SARSA; for its settings see `OnPolicyConfig`. At a truncation a next action is sampled only to bootstrap from its value."""

    rule = staticmethod(learn_sarsa)
    respects_masks: ClassVar[bool] = True
    needs_next_action: ClassVar[bool] = True


@register
@dataclass(frozen=True)
class ExpectedSARSA(OnPolicyConfig):
    """Expected SARSA; for its settings see `OnPolicyConfig`. explore must be EpsilonGreedy, Greedy or Boltzmann."""

    rule = staticmethod(learn_expected)
    respects_masks: ClassVar[bool] = True
    needs_policy: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_expected(self)


add_presets("learning from one step", {"sarsa": SARSA(), "expected-sarsa": ExpectedSARSA()})
