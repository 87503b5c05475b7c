"""Q-learning: learns the optimal action values off-policy, whatever the behavior policy.

Watkins (1989), "Learning from Delayed Rewards"; Sutton and Barto (2018), section 6.5, equation 6.8.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from rl.core.registry import add_presets, register
from rl.explore import UCB, DecayingNoise, EpsilonGreedy, Greedy, highest
from rl.tabular.agent import QTable, TabularConfig, Transition
from supervised.schedules import Inverse


def learn(table: QTable, t: Transition, rng: Any) -> float:
    """Apply Q(s, a) <- Q(s, a) + step_size * (r + discount * max_b Q(s', b) - Q(s, a)) and return the TD error.

    discount is gamma, or 0 after a termination, where the next state is not read. At a truncation the target bootstraps as usual.
    """
    q = table.q
    target = t.reward
    if t.discount != 0.0:
        target += t.discount * highest(q, t.next_s, table.mask)
    error: float = target - q[t.s, t.a]
    q[t.s, t.a] += t.step_size * error
    return error


@register
@dataclass(frozen=True)
class QLearning(TabularConfig):
    """Tabular Q-learning; for its settings see `TabularConfig`."""

    rule = staticmethod(learn)
    respects_masks: ClassVar[bool] = True


add_presets("the classic", {"q-learning": QLearning()})
add_presets(
    "exploring",  # exploration bonuses and optimism; the scale of UCB is in units of the returns
    {
        "ucb": QLearning(explore=UCB(30.0)),
        "count-bonus": QLearning(count_bonus=0.1, explore=EpsilonGreedy(0.05)),
        "optimistic": QLearning(initial_q=1.0, explore=EpsilonGreedy(0.05)),
    },
)
# 1/(episode//100 + 1), and randn / (episode + 1).
_STAIRS = EpsilonGreedy(Inverse(1.0, every=100, stairs=True, unit="episodes"), ties="first")
_NOISE = DecayingNoise(Inverse(1.0, unit="episodes"))
add_presets(
    "lecture notes",  # lecture codes 03_0 to 05
    {
        # 03_0: no discount, greedy with random ties, for the deterministic lake.
        "lecture-dummy": QLearning(gamma=1.0, step_size=1.0, explore=Greedy()),
        # 03_2 and 03_1: epsilon-greedy, or noise on Q, with discount .99.
        "lecture-epsilon": QLearning(gamma=0.99, step_size=1.0, explore=_STAIRS),
        "lecture-noise": QLearning(gamma=0.99, step_size=1.0, explore=_NOISE),
        # 05: the slippery lake with step size .85.
        "lecture-slippery": QLearning(gamma=0.99, step_size=0.85, explore=_NOISE),
    },
)
