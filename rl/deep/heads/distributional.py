"""The base class of distributional heads, which read Z numbers for each action."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from torch import Tensor, nn

from rl import network_layers
from rl.deep.heads.head import Bootstrapped
from supervised.models.layers import named


class Distributional(Bootstrapped):
    """Reads `width` numbers for each action; if dueling, atom by atom (Hessel et al. 2018)."""

    distributional = True
    dueling: bool

    @property
    @abstractmethod
    def width(self) -> int:
        """Z, the number of outputs for each action."""

    def size(self, actions: int) -> int:
        return self.width * (actions + self.dueling)

    def module(self, network: nn.Module) -> nn.Module:
        return (
            named([("network", network), ("dueling", network_layers.Dueling(self.width))]) if self.dueling else network
        )

    def by_action(self, y: Any) -> Any:
        """Reshape a tensor or array [N, B, A * Z] to [N, B, A, Z]."""
        return y.reshape(*y.shape[:-1], -1, self.width)

    def metrics(self, q: Tensor, error: Tensor, td_error: Tensor, weight: Tensor | None) -> dict[str, Tensor]:
        """Return metrics [N] from Q-values [N, B, A], losses and TD errors [N, B], and importance weights [N, B] or None."""
        return {
            "train/loss": (error if weight is None else error * weight).mean(1),
            "train/td_error": td_error.abs().mean(1),
            "train/q_mean": q.mean((1, 2)),
            "train/q_max": q.amax((1, 2)),
        }


def share(weight: Any, rows: int) -> Any:
    """Return the factor of each row's gradient [N, B, Z] in the mean over B rows; weight [N, B] or None."""
    return 1.0 / rows if weight is None else weight[..., None] / rows
