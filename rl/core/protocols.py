"""What a live agent, a loop and a backend can be asked for. Nobody needs to know of which family they are."""

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
    """Where and for how long a loop trains its agent."""

    where: Source
    model: Model | None  # of the environment, where it is known
    seeds: tuple[int, ...]
    envs_per_seed: int
    horizon_steps: int  # what schedules without a horizon of their own span
    workers: int | None


class Diagnostics(NamedTuple):
    """What can be seen inside an agent."""

    metrics: Metrics
    histograms: dict[str, np.ndarray]  # of the first seed's values, by name


class Plane(NamedTuple):
    """The Q-values of one seed over observations of two numbers."""

    x: np.ndarray  # [P]
    y: np.ndarray  # [P]
    q: np.ndarray  # [P, P, A], rows by y


class LiveAgent(Agent, Protocol):
    """An agent that `rl.train` can train: N members of one family."""

    description: Any
    seeds: tuple[int, ...]
    actions: int
    loop: str  # the name of the loop that trains it, see `rl.run.run.LOOPS`
    device: torch.device

    @property
    def table(self) -> np.ndarray: ...

    def state_values(self) -> np.ndarray | None:
        """The Q-values of all states, float64 [N, S, A]; None where states are not counted."""
        ...

    def state_visits(self) -> np.ndarray | None:
        """How often each pair was tried, int64 [N, S, A]; None where nobody counts."""
        ...

    def plane(self, k: int, points: int) -> Plane | None:
        """The k-th seed's values over a grid; None unless observations are two bounded numbers."""
        ...

    @property
    def distributional(self) -> bool:
        """Whether it learns distributions of returns, which `distribution` answers."""
        ...

    def why_no_model(self) -> str | None:
        """Why a model of the environment does not describe what this agent does; None: it does."""
        ...

    def final_epsilon(self, horizon_steps: int) -> float | None:
        """The epsilon of the behavior policy whose values are learned, at the end; 0: the greedy policy's; None: not known."""
        ...

    def policy(self, k: int, spaces: tuple[Any, Any], settings: Mapping[str, Any]) -> Any:
        """The policy of the k-th seed. settings: of `rl.TablePolicy` and `rl.NetworkPolicy`."""
        ...

    def summary(self) -> dict[str, str]:
        """What TensorBoard's text says of the agent beside its settings, by name."""
        ...

    def graph(self) -> tuple[nn.Module, Any] | None:
        """The first seed's network and an observation [1, *O] as it takes them; None: there is none."""
        ...


class Loop(Protocol):
    """Takes the steps of N seeds in this process, and learns from them. One class for each family."""

    @property
    def in_processes(self) -> bool:
        """Whether `workers` are processes that share out the seeds; if not, the loop handles them."""
        ...

    @property
    def charts(self) -> Mapping[str, Sequence[str]]:
        """Charts for TensorBoard beside the usual ones: title and tags."""
        ...

    @property
    def play(self) -> Callable[..., None]:
        """How greedy episodes are played where there is no model; see `rl.core.evaluate.by_episodes`."""
        ...

    @property
    def step(self) -> int:
        """Environment steps so far, per seed."""
        ...

    @property
    def rows(self) -> Any:  # `envs.backends.row_step.Rows` | None
        """The environments; None: a model."""
        ...

    @property
    def memory_bytes(self) -> int:
        """What the replay takes when it is full."""
        ...

    def advance(self, steps: int) -> Metrics: ...

    def metrics(self) -> Metrics:
        """What training says of itself since the last `reset_metrics`."""
        ...

    def reset_metrics(self) -> None: ...

    def episodes(self) -> Metrics:
        """The means of each seed's last 100 episodes; NaN before one has ended."""
        ...

    def longest(self) -> np.ndarray:
        """Steps of the longest of each seed's last 100 episodes, int64 [N]; 0 before one has ended."""
        ...

    def exploration(self) -> Tensor:
        """Epsilon, temperature or scale of each seed now, float64 [N]."""
        ...

    def diagnostics(self) -> Diagnostics: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class Backend(Protocol):
    """Where the seeds of a run live: in this process (`rl.run.local`) or in several others (`rl.run.processes`)."""

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
        """Where the agent and the loop are: arrays and lists begin with the seeds."""
        ...

    def on_checkpoint(self, path: Path) -> None:
        """A checkpoint was written."""
        ...

    def sync_agent(self) -> None:
        """Bring the agent of the run up to date."""
        ...

    def compile_seconds(self) -> float:
        """How long machine code has been made so far, which is done once."""
        ...
