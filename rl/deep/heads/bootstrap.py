"""What a target makes of the values of the next state: those of the best action, or the mean under a softmax policy."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, final

import torch
from torch import Tensor

from rl import losses, targets
from rl.core.types import Batch


class Bootstrap(Protocol):
    """What heads ask of it. choice [N, B, A]: the values that an action is chosen by."""

    @property
    def reads_own(self) -> bool:
        """Whether `reward` needs the values of the state itself."""
        ...

    def added(self, actions: int) -> tuple[float, float]:
        """The least and the most that a step adds to returns, beside its reward."""
        ...

    def reward(self, batch: Batch, own_q: Tensor | None) -> Tensor:
        """The rewards [N, B] that targets begin with. own_q [N, B, A]: values of obs, None unless `reads_own`."""
        ...

    def value(self, values: Tensor, choice: Tensor, mask: Tensor | None) -> Tensor:
        """What the next state is worth: values [N, B, A] -> [N, B], or of each atom, [N, B, A, Z] -> [N, B, Z]."""
        ...

    def mixture(self, atoms: Tensor, probability: Tensor, choice: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """The distribution of the next state's return: atoms [Z] of probability [N, B, A, Z] -> values and probabilities that
        broadcast to [N, B, M]."""
        ...


@final
@dataclass(frozen=True)
class BestAction:
    """argmax_a of the values that choose, as in Q-learning; of those allowed where there is a mask."""

    reads_own = False

    def added(self, actions: int) -> tuple[float, float]:
        return 0.0, 0.0

    def reward(self, batch: Batch, own_q: Tensor | None) -> Tensor:
        found: Tensor = batch.reward
        return found

    def value(self, values: Tensor, choice: Tensor, mask: Tensor | None) -> Tensor:
        return losses.select(values, best(choice, mask))

    def mixture(self, atoms: Tensor, probability: Tensor, choice: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        return atoms, losses.select(probability, best(choice, mask))


BEST_ACTION = BestAction()


@final
@dataclass(frozen=True)
class SoftPolicy:
    """pi = softmax(q / temperature), and the reward grows by alpha [temperature ln pi(a|s)]_low^0 (`rl.targets.munchausen`).

    A distribution's return is that of an action drawn from pi, minus temperature ln pi of that action. Quantiles are averaged
    under pi, fraction by fraction (Vieillard, Pietquin and Geist 2020, appendix B.2).
    """

    alpha: float
    temperature: float
    low: float
    reads_own = True

    def added(self, actions: int) -> tuple[float, float]:
        return self.alpha * self.low, self.temperature * math.log(actions)  # of the bonus, and of pi's entropy

    def reward(self, batch: Batch, own_q: Tensor | None) -> Tensor:
        assert own_q is not None
        bonus = targets.munchausen_bonus(own_q, batch.action, self.alpha, self.temperature, self.low, batch.mask)
        found: Tensor = batch.reward + bonus
        return found

    def value(self, values: Tensor, choice: Tensor, mask: Tensor | None) -> Tensor:
        policy = targets.log_policy(choice, self.temperature, mask)
        if values.ndim > policy.ndim:
            return targets.soft_value(values.mT, policy[..., None, :], self.temperature)
        return targets.soft_value(values, policy, self.temperature)

    def mixture(self, atoms: Tensor, probability: Tensor, choice: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        policy = targets.log_policy(choice, self.temperature, mask)[..., None]
        chosen = (policy / self.temperature).exp()
        values = atoms - policy.masked_fill(chosen == 0, 0.0)  # what is never chosen may be at minus infinity
        probability = torch.where(chosen == 0, 0.0, chosen * probability)
        return values.flatten(-2), probability.flatten(-2)


def best(q: Tensor, mask: Tensor | None) -> Tensor:
    """The best action of values [N, B, A], of those allowed where there is a mask bool [N, B, A]: int64 [N, B]."""
    return (q if mask is None else q.masked_fill(~mask, -torch.inf)).argmax(-1)
