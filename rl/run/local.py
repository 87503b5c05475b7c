"""The backend that runs all seeds in this process."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from envs import tables
from envs.backends.running import Statistics, per_seed
from envs.source import Source
from rl.core import compiling
from rl.core.evaluate import Evaluation, by_episodes
from rl.core.protocols import Diagnostics, LiveAgent, Loop, Metrics


class Local:
    """A backend (see `rl.core.protocols`): an agent and the loop that trains it."""

    def __init__(self, agent: LiveAgent, loop: Loop, where: Source, model: tables.Model | None) -> None:
        self.agent, self.loop, self.where, self.model = agent, loop, where, model

    @property
    def step(self) -> int:
        return self.loop.step

    def advance(self, steps: int) -> Metrics:
        return self.loop.advance(steps)

    def compile_seconds(self) -> float:
        return compiling.seconds()

    def metrics(self) -> Metrics:
        return self.loop.metrics()

    def reset_metrics(self) -> None:
        self.loop.reset_metrics()

    def exploration(self) -> Tensor:
        return self.loop.exploration()

    def diagnostics(self) -> Diagnostics:
        return self.loop.diagnostics()

    def episodes(self) -> Metrics:
        found, rows = self.loop.episodes(), self.loop.rows
        recorded = None if rows is None else rows.recorded_returns()
        return found if recorded is None else {**found, "rollout/recorded_ep_rew_mean": torch.from_numpy(recorded)}

    def statistics(self) -> list[Statistics] | None:
        rows = self.loop.rows
        return None if rows is None else per_seed(rows.statistics(), len(self.agent.seeds))

    def evaluate(self, episodes: int, step_limit: int | None) -> Evaluation:
        longest, running = self.loop.longest(), self.statistics()
        return by_episodes(self.agent, self.loop.play, self.where, self.model, episodes, step_limit, longest, running)

    def state(self) -> dict[str, Any]:
        return {"agent": self.agent.state_dict(), "loop": self.loop.state_dict()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore a saved state."""
        self.agent.load_state_dict(state["agent"])
        self.loop.load_state_dict(state["loop"])

    def on_checkpoint(self, path: Path) -> None:
        """Do nothing: this backend does not restart from checkpoints."""

    def sync_agent(self) -> None:
        """Do nothing: the agent is always up to date."""
