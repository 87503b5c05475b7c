"""Q-learning: the table learns the value of acting well from now on, whatever it does meanwhile.

Watkins (1989), "Learning from Delayed Rewards"; Sutton and Barto (2018), section 6.5, equation 6.8.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from rl.agents.table import Moment, Table, Tabular
from rl.explore import EpsilonGreedy, highest
from supervised.schedules import Inverse


def learn(table: Table, t: Moment, rng: Any) -> float:
    """Q(s, a) <- Q(s, a) + step_size * (r + discount * max_b Q(s', b) - Q(s, a)) -> the TD error.

    discount is gamma, or 0 after a termination: then the next state is not read. A truncation keeps its discount.
    """
    q = table.q
    target = t.reward
    if t.discount != 0.0:
        target += t.discount * highest(q, t.s2, table.mask)
    error: float = target - q[t.s, t.a]
    q[t.s, t.a] += t.step_size * error
    return error


@dataclass(frozen=True)
class QLearning(Tabular):
    """Tabular Q-learning; for its settings see `Tabular`."""

    rule = staticmethod(learn)
    respects_masks: ClassVar[bool] = True


def presets() -> dict[str, QLearning]:
    """The lectures' settings by name (lecture codes 03_0 to 05), and what converges."""
    lecture_epsilon = Inverse(1.0, every=100, stairs=True, unit="episodes")
    noise = Inverse(1.0, unit="episodes")
    from rl.explore import DecayingNoise, Greedy

    return {
        "q-learning": QLearning(),
        # 03_0: dummy Q-learning, no discount, no exploration but random ties, for the deterministic lake.
        "lecture-dummy": QLearning(gamma=1.0, step_size=1.0, explore=Greedy()),
        # 03_2: epsilon 1/(episode//100 + 1) with discount .99.
        "lecture-epsilon": QLearning(gamma=0.99, step_size=1.0, explore=EpsilonGreedy(lecture_epsilon, ties="first")),
        # 03_1: argmax(Q + randn / (episode + 1)) with discount .99.
        "lecture-noise": QLearning(gamma=0.99, step_size=1.0, explore=DecayingNoise(noise)),
        # 05: the slippery lake with step size .85.
        "lecture-slippery": QLearning(gamma=0.99, step_size=0.85, explore=DecayingNoise(noise)),
    }
