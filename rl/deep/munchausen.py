"""Munchausen: the log-probability of the action that was taken is added to its reward, and targets are those of a soft policy.

Vieillard, Pietquin and Geist (2020), "Munchausen Reinforcement Learning", equation 2. `rl.targets.munchausen` is the target.
Acting stays as `explore` says. Of an n-step return the first step alone gets the bonus.
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
    """The setting `rl.DQN(munchausen=...)`.

    alpha: how much of the bonus is added, in [0, 1]; with 0, soft Q-learning is left. temperature: tau of pi = softmax(Q / tau),
    in units of rewards times reward_scale: where values are in the hundreds, .03 is next to greedy. low: where the bonus
    tau ln pi is clipped, 0 or below. Raises ValueError or TypeError for settings out of range.
    """

    alpha: float = 0.9
    temperature: float = 0.03
    low: float = -1.0

    def __post_init__(self) -> None:
        store(self, number, "alpha", low=0.0, high=1.0)
        store(self, number, "temperature", low=1e-6, high=1e6)
        store(self, number, "low", high=0.0)

    def bootstrap(self) -> Bootstrap:
        """What targets make of values."""
        from rl.deep.heads.bootstrap import SoftPolicy

        return SoftPolicy(self.alpha, self.temperature, self.low)

    def widened(self, returns: tuple[float, float] | None, gamma: float, actions: int) -> tuple[float, float] | None:
        """Bounds of returns with the bonus of every step, and the entropy of every step after it; None: they are not known."""
        if returns is None or gamma == 1.0:
            return None
        bonus, entropy = self.bootstrap().added(actions)
        low, high = returns[0] + bonus / (1.0 - gamma), returns[1] + gamma * entropy / (1.0 - gamma)
        return float(f"{low:.12g}"), float(f"{high:.12g}")
