"""The protocols of live agents, loops and backends, so that callers do not depend on the family of an agent."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from envs.backends.running import Statistics
from envs.source import Source
from envs.tables import Model
from rl.core.types import Agent

Metrics = dict[str, Tensor]  # each [N]


class Place(NamedTuple):
    """The environment, seeds and horizon with which a loop trains its agent."""

    where: Source
    model: Model | None  # the model of the environment, if known
    seeds: tuple[int, ...]
    envs_per_seed: int
    horizon_steps: int  # the horizon of schedules without their own
    workers: int | None


class Diagnostics(NamedTuple):
    """Metrics and histograms of an agent's internals."""

    metrics: Metrics
    histograms: dict[str, np.ndarray]  # values of the first seed, by name


class Plane(NamedTuple):
    """The Q-values of one seed over a grid of two-dimensional observations."""

    x: np.ndarray  # [P]
    y: np.ndarray  # [P]
    q: np.ndarray  # [P, P, A], with rows along y


class LiveAgent(Agent, Protocol):
    """An agent that `rl.train` can train: N members of one family."""

    config: Any
    seeds: tuple[int, ...]
    actions: int
    loop: str  # the name of the loop that trains it; see `rl.run.run.LOOPS`
    device: torch.device

    @property
    def table(self) -> np.ndarray: ...

    def state_values(self) -> np.ndarray | None:
        """Return the Q-values of all states, float64 [N, S, A]; None if states are not finite."""
        ...

    def state_visits(self) -> np.ndarray | None:
        """Return the visit counts of all state-action pairs, int64 [N, S, A]; None if visits are not counted."""
        ...

    def plane(self, k: int, points: int) -> Plane | None:
        """Return the k-th seed's values over a grid; None unless observations are two bounded numbers."""
        ...

    @property
    def distributional(self) -> bool:
        """Whether the agent learns return distributions, which `distribution` returns."""
        ...

    def why_no_model(self) -> str | None:
        """Return why the agent cannot use a finite model of the environment; None if it can."""
        ...

    def final_epsilon(self, horizon_steps: int) -> float | None:
        """Return the final epsilon of the policy being evaluated: 0 if it is the greedy policy, None if it is unknown."""
        ...

    def policy(self, k: int, spaces: tuple[Any, Any], settings: Mapping[str, Any]) -> Any:
        """Return the policy of the k-th seed. settings: keyword arguments of `rl.TablePolicy` or `rl.NetworkPolicy`."""
        ...

    def summary(self) -> dict[str, str]:
        """Return what TensorBoard's text shows in addition to the settings, by name."""
        ...

    def graph(self) -> tuple[nn.Module, Any] | None:
        """Return the first seed's network and an example input [1, *O]; None if there is no network."""
        ...


class Loop(Protocol):
    """Takes the steps of N seeds in this process and learns from them. There is one class per family of agents."""

    @property
    def in_processes(self) -> bool:
        """Whether `workers` are processes among which the seeds are distributed; if not, the loop itself handles `workers`."""
        ...

    @property
    def charts(self) -> Mapping[str, Sequence[str]]:
        """Additional charts for TensorBoard: {title: tags}."""
        ...

    @property
    def play(self) -> Callable[..., None]:
        """The function that plays greedy episodes if there is no model; see `rl.core.evaluate.by_episodes`."""
        ...

    @property
    def step(self) -> int:
        """Environment steps so far per seed."""
        ...

    @property
    def rows(self) -> Any:  # `envs.backends.row_step.Rows` | None
        """The environments; None if the loop runs over a model."""
        ...

    @property
    def memory_bytes(self) -> int:
        """The memory of a full replay, in bytes."""
        ...

    def advance(self, steps: int) -> Metrics: ...

    def metrics(self) -> Metrics:
        """Return the training metrics since the last `reset_metrics`."""
        ...

    def reset_metrics(self) -> None: ...

    def episodes(self) -> Metrics:
        """Return the means over each seed's last 100 episodes; NaN before the first one ends."""
        ...

    def longest(self) -> np.ndarray:
        """Return the length of the longest of each seed's last 100 episodes, int64 [N]; 0 before the first one ends."""
        ...

    def exploration(self) -> Tensor:
        """Return the current epsilon, temperature or noise scale of each seed, float64 [N]."""
        ...

    def diagnostics(self) -> Diagnostics: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class Backend(Protocol):
    """Runs the seeds of a run: in this process (`rl.run.local`) or in worker processes (`rl.run.processes`)."""

    @property
    def step(self) -> int: ...

    def advance(self, steps: int) -> Metrics: ...

    def metrics(self) -> Metrics: ...

    def reset_metrics(self) -> None: ...

    def episodes(self) -> Metrics: ...

    def exploration(self) -> Tensor: ...

    def evaluate(self, episodes: int, step_limit: int | None) -> Any: ...

    def statistics(self) -> list[Statistics] | None: ...

    def diagnostics(self) -> Diagnostics: ...

    def state(self) -> dict[str, Any]:
        """Return the state of the agent and the loop, in which arrays and lists have the seeds as their first axis."""
        ...

    def on_checkpoint(self, path: Path) -> None:
        """Called after a checkpoint was written to `path`."""
        ...

    def sync_agent(self) -> None:
        """Update the run's agent with the current state of the seeds."""
        ...

    def compile_seconds(self) -> float:
        """Return the seconds spent on compilation so far; code is compiled only once."""
        ...
