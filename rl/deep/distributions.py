"""What is learned of the return beside its mean: settings of `rl.DQN(distribution=...)`, each of which makes a head."""

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
    """How an agent represents the distribution of its returns."""

    def head(self, dueling: bool, rescale: bool, bootstrap: Bootstrap) -> Head:
        """The head that learns it."""
        ...

    def within(self, returns: tuple[float, float] | None) -> Distribution:
        """The same for an environment whose discounted returns lie between these; None: they are not known."""
        ...


@register_part
@dataclass(frozen=True)
class Atoms:
    """Probabilities of `atoms` values at equal distances from `low` to `high` (C51; Bellemare, Dabney and Munos 2017).

    low, high: bounds of discounted returns, times the agent's reward_scale; None: derived in a run, where the rewards of the
    environment are known. deviation: None, or the standard deviation of the normal distribution that is put around each scalar
    target, in distances between atoms (HL-Gauss; Farebrother et al. 2024, who take .75).
    Raises ValueError or TypeError for settings out of range.
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
            raise ArgumentError("low and high are given together, or neither of them.")
        if self.low is not None and self.high is not None and not self.low < self.high:
            raise ArgumentError(f"low must lie below high; they are {self.low} and {self.high}.")

    def head(self, dueling: bool, rescale: bool, bootstrap: Bootstrap) -> Categorical:
        from rl.deep.heads.categorical import Categorical

        if self.low is None or self.high is None:
            raise ArgumentError(
                "What returns can be is not known here: give the first and the last atom, rl.Atoms(low, high), as bounds of"
                " discounted returns."
            )
        low, high = self.low, self.high
        if rescale:
            import torch

            from rl import targets

            low, high = targets.rescaled(torch.tensor([low, high], dtype=torch.float64)).tolist()
        return Categorical(low, high, self.atoms, self.deviation, dueling, rescale, bootstrap)

    def within(self, returns: tuple[float, float] | None) -> Atoms:
        if returns is None:
            return self
        if self.low is None or self.high is None:
            low, high = returns
            return dataclasses.replace(self, low=low, high=high if high > low else low + 1.0)
        slack = 1e-6 * max(abs(self.low), abs(self.high))
        if returns[0] < self.low - slack or returns[1] > self.high + slack:
            raise ArgumentError(
                f"The atoms reach from {self.low:g} to {self.high:g}, and the discounted returns of this environment, times"
                f" reward_scale, from {returns[0]:g} to {returns[1]:g}: what lies beyond the atoms would be counted as on their"
                " edge. Leave low and high out and they are derived."
            )
        return self


@register_part
@dataclass(frozen=True)
class Quantiles:
    """`quantiles` quantiles of the return at fixed fractions (QR-DQN; Dabney et al. 2018).

    kappa: up to which error the loss is a square, beyond which a straight line; 0 makes true quantiles. Raises ValueError or
    TypeError for settings out of range.
    """

    quantiles: int = 51
    kappa: float = 1.0

    def __post_init__(self) -> None:
        store(self, integer, "quantiles", low=1)
        store(self, number, "kappa", low=0.0)

    def head(self, dueling: bool, rescale: bool, bootstrap: Bootstrap) -> Quantile:
        from rl.deep.heads.quantile import Quantile

        return Quantile(self.quantiles, self.kappa, dueling, rescale, bootstrap)

    def within(self, returns: tuple[float, float] | None) -> Quantiles:
        return self


@register_part
@dataclass(frozen=True)
class ImplicitQuantiles:
    """Quantiles of the return at fractions that are drawn (IQN; Dabney, Ostrovski et al. 2018).

    learned, sought: how many fractions are drawn where the loss is, and for its target (N and N' of the paper). chosen: for the
    values that an action is chosen by (K), in acting and in the target. cosines: of the embedding. kappa: as of `Quantiles`. The
    network is one by name, or a module with its last layer as `head`. Raises ValueError or TypeError for settings out of range.
    """

    learned: int = 8
    sought: int = 8
    chosen: int = 32
    cosines: int = 64
    kappa: float = 1.0

    def __post_init__(self) -> None:
        store(
            self, integer, "learned", "sought", "chosen", "cosines", low=1, high=1_000
        )  # memory grows by their product
        store(self, number, "kappa", low=0.0)

    def head(self, dueling: bool, rescale: bool, bootstrap: Bootstrap) -> Implicit:
        from rl.deep.heads.head import Fractions
        from rl.deep.heads.implicit import Implicit

        drawn = Fractions(self.learned, self.sought, self.chosen)
        return Implicit(drawn, self.cosines, self.kappa, dueling, rescale, bootstrap)

    def within(self, returns: tuple[float, float] | None) -> ImplicitQuantiles:
        return self
