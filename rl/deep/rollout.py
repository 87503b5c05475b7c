"""Rollouts: T steps of N seeds in E environments each, and the minibatches that a Q-network learns from.

Gallici et al. (2025), "Simplifying Deep Temporal Difference Learning", section 4: Q(lambda) with greedy values. An episode that
was truncated bootstraps from its true last observation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch

from rl import targets
from rl.core.observations import leaves
from rl.core.types import Batch, State


class Row(NamedTuple):
    """One step of all environments, arrays [N, E, ...]; rewards and values in units of returns, without the reward scale."""

    obs: Any
    action: np.ndarray  # int64
    reward: np.ndarray
    discount: np.ndarray  # gamma * (1 - terminated), times the step's own
    ended: np.ndarray  # bool, terminated or truncated
    value: np.ndarray  # max_a Q(obs, a)
    last_value: np.ndarray  # max_a Q of the true last observation where the episode was truncated, else 0
    valid: np.ndarray  # bool, False where a vector environment used the step for a reset


class Beginning(NamedTuple):
    """What an agent knew before a step: arrays [N, E, ...]."""

    obs: Any
    mask: np.ndarray | None  # bool [N, E, A], the actions allowed
    state: State  # the recurrent state before obs, already reset where an episode started
    started: np.ndarray  # bool, whether obs is the first of an episode
    value: np.ndarray  # max_a Q(obs, a)


class Rollout:
    """The steps since the last update, for networks that read single observations.

    The Q-values are those of the weights that acted, which do not change meanwhile.
    """

    shuffled: ClassVar[str] = "transitions of a rollout"

    def __init__(self, steps: int) -> None:
        self.steps, self.t = steps, 0
        self.arrays: dict[str, np.ndarray] = {}  # [T, N, E, ...], by field; observations by "obs/part"

    @property
    def full(self) -> bool:
        """Whether all steps have been taken."""
        return self.t == self.steps

    def units(self, envs: int) -> int:
        """Return how many units of each seed are shuffled: here transitions."""
        return self.steps * envs

    def add(self, row: Row, before: Beginning) -> None:
        """Add a step. before: what the agent knew before it."""
        self._put(fields(row._asdict()))

    def _put(self, parts: Mapping[str, np.ndarray]) -> None:
        for name, part in parts.items():
            if name not in self.arrays:
                self.arrays[name] = np.zeros((self._most(), *part.shape), part.dtype)
            self.arrays[name][self.t] = part
        self.t += 1

    def _most(self) -> int:
        return self.steps

    def end_episodes(self, rows: np.ndarray) -> None:
        """Let the episodes of environments end at the last step, rows bool [N, E]: what followed is not known."""
        if self.t:
            self.arrays["ended"][self.t - 1] |= rows
            self.arrays["discount"][self.t - 1][rows] = 0
            self.arrays["valid"][self.t - 1] &= ~rows

    def returns(self, value: np.ndarray, lambda_: float) -> np.ndarray:
        """Return the lambda-returns [T, N, E]. value [N, E]: max_a Q of the observations after the last step."""
        part = self.arrays
        following = np.concatenate([part["value"][1:], value[None]])
        following = np.where(part["ended"], part["last_value"], following)
        series = (part["reward"], part["discount"], part["ended"], following)
        reward, discount, ended, next_value = (torch.from_numpy(np.moveaxis(x, 0, -1)) for x in series)
        found = targets.lambda_return(reward, discount, ended, next_value, lambda_)
        return np.moveaxis(found.numpy(), -1, 0)

    def epochs(self, last: Beginning, lambda_: float, orders: Iterator[np.ndarray], count: int) -> Iterator[Any]:
        """Yield `count` minibatches for each of the orders, int64 [N, units]. last: what follows the last step."""
        returns = self.returns(last.value, lambda_)
        for order in orders:
            yield from self.minibatches(returns, order, count)

    def minibatches(self, returns: np.ndarray, order: np.ndarray, count: int) -> Iterator[Batch]:
        """Yield the transitions as `count` batches [N, B], in the order of each seed; the reward is the return."""
        n = order.shape[0]
        size = order.shape[1] // count
        obs = {name: _by_seed(part) for name, part in self.arrays.items() if name.startswith("obs/")}
        action, reward, valid = (_by_seed(part) for part in (self.arrays["action"], returns, self.arrays["valid"]))
        seeds, whole = np.arange(n)[:, None], bool(valid.all())
        for i in range(count):
            place = seeds, order[:, i * size : (i + 1) * size]
            weight = None if whole else valid[place].astype(np.float32)
            numbers: Any = (action[place], reward[place], np.zeros((n, size), np.float32), None, None, weight)
            yield Batch(inside({name: part[place] for name, part in obs.items()}), *numbers)

    def clear(self) -> None:
        """Begin another rollout."""
        self.t = 0

    def state_dict(self) -> dict[str, Any]:
        """Return the steps so far, arrays [N, t, E, ...]; empty before the first."""
        parts = self.arrays.items() if self.t else ()
        return {name: np.ascontiguousarray(part[: self.t].swapaxes(0, 1)) for name, part in parts}

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Load a state returned by `state_dict`. Raises ValueError for more steps than a rollout has."""
        counts = {part.shape[1] for part in state.values()}
        t = counts.pop() if counts else 0
        if counts or t > self._most():
            raise ValueError("The saved rollout does not match the settings of the agent.")
        self.t, self.arrays = t, {}
        for name, part in state.items():
            self.arrays[name] = np.zeros((self._most(), part.shape[0], *part.shape[2:]), part.dtype)
            self.arrays[name][:t] = part.swapaxes(0, 1)


def fields(parts: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return arrays by name: those of dicts by "name/part", and none for None."""
    found: dict[str, np.ndarray] = {}
    for name, part in parts.items():
        if name in ("obs", "state"):
            found |= {f"{name}/{key}": np.asarray(leaf) for key, leaf in leaves(part).items()}
        elif part is not None:
            found[name] = part
    return found


def inside(parts: Mapping[str, np.ndarray]) -> Any:
    """Return observations or states by "name/part" as they were: a dict, or the array of a part without a name."""
    own = {name.partition("/")[2]: part for name, part in parts.items()}
    return own.get("", own)


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
