"""A rollout: T steps of N seeds in E environments each, and the lambda-returns that a Q-network learns from them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch

from rl import targets
from rl.core.observations import leaves
from rl.core.types import Batch


class Row(NamedTuple):
    """One step of all environments, arrays [N, E, ...]."""

    obs: Any
    action: np.ndarray  # int64
    reward: np.ndarray
    discount: np.ndarray  # gamma * (1 - terminated), times the step's own
    ended: np.ndarray  # bool, terminated or truncated
    value: np.ndarray  # max_a Q(obs, a)
    last_value: np.ndarray  # max_a Q of the true last observation where the episode was truncated, else 0
    valid: np.ndarray  # bool, False where a vector environment used the step for a reset


class Rollout:
    """The steps since the last update. The Q-values are those of the weights that acted, which do not change meanwhile."""

    def __init__(self, steps: int) -> None:
        self.steps, self.t = steps, 0
        self.arrays: dict[str, np.ndarray] = {}  # [T, N, E, ...], by field; observations by "obs/part"

    @property
    def full(self) -> bool:
        """Whether all T steps have been taken."""
        return self.t == self.steps

    def add(self, row: Row) -> None:
        """Add a step."""
        for name, part in fields(row).items():
            if name not in self.arrays:
                self.arrays[name] = np.zeros((self.steps, *part.shape), part.dtype)
            self.arrays[name][self.t] = part
        self.t += 1

    def forget(self, rows: np.ndarray) -> None:
        """Let the episodes of environments end at the last step, rows bool [N, E]: what followed is not known."""
        if self.t:
            self.arrays["ended"][self.t - 1] |= rows
            self.arrays["discount"][self.t - 1][rows] = 0
            self.arrays["valid"][self.t - 1] &= ~rows

    def returns(self, value: np.ndarray, lambda_: float) -> np.ndarray:
        """Return the lambda-returns [T, N, E]. value [N, E]: max_a Q of the observations after the last step.

        Gallici et al. (2025), "Simplifying Deep Temporal Difference Learning", section 4: Q(lambda) with greedy values.
        An episode that was truncated bootstraps from its true last observation.
        """
        part = self.arrays
        following = np.concatenate([part["value"][1:], value[None]])
        following = np.where(part["ended"], part["last_value"], following)
        series = (part["reward"], part["discount"], part["ended"], following)
        reward, discount, ended, next_value = (torch.from_numpy(np.moveaxis(x, 0, -1)) for x in series)
        found = targets.lambda_return(reward, discount, ended, next_value, lambda_)
        return np.moveaxis(found.numpy(), -1, 0)

    def minibatches(self, returns: np.ndarray, order: np.ndarray, count: int) -> list[Batch]:
        """Return the steps as `count` batches [N, B], in the order int64 [N, T * E] of each seed; the reward is the return."""
        n = order.shape[0]
        size = order.shape[1] // count
        obs = {name: _by_seed(part) for name, part in self.arrays.items() if name.partition("/")[0] == "obs"}
        action, reward, valid = (_by_seed(part) for part in (self.arrays["action"], returns, self.arrays["valid"]))
        seeds, found = np.arange(n)[:, None], []
        for i in range(count):
            place = seeds, order[:, i * size : (i + 1) * size]
            own = {name.partition("/")[2]: part[place] for name, part in obs.items()}
            weight = None if valid.all() else valid[place].astype(np.float32)
            numbers: Any = (action[place], reward[place], np.zeros((n, size), np.float32), None, None, weight)
            found.append(Batch(own.get("", own), *numbers))
        return found

    def clear(self) -> None:
        """Begin another rollout."""
        self.t = 0

    def state_dict(self) -> dict[str, Any]:
        """Return the steps so far, arrays [N, t, E, ...]."""
        return (
            {name: np.ascontiguousarray(part[: self.t].swapaxes(0, 1)) for name, part in self.arrays.items()}
            if self.t
            else {}
        )

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Restore what `state_dict` returned. Raises ValueError for more steps than a rollout has."""
        counts = {part.shape[1] for part in state.values()}
        self.t = counts.pop() if counts else 0
        if counts or self.t > self.steps:
            raise ValueError("The saved rollout does not match the rollout_steps of the agent.")
        self.arrays = {}
        for name, part in state.items():
            self.arrays[name] = np.zeros((self.steps, part.shape[0], *part.shape[2:]), part.dtype)
            self.arrays[name][: self.t] = part.swapaxes(0, 1)


def fields(row: Row) -> dict[str, np.ndarray]:
    """Return the arrays of a step by name."""
    obs = {f"obs/{name}": part for name, part in leaves(row.obs).items()}
    return obs | {name: part for name, part in row._asdict().items() if name != "obs"}


def shuffled(numbers: np.ndarray) -> np.ndarray:
    """Return a permutation for each seed, int64 [N, M], from uniform numbers [N, M]."""
    found: np.ndarray = numbers.argsort(1, kind="stable")
    return found


def _by_seed(part: np.ndarray) -> np.ndarray:
    """[T, N, E, ...] -> [N, T * E, ...]."""
    return part.swapaxes(0, 1).reshape(part.shape[1], -1, *part.shape[3:])


def greedy_value(q: np.ndarray, allowed: np.ndarray | None) -> np.ndarray:
    """Return max_a Q(s, a) over the allowed actions: q [N, E, A] -> [N, E]."""
    masked = q if allowed is None else np.where(allowed, q, -np.inf)
    found: np.ndarray = masked.max(-1).astype(np.float32)
    return found
