"""Munchausen RL: adds the log-probability of the taken action to its reward and bootstraps from a soft policy.

Vieillard, Pietquin and Geist (2020), "Munchausen Reinforcement Learning", equation 2. `rl.targets.munchausen` is the target. The
behavior policy is still that of `explore`. In n-step returns only the first step gets the bonus.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rl.core.registry import register_part
from supervised.validate import number, store

if TYPE_CHECKING:
    from rl.deep.heads.bootstrap import Bootstrap


@register_part
@dataclass(frozen=True)
class Munchausen:
    """The settings of Munchausen DQN, for `rl.DQN(munchausen=...)`.

    alpha: the weight of the bonus, in [0, 1]; 0 gives soft Q-learning. temperature: tau in pi = softmax(Q / tau), in units of
    scaled rewards: with Q-values in the hundreds, .03 is nearly greedy. low: the lower bound, at most 0, at which the bonus
    tau ln pi is clipped. Raises ValueError or TypeError for settings out of range.
    """

    alpha: float = 0.9
    temperature: float = 0.03
    low: float = -1.0

    def __post_init__(self) -> None:
        store(self, number, "alpha", low=0.0, high=1.0)
        store(self, number, "temperature", low=1e-6, high=1e6)
        store(self, number, "low", high=0.0)

    def bootstrap(self) -> Bootstrap:
        """Return the soft policy that targets bootstrap from."""
        from rl.deep.heads.bootstrap import SoftPolicy

        return SoftPolicy(self.alpha, self.temperature, self.low)

    def widened(self, returns: tuple[float, float] | None, gamma: float, actions: int) -> tuple[float, float] | None:
        """Return bounds of returns including each step's bonus and the entropy of all later steps; None if unknown."""
        if returns is None or gamma == 1.0:
            return None
        bonus, entropy = self.bootstrap().added(actions)
        low, high = returns[0] + bonus / (1.0 - gamma), returns[1] + gamma * entropy / (1.0 - gamma)
        return float(f"{low:.12g}"), float(f"{high:.12g}")
