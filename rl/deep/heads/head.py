"""What an agent with a network asks of its head."""

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
    """What the networks say of a batch, each [N, B, *Y], before a head has read it."""

    y: Any  # of the online network at obs
    next_y: Any  # of the network that values next_obs: the target network, or the online one; 0 without next_obs
    next_choice: Any  # of the network that chooses the next action: the online one with `double`, else next_y
    own_y: Any = None  # of the network that values next_obs, but at obs; None unless the head `reads_own`
    fractions: Any = None  # [N, B, K], drawn for y; None unless the head draws `fractions`


class Fractions(NamedTuple):
    """At how many fractions a network of implicit quantiles is asked."""

    learned: int  # at obs, where the loss is
    sought: int  # at next_obs, where the target is
    chosen: int  # to choose an action, in acting and in the target


class HeadLoss(NamedTuple):
    """What is to be learned from a batch."""

    gradient: Any  # [N, B, *Y], of each seed's mean loss by y
    td_error: Any  # [N, B]
    metrics: dict[str, Any]  # each [N]; empty unless measured
    priority: Any = None  # [N, B], what a prioritized replay goes by; None: the TD errors


no_weight = np.zeros((1, 0), np.float32)  # what stands for weights that are all 1 in compiled code


class Head(ABC):
    """Reads one number for each action. Subclasses say what is learned, in `loss`."""

    distributional = False  # whether there is a `distribution`

    fractions: Fractions | None = (
        None  # how many quantiles are asked for in a pass; None: outputs hang on observations alone
    )

    @property
    def reads_own(self) -> bool:
        """Whether the loss reads `Outputs.own_y`."""
        return False

    def added(self, actions: int) -> tuple[float, float]:
        """The least and the most that targets add to the reward of a step, in units of scaled rewards."""
        return 0.0, 0.0

    def size(self, actions: int) -> int:
        """How many numbers the last layer of the network makes."""
        return actions

    def module(self, network: nn.Module) -> nn.Module:
        """The network with what the head puts behind its last layer."""
        return network

    def recurrent(self, network: nn.Module) -> nn.Module:
        """The same of a network that answers (outputs, state)."""
        behind = self.module(nn.Identity())
        return network if isinstance(behind, nn.Identity) else Followed(network, behind)

    def q(self, y: Tensor) -> Tensor:
        """Outputs [N, B, *Y] -> values [N, B, A]."""
        return y

    @abstractmethod
    def loss(self, outputs: Outputs, batch: Batch, measured: bool) -> HeadLoss:
        """What is to be learned from a batch [N, B, ...], whose rewards are scaled as the values are: tensors, no gradient.

        measured: whether metrics are asked for.
        """

    def distribution(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Outputs [N, B, *Y] -> values and their probabilities, each [N, B, A, Z].

        Raises ArgumentError for a head of values alone.
        """
        raise ArgumentError(
            "This agent learns values and no distributions of returns: rl.DQN(distribution=rl.Atoms(...)),"
            " rl.Quantiles(...) and rl.ImplicitQuantiles(...) do."
        )

    def q_of(self, y: np.ndarray) -> np.ndarray:
        """`q` of arrays."""
        found: np.ndarray = self.q(torch.from_numpy(y)).numpy()
        return found

    def loss_of(self, outputs: Outputs, batch: Batch, measured: bool) -> HeadLoss:
        """`loss` of arrays; the metrics are tensors."""
        batch, outputs = Batch(*map(tensors_of, batch)), Outputs(*map(tensors_of, outputs))
        gradient, td_error, metrics, priority = self.loss(outputs, batch, measured)
        return HeadLoss(arrays_of(gradient), arrays_of(td_error), metrics, arrays_of(priority))


class Bootstrapped(Head):
    """A head whose targets are rewards and what a `Bootstrap` makes of the next state."""

    rescale: bool
    bootstrap: Bootstrap

    @property
    def reads_own(self) -> bool:
        return self.bootstrap.reads_own

    def added(self, actions: int) -> tuple[float, float]:
        return self.bootstrap.added(actions)

    def is_plain(self, batch: Batch) -> bool:
        """Whether a loop of the head's own computes the loss of a batch: Q-learning without rescaling or masks."""
        return not (self.rescale or self.reads_own) and batch.next_mask is None

    def rewarded(self, outputs: Outputs, batch: Batch) -> Tensor:
        """The rewards [N, B] that targets begin with."""
        return self.bootstrap.reward(batch, self.q(outputs.own_y) if self.reads_own else None)
