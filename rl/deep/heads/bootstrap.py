"""How targets bootstrap from the next state: from the greedy action, or in expectation under a softmax policy."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, final

import torch
from torch import Tensor

from rl import losses, targets
from rl.core.types import Batch


class Bootstrap(Protocol):
    """How a head bootstraps. choice [N, B, A]: the values that select the next action."""

    @property
    def reads_own(self) -> bool:
        """Whether `reward` needs the Q-values of the current state."""
        ...

    def added(self, actions: int) -> tuple[float, float]:
        """Return the minimum and maximum that a step adds to returns in addition to its reward."""
        ...

    def reward(self, batch: Batch, own_q: Tensor | None) -> Tensor:
        """Return the rewards [N, B] used in targets. own_q [N, B, A]: the Q-values of obs, None unless `reads_own`."""
        ...

    def value(self, values: Tensor, choice: Tensor, mask: Tensor | None) -> Tensor:
        """Return the value of the next state: values [N, B, A] -> [N, B], or per quantile, [N, B, A, Z] -> [N, B, Z]."""
        ...

    def mixture(self, atoms: Tensor, probability: Tensor, choice: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the distribution of the next state's return as (values, probabilities), which broadcast to [N, B, M].

        atoms: [Z]. probability: [N, B, A, Z].
        """
        ...


@final
@dataclass(frozen=True)
class BestAction:
    """The greedy action, as in Q-learning, among the allowed ones."""

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
    """The policy pi = softmax(q / temperature), with the bonus alpha [temperature ln pi(a|s)]_low^0 (`rl.targets.munchausen`).

    The return distribution is that of an action drawn from pi, minus temperature ln pi of that action. Quantiles are averaged
    under pi at each fraction (Vieillard, Pietquin and Geist 2020, appendix B.2).
    """

    alpha: float
    temperature: float
    low: float
    reads_own = True

    def added(self, actions: int) -> tuple[float, float]:
        return self.alpha * self.low, self.temperature * math.log(actions)  # bounds of the bonus and of pi's entropy

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
        values = atoms - policy.masked_fill(chosen == 0, 0.0)  # the log-probability may be -infinity there
        probability = torch.where(chosen == 0, 0.0, chosen * probability)
        return values.flatten(-2), probability.flatten(-2)


def best(q: Tensor, mask: Tensor | None) -> Tensor:
    """Return the greedy actions int64 [N, B] of values [N, B, A], among those that mask, bool [N, B, A], allows."""
    return (q if mask is None else q.masked_fill(~mask, -torch.inf)).argmax(-1)
