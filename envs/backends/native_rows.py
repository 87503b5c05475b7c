"""Rows of a native vector environment: the copies are stepped in arrays, seeded row by row, and resumable."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np

from envs.backends.beginning import member_seed
from envs.backends.row_step import RowStep
from envs.backends.running import Statistics
from envs.native.register import NATIVE
from envs.native.vector import NativeVectorEnv
from envs.source import Source


class NativeRows:
    """N * E copies; row k * E + e is environment e of seed k."""

    resumable = True
    frames = 1

    def __init__(self, vector: NativeVectorEnv, seeds: Sequence[int], envs_per_seed: int, name: str) -> None:
        self.vector, self.name = vector, name
        self.observation_space: gym.Space[Any] = vector.single_observation_space
        self.action_space: gym.Space[Any] = vector.single_action_space
        self.actions: int | None = int(vector.game.action_space.n)
        self.limit = vector.limit
        vector.seed([member_seed(seed, e) for seed in seeds for e in range(envs_per_seed)])

    def reset(self) -> tuple[Any, np.ndarray | None]:
        obs, info = self.vector.reset()
        return obs, info.get("action_mask")

    def step(self, actions: np.ndarray) -> RowStep:
        found = self.vector.advance(actions)
        flags = found.terminated, found.truncated
        return RowStep(found.reward, *flags, None, found.next_obs, found.obs, None, found.next_mask, found.mask)

    def statistics(self) -> list[Statistics] | None:
        """Return None: there are no wrappers."""
        return None

    def recorded_returns(self) -> np.ndarray | None:
        """Return None: there are no wrappers."""
        return None

    def cut(self, rows: np.ndarray) -> tuple[Any, np.ndarray | None]:
        """Start new episodes in these rows, bool [R] -> the observations of all rows, and their masks."""
        obs, info = self.vector.reset(options={"reset_mask": rows})
        return obs, info.get("action_mask")

    def state_dict(self) -> dict[str, Any]:
        return {"native": self.vector.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> tuple[Any, np.ndarray | None, np.ndarray]:
        vector = self.vector
        obs = vector.load_state_dict(state["native"])
        return obs, vector.game.mask(vector.state), np.zeros(vector.num_envs, np.bool_)

    def close(self) -> None:
        self.vector.close()


def native_rows(where: Source, seeds: Sequence[int], envs_per_seed: int) -> NativeRows | None:
    """Return the rows of a source that is native: a `NativeVectorEnv`, or one of its ids; None for any other."""
    count = len(seeds) * envs_per_seed
    if isinstance(where.vector, NativeVectorEnv):
        return NativeRows(where.vector, seeds, envs_per_seed, where.name)
    described = where.description or {}
    if described.get("id") not in NATIVE or described.get("wrappers"):
        return None
    vector = gym.make_vec(described["id"], count, vectorization_mode="vector_entry_point", **described["kwargs"])
    assert isinstance(vector, NativeVectorEnv)
    return NativeRows(vector, seeds, envs_per_seed, where.name)
