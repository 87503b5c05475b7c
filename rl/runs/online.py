"""The online run: tables that learn from every step as it comes.

Three ways to take the same steps, bit for bit the same: compiled over the arrays of a finite model (when `envs.tables`
has proved that the environment is its model), in plain Python over single Gymnasium environments, and in lockstep over
a `VectorEnv`. The caller does not choose.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch

from envs import tables, vector
from envs.member import Member, member_seed
from envs.source import Source
from rl.agents.table import TableAgent, TableDescription, lookup
from rl.runs import jit
from rl.runs.loop import ENDED, STEPS_DONE, WINDOW, Actor, Rules, Table, absorb, act, loop, time_in
from rl.spaces import StateIndex
from supervised.schedules import as_schedule, value_at
from supervised.streams import Streams

# Steps that one call of the compiled loop may take, so that an interrupt is never waited for long.
CHUNK = 1_000_000


class Online:
    """N seeds of a table, each in E environments of its own."""

    def __init__(
        self,
        agent: TableAgent,
        where: Source,
        model: tables.Model | None,
        seeds: tuple[int, ...],
        envs_per_seed: int,
        horizon_steps: int,
        workers: int | None,
    ) -> None:
        self.agent, self.seeds, self.envs_per_seed = agent, seeds, envs_per_seed
        self.streams = Streams(seeds)
        self.rules = rules_of(agent.description, horizon_steps)
        self.learn: Callable[..., float] = type(agent.description).rule  # type: ignore[attr-defined]  # a function, by every table's class
        n, e = len(seeds), envs_per_seed
        self.actor = Actor(
            state=_apart(n, e, np.int64),
            action=_apart(n, e, np.int64),
            total=_apart(n, e, np.float64),
            length=_apart(n, e, np.int64),
            episodes=_apart(n, e, np.int64),
            returns=_apart(n, WINDOW, np.float64),
            lengths=_apart(n, WINDOW, np.int64),
            counters=_apart(n, 2, np.int64),
            error=_apart(n, 1, np.float64),
        )
        self.begun = False
        self.last_log = 0
        worlds = self._worlds(where, model)
        self.walk: Walk
        if model is not None:
            self.walk = ModelWalk(self, model, workers)
        elif worlds is not None:
            self.walk = PlainWalk(self, worlds)
        else:
            self.walk = LockstepWalk(self, where)
        if model is None and workers is not None and workers > 1:
            raise ValueError(
                f"workers={workers}: several workers share the seeds of an environment whose model is known; {where.name} is"
                " stepped in plain Python, by one worker."
            )

    def _worlds(self, where: Source, model: tables.Model | None) -> list[Member] | None:
        if model is not None:
            return []
        return vector.members_of(where, self.seeds, self.envs_per_seed, self._index(where))

    def _index(self, where: Source) -> StateIndex:
        return StateIndex(self.agent.index.space, where.name)

    @property
    def step(self) -> int:
        """Environment steps taken, per seed."""
        return int(self.actor.counters[0, STEPS_DONE])

    def advance(self, steps: int) -> dict[str, torch.Tensor]:
        """Take at least `steps` more steps a seed (whole rounds of its E environments) -> metrics, each [N]."""
        if not self.begun:
            self.walk.begin()
            self.begun = True
        rounds = -(-steps // self.envs_per_seed)
        if rounds > 0:
            self.walk.take(rounds)
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
        episodes = self.actor.episodes.mean(1)
        level = [value_at(self.rules.level, time_in(self.rules.level, self.step, int(k), 0)) for k in episodes]
        return {
            "train/td_error": torch.from_numpy(self.actor.error[:, 0] / taken),
            "train/q_mean": torch.from_numpy(self.agent.table.mean((1, 2))),
            "rollout/exploration_rate": torch.tensor(level, dtype=torch.float64),
        }

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

    def logged(self) -> None:
        """Begin a new interval of `metrics`."""
        self.last_log = self.step
        self.actor.error[:] = 0.0

    def state_dict(self) -> dict[str, Any]:
        return {
            "actor": self.actor._asdict(),
            "streams": self.streams.state_dict(),
            "begun": self.begun,
            "last_log": self.last_log,
            "walk": {"kind": self.walk.kind, **(self.walk.state_dict() if self.begun else {})},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to a saved place. Raises ValueError for a state that does not fit."""
        if state["walk"]["kind"] != self.walk.kind:
            raise ValueError(
                f"The run was saved over {state['walk']['kind']}, but this environment is now stepped over {self.walk.kind}."
            )
        for name, array in self.actor._asdict().items():
            saved = state["actor"][name]
            if saved.shape != array.shape or saved.dtype != array.dtype:
                raise ValueError(f"The saved {name!r} must be {array.dtype} {list(array.shape)}.")
            array[:] = saved
        if (
            self.actor.state.min() < 0
            or self.actor.state.max() >= self.agent.index.size
            or self.actor.counters.min() < 0
        ):
            raise ValueError("The saved states or counters lie outside their range.")
        self.streams.load_state_dict(state["streams"])
        self.begun, self.last_log = bool(state["begun"]), int(state["last_log"])
        if self.begun:
            self.walk.load_state_dict(state["walk"])

    def of_seed(self, k: int, wrap: Callable[[np.ndarray], Any]) -> tuple[Table, Rules, Actor, np.random.Generator]:
        """The k-th seed's part of everything, with arrays made fast for the executor by `wrap`."""
        table = Table(wrap(self.agent.table[k]), wrap(self.agent.visits[k]))
        actor = Actor(*(wrap(array[k]) for array in self.actor))
        return table, self.rules._replace(rates=wrap(self.rules.rates)), actor, self.streams.generators[k]


def rules_of(description: TableDescription, horizon_steps: int) -> Rules:
    """An agent's settings as numbers; schedules without a horizon span `horizon_steps`."""
    rate = as_schedule(description.step_size).curve(horizon_steps)
    rates = lookup(rate)
    return Rules(
        gamma=as_schedule(description.gamma).curve(horizon_steps),
        level=description.explore.level.curve(horizon_steps),
        rate=rate,
        rates=rates,
        settled=bool(rates.size) and bool(rates[-1] == rate.end),
        explore=description.explore.kind,
        random_ties=description.explore.ties == "random",
    )


def _apart(n: int, width: int, kind: type) -> np.ndarray:
    """Zeros [n, width] whose rows share no cache line: threads that write to neighbouring rows would slow each other."""
    line = 128 // np.dtype(kind).itemsize
    return np.zeros((n, -(-width // line) * line), kind)[:, :width]


def view(array: np.ndarray) -> Any:
    """What plain Python reads and writes an array's numbers by, several times faster than by the array itself."""
    return memoryview(array)  # type: ignore[arg-type]  # numpy's types do not say that arrays are buffers


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Walk:
    """A way to take steps. `kind` is what a checkpoint calls it."""

    kind: str

    def begin(self) -> None: ...

    def take(self, rounds: int) -> None: ...

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class ModelWalk(Walk):
    """Over a finite model, compiled, seeds side by side on `workers` threads (None: all cores).

    Without numba the same functions run uncompiled.
    """

    kind = "a finite model"

    def __init__(self, run: Online, model: tables.Model, workers: int | None) -> None:
        self.run, self.model = run, model
        n, e = len(run.seeds), run.envs_per_seed
        self.elapsed, self.state = _apart(n, e, np.int64), _apart(n, e, np.int64)
        rows = [[member_seed(seed, i) for i in range(e)] for seed in run.seeds]
        self.generators = [tuple(np.random.Generator(np.random.PCG64(seed)) for seed in row) for row in rows]
        parts = {"ENVS": e, "learn": run.learn, "world_step": tables.model_step, "world_reset": tables.model_reset}
        fast = jit.compiled(loop, **parts)
        self.loop = fast or jit.specialise(loop, **parts)
        self.wrap: Callable[[np.ndarray], Any] = (lambda array: array) if fast else view
        threads = min(workers or cores(), n) if fast else 1
        self.pool = ThreadPoolExecutor(threads) if threads > 1 else None

    def _world(self, k: int) -> tables.World:
        world = tables.world_of(self.model, self.state[k], self.elapsed[k], self.generators[k])
        arrays = {name: self.wrap(value) for name, value in world._asdict().items() if isinstance(value, np.ndarray)}
        return world._replace(**arrays)

    def begin(self) -> None:
        for k in range(len(self.run.seeds)):
            world = self._world(k)
            for e in range(self.run.envs_per_seed):
                self.run.actor.state[k, e] = tables.model_reset(world, e)

    def take(self, rounds: int) -> None:
        def seed(k: int) -> None:
            table, rules, actor, rng = self.run.of_seed(k, self.wrap)
            world = self._world(k)
            for done in range(0, rounds, CHUNK):
                self.loop(min(CHUNK, rounds - done), table, rules, actor, world, rng)

        everyone = range(len(self.run.seeds))
        for _ in map(seed, everyone) if self.pool is None else self.pool.map(seed, everyone):
            pass

    def state_dict(self) -> dict[str, Any]:
        generators = [[rng.bit_generator.state for rng in row] for row in self.generators]
        return {"elapsed": self.elapsed, "state": self.state, "generators": generators}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, array in (("elapsed", self.elapsed), ("state", self.state)):
            if state[name].shape != array.shape:
                raise ValueError(
                    f"The saved {name!r} has the shape {list(state[name].shape)}, not {list(array.shape)}."
                )
            array[:] = state[name]
        if not np.array_equal(self.state, self.run.actor.state) or self.elapsed.min() < 0:
            raise ValueError("The saved states of the environments contradict each other.")
        for row, saved_row in zip(self.generators, state["generators"], strict=True):
            for rng, saved in zip(row, saved_row, strict=True):
                rng.bit_generator.state = saved


class PlainWalk(Walk):
    """Over single Gymnasium environments, seed after seed, in plain Python."""

    kind = "single environments"

    def __init__(self, run: Online, members: list[Member]) -> None:
        self.run = run
        e = run.envs_per_seed
        self.members = [members[k * e : k * e + e] for k in range(len(run.seeds))]
        self.loop = jit.specialise(loop, learn=run.learn, ENVS=e)

    def begin(self) -> None:
        for k, row in enumerate(self.members):
            for e, member in enumerate(row):
                self.run.actor.state[k, e] = member.reset()

    def take(self, rounds: int) -> None:
        for k, row in enumerate(self.members):
            table, rules, actor, rng = self.run.of_seed(k, view)
            self.loop(rounds, table, rules, actor, row, rng)

    def state_dict(self) -> dict[str, Any]:
        return {"members": [member.state_dict() for row in self.members for member in row]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        e = self.run.envs_per_seed
        for i, saved in enumerate(state["members"]):
            place = divmod(i, e)
            member = self.members[place[0]][place[1]]
            if not member.load_state_dict(saved):  # a fresh episode
                self.run.actor.state[place] = member.encode(member.obs)
                self.run.actor.total[place], self.run.actor.length[place] = 0.0, 0


class LockstepWalk(Walk):
    """Over the rows of a VectorEnv, all seeds together."""

    kind = "a VectorEnv"

    def __init__(self, run: Online, where: Source) -> None:
        self.run = run
        self.rows = vector.rows_of(where, run.seeds, run.envs_per_seed)
        self.index = StateIndex(run.agent.index.space, where.name)
        self.absorb = jit.specialise(absorb, learn=run.learn)

    def _states(self, obs: Any) -> np.ndarray:
        shape = self.run.actor.state.shape
        return self.index.many(obs, shape[0] * shape[1]).reshape(shape)

    def begin(self) -> None:
        self.run.actor.state[:] = self._states(self.rows.reset())

    def take(self, rounds: int) -> None:
        run = self.run
        parts = [run.of_seed(k, view) for k in range(len(run.seeds))]
        shape = run.actor.state.shape
        for _ in range(rounds):
            for table, rules, actor, rng in parts:
                for e in range(run.envs_per_seed):
                    act(table, rules, actor, e, rng)
            next_obs, obs, *rest, valid = self.rows.step(run.actor.action.reshape(-1))
            following, going_on = self._states(next_obs).tolist(), self._states(obs).tolist()
            reward, terminated, truncated = (array.reshape(shape).tolist() for array in rest)
            real = np.ones(shape, bool) if valid is None else valid.reshape(shape)
            for k, (table, rules, actor, _) in enumerate(parts):
                steps = actor.counters[STEPS_DONE]
                for e in range(run.envs_per_seed):
                    if real[k, e]:
                        answer = following[k][e], float(reward[k][e]), terminated[k][e], truncated[k][e]
                        self.absorb(table, rules, actor, e, steps, *answer)
                    actor.state[e] = going_on[k][e]
                actor.counters[STEPS_DONE] = steps + run.envs_per_seed

    def load_state_dict(self, state: dict[str, Any]) -> None:
        warnings.warn(
            f"{self.rows.name} is a VectorEnv, whose state cannot be saved: fresh episodes begin, and the run is not bit-equal"
            " to one that was never stopped. Give an id or a function for that.",
            RuntimeWarning,
            stacklevel=2,
        )
        self.begin()
        self.run.actor.total[:], self.run.actor.length[:] = 0.0, 0
