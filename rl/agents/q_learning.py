"""Q-learning: the table learns the value of acting well from now on, whatever it does meanwhile.

Watkins (1989), "Learning from Delayed Rewards"; Sutton and Barto (2018), section 6.5, equation 6.8.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from rl.agents.table import TableAgent, check_table_settings
from rl.explore import EpsilonGreedy, Explore
from supervised.schedules import Inverse, Schedule


def learn(q: Any, s: int, a: int, reward: float, discount: float, s2: int, step_size: float) -> float:
    """Q(s, a) <- Q(s, a) + step_size * (r + discount * max_b Q(s', b) - Q(s, a)) -> the TD error.

    discount is gamma, or 0 after a termination: then the next state is not read. A truncation keeps its discount.
    """
    target = reward
    if discount != 0.0:
        best = q[s2, 0]
        for b in range(1, q.shape[1]):
            best = max(best, q[s2, b])
        target += discount * best
    error: float = target - q[s, a]
    q[s, a] += step_size * error
    return error


@dataclass(frozen=True)
class QLearning:
    """Tabular Q-learning.

    gamma: discount in [0, 1], a number or a schedule in steps. step_size: in [0, 1], a number or a schedule in steps,
    episodes or visits of the state and action; the default, max(0.01, visits**-0.6), converges. explore: one of
    rl.explore's EpsilonGreedy, Greedy, Boltzmann and DecayingNoise; the default goes from epsilon 1 to 0.05 in a
    straight line over the run. initial_q: what the table starts with, a number or (low, high) for numbers drawn between
    them; above what can be reached it makes the agent try everything (optimism).
    """

    gamma: float | Schedule = 0.99
    step_size: float | Schedule = field(default_factory=lambda: Inverse(1.0, end=0.01, power=0.6, unit="visits"))
    explore: Explore = field(default_factory=EpsilonGreedy)
    initial_q: float | tuple[float, float] = 0.0

    rule = staticmethod(learn)

    def __post_init__(self) -> None:
        check_table_settings(self)

    def build(self, observation_space: Any, action_space: Any, seeds: Any = 1, device: str = "cpu") -> TableAgent:
        """The live agent: N tables of zeros, or of `initial_q`. Raises SpaceError for spaces that are not finite."""
        return TableAgent(self, observation_space, action_space, seeds, device)


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
