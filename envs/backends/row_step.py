"""What rows of environments have in common: single ones side by side, or a `VectorEnv`. No seed axis yet."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import gymnasium as gym
import numpy as np

from envs.backends.running import Statistics


class RowStep(NamedTuple):
    """What rows of environments answer to a step; R rows, A actions."""

    reward: np.ndarray  # float64 [R]
    terminated: np.ndarray  # bool [R]
    truncated: np.ndarray  # bool [R]
    discount: np.ndarray | None  # float64 [R], which multiplies gamma for this step; None: 1, in every row
    next_obs: Any  # [R, *O], the true successor, also at an episode's end
    obs: Any  # [R, *O], what to act on next
    valid: np.ndarray | None  # bool [R]; None: all
    next_mask: np.ndarray | None  # bool [R, A], the actions allowed in next_obs; None: all, in every row
    mask: np.ndarray | None  # bool [R, A], the actions allowed in obs; None: all, in every row


class Rows(Protocol):
    """R rows of environments."""

    name: str
    observation_space: gym.Space[Any]
    action_space: gym.Space[Any]
    actions: int | None  # None: not Discrete, and handed on as they are
    frames: int
    resumable: bool  # whether they can be gone on with, in the middle of an episode

    def reset(self) -> tuple[Any, np.ndarray | None]: ...

    def step(self, actions: np.ndarray) -> RowStep: ...

    def statistics(self) -> list[Statistics] | None:
        """The running statistics of each row's wrappers; None where there are none, or they cannot be read."""

    def recorded_returns(self) -> np.ndarray | None:
        """The mean return of each seed's last episodes by info["episode"], float64 [N]; None where it was never given."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> tuple[Any, np.ndarray | None, np.ndarray]: ...

    def close(self) -> None: ...


def together(masks: list[np.ndarray | None], actions: int | None) -> np.ndarray | None:
    """The masks of R rows, bool [R, A], all True in a row without one; None where no row has one."""
    if actions is None or all(mask is None for mask in masks):
        return None
    return np.array([np.ones(actions, np.bool_) if mask is None else mask for mask in masks])
