"""Configs of the exploration rules: frozen dataclasses, validated on construction and saved in checkpoints by name."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from supervised.schedules import Inverse, Linear, Schedule, as_schedule, setting
from supervised.validate import choice, integer, number, store

EPSILON_GREEDY, BOLTZMANN, GAUSSIAN_NOISE, UPPER_BOUND = 0, 1, 2, 3
HELD = 4  # no rule of its own: the policy of `EpsilonGreedy(hold=)` while it holds an action, which its level names
TIES = ("random", "first")


@dataclass(frozen=True)
class EpsilonGreedy:
    """A random action with probability epsilon, else the best one. ties: "random" or "first".

    hold: None, or the exponent above 1 of temporally extended exploration (Dabney et al. 2021): a random action is held for n
    steps with a probability proportional to n**-hold, at most hold_steps, until its episode ends or it is no longer allowed.
    """

    epsilon: float | Schedule = field(default_factory=lambda: Linear(1.0, 0.05))
    ties: str = "random"
    hold: float | None = None
    hold_steps: int = 100
    kind: ClassVar[int] = EPSILON_GREEDY

    def __post_init__(self) -> None:
        store(self, setting, "epsilon", low=0.0, high=1.0, units=("steps", "episodes"))
        store(self, choice, "ties", known=TIES)
        store(self, number, "hold", low=1.0, high=100.0, above=True, none=True)
        store(self, integer, "hold_steps", low=2, high=10_000)

    @property
    def level(self) -> Schedule:
        return as_schedule(self.epsilon)


@dataclass(frozen=True)
class Greedy:
    """The best action, always. ties: "random" or "first"."""

    ties: str = "random"
    hold: ClassVar[None] = None
    kind: ClassVar[int] = EPSILON_GREEDY

    def __post_init__(self) -> None:
        store(self, choice, "ties", known=TIES)

    @property
    def level(self) -> Schedule:
        return as_schedule(0.0)


@dataclass(frozen=True)
class Boltzmann:
    """Action a with probability proportional to exp(Q(s, a) / temperature)."""

    temperature: float | Schedule = 1.0
    ties: ClassVar[str] = "random"
    hold: ClassVar[None] = None
    kind: ClassVar[int] = BOLTZMANN

    def __post_init__(self) -> None:
        store(self, setting, "temperature", low=1e-12, units=("steps", "episodes"))

    @property
    def level(self) -> Schedule:
        return as_schedule(self.temperature)


@dataclass(frozen=True)
class DecayingNoise:
    """The best action after adding scale * standard normal noise to Q: the lectures' randn / (episode + 1)."""

    scale: float | Schedule = field(default_factory=lambda: Inverse(1.0, unit="episodes"))
    ties: ClassVar[str] = "first"
    hold: ClassVar[None] = None
    kind: ClassVar[int] = GAUSSIAN_NOISE

    def __post_init__(self) -> None:
        store(self, setting, "scale", low=0.0, units=("steps", "episodes"))

    @property
    def level(self) -> Schedule:
        return as_schedule(self.scale)


@dataclass(frozen=True)
class UCB:
    """The action with the highest Q(s, a) + scale * sqrt(ln N(s) / N(s, a)), N counting visits; untried actions come first.

    Auer, Cesa-Bianchi and Fischer (2002), UCB1; Sutton and Barto (2018), equation 2.10. Only for tabular agents, which count
    visits.
    """

    scale: float | Schedule = 1.0
    ties: ClassVar[str] = "random"
    hold: ClassVar[None] = None
    kind: ClassVar[int] = UPPER_BOUND

    def __post_init__(self) -> None:
        store(self, setting, "scale", low=0.0, units=("steps", "episodes"))

    @property
    def level(self) -> Schedule:
        return as_schedule(self.scale)


Explore = EpsilonGreedy | Greedy | Boltzmann | DecayingNoise
TableExplore = Explore | UCB
RULES: tuple[type, ...] = (EpsilonGreedy, Greedy, Boltzmann, DecayingNoise, UCB)
