"""The interface between a Q-network and its head."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from rl.core.types import Batch
from rl.deep.heads.bootstrap import Bootstrap
from rl.deep.moving import arrays_of, tensors_of
from supervised.models.rnn import Followed
from supervised.validate import ArgumentError


class Outputs(NamedTuple):
    """The raw outputs of the networks for a batch, each [N, B, *Y]."""

    y: Any  # of the online network at obs
    next_y: Any  # of the network that evaluates next_obs: the target network, or the online one; 0 without next_obs
    next_choice: Any  # of the network that selects the next action: the online one with `double`, else next_y
    own_y: Any = None  # of the network that evaluates next_obs, but at obs; None unless the head `reads_own`
    fractions: Any = None  # [N, B, K], drawn for y; None unless the head has `fractions`


class Fractions(NamedTuple):
    """The numbers of fractions drawn for implicit quantiles."""

    learned: int  # at obs, for the prediction
    sought: int  # at next_obs, for the target
    chosen: int  # for selecting an action, in acting and in the target


class HeadLoss(NamedTuple):
    """The loss of a batch."""

    gradient: Any  # [N, B, *Y], of each seed's mean loss with respect to y
    td_error: Any  # [N, B]
    metrics: dict[str, Any]  # each [N]; empty unless measured
    priority: Any = None  # [N, B], for prioritized replay; None: the TD errors


no_weight = np.zeros((1, 0), np.float32)  # placeholder for weights that are all 1 in compiled code


class Head(ABC):
    """Reads one number for each action. Subclasses implement `loss`."""

    distributional = False  # whether `distribution` is supported

    fractions: Fractions | None = None  # the numbers of fractions drawn for a pass; None: no implicit quantiles

    @property
    def reads_own(self) -> bool:
        """Whether the loss needs `Outputs.own_y`."""
        return False

    def added(self, actions: int) -> tuple[float, float]:
        """Return the minimum and maximum that targets add to a step's reward, in units of scaled rewards."""
        return 0.0, 0.0

    def size(self, actions: int) -> int:
        """Return the number of outputs of the network's last layer."""
        return actions

    def module(self, network: nn.Module) -> nn.Module:
        """Return the network with the head's layers appended."""
        return network

    def recurrent(self, network: nn.Module) -> nn.Module:
        """Return a recurrent network, which returns (outputs, state), with the head's layers appended."""
        behind = self.module(nn.Identity())
        return network if isinstance(behind, nn.Identity) else Followed(network, behind)

    def q(self, y: Tensor) -> Tensor:
        """Return the Q-values [N, B, A] for outputs [N, B, *Y]."""
        return y

    @abstractmethod
    def loss(self, outputs: Outputs, batch: Batch, measured: bool) -> HeadLoss:
        """Return the loss of a batch [N, B, ...] with scaled rewards. All are tensors without a gradient.

        measured: whether to compute metrics.
        """

    def distribution(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return the return distributions for outputs [N, B, *Y] as (values, probabilities), each [N, B, A, Z].

        Raises ArgumentError for a head that learns only expected values.
        """
        raise ArgumentError(
            "This agent learns expected values, not distributions of returns: use rl.DQN with distribution=rl.Atoms(...),"
            " rl.Quantiles(...) or rl.ImplicitQuantiles(...)."
        )

    def q_of(self, y: np.ndarray) -> np.ndarray:
        """Like `q`, with arrays."""
        found: np.ndarray = self.q(torch.from_numpy(y)).numpy()
        return found

    def loss_of(self, outputs: Outputs, batch: Batch, measured: bool) -> HeadLoss:
        """Like `loss`, with arrays; the metrics are tensors."""
        batch, outputs = Batch(*map(tensors_of, batch)), Outputs(*map(tensors_of, outputs))
        gradient, td_error, metrics, priority = self.loss(outputs, batch, measured)
        return HeadLoss(arrays_of(gradient), arrays_of(td_error), metrics, arrays_of(priority))


class Bootstrapped(Head):
    """A head whose targets are rewards plus the discounted value that a `Bootstrap` gives the next state."""

    rescale: bool
    bootstrap: Bootstrap

    @property
    def reads_own(self) -> bool:
        return self.bootstrap.reads_own

    def added(self, actions: int) -> tuple[float, float]:
        return self.bootstrap.added(actions)

    def is_plain(self, batch: Batch) -> bool:
        """Return whether the head's compiled loop supports the batch: greedy targets without rescaling or masks."""
        return not (self.rescale or self.reads_own) and batch.next_mask is None

    def rewarded(self, outputs: Outputs, batch: Batch) -> Tensor:
        """Return the rewards [N, B] used in targets."""
        return self.bootstrap.reward(batch, self.q(outputs.own_y) if self.reads_own else None)
