"""What the loops of deep agents share: acting in all environments in lockstep, learning rates, and what is logged."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np
import torch

from envs.backends.row_step import Rows
from rl.core.actor import Actor
from rl.core.evaluate import play_networks
from rl.core.protocols import Diagnostics, Place
from rl.core.states import state_norm
from rl.deep.agent import DeepAgent, NotFinite
from supervised import determinism
from supervised.fitting import inspect
from supervised.schedules import value_at

MEASURE_EVERY = 10  # updates; computing metrics costs a tenth of an update

# The predicted value of the greedy action at an episode's start, and the discounted return that followed: if the first stays
# above the second, values are overestimated.
CHARTS = {
    "promised and obtained: above it, values are overestimated": [
        "rollout/predicted_return",
        "rollout/discounted_return",
    ],
    "values in the sampled batches, and the bound that rewards set": [
        "train/q_mean",
        "train/q_max",
        "train/q_bound",
    ],
}


class DeepLoop(ABC):
    """Trains N seeds of a Q-network, each in its own E environments, in lockstep. Subclasses define a round."""

    in_processes = True
    charts: ClassVar[dict[str, list[str]]] = CHARTS
    play = staticmethod(play_networks)

    def __init__(self, agent: DeepAgent, place: Place) -> None:
        where, _, seeds, envs_per_seed, horizon_steps, _ = place
        self.agent, self.seeds = agent, seeds
        self.actor = Actor(agent.config, where, seeds, envs_per_seed, horizon_steps)
        self.rate = agent.rate.curve(horizon_steps)
        self.last_log = 0, 0  # step and updates
        self.sums: dict[str, torch.Tensor] = {}  # sums of metrics [N] since the last log
        self.measured = 0
        self.first: torch.Tensor | None = None  # the magnitude of Q-values [N] at the first update

    @property
    def rows(self) -> Rows:
        """The environments."""
        return self.actor.world.rows

    @property
    def step(self) -> int:
        """The number of environment steps per seed so far."""
        return self.actor.step

    def advance(self, steps: int) -> dict[str, torch.Tensor]:
        """Take at least `steps` more steps per seed (in rounds of its E environments) and return metrics, each [N]."""
        self.actor.begin()
        if self.actor.recover():
            self.begin_anew(np.ones(len(self.seeds) * self.actor.envs_per_seed, np.bool_))
        try:
            with determinism.threads(1), self.agent.threads():
                for _ in range(-(-steps // self.actor.envs_per_seed)):
                    self._round()
            self.agent.raise_if_not_finite()
        except NotFinite as error:
            raise NotFinite(f"At environment step {self.step:,}: {error}", error.batch) from None
        return self.metrics()

    @abstractmethod
    def _round(self) -> None:
        """Take one step in every environment, and the updates that are due after it."""

    @abstractmethod
    def begin_anew(self, rows: np.ndarray) -> None:
        """Start new episodes in the environments where rows, bool [N * E], is true; their steps so far are not continued."""

    @abstractmethod
    def examples(self) -> Any | None:
        """Return recent observations [N, B, *O] for diagnostics; None before there are any."""

    def note(self, metrics: dict[str, torch.Tensor]) -> None:
        """Add the metrics of an update to the sums since the last log."""
        found = {name: value.detach() for name, value in metrics.items()}
        norm = state_norm(self.actor.state)
        if norm is not None:
            found["train/state_norm"] = torch.from_numpy(norm).to(self.agent.device, non_blocking=True)
        if self.first is None and {"train/q_max", "train/q_mean"} <= found.keys():
            self.first = torch.maximum(found["train/q_max"].abs(), found["train/q_mean"].abs())
        for name, value in found.items():
            self.sums[name] = self.sums[name] + value if name in self.sums else value
        self.measured += 1

    def metrics(self) -> dict[str, torch.Tensor]:
        """Return the training metrics since the last log, each [N]."""
        n, steps = len(self.seeds), max(self.step - self.last_log[0], 1)
        found = {name: value.cpu() / self.measured for name, value in self.sums.items()}
        found["rollout/exploration_rate"] = self.exploration()
        rate = value_at(self.rate, self.step)
        found["train/learning_rate"] = torch.full((n,), rate, dtype=torch.float64)
        ratio = (self.agent.updates - self.last_log[1]) / steps
        found["train/updates_per_step"] = torch.full((n,), ratio, dtype=torch.float64)
        if self.first is not None:
            scale, added = self.agent.reward_scale, max(map(abs, self.agent.head.added(self.agent.actions)))
            bound = torch.from_numpy(self.actor.episodes.bound(added / scale) * scale)
            found["train/q_bound"] = torch.where(bound.isnan(), bound, bound.maximum(self.first.cpu().double()))
        return found

    def episodes(self) -> dict[str, torch.Tensor]:
        """Return the mean statistics of each seed's last 100 episodes, each [N]; NaN before the first has ended."""
        return self.actor.episodes.means()

    def longest(self) -> np.ndarray:
        """Return the maximum length in steps of each seed's last 100 episodes, int64 [N]; 0 before the first has ended."""
        return self.actor.episodes.longest()

    def reset_metrics(self) -> None:
        """Start a new interval of `metrics`."""
        self.last_log = self.step, self.agent.updates
        self.sums, self.measured = {}, 0

    def exploration(self) -> torch.Tensor:
        """Return the current epsilon, temperature or noise scale of each seed, float64 [N]."""
        return self.actor.exploration()

    def diagnostics(self) -> Diagnostics:
        """Return weights and activations of the first seed, and each seed's fraction of dead units."""
        agent = self.agent
        found: dict[str, torch.Tensor] = {}
        spread = {f"weights/{name}": weight[0].detach().cpu().numpy() for name, weight in agent.online.weights.items()}
        obs = self.examples()
        if obs is None:
            return Diagnostics(found, spread)
        x = agent.examples(obs)
        shares: list[float | None] = []
        for k, module in enumerate(agent.online.modules):
            answers = inspect.activations(
                module, {n: part[k] for n, part in x.items()} if isinstance(x, dict) else x[k]
            )
            shares.append(inspect.dead_units(module, answers))
            if k == 0:
                spread |= {f"activations/{name}": answer.cpu().numpy() for name, answer in answers.items()}
        if None not in shares:
            found["train/dead_units"] = torch.tensor(shares, dtype=torch.float64)
        return Diagnostics(found, spread)

    def state_dict(self) -> dict[str, Any]:
        n = len(self.seeds)
        state: dict[str, Any] = {
            **self.actor.state_dict(),
            "last_log": np.full((n, 2), self.last_log),
            "measured": np.full(n, self.measured),
            "sums": {name: value.cpu().numpy() for name, value in self.sums.items()},
        }
        if self.first is not None:
            state["first"] = self.first.cpu().numpy()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load a state returned by `state_dict`. Raises ValueError for a state that does not match."""
        self.last_log = tuple(int(x) for x in state["last_log"][0])  # type: ignore[assignment]  # a pair
        self.measured = int(state["measured"][0])
        self.sums = {
            name: torch.from_numpy(value.copy()).to(self.agent.device) for name, value in state["sums"].items()
        }
        first = state.get("first")  # missing in files of older versions
        self.first = None if first is None else torch.from_numpy(first.copy()).to(self.agent.device)
