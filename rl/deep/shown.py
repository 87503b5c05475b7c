"""What reports ask of Q-networks: tables, pictures, TensorBoard's text and graph, and policies."""

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


class Shown(ABC):
    """What every Q-network can be asked for beside acting and learning, made of what it says of observations."""

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
        """How many updates were made."""
        return self.learner.updates

    @abstractmethod
    def q(self, obs: Any) -> Tensor:
        """[N, B, *O] -> [N, B, A]."""

    @abstractmethod
    def examples(self, obs: Any) -> Any:
        """Observations as a member can be called with them alone."""

    @abstractmethod
    def weights_of(self, k: int) -> dict[str, np.ndarray]:
        """The k-th seed's weights."""

    @property
    def table(self) -> np.ndarray:
        """The values of all states of a Discrete observation space, float64 [N, S, A], in units of the environment's rewards.

        Raises ValueError for other spaces.
        """
        space = self.observation_space
        if not isinstance(space, gym.spaces.Discrete):
            raise ValueError(f"Only Discrete observations make a table; these are {space}.")
        states = torch.arange(int(space.start), int(space.start + space.n)).expand(len(self.seeds), -1)
        found: np.ndarray = self.q(states).cpu().double().numpy()
        return found if self.reward_scale == 1.0 else found / self.reward_scale

    def state_values(self) -> np.ndarray | None:
        """`table`, or None for observations that are not Discrete."""
        return self.table if isinstance(self.observation_space, gym.spaces.Discrete) else None

    def state_visits(self) -> None:
        """Nothing: nobody counts."""
        return None

    def plane(self, k: int, points: int) -> None:
        """Nothing: observations need not be bounded."""
        return None

    def graph(self) -> tuple[nn.Module, Any]:
        """The first seed's network and an observation [1, *O] as it takes them, on the CPU."""
        example = self.examples({part.name: part.example(1, 1) for part in self.parts})
        one = {name: part[0].cpu() for name, part in example.items()} if isinstance(example, dict) else example[0].cpu()
        return self.online.modules[0], one

    def summary(self) -> dict[str, str]:
        """How large a network is, and how it is computed."""
        size = sum(parameter.numel() for parameter in self.online.modules[0].parameters())
        computed = "by compiled code" if self.online.compiled else f"by torch, on {self.device}"
        return {"parameters": f"{size:,} a seed", "computed": computed}

    def why_no_model(self) -> str | None:
        """That of a mask function; None without one."""
        if self.config.mask is None:
            return None
        return "which actions the agent's mask allows is not part of the environment's model"

    def final_epsilon(self, horizon_steps: int) -> float | None:
        """0: the values are the greedy policy's."""
        return 0.0

    def policy(self, k: int, spaces: tuple[Any, Any], settings: Mapping[str, Any]) -> NetworkPolicy:
        """The policy of the k-th seed."""
        return NetworkPolicy(self.config, self.weights_of(k), *spaces, **settings)
