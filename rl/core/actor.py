"""The actor shared by all loops over a `World`: environment state, exploration and episode statistics."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch

from envs import vector
from envs.source import Source
from rl import explore
from rl.core.episode_stats import EpisodeStats
from rl.core.registry import optional_setting
from rl.core.states import host_state
from rl.core.timing import time_in
from rl.core.types import State
from rl.explore.held import Held
from supervised.checkpoint import CheckpointError
from supervised.schedules import STEPS, value_at
from supervised.streams import BufferedStreams

INTERRUPTED = (
    "An exception interrupted this run within a step, so it cannot be saved now: call run.advance() first, which brings all"
    " seeds to the same step."
)


class Actor:
    """Acts with N seeds in E environments each, all in lockstep."""

    def __init__(
        self, config: Any, where: Source, seeds: tuple[int, ...], envs_per_seed: int, horizon_steps: int
    ) -> None:
        self.rule, self.envs_per_seed = config.explore, envs_per_seed
        self.world = vector.make(where, seeds, envs_per_seed)
        self.streams = BufferedStreams(seeds, "agent")
        self.curve = config.explore.level.curve(horizon_steps)
        self.episodes = EpisodeStats(len(seeds), envs_per_seed, config.gamma)
        self.step = 0  # environment steps per seed
        self.obs: Any = None  # the current observations, arrays [N, E, *O]; None before the first reset
        self.state: State = {}  # the agent's recurrent state in each environment
        self.levels = np.zeros((len(seeds), envs_per_seed))
        self.started = np.ones(self.levels.shape, np.bool_)  # whether `obs` is the first of an episode
        self.within = False  # whether a step is in progress, or was interrupted by an exception
        hold = optional_setting(self.rule, "hold", None)
        self.held = None if hold is None else Held(len(seeds), envs_per_seed, hold, self.rule.hold_steps)

    def begin(self) -> None:
        """Reset the environments, unless they have been reset already."""
        if self.obs is None:
            self._reset()

    def _reset(self) -> None:
        self.obs = self.world.arrays.reset()
        self.state, self.started = {}, np.ones(self.levels.shape, np.bool_)

    def recover(self) -> bool:
        """Start new episodes everywhere if an exception interrupted a step, and return whether it did."""
        if not self.within:
            return False
        warnings.warn(
            f"An exception interrupted {self.world.name} within a step, after {self.step:,} steps: new episodes start in all"
            " environments.",
            RuntimeWarning,
            stacklevel=5,
        )
        self._reset()
        self.episodes.begin_anew(np.ones(len(self.world.seeds) * self.envs_per_seed, np.bool_))
        if self.held is not None:
            self.held.let_go(self.started)
        self.within = False
        return True

    def level(self) -> np.ndarray:
        """Return the current epsilon, temperature or noise scale of each environment, float64 [N, E]."""
        if self.curve.unit == STEPS:
            self.levels.fill(value_at(self.curve, self.step))
        else:
            episodes = self.episodes.arrays["episodes"].tolist()
            levels = [value_at(self.curve, time_in(self.curve, self.step, count, 0)) for count in episodes]
            self.levels[:] = np.reshape(levels, self.levels.shape)
        return self.levels

    def exploration(self) -> torch.Tensor:
        """Return the current epsilon, temperature or noise scale of each seed, float64 [N]."""
        return torch.from_numpy(self.level().mean(1))

    def select_action(self, q: np.ndarray, allowed: np.ndarray | None) -> np.ndarray:
        """Select an action for each environment: q [N, E, A], allowed bool [N, E, A] or None -> int64 [N, E]."""
        rule = self.rule
        if self.held is not None:
            u = self.streams.random((self.envs_per_seed, 3))
            return self.held.select(q, self.level(), u, allowed, rule.ties == "random")
        return explore.select_on_host(rule.kind, q, self.level(), self.streams, allowed, rule.ties == "random")

    def take(self, action: np.ndarray, q: np.ndarray, allowed: np.ndarray | None) -> vector.Step:
        """Step every environment and return the result in arrays. q [N, E, A]: the Q-values of the current observations.

        The caller sets `within` to False once it has processed the result.
        """
        self.within = True
        answer = self.world.arrays.step(action)
        self.episodes.add(answer, q if allowed is None else np.where(allowed, q, -np.inf).astype(q.dtype))
        self.obs, self.started = answer.obs, answer.terminated | answer.truncated
        if answer.valid is not None:
            self.started |= ~answer.valid
        if self.held is not None:
            self.held.let_go(self.started)
        self.step += self.envs_per_seed
        return answer

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the environments and the statistics. Raises CheckpointError after an interrupted step."""
        if self.within:
            raise CheckpointError(INTERRUPTED)
        state: dict[str, Any] = {
            "step": np.full(len(self.world.seeds), self.step),
            "begun": self.obs is not None,
            "explorer": self.streams.state_dict(),
            "episodes": self.episodes.state_dict(),
        }
        if self.held is not None:
            state["held"] = self.held.state_dict()
        if self.obs is not None and self.world.resumable:
            state["world"] = self.world.state_dict()
            if self.state:
                state["state"], state["started"] = host_state(self.state), self.started
        return state

    def load_state_dict(self, state: dict[str, Any]) -> np.ndarray:
        """Restore a saved state and return which environments had to start a new episode instead, bool [N * E].

        Raises ValueError for a state that does not match.
        """
        n = len(self.world.seeds)
        if state["step"].shape != (n,) or (state["step"] < 0).any() or len(set(state["step"].tolist())) != 1:
            raise ValueError("The saved steps are inconsistent.")
        self.step = int(state["step"][0])
        self.streams.load_state_dict(state["explorer"])
        self.episodes.load_state_dict(state["episodes"])
        fresh = np.zeros((n, self.envs_per_seed), np.bool_)
        if state["begun"] and "world" in state:
            self.obs, fresh = self.world.arrays.load_state_dict(state["world"])
            self.state = dict(state.get("state", {}))
            self.started = state.get("started", np.ones_like(fresh)) | fresh
        elif state["begun"]:
            warnings.warn(
                f"{self.world.name} is a VectorEnv, whose state cannot be saved: new episodes start, and the run is not"
                " bit-identical to an uninterrupted one. Pass an environment id or a function to get exact resumption.",
                RuntimeWarning,
                stacklevel=2,
            )
            self._reset()
            fresh = self.started.copy()
        self.episodes.begin_anew(fresh.reshape(-1))
        if self.held is not None:
            self.held.load_state_dict(state["held"])
            self.held.let_go(fresh)
        return fresh.reshape(-1)
