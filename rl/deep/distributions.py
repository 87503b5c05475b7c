"""Distributional RL: the settings of `rl.DQN(distribution=...)`, each of which creates a head."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from rl.core.registry import register_part
from supervised.validate import ArgumentError, integer, number, store

if TYPE_CHECKING:
    from rl.deep.heads.bootstrap import Bootstrap
    from rl.deep.heads.categorical import Categorical
    from rl.deep.heads.head import Head
    from rl.deep.heads.implicit import Implicit
    from rl.deep.heads.quantile import Quantile


@runtime_checkable
class Distribution(Protocol):
    """How an agent represents the distribution of returns."""

    def head(self, dueling: bool, rescale: bool, bootstrap: Bootstrap) -> Head:
        """Return the head that learns the distribution."""
        ...

    def within(self, returns: tuple[float, float] | None) -> Distribution:
        """Return the settings for an environment with these bounds of discounted returns; None: unknown."""
        ...


@register_part
@dataclass(frozen=True)
class Atoms:
    """Probabilities of `atoms` evenly spaced values from `low` to `high` (C51; Bellemare, Dabney and Munos 2017).

    low, high: bounds of discounted returns in units of scaled rewards; None: derived in a run, if the environment's reward range
    is known. deviation: None (C51), or the standard deviation of a normal distribution around each scalar target, in units of the
    distance between atoms (HL-Gauss; Farebrother et al. 2024 use .75). Raises ValueError or TypeError for settings out of range.
    """

    low: float | None = None
    high: float | None = None
    atoms: int = 51
    deviation: float | None = None

    def __post_init__(self) -> None:
        store(self, number, "low", "high", none=True)
        store(self, integer, "atoms", low=2)
        store(self, number, "deviation", low=1e-3, none=True)
        if (self.low is None) != (self.high is None):
            raise ArgumentError("low and high must be given together, or neither of them.")
        if self.low is not None and self.high is not None and not self.low < self.high:
            raise ArgumentError(f"low must be below high; they are {self.low} and {self.high}.")

    def head(self, dueling: bool, rescale: bool, bootstrap: Bootstrap) -> Categorical:
        """Return the head that learns the distribution."""
        from rl.deep.heads.categorical import Categorical

        if self.low is None or self.high is None:
            raise ArgumentError(
                "The range of returns is unknown here: give the first and last atom, rl.Atoms(low, high), as bounds of"
                " discounted returns."
            )
        low, high = self.low, self.high
        if rescale:
            import torch

            from rl import targets

            low, high = targets.rescaled(torch.tensor([low, high], dtype=torch.float64)).tolist()
        return Categorical(low, high, self.atoms, self.deviation, dueling, rescale, bootstrap)

    def within(self, returns: tuple[float, float] | None) -> Atoms:
        """Return the settings with atoms over these bounds of discounted returns; None: unknown.

        Raises ValueError if the atoms are given and do not cover them.
        """
        if returns is None:
            return self
        if self.low is None or self.high is None:
            low, high = returns
            return dataclasses.replace(self, low=low, high=high if high > low else low + 1.0)
        slack = 1e-6 * max(abs(self.low), abs(self.high))
        if returns[0] < self.low - slack or returns[1] > self.high + slack:
            raise ArgumentError(
                f"The atoms range from {self.low:g} to {self.high:g}, but the discounted returns of this environment, times"
                f" reward_scale, from {returns[0]:g} to {returns[1]:g}: returns beyond the atoms would be clipped. Omit low and"
                " high to derive them."
            )
        return self


@register_part
@dataclass(frozen=True)
class Quantiles:
    """Quantiles of the return at `quantiles` fixed fractions (QR-DQN; Dabney et al. 2018).

    kappa: the threshold of the quantile Huber loss, between the quadratic and the linear part; 0: the exact quantile loss. Raises
    ValueError or TypeError for settings out of range.
    """

    quantiles: int = 51
    kappa: float = 1.0

    def __post_init__(self) -> None:
        store(self, integer, "quantiles", low=1)
        store(self, number, "kappa", low=0.0)

    def head(self, dueling: bool, rescale: bool, bootstrap: Bootstrap) -> Quantile:
        """Return the head that learns the distribution."""
        from rl.deep.heads.quantile import Quantile

        return Quantile(self.quantiles, self.kappa, dueling, rescale, bootstrap)

    def within(self, returns: tuple[float, float] | None) -> Quantiles:
        """Return these settings: quantiles need no bounds."""
        return self


@register_part
@dataclass(frozen=True)
class ImplicitQuantiles:
    """Quantiles of the return at randomly drawn fractions (IQN; Dabney, Ostrovski et al. 2018).

    learned, sought: the number of fractions for the prediction and for its target (N and N' in the paper). chosen: the number for
    the values that select an action (K), in acting and in the target. cosines: the size of the embedding. kappa: see `Quantiles`.
    The network must be one by name, or a module whose last layer is its attribute `head`. Raises ValueError or TypeError for
    settings out of range.
    """

    learned: int = 8
    sought: int = 8
    chosen: int = 32
    cosines: int = 64
    kappa: float = 1.0

    def __post_init__(self) -> None:
        # Memory grows with their product, hence the upper bound.
        store(self, integer, "learned", "sought", "chosen", "cosines", low=1, high=1_000)
        store(self, number, "kappa", low=0.0)

    def head(self, dueling: bool, rescale: bool, bootstrap: Bootstrap) -> Implicit:
        """Return the head that learns the distribution."""
        from rl.deep.heads.head import Fractions
        from rl.deep.heads.implicit import Implicit

        drawn = Fractions(self.learned, self.sought, self.chosen)
        return Implicit(drawn, self.cosines, self.kappa, dueling, rescale, bootstrap)

    def within(self, returns: tuple[float, float] | None) -> ImplicitQuantiles:
        """Return these settings: quantiles need no bounds."""
        return self
