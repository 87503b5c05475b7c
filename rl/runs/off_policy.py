"""The off-policy run: act in every environment, remember, and learn from what is remembered."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch

from envs import vector
from envs.source import Source
from rl import explore
from rl.agents.deep import DeepAgent, NotFinite
from rl.replay import Replay
from rl.runs.episodes import Episodes
from rl.runs.loop import time_in
from rl.types import Batch
from supervised import bits, watch
from supervised.schedules import STEPS, as_schedule, value_at
from supervised.streams import Ahead

MEASURE_EVERY = 10  # updates: metrics cost a tenth of an update


class OffPolicy:
    """N seeds of a Q-network, each in E environments of its own, all in lockstep."""

    def __init__(
        self, agent: DeepAgent, where: Source, seeds: tuple[int, ...], envs_per_seed: int, horizon_steps: int
    ) -> None:
        d: Any = agent.description
        self.agent, self.seeds, self.envs_per_seed = agent, seeds, envs_per_seed
        self.world = vector.make(where, seeds, envs_per_seed)
        self.replay: Replay | None = None
        if d.capacity_steps is not None:
            alpha = d.priority_exponent if d.prioritised else None
            self.replay = Replay(self.world, d.capacity_steps, d.n_step, d.gamma, alpha)
        self.explorer, self.sampler = Ahead(seeds, "agent"), Ahead(seeds, "replay")
        self.level = d.explore.level.curve(horizon_steps)
        self.rate = agent.rate.curve(horizon_steps)
        self.importance = as_schedule(d.importance_exponent).curve(horizon_steps)
        self.episode_log = Episodes(len(seeds), envs_per_seed, d.gamma)
        self.step = 0  # environment steps, per seed
        self.obs: Any = None  # what to act on next; None: not begun
        self.last_log = 0, 0  # step and updates
        self.sums: dict[str, torch.Tensor] = {}  # of the metrics [N] since the last log
        self.measured = 0
        self.ready = False  # whether the replay has something to sample
        self._levels = torch.zeros(len(seeds), envs_per_seed, dtype=torch.float64)
        self._level_array = self._levels.numpy()  # the same memory

    def advance(self, steps: int) -> dict[str, torch.Tensor]:
        """Take at least `steps` more steps a seed (whole rounds of its E environments) -> metrics, each [N]."""
        if self.obs is None:
            self.obs = self.world.reset()
        try:
            with bits.threads(1):
                for _ in range(-(-steps // self.envs_per_seed)):
                    self._round()
        except NotFinite as error:
            raise NotFinite(f"At environment step {self.step:,}: {error}", error.batch) from None
        return self.metrics()

    def _round(self) -> None:
        """One step in every environment, and what is to be learned after it."""
        d: Any = self.agent.description
        before, obs = self.step, self.obs
        q = self.agent.q(obs)
        mask = self.agent.allowed(obs, self.world.mask)
        action = explore.by_rule(d.explore.kind, q, self._level(), self.explorer, mask, d.explore.ties == "random")
        answer = self.world.step(action)
        self.episode_log.add(answer, q if mask is None else q.masked_fill(~mask, -torch.inf))
        self.obs = answer.obs
        self.step += self.envs_per_seed
        if self.replay is None:
            self._learn(_newest(obs, action, answer, d.gamma))
            return
        self.replay.add(obs, action, answer)
        if self.step < d.learn_after_steps or self.step // d.update_every_steps == before // d.update_every_steps:
            return
        self.ready = self.ready or len(self.replay) > 0
        for _ in range(d.updates if self.ready else 0):
            beta = value_at(self.importance, self.step)
            self._learn(self.replay.sample(d.batch_size, self.sampler, beta))

    def _level(self) -> torch.Tensor:
        """Epsilon, temperature or scale of each environment, float64 [N, E]."""
        if self.level.unit == STEPS:
            self._level_array.fill(value_at(self.level, self.step))
            return self._levels
        episodes = self.episode_log.arrays["episodes"].tolist()
        levels = [value_at(self.level, time_in(self.level, self.step, count, 0)) for count in episodes]
        return torch.tensor(levels, dtype=torch.float64).view(self._levels.shape)

    def _learn(self, batch: Batch) -> None:
        if self.rate.kind:
            self.agent.set_learning_rate(self.rate, self.step)
        measured = self.agent.updates % MEASURE_EVERY == 0
        update = self.agent.update(batch, measured)
        if self.replay is not None and self.replay.alpha is not None:
            self.replay.update_priorities(batch.index, update.td_error)
        if measured:
            found = {name: value.detach() for name, value in update.metrics.items()}
            if self.replay is not None and batch.index is not None:
                age = torch.from_numpy(self.replay.age(batch.index).astype(np.float32))
                found["replay/age_steps"] = age.to(self.agent.device)
            for name, value in found.items():
                self.sums[name] = self.sums[name] + value if name in self.sums else value
            self.measured += 1

    def metrics(self) -> dict[str, torch.Tensor]:
        """What training says of itself since it was last logged, each [N]."""
        n, steps = len(self.seeds), max(self.step - self.last_log[0], 1)
        found = {name: value.cpu() / self.measured for name, value in self.sums.items()}
        found["rollout/exploration_rate"] = self._level().mean(1)
        rate = value_at(self.rate, self.step)
        found["train/learning_rate"] = torch.full((n,), rate, dtype=torch.float64)
        ratio = (self.agent.updates - self.last_log[1]) / steps
        found["train/updates_per_step"] = torch.full((n,), ratio, dtype=torch.float64)
        if self.replay is not None:
            sizes = (self.replay.tail - self.replay.head).reshape(n, -1).sum(1)
            found["replay/size_steps"] = torch.from_numpy(sizes.astype(np.float64))
        return found

    def episodes(self) -> dict[str, torch.Tensor]:
        """What the last episodes of each seed came to (100 at most); NaN before one ended. Each [N]."""
        return self.episode_log.means()

    def logged(self) -> None:
        """Begin a new interval of `metrics`."""
        self.last_log = self.step, self.agent.updates
        self.sums, self.measured = {}, 0

    def look(self) -> tuple[dict[str, torch.Tensor], dict[str, np.ndarray]]:
        """What can be seen inside -> metrics [N]; and of the first seed, values for histograms."""
        agent = self.agent
        found: dict[str, torch.Tensor] = {}
        spread = {f"weights/{name}": weight[0].detach().cpu().numpy() for name, weight in agent.online.weights.items()}
        if self.replay is None or not len(self.replay):
            return found, spread
        if self.replay.alpha is not None:
            spread["replay/priorities"] = self.replay.priorities()
        x = agent.encode(self.replay.latest(watch.EXAMPLES))
        shares: list[float | None] = []
        for k, module in enumerate(agent.online.modules):
            answers = watch.activations(module, {n: part[k] for n, part in x.items()} if isinstance(x, dict) else x[k])
            shares.append(watch.dead_units(module, answers))
            if k == 0:
                spread |= {f"activations/{name}": answer.cpu().numpy() for name, answer in answers.items()}
        if None not in shares:
            found["train/dead_units"] = torch.tensor(shares, dtype=torch.float64)
        return found, spread

    def state_dict(self) -> dict[str, Any]:
        n = len(self.seeds)
        state: dict[str, Any] = {
            "step": np.full(n, self.step),
            "last_log": np.full((n, 2), self.last_log),
            "measured": np.full(n, self.measured),
            "sums": {name: value.cpu().numpy() for name, value in self.sums.items()},
            "begun": self.obs is not None,
            "explorer": self.explorer.state_dict(),
            "sampler": self.sampler.state_dict(),
            "episodes": self.episode_log.state_dict(),
        }
        if self.replay is not None:
            state["replay"] = self.replay.state_dict()
        if self.obs is not None and self.world.resumable:
            state["world"] = self.world.state_dict()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to a saved place. Raises ValueError for a state that does not fit."""
        n = len(self.seeds)
        if state["step"].shape != (n,) or (state["step"] < 0).any() or len(set(state["step"].tolist())) != 1:
            raise ValueError("The saved steps contradict each other.")
        self.step = int(state["step"][0])
        self.last_log = tuple(int(x) for x in state["last_log"][0])  # type: ignore[assignment]  # a pair
        self.measured = int(state["measured"][0])
        self.sums = {
            name: torch.from_numpy(value.copy()).to(self.agent.device) for name, value in state["sums"].items()
        }
        self.explorer.load_state_dict(state["explorer"])
        self.sampler.load_state_dict(state["sampler"])
        self.episode_log.load_state_dict(state["episodes"])
        if self.replay is not None:
            self.replay.load_state_dict(state["replay"])
        if not state["begun"]:
            return
        if "world" in state:
            self.obs, fresh = self.world.load_state_dict(state["world"])
        else:
            warnings.warn(
                f"{self.world.name} is a VectorEnv, whose state cannot be saved: fresh episodes begin, and the run is not"
                " bit-equal to one that was never stopped. Give an id or a function for that.",
                RuntimeWarning,
                stacklevel=2,
            )
            self.obs, fresh = self.world.reset(), np.ones((n, self.envs_per_seed), np.bool_)
        self.episode_log.begin_anew(fresh.reshape(-1))
        if self.replay is not None:
            self.replay.begin_anew(fresh.reshape(-1))


def _newest(obs: Any, action: torch.Tensor, step: vector.Step, gamma: float) -> Batch:
    """The step just taken, as a batch of E transitions a seed; one that is none counts for nothing."""
    discount = gamma * (~step.terminated).float()
    mask = step.next_mask
    if mask is not None:
        mask = mask | (discount == 0)[..., None]
    weight = None if step.valid is None else step.valid.float()
    return Batch(obs, action, step.reward, discount, step.next_obs, mask, weight)
