"""Episode statistics computed on the device of the steps."""

from __future__ import annotations

import torch
from torch import Tensor

from envs.vector import Step
from rl.core.episode_stats import EpisodeStats
from rl.core.timing import WINDOW


class BatchedEpisodeStats:
    """`EpisodeStats` in tensors [N, E] and [N], bit-identical, for all environments at once.

    For worlds whose steps are on a device: `add` never synchronizes with it. `episodes` copies the statistics to the host.
    """

    def __init__(self, n: int, envs: int, gamma: float, device: torch.device | str) -> None:
        self.shape, self.gamma = (n, envs), gamma
        arrays = EpisodeStats(n, envs, gamma).arrays
        self.values = {name: torch.from_numpy(array).to(device) for name, array in arrays.items()}
        for name in ("total", "discounted", "factor", "promised", "length", "episodes"):
            self.values[name] = self.values[name].view(n, envs)

    def add(self, step: Step, q: Tensor) -> None:
        """Record a step of every environment, and the Q-values [N, E, A] at its start (-infinity for forbidden actions)."""
        v = self.values
        valid = torch.ones_like(step.terminated) if step.valid is None else step.valid
        reward = torch.where(valid, step.reward.to(v["total"].dtype), 0.0)
        best = q.amax(-1).to(v["promised"].dtype)
        v["promised"] = torch.where(valid & (v["length"] == 0), best, v["promised"])
        v["total"] = v["total"] + reward
        v["discounted"] = v["discounted"] + v["factor"] * reward
        v["factor"] = torch.where(valid, v["factor"] * self.gamma, v["factor"])
        v["length"] = v["length"] + valid
        v["longest"] = v["longest"].maximum(torch.where(valid, v["length"], 0).amax(1))
        size = torch.where(valid, reward.abs(), 0.0).amax(1)
        v["largest"] = torch.where(size > v["largest"], size, v["largest"])
        over = valid & (step.terminated | step.truncated)
        self._end(over)
        if step.discount is not None:
            v["factor"] = torch.where(valid & ~over, v["factor"] * step.discount, v["factor"])

    def _end(self, over: Tensor) -> None:
        """Record the episodes that are over, in the order of their environments, and reset their counters."""
        v = self.values
        rank, count = over.cumsum(1) - 1, over.sum(1)
        # If more episodes end at once than are kept, record only the last ones, so that no slot is written twice.
        kept = over & (rank >= (count - WINDOW)[:, None])
        place = (v["ended"][:, None] + rank) % WINDOW
        for i, name in enumerate(("total", "length", "discounted", "promised")):
            # The extra last slot receives the writes of all other environments.
            window = torch.cat([v["windows"][:, i], torch.zeros_like(v["total"][:, :1])], 1)
            window.scatter_(1, torch.where(kept, place, WINDOW), v[name].to(window.dtype))
            v["windows"][:, i] = window[:, :WINDOW]
        v["ended"] = v["ended"] + count
        v["episodes"] = v["episodes"] + over
        for name, value in (("total", 0), ("discounted", 0), ("factor", 1), ("length", 0)):
            v[name] = v[name].masked_fill(over, value)

    def episodes(self) -> EpisodeStats:
        """Return the statistics on the host."""
        found = EpisodeStats(*self.shape, self.gamma)
        for name, array in found.arrays.items():
            array[:] = self.values[name].cpu().numpy().reshape(array.shape)
        return found
