"""The training loop of Q-networks: act in every environment, store the steps, and learn from the replay."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch

from envs import vector
from envs.backends.row_step import Rows
from rl.core.actor import Actor
from rl.core.evaluate import play_networks
from rl.core.protocols import Diagnostics, Place
from rl.core.states import state_norm
from rl.core.types import Batch, State
from rl.deep.agent import DeepAgent, NotFinite, check_learner
from supervised import determinism
from supervised.fitting import inspect
from supervised.schedules import as_schedule, value_at
from supervised.streams import BufferedStreams

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


class ReplayLoop:
    """Trains N seeds of a Q-network, each in its own E environments, in lockstep."""

    in_processes = True
    charts: ClassVar[dict[str, list[str]]] = CHARTS
    play = staticmethod(play_networks)

    def __init__(self, agent: DeepAgent, place: Place) -> None:
        """Raises ArgumentError for a config without the settings needed for learning from a replay."""
        where, _, seeds, envs_per_seed, horizon_steps, _ = place
        check_learner(agent.config)
        d: Any = agent.config
        self.agent, self.seeds = agent, seeds
        self.actor = Actor(d, where, seeds, envs_per_seed, horizon_steps)
        self.replay = agent.replay(self.actor.world)
        self.sampler = BufferedStreams(seeds, "replay")
        self.rate = agent.rate.curve(horizon_steps)
        self.importance = as_schedule(d.importance_exponent).curve(horizon_steps)
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
        if self.actor.recover() and self.replay is not None:
            self.replay.begin_anew(np.ones(len(self.seeds) * self.actor.envs_per_seed, np.bool_))
        try:
            with determinism.threads(1), self.agent.threads():
                for _ in range(-(-steps // self.actor.envs_per_seed)):
                    self._round()
            self.agent.raise_if_not_finite()
            if self.replay is not None:
                self.replay.notice(int(self.longest().max()))
        except NotFinite as error:
            raise NotFinite(f"At environment step {self.step:,}: {error}", error.batch) from None
        return self.metrics()

    def _round(self) -> None:
        """Take one step in every environment, and the updates that are due after it."""
        d: Any = self.agent.config
        agent, actor = self.agent, self.actor
        before, obs = actor.step, actor.obs
        if agent.moments is not None:
            agent.observe(obs)
        state = agent.begin(actor.state, actor.started, actor.envs_per_seed)
        q, actor.state = agent.decide(obs, state)
        mask = actor.world.arrays.mask
        allowed = agent.allowed_of(obs, mask)
        action = actor.select_action(q, allowed)
        predicted = q if agent.reward_scale == 1.0 else q / agent.reward_scale  # in the units of returns
        answer = actor.take(action, predicted, allowed)
        if self.replay is None:
            actor.within = False
            self._learn(_newest(obs, action, answer, d.gamma, state, mask))
            return
        self.replay.add(obs, action, answer, state, mask)
        actor.within = False
        if self.step < d.learn_after_steps or self.step // d.update_every_steps == before // d.update_every_steps:
            return
        for _ in range(d.updates if self.replay.ready() else 0):
            beta = value_at(self.importance, self.step)
            self._learn(self.replay.draw(d.batch_size, self.sampler, beta))

    def _learn(self, batch: Batch) -> None:
        if self.rate.kind:
            self.agent.set_learning_rate(self.rate, self.step)
        measured = self.agent.updates % MEASURE_EVERY == 0
        found = self.agent.learn(batch, measured)
        if self.replay is not None and self.replay.alpha is not None:
            priority = self.agent.arrays.host(found.td_error if found.priority is None else found.priority)
            if not np.isfinite(priority).all():
                self.agent.raise_if_not_finite()
            self.replay.set_priorities(batch.index, priority)
        if measured:
            self._note(found.metrics, batch)

    def _note(self, metrics: dict[str, torch.Tensor], batch: Batch) -> None:
        """Add the metrics of an update to the sums since the last log."""
        found = {name: value.detach() for name, value in metrics.items()}
        if self.replay is not None and batch.index is not None:
            age = torch.from_numpy(self.replay.age(batch.index).astype(np.float32))
            found["replay/age_steps"] = age.to(self.agent.device, non_blocking=True)
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
        if self.replay is not None:
            found |= {name: torch.from_numpy(count) for name, count in self.replay.contents().items()}
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

    @property
    def memory_bytes(self) -> int:
        """The size of the full replay in bytes; 0 without one."""
        return 0 if self.replay is None else self.replay.bytes

    def diagnostics(self) -> Diagnostics:
        """Return weights, activations and priorities of the first seed, and each seed's fraction of dead units."""
        agent = self.agent
        found: dict[str, torch.Tensor] = {}
        spread = {f"weights/{name}": weight[0].detach().cpu().numpy() for name, weight in agent.online.weights.items()}
        if self.replay is None or not len(self.replay):
            return Diagnostics(found, spread)
        if self.replay.alpha is not None:
            spread["replay/priorities"] = self.replay.priorities()
        x = agent.examples(self.replay.latest(inspect.EXAMPLES))
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
            "sampler": self.sampler.state_dict(),
        }
        if self.first is not None:
            state["first"] = self.first.cpu().numpy()
        if self.replay is not None:
            state["replay"] = self.replay.state_dict()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load what `state_dict` returned. Raises ValueError for a state that does not match."""
        self.last_log = tuple(int(x) for x in state["last_log"][0])  # type: ignore[assignment]  # a pair
        self.measured = int(state["measured"][0])
        self.sums = {
            name: torch.from_numpy(value.copy()).to(self.agent.device) for name, value in state["sums"].items()
        }
        first = state.get("first")  # missing in files of older versions
        self.first = None if first is None else torch.from_numpy(first.copy()).to(self.agent.device)
        self.sampler.load_state_dict(state["sampler"])
        if self.replay is not None:
            self.replay.load_state_dict(state["replay"])
        fresh = self.actor.load_state_dict(state)
        if self.replay is not None:
            self.replay.begin_anew(fresh)


def _newest(
    obs: Any, action: np.ndarray, step: vector.Step, gamma: float, state: State, own_mask: np.ndarray | None
) -> Batch:
    """Return the last step as a batch of E transitions per seed; invalid ones have weight 0. own_mask: the mask of obs."""
    discount = np.float32(gamma) * (~step.terminated).astype(np.float32)
    if step.discount is not None:
        discount = discount * step.discount.astype(np.float32)
    mask = step.next_mask
    if mask is not None:
        mask = mask | (discount == 0)[..., None]
    weight = None if step.valid is None else step.valid.astype(np.float32)
    index = None
    parts: tuple[Any, ...] = (
        *(obs, action, step.reward, discount, step.next_obs),
        *(mask, weight, index, state or None, own_mask),
    )
    return Batch(*parts)
