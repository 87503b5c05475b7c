"""What runs over a `World` share: where the environments are, how much is explored, and what episodes came to."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch

from envs import vector
from envs.source import Source
from rl import explore
from rl.core.episode_stats import Episodes
from rl.core.timing import time_in
from supervised.checkpoint import CheckpointError
from supervised.schedules import STEPS, value_at
from supervised.streams import Ahead

INTERRUPTED = (
    "An exception stopped this run within a step, so it cannot be saved as it is: call run.advance() first, which brings all"
    " seeds to the same step."
)


class Acting:
    """N seeds in E environments each, all in lockstep."""

    def __init__(
        self, description: Any, where: Source, seeds: tuple[int, ...], envs_per_seed: int, horizon_steps: int
    ) -> None:
        self.rule, self.envs_per_seed = description.explore, envs_per_seed
        self.world = vector.make(where, seeds, envs_per_seed)
        self.streams = Ahead(seeds, "agent")
        self.curve = description.explore.level.curve(horizon_steps)
        self.episodes = Episodes(len(seeds), envs_per_seed, description.gamma)
        self.step = 0  # environment steps, per seed
        self.obs: Any = None  # what to act on next; None: not begun
        self.within = False  # whether a step is being taken, or was broken off by an exception
        self._levels = torch.zeros(len(seeds), envs_per_seed, dtype=torch.float64)
        self._level_array = self._levels.numpy()  # the same memory

    def begin(self) -> None:
        """Reset the environments, once."""
        if self.obs is None:
            self.obs = self.world.reset()

    def recover(self) -> bool:
        """After an exception within a step: begin fresh episodes everywhere -> whether there was one."""
        if not self.within:
            return False
        warnings.warn(
            f"An exception stopped {self.world.name} within a step, after {self.step:,} steps: fresh episodes begin in all its"
            " environments.",
            RuntimeWarning,
            stacklevel=5,
        )
        self.obs = self.world.reset()
        self.episodes.begin_anew(np.ones(len(self.world.seeds) * self.envs_per_seed, np.bool_))
        self.within = False
        return True

    def level(self) -> torch.Tensor:
        """Epsilon, temperature or scale of each environment, float64 [N, E]."""
        if self.curve.unit == STEPS:
            self._level_array.fill(value_at(self.curve, self.step))
            return self._levels
        episodes = self.episodes.arrays["episodes"].tolist()
        levels = [value_at(self.curve, time_in(self.curve, self.step, count, 0)) for count in episodes]
        return torch.tensor(levels, dtype=torch.float64).view(self._levels.shape)

    def choose(self, q: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """An action for each environment: q [N, E, A], mask [N, E, A] -> int64 [N, E]."""
        rule = self.rule
        return explore.by_rule(rule.kind, q, self.level(), self.streams, mask, rule.ties == "random")

    def take(self, action: torch.Tensor, q: torch.Tensor) -> vector.Step:
        """Step every environment; q [N, E, A]: what the agent saw in its actions (-infinity: not allowed).

        The caller puts `within` back to False when it has taken in the answer.
        """
        self.within = True
        answer = self.world.step(action)
        self.episodes.add(answer, q)
        self.obs = answer.obs
        self.step += self.envs_per_seed
        return answer

    def state_dict(self) -> dict[str, Any]:
        """Where the environments are. Raises CheckpointError while a step is broken off."""
        if self.within:
            raise CheckpointError(INTERRUPTED)
        state: dict[str, Any] = {
            "step": np.full(len(self.world.seeds), self.step),
            "begun": self.obs is not None,
            "explorer": self.streams.state_dict(),
            "episodes": self.episodes.state_dict(),
        }
        if self.obs is not None and self.world.resumable:
            state["world"] = self.world.state_dict()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> np.ndarray:
        """Go back to a saved place -> bool [N * E]: which environments are in a fresh episode instead.

        Raises ValueError for a state that does not fit.
        """
        n = len(self.world.seeds)
        if state["step"].shape != (n,) or (state["step"] < 0).any() or len(set(state["step"].tolist())) != 1:
            raise ValueError("The saved steps contradict each other.")
        self.step = int(state["step"][0])
        self.streams.load_state_dict(state["explorer"])
        self.episodes.load_state_dict(state["episodes"])
        fresh = np.zeros((n, self.envs_per_seed), np.bool_)
        if state["begun"] and "world" in state:
            self.obs, fresh = self.world.load_state_dict(state["world"])
        elif state["begun"]:
            warnings.warn(
                f"{self.world.name} is a VectorEnv, whose state cannot be saved: fresh episodes begin, and the run is not"
                " bit-equal to one that was never stopped. Give an id or a function for that.",
                RuntimeWarning,
                stacklevel=2,
            )
            self.obs, fresh = self.world.reset(), np.ones((n, self.envs_per_seed), np.bool_)
        self.episodes.begin_anew(fresh.reshape(-1))
        return fresh.reshape(-1)
