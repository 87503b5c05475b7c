"""The interface of rows of environments, single ones side by side or a `VectorEnv`, without a seed axis."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import gymnasium as gym
import numpy as np

from envs.backends.running import Statistics


class RowStep(NamedTuple):
    """The result of a step of R rows with A actions."""

    reward: np.ndarray  # float64 [R]
    terminated: np.ndarray  # bool [R]
    truncated: np.ndarray  # bool [R]
    discount: np.ndarray | None  # float64 [R], multiplies gamma for this step; None: all 1
    next_obs: Any  # [R, *O], the true successor, also at an episode's end
    obs: Any  # [R, *O], the observation to act on next
    valid: np.ndarray | None  # bool [R]; None: all
    next_mask: np.ndarray | None  # bool [R, A], the actions allowed in next_obs; None: all
    mask: np.ndarray | None  # bool [R, A], the actions allowed in obs; None: all


class Rows(Protocol):
    """R rows of environments."""

    name: str
    observation_space: gym.Space[Any]
    action_space: gym.Space[Any]
    actions: int | None  # None: not Discrete, passed on unchanged
    frames: int
    resumable: bool  # whether they can be saved and resumed in the middle of an episode

    def reset(self) -> tuple[Any, np.ndarray | None]: ...

    def step(self, actions: np.ndarray) -> RowStep: ...

    def statistics(self) -> list[Statistics] | None:
        """Return the running statistics of each row's wrappers, or None if there are none or they cannot be read."""

    def recorded_returns(self) -> np.ndarray | None:
        """Return the mean return in info["episode"] of each seed's last episodes, float64 [N], or None without any."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> tuple[Any, np.ndarray | None, np.ndarray]: ...

    def close(self) -> None: ...


def together(masks: list[np.ndarray | None], actions: int | None) -> np.ndarray | None:
    """Return the masks of R rows, bool [R, A], all True in rows without one, or None if no row has one."""
    if actions is None or all(mask is None for mask in masks):
        return None
    return np.array([np.ones(actions, np.bool_) if mask is None else mask for mask in masks])
