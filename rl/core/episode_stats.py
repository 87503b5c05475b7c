"""What episodes came to: returns, lengths, and what the agent had promised at their start."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from envs.vector import Step
from rl.core import jit
from rl.core.timing import WINDOW


def record_step(
    reward: Any,
    terminated: Any,
    truncated: Any,
    valid: Any,
    q: Any,
    gamma: float,
    total: Any,
    discounted: Any,
    factor: Any,
    promised: Any,
    length: Any,
    episodes: Any,
    ended: Any,
    windows: Any,
    largest: Any,
    longest: Any,
) -> None:
    """Count a step of R environments, R / N of each seed. q [R, A]: the values at the step's start."""
    envs = reward.shape[0] // ended.shape[0]
    for r in range(reward.shape[0]):
        if not valid[r]:
            continue
        k = r // envs
        if length[r] == 0:
            promised[r] = q[r, 0]
            for a in range(1, q.shape[1]):
                promised[r] = max(promised[r], q[r, a])
        total[r] += reward[r]
        discounted[r] += factor[r] * reward[r]
        factor[r] *= gamma
        length[r] += 1
        longest[k] = max(longest[k], length[r])
        if abs(reward[r]) > largest[k]:  # noqa: PLR1730  # never where that is NaN, unlike with max
            largest[k] = abs(reward[r])
        if terminated[r] or truncated[r]:
            place = ended[k] % windows.shape[2]
            windows[k, 0, place] = total[r]
            windows[k, 1, place] = length[r]
            windows[k, 2, place] = discounted[r]
            windows[k, 3, place] = promised[r]
            ended[k] += 1
            episodes[r] += 1
            total[r] = 0.0
            discounted[r] = 0.0
            factor[r] = 1.0
            length[r] = 0


# Of each ended episode: its return, its length, its discounted return, and the value promised at its start.
LENGTH = "rollout/ep_len_mean"
TAGS = ("rollout/ep_rew_mean", LENGTH, "rollout/discounted_return", "rollout/predicted_return")


class EpisodeStats:
    """The episodes of N * E environments; the last 100 of each seed are kept."""

    def __init__(self, n: int, envs: int, gamma: float) -> None:
        self.gamma, rows = gamma, n * envs
        self.arrays = {
            "total": np.zeros(rows),
            "discounted": np.zeros(rows),
            "factor": np.ones(rows),
            "promised": np.zeros(rows),
            "length": np.zeros(rows, np.int64),
            "episodes": np.zeros(rows, np.int64),
            "ended": np.zeros(n, np.int64),
            "windows": np.zeros((n, len(TAGS), WINDOW)),
            "largest": np.zeros(n),  # reward so far, in size; NaN: not known, for the checkpoint did not hold it
            "longest": np.zeros(n, np.int64),  # episode so far, in steps
        }
        self._all = np.ones(rows, np.bool_)
        self._record_step = jit.compiled(record_step) or record_step

    def add(self, step: Step, q: np.ndarray) -> None:
        """A step of every environment in arrays, and the values [N, E, A] seen at its start (-infinity: not allowed)."""
        known = self._all if step.valid is None else step.valid.reshape(-1)
        flags = step.terminated.reshape(-1), step.truncated.reshape(-1), known
        values = q.reshape(len(known), -1)
        self._record_step(step.reward.reshape(-1), *flags, values, self.gamma, *self.arrays.values())
        if step.discount is not None:
            going_on = known & ~(flags[0] | flags[1])
            self.arrays["factor"][going_on] *= step.discount.reshape(-1)[going_on]

    def begin_anew(self, rows: np.ndarray) -> None:
        """Forget the episodes under way in the environments where rows [N * E] is true."""
        for name, value in (("total", 0), ("discounted", 0), ("factor", 1), ("length", 0)):
            self.arrays[name][rows] = value

    def means(self) -> dict[str, torch.Tensor]:
        """The means of each seed's last episodes, each [N]; NaN before one has ended."""
        found = np.full((len(self.arrays["ended"]), len(TAGS)), np.nan)
        for k, ended in enumerate(self.arrays["ended"]):
            if ended:
                found[k] = self.arrays["windows"][k, :, : min(int(ended), WINDOW)].mean(1)
        return {tag: torch.from_numpy(found[:, i].copy()) for i, tag in enumerate(TAGS)}

    def longest(self) -> np.ndarray:
        """Steps of the longest of each seed's last episodes, int64 [N]; 0 before one has ended."""
        counts = np.minimum(self.arrays["ended"], WINDOW)
        lengths = np.where(np.arange(WINDOW) < counts[:, None], self.arrays["windows"][:, TAGS.index(LENGTH)], 0)
        found: np.ndarray = lengths.max(1).astype(np.int64)
        return found

    def bound(self, added: float = 0.0) -> np.ndarray:
        """What no value can exceed in size with rewards such as those so far, float64 [N]; NaN: all were 0.

        The largest reward over 1 - gamma; at gamma 1, times the steps of the longest episode. added: to each reward, at most.
        """
        largest, longest = self.arrays["largest"] + added, self.arrays["longest"]
        found: np.ndarray = largest * (longest if self.gamma == 1.0 else 1.0 / (1.0 - self.gamma))
        return np.where(found > 0, found, np.nan)

    def state_dict(self) -> dict[str, np.ndarray]:
        return self.arrays

    def load_state_dict(self, state: dict[str, np.ndarray]) -> None:
        """Put back what `state_dict` gave, of older versions too. Raises ValueError for what does not fit."""
        n = len(self.arrays["ended"])
        state = {"largest": np.full(n, np.nan), "longest": np.zeros(n, np.int64), **state}
        for name, array in self.arrays.items():
            if state[name].shape != array.shape or state[name].dtype != array.dtype:
                raise ValueError(f"The saved {name!r} of the episodes must be {array.dtype} {list(array.shape)}.")
            array[:] = state[name]
        if any((self.arrays[name] < 0).any() for name in ("ended", "length", "largest", "longest")):
            raise ValueError("The saved counts of episodes are negative.")
