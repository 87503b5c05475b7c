"""Implicit quantile networks: quantiles of the return at randomly drawn fractions.

Dabney, Ostrovski, Silver and Munos (2018), "Implicit Quantile Networks for Distributional Reinforcement Learning", equations 3
and 4, with the greedy policy (risk-neutral). With `rescale` the quantiles are values of h (`rl.targets.rescaled`).

Deviations: features and fraction embedding are multiplied after the network's last hidden layer, not before it; the cosines start
at i = 1, since that of i = 0 is constant; the values that select the target's action have their own fractions. Evaluation uses
evenly spaced fractions, without random draws.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

from torch import Tensor, nn

from rl.deep.fractions import with_fractions
from rl.deep.heads.bootstrap import BEST_ACTION, Bootstrap
from rl.deep.heads.head import Fractions, Outputs
from rl.deep.heads.quantile import QuantileRegression


@final
@dataclass(frozen=True)
class Implicit(QuantileRegression):
    """Fits return quantiles of (s, a) at drawn fractions to those of r + discount * Q_next(s', argmax_b Q_choice(s', b)).

    fractions: the numbers drawn. cosines: the size of the embedding. kappa: see `rl.losses.quantile_huber`. dueling: the network
    outputs a state value and advantages at each fraction.
    """

    fractions: Fractions
    cosines: int = 64
    kappa: float = 1.0
    dueling: bool = False
    rescale: bool = False
    bootstrap: Bootstrap = BEST_ACTION

    @property
    def width(self) -> int:
        return 1

    def module(self, network: nn.Module) -> nn.Module:
        return with_fractions(network, self.fractions.chosen, self.cosines, self.dueling)

    def recurrent(self, network: nn.Module) -> nn.Module:
        return self.module(network)

    def by_action(self, y: Any) -> Any:
        return y

    def fraction(self, outputs: Outputs) -> Tensor:
        found: Tensor = outputs.fractions
        return found
