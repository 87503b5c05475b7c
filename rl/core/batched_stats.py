"""What episodes came to, counted on the device that the steps lie on."""

from __future__ import annotations

import torch
from torch import Tensor

from envs.vector import Step
from rl.core.episode_stats import EpisodeStats
from rl.core.timing import WINDOW


class BatchedEpisodeStats:
    """`EpisodeStats` in tensors [N, E] and [N]: the same numbers to the bit, for all environments at once.

    For worlds whose steps lie on a device: no call of `add` waits for it. `episodes` gives the numbers to the host.
    """

    def __init__(self, n: int, envs: int, gamma: float, device: torch.device | str) -> None:
        self.shape, self.gamma = (n, envs), gamma
        arrays = EpisodeStats(n, envs, gamma).arrays
        self.values = {name: torch.from_numpy(array).to(device) for name, array in arrays.items()}
        for name in ("total", "discounted", "factor", "promised", "length", "episodes"):
            self.values[name] = self.values[name].view(n, envs)

    def add(self, step: Step, q: Tensor) -> None:
        """A step of every environment in tensors, and the values [N, E, A] seen at its start (-infinity: not allowed)."""
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
        """Enter the episodes that are over, in the order of their environments, and begin new ones there."""
        v = self.values
        rank, count = over.cumsum(1) - 1, over.sum(1)
        # Where more end at once than are kept, only the last are entered: no place is written twice.
        kept = over & (rank >= (count - WINDOW)[:, None])
        place = (v["ended"][:, None] + rank) % WINDOW
        for i, name in enumerate(("total", "length", "discounted", "promised")):
            window = torch.cat(
                [v["windows"][:, i], torch.zeros_like(v["total"][:, :1])], 1
            )  # the last place: for the others
            window.scatter_(1, torch.where(kept, place, WINDOW), v[name].to(window.dtype))
            v["windows"][:, i] = window[:, :WINDOW]
        v["ended"] = v["ended"] + count
        v["episodes"] = v["episodes"] + over
        for name, value in (("total", 0), ("discounted", 0), ("factor", 1), ("length", 0)):
            v[name] = v[name].masked_fill(over, value)

    def episodes(self) -> EpisodeStats:
        """The numbers on the host."""
        found = EpisodeStats(*self.shape, self.gamma)
        for name, array in found.arrays.items():
            array[:] = self.values[name].cpu().numpy().reshape(array.shape)
        return found
