"""The online run: tables that learn from every step as it comes.

Three ways to take the same steps, bit for bit the same: compiled over the arrays of a finite model (when `envs.tables`
has proved that the environment is its model), in plain Python over single Gymnasium environments, and in lockstep over
a `VectorEnv`. The caller does not choose.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import torch

from envs import tables
from envs.backends.rows import MemberRows, Rows, members_of
from envs.source import Source
from rl.core.actor import INTERRUPTED
from rl.core.protocols import Diagnostics, Place
from rl.core.registry import name_of
from rl.core.spaces import StateIndex
from rl.core.timing import WINDOW, time_in
from rl.tabular.agent import MOST_BYTES, Tabular, TabularAgent, lookup, memory_of
from rl.tabular.executors import CompiledExecutor, Executor, PythonExecutor, VectorExecutor, padded_zeros
from rl.tabular.kernel import ENDED, STEPS_DONE, ActorState, LoopParams
from rl.tabular.play import play_tables
from supervised.checkpoint import CheckpointError
from supervised.schedules import STEPS, Curve, as_schedule, value_at
from supervised.streams import Streams


class TabularLoop:
    """N seeds of a table, each in E environments of its own."""

    in_processes = False  # workers are threads
    charts: ClassVar[dict[str, list[str]]] = {}
    memory_bytes = 0
    play = staticmethod(play_tables)

    def __init__(self, agent: TabularAgent, place: Place) -> None:
        where, model, seeds, envs_per_seed, horizon_steps, workers = place
        self.agent, self.seeds, self.envs_per_seed = agent, seeds, envs_per_seed
        self.streams = Streams(seeds)
        self.params = rules_of(agent.description, horizon_steps)
        description, n, e = agent.description, len(seeds), envs_per_seed
        # What the loop is made for: its rule, and numbers that are the same all the time.
        self.parts: dict[str, Any] = {"learn": description.rule, "ENVS": e}
        self.parts["NEXT_ACTION"] = int(description.needs_next_action)
        self.parts["KNOWS_POLICY"] = int(description.needs_policy)
        self.constants = description.rule_params()
        if model is not None:
            description.check_model(model)
            if model.mask is not None:
                agent.allow(model.mask)
        trail = description.episode_arrays(agent.index.size, agent.actions)
        needed = n * e * sum(part.nbytes for part in trail.values())
        if needed > MOST_BYTES:
            raise ValueError(
                f"What {name_of(description)} remembers of {n * e} episodes at once takes {needed / 1e9:.1f} GB, more than"
                f" the {MOST_BYTES / 1e9:.0f} GB that are allowed. Take fewer seeds or environments, or a one-step rule."
            )
        self.episode_arrays = {name: np.full((n, e, *part.shape), part) for name, part in trail.items()}
        self.actor = actors(n, e)
        self.begun = False
        self.last_log = 0
        self.rows: Rows | None = None  # the environments; None: a model
        self.executor = self._way(where, model, workers)

    def _way(self, where: Source, model: tables.Model | None, workers: int | None) -> Executor:
        if model is not None:
            return CompiledExecutor(self, model, workers)
        if workers is not None and workers > 1:
            raise ValueError(
                f"workers={workers}: several workers share the seeds of an environment whose model is known; {where.name} is"
                " stepped in plain Python, by one worker."
            )
        index = StateIndex(self.agent.index.space, where.name)
        members = members_of(where, self.seeds, self.envs_per_seed, index)
        if members is None:
            executor = VectorExecutor(self, where, index)
            self.rows = executor.rows
            return executor
        self.rows = MemberRows(members)
        return PythonExecutor(self, members)

    @property
    def step(self) -> int:
        """Environment steps taken, per seed; of the seed that has taken the fewest, after an interruption."""
        return int(self.actor.counters[:, STEPS_DONE].min())

    @property
    def level(self) -> bool:
        """Whether all seeds have taken the same number of steps, and none was interrupted within one."""
        done = self.actor.counters[:, STEPS_DONE]
        return not self.executor.within and bool((done == done[0]).all())

    def advance(self, steps: int) -> dict[str, torch.Tensor]:
        """Take at least `steps` more steps a seed (whole rounds of its E environments) -> metrics, each [N].

        After an exception within an earlier call, seeds that were held up catch up with the others first.
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
                f"The Q-table of seed {seed} overflowed before step {self.step}: a gamma of 1 with rewards that never end, or"
                " a step size that is too large, lets values grow without bound."
            )
        return self.metrics()

    def metrics(self) -> dict[str, torch.Tensor]:
        """What training says of itself since it was last logged, each [N]."""
        taken = max(self.step - self.last_log, 1)
        allowed: Any = True if self.agent.allowed is None else self.agent.allowed
        return {
            "train/td_error": torch.from_numpy(self.actor.error[:, 0] / taken),
            "train/q_mean": torch.from_numpy(self.agent.tables["q"].mean((1, 2), where=allowed)),
            "rollout/exploration_rate": self.exploration(),
        }

    def exploration(self) -> torch.Tensor:
        """Epsilon, temperature or scale of each seed now, float64 [N]."""
        curve = self.params.level
        return torch.tensor([value_at(curve, time) for time in self._times(curve)], dtype=torch.float64)

    def diagnostics(self) -> Diagnostics:
        """Nothing: a table is looked at by pictures."""
        return Diagnostics({}, {})

    def episodes_ended(self) -> np.ndarray:
        """How many episodes of each seed have ended, int64 [N]."""
        ended: np.ndarray = self.actor.counters[:, ENDED]
        return ended

    def _times(self, curve: Curve) -> list[int]:
        """The time that `curve` is counted in, of each seed; in episodes the mean of its environments'."""
        if curve.unit == STEPS:
            return [self.step] * len(self.seeds)
        return [time_in(curve, self.step, int(k), 0) for k in self.actor.episodes.mean(1)]

    def episodes(self) -> dict[str, torch.Tensor]:
        """Mean return and length of the last episodes of each seed (100 at most); NaN before one ended. Each [N]."""
        n = len(self.seeds)
        returns, lengths = np.full(n, np.nan), np.full(n, np.nan)
        for k in range(n):
            count = min(int(self.actor.counters[k, ENDED]), WINDOW)
            if count:
                returns[k] = self.actor.returns[k, :count].mean()
                lengths[k] = self.actor.lengths[k, :count].mean()
        return {"rollout/ep_rew_mean": torch.from_numpy(returns), "rollout/ep_len_mean": torch.from_numpy(lengths)}

    def longest(self) -> np.ndarray:
        """Steps of the longest of each seed's last 100 episodes, int64 [N]; 0 before one has ended."""
        counts = np.minimum(self.actor.counters[:, ENDED], WINDOW)
        longest: np.ndarray = np.where(np.arange(WINDOW) < counts[:, None], self.actor.lengths, 0).max(1)
        return longest

    def reset_metrics(self) -> None:
        """Begin a new interval of `metrics`."""
        self.last_log = self.step
        self.actor.error[:] = 0.0

    def state_dict(self) -> dict[str, Any]:
        """Where all seeds are. Raises CheckpointError while an interruption has left them at different steps."""
        if not self.level:
            raise CheckpointError(INTERRUPTED)
        return {
            "actor": self.actor._asdict(),
            "streams": self.streams.state_dict(),
            "begun": self.begun,
            "last_log": self.last_log,
            "trail": self.episode_arrays,
            "walk": {"kind": self.executor.kind, **(self.executor.state_dict() if self.begun else {})},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to a saved place. Raises ValueError for a state that does not fit."""
        if state["walk"]["kind"] != self.executor.kind:
            raise ValueError(
                f"The run was saved over {state['walk']['kind']}, but this environment is now stepped over {self.executor.kind}."
            )
        for name, array in self.actor._asdict().items():
            saved = state["actor"][name]
            if saved.shape != array.shape or saved.dtype != array.dtype:
                raise ValueError(f"The saved {name!r} must be {array.dtype} {list(array.shape)}.")
            array[:] = saved
        for name, array in self.episode_arrays.items():
            saved = state["trail"][name]
            if saved.shape != array.shape or saved.dtype != array.dtype:
                raise ValueError(f"The saved {name!r} must be {array.dtype} {list(array.shape)}.")
            array[:] = saved
        self.agent.description.validate_state(self.episode_arrays, self.agent.index.size, self.agent.actions)
        if (
            self.actor.state.min() < 0
            or self.actor.state.max() >= self.agent.index.size
            or self.actor.counters.min() < 0
        ):
            raise ValueError("The saved states or counters lie outside their range.")
        if not self.level:
            raise ValueError("The saved seeds have taken different numbers of steps.")
        self.streams.load_state_dict(state["streams"])
        self.begun, self.last_log = bool(state["begun"]), int(state["last_log"])
        if self.begun:
            self.executor.load_state_dict(state["walk"])

    def begin_anew(self, place: Any) -> None:
        """Forget the episode of one environment (seed, environment), or of all (...): a fresh one has begun."""
        self.actor.total[place], self.actor.length[place], self.actor.chosen[place] = 0.0, 0, 0
        for name, part in self.agent.description.episode_arrays(self.agent.index.size, self.agent.actions).items():
            self.episode_arrays[name][place] = part

    def seed_slice(
        self, k: int, wrap: Callable[[np.ndarray], Any]
    ) -> tuple[Any, LoopParams, ActorState, np.random.Generator]:
        """The k-th seed's part of everything, with arrays made fast for the executor by `wrap`."""
        own = {**self.agent.tables, **self.episode_arrays}
        if self.agent.mask is not None:
            own["mask"] = self.agent.mask
        arrays = {name: wrap(array[k]) for name, array in own.items()}
        constants = {name: wrap(array) for name, array in self.constants.items()}
        table = memory_of(self.agent.description, {**arrays, **constants})
        params = self.params._replace(rates=wrap(self.params.rates), mask=arrays.get("mask"))
        return table, params, ActorState(*(wrap(array[k]) for array in self.actor)), self.streams.generators[k]


def actors(n: int, e: int) -> ActorState:
    """Where N seeds are in E environments each, before the first step."""
    return ActorState(
        state=padded_zeros(n, e, np.int64),
        action=padded_zeros(n, e, np.int64),
        chosen=padded_zeros(n, e, np.int64),
        total=padded_zeros(n, e, np.float64),
        length=padded_zeros(n, e, np.int64),
        episodes=padded_zeros(n, e, np.int64),
        returns=padded_zeros(n, WINDOW, np.float64),
        lengths=padded_zeros(n, WINDOW, np.int64),
        counters=padded_zeros(n, 2, np.int64),
        error=padded_zeros(n, 1, np.float64),
    )


def rules_of(description: Tabular, horizon_steps: int) -> LoopParams:
    """An agent's settings as numbers; schedules without a horizon span `horizon_steps`."""
    rate = as_schedule(description.step_size).curve(horizon_steps)
    rates = lookup(rate)
    return LoopParams(
        gamma=as_schedule(description.gamma).curve(horizon_steps),
        level=description.explore.level.curve(horizon_steps),
        rate=rate,
        rates=rates,
        settled=bool(rates.size) and bool(rates[-1] == rate.end),
        explore=description.explore.kind,
        random_ties=description.explore.ties == "random",
        bonus=float(description.count_bonus),
    )
