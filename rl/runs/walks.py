"""Ways to take the steps of an online run: over a finite model, over single environments, over a VectorEnv."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from envs import tables
from envs.member import Member, member_seed
from envs.rows import rows_of
from envs.source import Source
from rl import jit
from rl.runs.loop import STEPS_DONE, absorb, act, loop
from rl.spaces import StateIndex

if TYPE_CHECKING:
    from rl.runs.online import Online

# Steps that one call of the compiled loop may take, so that an interrupt is never waited for long.
CHUNK = 1_000_000


def apart(n: int, width: int, kind: type) -> np.ndarray:
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
        self.elapsed, self.state = apart(n, e, np.int64), apart(n, e, np.int64)
        rows = [[member_seed(seed, i) for i in range(e)] for seed in run.seeds]
        self.generators = [tuple(np.random.Generator(np.random.PCG64(seed)) for seed in row) for row in rows]
        parts = {**run.parts, "world_step": tables.model_step, "world_reset": tables.model_reset}
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
            for done in range(0, rounds, chunk):
                if stopped:
                    break
                self.loop(min(chunk, rounds - done), table, rules, actor, world, rng)

        chunk = max(1, CHUNK // getattr(self.run.agent.description, "planning_steps", 1))
        stopped: list[BaseException] = []
        everyone = range(len(self.run.seeds))
        try:
            for _ in map(seed, everyone) if self.pool is None else self.pool.map(seed, everyone):
                pass
        except BaseException as reason:  # the other threads stop too
            stopped.append(reason)
            raise

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
        self.loop = jit.specialise(loop, **run.parts)

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
                self.run.begin_anew(place)


class LockstepWalk(Walk):
    """Over the rows of a VectorEnv, all seeds together."""

    kind = "a VectorEnv"

    def __init__(self, run: Online, where: Source, index: StateIndex) -> None:
        self.run, self.index = run, index
        self.rows = rows_of(where, run.seeds, run.envs_per_seed)
        self.absorb = jit.specialise(absorb, **run.parts)
        self.act = jit.specialise(act, **run.parts)

    def _states(self, obs: Any) -> np.ndarray:
        shape = self.run.actor.state.shape
        return self.index.many(obs, shape[0] * shape[1]).reshape(shape)

    def begin(self) -> None:
        self.run.actor.state[:] = self._states(self.rows.reset()[0])

    def take(self, rounds: int) -> None:
        run = self.run
        parts = [run.of_seed(k, view) for k in range(len(run.seeds))]
        shape = run.actor.state.shape
        for _ in range(rounds):
            for table, rules, actor, rng in parts:
                for e in range(run.envs_per_seed):
                    self.act(table, rules, actor, e, rng)
            row = self.rows.step(run.actor.action.reshape(-1))
            following, going_on = self._states(row.next_obs).tolist(), self._states(row.obs).tolist()
            flags = row.reward, row.terminated, row.truncated
            reward, terminated, truncated = (array.reshape(shape).tolist() for array in flags)
            real = np.ones(shape, bool) if row.valid is None else row.valid.reshape(shape)
            for k, (table, rules, actor, rng) in enumerate(parts):
                steps = actor.counters[STEPS_DONE]
                for e in range(run.envs_per_seed):
                    if real[k, e]:
                        answer = following[k][e], float(reward[k][e]), terminated[k][e], truncated[k][e]
                        self.absorb(table, rules, actor, e, steps, *answer, rng)
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
        self.run.begin_anew(...)
