"""The online training loop of tabular agents, which learn from every step as it is taken.

Three executors take the same steps with bit-identical results: compiled over the arrays of a finite model (if `envs.tables` has
verified that the environment matches its model), in plain Python over single Gymnasium environments, and in lockstep over a
`VectorEnv`. The loop chooses the executor.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import torch

from envs import tables
from envs.backends.rows import Rows, SingleEnvs, members_of
from envs.source import Source
from rl.core.actor import INTERRUPTED
from rl.core.limits import MOST_BYTES
from rl.core.protocols import Diagnostics, Place
from rl.core.registry import name_of
from rl.core.spaces import StateIndex
from rl.core.timing import WINDOW, time_in
from rl.explore.held import durations
from rl.tabular.agent import TabularConfig, lookup
from rl.tabular.executors import CompiledExecutor, Executor, PythonExecutor, VectorExecutor, padded_zeros
from rl.tabular.kernel import ENDED, STEPS_DONE, ActorState, LoopParams
from rl.tabular.play import play_tables
from rl.tabular.rule import rule_state
from rl.tabular.tables import TabularAgent
from supervised.checkpoint import CheckpointError
from supervised.schedules import STEPS, Curve, as_schedule, value_at
from supervised.streams import Streams


class TabularLoop:
    """Trains N seeds of a tabular agent, each in its own E environments."""

    in_processes = False  # workers are threads
    charts: ClassVar[dict[str, list[str]]] = {}
    memory_bytes = 0
    play = staticmethod(play_tables)

    def __init__(self, agent: TabularAgent, place: Place) -> None:
        where, model, seeds, envs_per_seed, horizon_steps, workers = place
        self.agent, self.seeds, self.envs_per_seed = agent, seeds, envs_per_seed
        self.streams = Streams(seeds)
        self.params = loop_params(agent.config, horizon_steps)
        config, n, e = agent.config, len(seeds), envs_per_seed
        # What the kernel is specialized for: the rule and constants.
        self.parts: dict[str, Any] = {"learn": config.rule, "ENVS": e}
        self.parts["NEXT_ACTION"] = int(config.needs_next_action)
        self.parts["KNOWS_POLICY"] = int(config.needs_policy)
        self.parts["HOLD"] = int(config.explore.hold is not None)
        self.constants = config.rule_params()
        if model is not None:
            config.check_model(model)
            if model.mask is not None:
                agent.allow(model.mask)
        trail = config.episode_arrays(agent.index.size, agent.actions)
        needed = n * e * sum(part.nbytes for part in trail.values())
        if needed > MOST_BYTES:
            raise ValueError(
                f"The per-episode arrays of {name_of(config)} for {n * e} environments need {needed / 1e9:.1f} GB; at most"
                f" {MOST_BYTES / 1e9:.0f} GB are allowed. Use fewer seeds or environments, or a one-step rule."
            )
        self.episode_arrays = {name: np.full((n, e, *part.shape), part) for name, part in trail.items()}
        self.actor = actor_state(n, e)
        self.begun = False
        self.last_log = 0
        self.rows: Rows | None = None  # the environments; None: the loop runs over a model
        self.executor = self._executor(where, model, workers)

    def _executor(self, where: Source, model: tables.Model | None, workers: int | None) -> Executor:
        if model is not None:
            return CompiledExecutor(self, model, workers)
        if workers is not None and workers > 1:
            raise ValueError(
                f"workers={workers}: seeds are distributed over several workers only if the model of the environment is known;"
                f" {where.name} is stepped in plain Python by one worker."
            )
        index = StateIndex(self.agent.index.space, where.name)
        members = members_of(where, self.seeds, self.envs_per_seed, index)
        if members is None:
            executor = VectorExecutor(self, where, index)
            self.rows = executor.rows
            return executor
        self.rows = SingleEnvs(members)
        return PythonExecutor(self, members)

    @property
    def step(self) -> int:
        """Environment steps taken per seed; after an interruption, those of the seed that has taken the fewest."""
        return int(self.actor.counters[:, STEPS_DONE].min())

    @property
    def level(self) -> bool:
        """Whether all seeds have taken the same number of steps and none was interrupted within a step."""
        done = self.actor.counters[:, STEPS_DONE]
        return not self.executor.within and bool((done == done[0]).all())

    def advance(self, steps: int) -> dict[str, torch.Tensor]:
        """Take at least `steps` more steps per seed (whole rounds of its E environments) and return metrics, each [N].

        If an exception interrupted an earlier call, seeds that fell behind first catch up with the others.
        """
        if not self.begun:
            self.executor.begin()
            self.begun = True
        self.executor.recover()
        rounds = -(-steps // self.envs_per_seed)
        furthest = int(self.actor.counters[:, STEPS_DONE].max())
        self.executor.take(max(furthest, self.step + rounds * self.envs_per_seed))
        if not np.isfinite(self.actor.error).all():
            seed = self.seeds[int(np.flatnonzero(~np.isfinite(self.actor.error[:, 0]))[0])]
            raise FloatingPointError(
                f"The Q-table of seed {seed} overflowed before step {self.step}: values grow without bound if gamma is 1 and"
                " rewards never end, or if the step size is too large."
            )
        return self.metrics()

    def metrics(self) -> dict[str, torch.Tensor]:
        """Return the training metrics since the last `reset_metrics`, each [N]."""
        taken = max(self.step - self.last_log, 1)
        allowed: Any = True if self.agent.allowed is None else self.agent.allowed
        return {
            "train/td_error": torch.from_numpy(self.actor.error[:, 0] / taken),
            "train/q_mean": torch.from_numpy(self.agent.tables["q"].mean((1, 2), where=allowed)),
            "rollout/exploration_rate": self.exploration(),
        }

    def exploration(self) -> torch.Tensor:
        """Return the current epsilon, temperature or noise scale of each seed, float64 [N]."""
        curve = self.params.level
        return torch.tensor([value_at(curve, time) for time in self._times(curve)], dtype=torch.float64)

    def diagnostics(self) -> Diagnostics:
        """Return nothing: tables are shown as pictures."""
        return Diagnostics({}, {})

    def episodes_ended(self) -> np.ndarray:
        """Return the number of finished episodes of each seed, int64 [N]."""
        ended: np.ndarray = self.actor.counters[:, ENDED]
        return ended

    def _times(self, curve: Curve) -> list[int]:
        """Return each seed's time in the unit of `curve`; episodes are averaged over its environments."""
        if curve.unit == STEPS:
            return [self.step] * len(self.seeds)
        return [time_in(curve, self.step, int(k), 0) for k in self.actor.episodes.mean(1)]

    def episodes(self) -> dict[str, torch.Tensor]:
        """Return the mean return and length of each seed's last 100 episodes, each [N]; NaN before the first one ends."""
        n = len(self.seeds)
        returns, lengths = np.full(n, np.nan), np.full(n, np.nan)
        for k in range(n):
            count = min(int(self.actor.counters[k, ENDED]), WINDOW)
            if count:
                returns[k] = self.actor.returns[k, :count].mean()
                lengths[k] = self.actor.lengths[k, :count].mean()
        return {"rollout/ep_rew_mean": torch.from_numpy(returns), "rollout/ep_len_mean": torch.from_numpy(lengths)}

    def longest(self) -> np.ndarray:
        """Return the length of the longest of each seed's last 100 episodes, int64 [N]; 0 before the first one ends."""
        counts = np.minimum(self.actor.counters[:, ENDED], WINDOW)
        longest: np.ndarray = np.where(np.arange(WINDOW) < counts[:, None], self.actor.lengths, 0).max(1)
        return longest

    def reset_metrics(self) -> None:
        """Start a new interval of `metrics`."""
        self.last_log = self.step
        self.actor.error[:] = 0.0

    def state_dict(self) -> dict[str, Any]:
        """Return the state of all seeds. Raises CheckpointError while an interruption has left them at different steps."""
        if not self.level:
            raise CheckpointError(INTERRUPTED)
        actor = self.actor._asdict()
        if not self.parts["HOLD"]:
            del actor["held"]
        return {
            "actor": actor,
            "streams": self.streams.state_dict(),
            "begun": self.begun,
            "last_log": self.last_log,
            "trail": self.episode_arrays,
            "walk": {"kind": self.executor.kind, **(self.executor.state_dict() if self.begun else {})},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a saved state. Raises ValueError for one that does not match this loop."""
        if state["walk"]["kind"] != self.executor.kind:
            raise ValueError(
                f"The run was saved while stepping {state['walk']['kind']}, but this environment is stepped as"
                f" {self.executor.kind}."
            )
        actor = {"held": np.zeros_like(self.actor.held), **state["actor"]}
        for name, array in self.actor._asdict().items():
            saved = actor[name]
            if saved.shape != array.shape or saved.dtype != array.dtype:
                raise ValueError(f"The saved {name!r} must be {array.dtype} {list(array.shape)}.")
            array[:] = saved
        for name, array in self.episode_arrays.items():
            saved = state["trail"][name]
            if saved.shape != array.shape or saved.dtype != array.dtype:
                raise ValueError(f"The saved {name!r} must be {array.dtype} {list(array.shape)}.")
            array[:] = saved
        self.agent.config.validate_state(self.episode_arrays, self.agent.index.size, self.agent.actions)
        limits = {"state": self.agent.index.size, "action": self.agent.actions, "held": len(self.params.durations) + 1}
        ranges = [(getattr(self.actor, name), limit) for name, limit in limits.items()]
        if any(array.min() < 0 or array.max() >= limit for array, limit in ranges) or self.actor.counters.min() < 0:
            raise ValueError("The saved states, actions or counters are out of range.")
        if not self.level:
            raise ValueError("The saved seeds have taken different numbers of steps.")
        self.streams.load_state_dict(state["streams"])
        self.begun, self.last_log = bool(state["begun"]), int(state["last_log"])
        if self.begun:
            self.executor.load_state_dict(state["walk"])

    def begin_anew(self, place: Any) -> None:
        """Reset the episode state at an index (seed, environment), or everywhere (...), after new episodes have started."""
        actor = self.actor
        actor.total[place], actor.length[place], actor.chosen[place], actor.held[place] = 0.0, 0, 0, 0
        for name, part in self.agent.config.episode_arrays(self.agent.index.size, self.agent.actions).items():
            self.episode_arrays[name][place] = part

    def seed_slice(
        self, k: int, wrap: Callable[[np.ndarray], Any]
    ) -> tuple[Any, LoopParams, ActorState, np.random.Generator]:
        """Return the k-th seed's (table, params, actor, generator); `wrap` converts each array for the executor."""
        own = {**self.agent.tables, **self.episode_arrays}
        if self.agent.mask is not None:
            own["mask"] = self.agent.mask
        arrays = {name: wrap(array[k]) for name, array in own.items()}
        constants = {name: wrap(array) for name, array in self.constants.items()}
        table = rule_state(self.agent.config, {**arrays, **constants})
        rates, held_for = wrap(self.params.rates), wrap(self.params.durations)
        params = self.params._replace(rates=rates, durations=held_for, mask=arrays.get("mask"))
        return table, params, ActorState(*(wrap(array[k]) for array in self.actor)), self.streams.generators[k]


def actor_state(n: int, e: int) -> ActorState:
    """Return the ActorState arrays of N seeds with E environments each, before the first step."""
    return ActorState(
        state=padded_zeros(n, e, np.int64),
        action=padded_zeros(n, e, np.int64),
        chosen=padded_zeros(n, e, np.int64),
        held=padded_zeros(n, e, np.int64),
        total=padded_zeros(n, e, np.float64),
        length=padded_zeros(n, e, np.int64),
        episodes=padded_zeros(n, e, np.int64),
        returns=padded_zeros(n, WINDOW, np.float64),
        lengths=padded_zeros(n, WINDOW, np.int64),
        counters=padded_zeros(n, 2, np.int64),
        error=padded_zeros(n, 1, np.float64),
    )


def loop_params(config: TabularConfig, horizon_steps: int) -> LoopParams:
    """Return the settings of an agent as LoopParams; schedules without a horizon span `horizon_steps`."""
    rate = as_schedule(config.step_size).curve(horizon_steps)
    rates = lookup(rate)
    rule = config.explore
    return LoopParams(
        gamma=as_schedule(config.gamma).curve(horizon_steps),
        level=rule.level.curve(horizon_steps),
        rate=rate,
        rates=rates,
        settled=bool(rates.size) and bool(rates[-1] == rate.end),
        explore=rule.kind,
        random_ties=rule.ties == "random",
        bonus=float(config.count_bonus),
        durations=np.zeros(0) if rule.hold is None else durations(rule.hold, rule.hold_steps),
    )
