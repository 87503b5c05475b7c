"""The interface of Q-networks for reports: Q-tables, network graph, summary text, and policies."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor, nn

from rl.core.observations import Part
from rl.core.policy import NetworkPolicy
from rl.deep.learner import Learner
from supervised import Stack

ON_HOST = "on the host: each step copies the observations to {} and the Q-values back, which synchronizes"


class Shown(ABC):
    """A mixin with what reports and policies need of a Q-network, derived from its Q-values and weights."""

    config: Any
    seeds: tuple[int, ...]
    observation_space: gym.Space[Any]
    parts: tuple[Part, ...]
    online: Stack
    device: torch.device
    reward_scale: float
    learner: Learner

    @property
    def distributional(self) -> bool:
        """Whether the agent learns distributions of returns."""
        return self.learner.head.distributional

    @property
    def updates(self) -> int:
        """The number of updates so far."""
        return self.learner.updates

    @abstractmethod
    def q(self, obs: Any) -> Tensor:
        """Return Q-values [N, B, A] of observations [N, B, *O]."""

    @abstractmethod
    def examples(self, obs: Any) -> Any:
        """Encode observations as inputs of a single member's module."""

    @abstractmethod
    def weights_of(self, k: int) -> dict[str, np.ndarray]:
        """Return the k-th seed's weights."""

    @property
    def table(self) -> np.ndarray:
        """The Q-values of all states of a Discrete observation space, float64 [N, S, A], in units of unscaled rewards.

        Raises ValueError for other spaces.
        """
        space = self.observation_space
        if not isinstance(space, gym.spaces.Discrete):
            raise ValueError(f"A table needs a Discrete observation space, not {space}.")
        states = torch.arange(int(space.start), int(space.start + space.n)).expand(len(self.seeds), -1)
        found: np.ndarray = self.q(states).cpu().double().numpy()
        return found if self.reward_scale == 1.0 else found / self.reward_scale

    def state_values(self) -> np.ndarray | None:
        """Return `table`, or None for observations that are not Discrete."""
        return self.table if isinstance(self.observation_space, gym.spaces.Discrete) else None

    def state_visits(self) -> None:
        """Return None: Q-networks do not count visits."""
        return None

    def plane(self, k: int, points: int) -> None:
        """Return None: observations need not be bounded."""
        return None

    def graph(self) -> tuple[nn.Module, Any]:
        """Return the first seed's network and an example input [1, *F], on the CPU."""
        example = self.examples({part.name: part.example(1, 1) for part in self.parts})
        one = {name: part[0].cpu() for name, part in example.items()} if isinstance(example, dict) else example[0].cpu()
        return self.online.modules[0], one

    def summary(self) -> dict[str, str]:
        """Return the size of a network, how it is computed, and what its environments cost on another device."""
        size = sum(parameter.numel() for parameter in self.online.modules[0].parameters())
        computed = "by compiled code" if self.online.compiled else f"by torch, on {self.device}"
        found = {"parameters": f"{size:,} per seed", "computed": computed}
        return found if self.device.type == "cpu" else found | {"environments": ON_HOST.format(self.device)}

    def why_no_model(self) -> str | None:
        """Return why no exact values exist if the agent has a mask function; None otherwise."""
        if self.config.mask is None:
            return None
        return "which actions the agent's mask allows is not part of the environment's model"

    def final_epsilon(self, horizon_steps: int) -> float | None:
        """Return 0: Q-values are those of the greedy policy."""
        return 0.0

    def policy(self, k: int, spaces: tuple[Any, Any], settings: Mapping[str, Any]) -> NetworkPolicy:
        """Return the policy of the k-th seed."""
        return NetworkPolicy(self.config, self.weights_of(k), *spaces, **settings)
