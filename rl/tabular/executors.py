"""The executors of a tabular loop: over a finite model (compiled), over single environments, and over a VectorEnv."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np

from envs import tables
from envs.backends.beginning import member_seed
from envs.backends.member import ReplayableEnv
from envs.backends.rows import rows_of
from envs.source import Source
from rl.core import jit
from rl.core.registry import name_of, optional_setting
from rl.core.spaces import StateIndex
from rl.explore import masked
from rl.explore.masked import as_mask
from rl.tabular.kernel import STEPS_DONE, ActorState, LoopParams, act, learn_from_step, loop
from rl.tabular.tables import TabularAgent

# Maximum steps per call of the compiled loop, which cannot be interrupted.
CHUNK = 1_000_000
TASKS_PER_THREAD = 4
NOTHING = object()  # the cached mask of a state that has not been seen yet


def padded_zeros(n: int, width: int, kind: type) -> np.ndarray:
    """Return zeros [n, width] whose rows share no cache line, which avoids false sharing between threads."""
    line = 128 // np.dtype(kind).itemsize
    return np.zeros((n, -(-width // line) * line), kind)[:, :width]


def as_memoryview(array: np.ndarray) -> Any:
    """Return a memoryview of an array; plain Python indexes it several times faster than the array."""
    return memoryview(array)  # type: ignore[arg-type]  # numpy's stubs do not declare arrays as buffers


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Stepped(Protocol):
    """The interface of a loop that an executor reads and writes."""

    seeds: tuple[int, ...]
    envs_per_seed: int
    agent: TabularAgent
    actor: ActorState  # arrays [N, ...]
    parts: dict[str, Any]  # what the kernel is specialized for: the rule and its constants

    @property
    def step(self) -> int: ...

    def begin_anew(self, place: Any) -> None: ...

    def seed_slice(
        self, k: int, wrap: Callable[[np.ndarray], Any]
    ) -> tuple[Any, LoopParams, ActorState, np.random.Generator]: ...


class Executor:
    """Takes the environment steps of a loop. `kind` is its name in checkpoints."""

    kind: str

    def __init__(self, run: Stepped) -> None:
        self.run = run
        self.within: set[int] = set()  # indices of the seeds that an exception interrupted within a step

    def begin(self) -> None: ...

    def recover(self) -> None:
        """After an exception within a step: start new episodes for the seeds it interrupted."""

    def take(self, target: int) -> None:
        """Step every seed until it has taken `target` steps."""

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class CompiledExecutor(Executor):
    """Runs over a finite model, compiled, with the seeds in parallel on `workers` threads (None: all cores).

    Without numba the same functions run uncompiled.
    """

    kind = "a finite model"

    def __init__(self, run: Stepped, model: tables.Model, workers: int | None) -> None:
        super().__init__(run)
        self.model = model
        n, e = len(run.seeds), run.envs_per_seed
        self.elapsed, self.state = padded_zeros(n, e, np.int64), padded_zeros(n, e, np.int64)
        rows = [[member_seed(seed, i) for i in range(e)] for seed in run.seeds]
        self.generators = [tuple(np.random.Generator(np.random.PCG64(seed)) for seed in row) for row in rows]
        parts = {**run.parts, "world_step": tables.model_step, "world_reset": tables.model_reset}
        if model.mask is not None:
            parts |= masked.RULES
        fast = jit.compiled(loop, **parts)
        self.loop = fast or jit.specialize(loop, **parts)
        self.wrap: Callable[[np.ndarray], Any] = (lambda array: array) if fast else as_memoryview
        # Signals are handled only between compiled calls, so there only the rule's own exceptions interrupt a step.
        self.leaves: tuple[type[BaseException], ...] = (Exception,) if fast else (BaseException,)
        self.threads = min(workers or cores(), n) if fast else 1
        self.pool = ThreadPoolExecutor(self.threads) if self.threads > 1 else None
        # Several seeds per task amortize the dispatch overhead; several tasks per thread balance the load.
        self.tasks = np.array_split(np.arange(n), min(n, TASKS_PER_THREAD * self.threads))
        self.prepared: list[Any] = []  # each seed's arguments of the loop
        self.entry: Callable[..., None] = self.loop  # replaced by its machine code once the argument types are known

    def _world(self, k: int) -> tables.ModelState:
        world = tables.world_of(self.model, self.state[k], self.elapsed[k], self.generators[k])
        arrays = {name: self.wrap(value) for name, value in world._asdict().items() if isinstance(value, np.ndarray)}
        return world._replace(**arrays)

    def begin(self) -> None:
        for k in range(len(self.run.seeds)):
            self._begin_seed(k)

    def _begin_seed(self, k: int) -> None:
        world = self._world(k)
        for e in range(self.run.envs_per_seed):
            self.run.actor.state[k, e] = tables.model_reset(world, e)

    def recover(self) -> None:
        for k in sorted(self.within):
            _warn_of_fresh_episodes(self.model.name, self.run.seeds[k], int(self.run.actor.counters[k, STEPS_DONE]))
            self._begin_seed(k)
            self.run.begin_anew(k)
        self.within.clear()

    def take(self, target: int) -> None:
        if not self.prepared:
            self._prepare()
        stopped: list[BaseException] = []

        def seeds(task: np.ndarray) -> None:
            for k in task.tolist():
                self._take(k, target, stopped)

        try:
            for _ in map(seeds, self.tasks) if self.pool is None else self.pool.map(seeds, self.tasks):
                pass
        except BaseException as reason:  # the other threads stop after their current call
            stopped.append(reason)
            if self.pool is not None:
                self.pool.shutdown(wait=True)
                self.pool = ThreadPoolExecutor(self.threads)
            raise

    def _prepare(self) -> None:
        for k in range(len(self.run.seeds)):
            table, params, actor, rng = self.run.seed_slice(k, self.wrap)
            self.prepared.append((table, params, actor, self._world(k), rng))
        self.entry = jit.entry(self.loop, 0, *self.prepared[0])

    def _take(self, k: int, target: int, stopped: list[BaseException]) -> None:
        chunk = max(1, CHUNK // optional_setting(self.run.agent.config, "backups_per_step", 1))
        counters = self.run.actor.counters
        while not stopped and (rounds := (target - int(counters[k, STEPS_DONE])) // self.run.envs_per_seed) > 0:
            try:
                self.entry(min(chunk, rounds), *self.prepared[k])
            except self.leaves:
                self.within.add(k)
                raise

    def state_dict(self) -> dict[str, Any]:
        generators = [[rng.bit_generator.state for rng in row] for row in self.generators]
        return {"elapsed": self.elapsed, "state": self.state, "generators": generators}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, array in (("elapsed", self.elapsed), ("state", self.state)):
            if state[name].shape != array.shape:
                raise ValueError(
                    f"The saved {name!r} must have the shape {list(array.shape)}, not {list(state[name].shape)}."
                )
            array[:] = state[name]
        if not np.array_equal(self.state, self.run.actor.state) or self.elapsed.min() < 0:
            raise ValueError("The saved environment states are inconsistent.")
        for row, saved_row in zip(self.generators, state["generators"], strict=True):
            for rng, saved in zip(row, saved_row, strict=True):
                rng.bit_generator.state = saved


class StepByStep(Executor):
    """Runs over Gymnasium environments in plain Python, calling `act` and `learn_from_step` at each step.

    Both are specialized again for masks when an environment first forbids an action, and for per-step discounts when one
    first returns info["discount"], so that environments without them have no overhead.
    """

    def __init__(self, run: Stepped) -> None:
        super().__init__(run)
        self.masked, self.discounted = False, False
        # Each seed's most recent mask per state, within the current call of `take`.
        self.noted: list[dict[int, Any]] = [{} for _ in run.seeds]
        self._specialize()

    def _specialize(self) -> None:
        if self.masked:
            self.run.agent.allow()
        parts = {**self.run.parts, **(masked.RULES if self.masked else {}), "SEMI_MARKOV": int(self.discounted)}
        self.act, self.learn_from = jit.specialize(act, **parts), jit.specialize(learn_from_step, **parts)
        self.parts = [self.run.seed_slice(k, as_memoryview) for k in range(len(self.run.seeds))]

    def _forget(self) -> None:
        """Clear the cached masks: the agent's masks may change between calls of `take`."""
        for noted in self.noted:
            noted.clear()

    def _respect_masks(self) -> None:
        if not self.masked:
            self.masked = True
            self._specialize()

    def _respect_discounts(self) -> None:
        """Specialize for per-step discounts. Raises ValueError if the rule does not support them."""
        config = self.run.agent.config
        if config.why_no_discounts is not None:
            raise ValueError(
                f"The environment returns a per-step discount, info['discount'], which {name_of(config)} does not support:"
                f" {config.why_no_discounts}."
            )
        self.discounted = True
        self._specialize()

    def _allow(self, k: int, s: int, mask: np.ndarray | None) -> None:
        """Record the actions allowed in state s of the k-th seed; None: all."""
        assert self.run.agent.mask is not None
        self.run.agent.mask[k, s] = 0.0 if mask is None else as_mask(mask)
        self.noted[k][s] = mask

    def state_dict(self) -> dict[str, Any]:
        return {"discounted": True} if self.discounted else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if self.run.agent.mask is not None:
            self._respect_masks()
        if state.get("discounted", False):
            self._respect_discounts()


class PythonExecutor(StepByStep):
    """Runs over single environments, one seed after another."""

    kind = "single environments"

    def __init__(self, run: Stepped, members: list[ReplayableEnv]) -> None:
        e = run.envs_per_seed
        self.members = [members[k * e : k * e + e] for k in range(len(run.seeds))]
        super().__init__(run)

    def begin(self) -> None:
        for k in range(len(self.members)):
            self._begin_seed(k)

    def _begin_seed(self, k: int) -> None:
        for e, member in enumerate(self.members[k]):
            self.run.actor.state[k, e] = member.reset()
            if member.mask is not None:
                self._respect_masks()

    def recover(self) -> None:
        for k in sorted(self.within):
            steps = int(self.run.actor.counters[k, STEPS_DONE])
            _warn_of_fresh_episodes(self.members[k][0].name, self.run.seeds[k], steps)
            self._begin_seed(k)
            self.run.begin_anew(k)
        self.within.clear()

    def take(self, target: int) -> None:
        self._forget()
        for k in range(len(self.members)):
            rounds = (target - int(self.run.actor.counters[k, STEPS_DONE])) // self.run.envs_per_seed
            try:
                self._take(k, rounds)
            except BaseException:
                self.within.add(k)
                raise

    def _take(self, k: int, rounds: int) -> None:
        """Take `rounds` steps in each environment of the k-th seed."""
        members = list(enumerate(self.members[k]))
        masked, noted, (table, params, actor, rng) = self.masked, self.noted[k], self.parts[k]
        act, learn, state, action, counters = (
            self.act,
            self.learn_from,
            actor.state,
            actor.action,
            actor.counters,
        )
        for _ in range(rounds):
            for e, member in members:
                if masked and noted.get(state[e], NOTHING) is not member.mask:
                    self._allow(k, state[e], member.mask)
                act(table, params, actor, e, rng)
            steps = counters[STEPS_DONE]
            for e, member in members:
                next_s, reward, terminated, truncated = member.step(action[e])
                if member.mask is not None and not masked:  # `state`, `action` and `counters` remain valid
                    self._respect_masks()
                    masked, act, learn, (table, params, actor, rng) = (
                        True,
                        self.act,
                        self.learn_from,
                        self.parts[k],
                    )
                if masked and noted.get(next_s, NOTHING) is not member.mask:
                    self._allow(k, next_s, member.mask)
                scale = member.discount
                if scale != 1.0 and not self.discounted:
                    self._respect_discounts()
                    act, learn, (table, params, actor, rng) = self.act, self.learn_from, self.parts[k]
                if learn(table, params, actor, e, steps, next_s, reward, terminated, truncated, rng, scale):
                    state[e] = member.reset()
                    if member.mask is not None and not masked:
                        self._respect_masks()
                        masked, act, learn, (table, params, actor, rng) = (
                            True,
                            self.act,
                            self.learn_from,
                            self.parts[k],
                        )
            counters[STEPS_DONE] = steps + len(members)

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"members": [member.state_dict() for row in self.members for member in row]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        e = self.run.envs_per_seed
        for i, saved in enumerate(state["members"]):
            place = divmod(i, e)
            member = self.members[place[0]][place[1]]
            if not member.load_state_dict(saved):  # replay failed and a new episode was started
                self.run.actor.state[place] = member.encode(member.obs)
                self.run.begin_anew(place)


class VectorExecutor(StepByStep):
    """Runs over the rows of a VectorEnv, all seeds in lockstep."""

    kind = "a VectorEnv"

    def __init__(self, run: Stepped, where: Source, index: StateIndex) -> None:
        self.index = index
        self.rows = rows_of(where, run.seeds, run.envs_per_seed)
        self.mask: np.ndarray | None = None  # bool [N, E, A], the actions allowed now; None: all
        super().__init__(run)

    def _states(self, obs: Any) -> np.ndarray:
        shape = self.run.actor.state.shape
        return self.index.many(obs, shape[0] * shape[1]).reshape(shape)

    def _masks(self, mask: np.ndarray | None) -> np.ndarray | None:
        if mask is None:
            return None
        self._respect_masks()
        return mask.reshape(*self.run.actor.state.shape, -1)

    def begin(self) -> None:
        obs, mask = self.rows.reset()
        self.run.actor.state[:] = self._states(obs)
        self.mask = self._masks(mask)

    def recover(self) -> None:
        if self.within:
            _warn_of_fresh_episodes(self.rows.name, self.run.seeds, self.run.step)
            self.begin()
            self.run.begin_anew(...)
            self.run.actor.counters[:, STEPS_DONE] = self.run.actor.counters[:, STEPS_DONE].max()
            self.within.clear()

    def take(self, target: int) -> None:
        self._forget()
        try:
            for _ in range((target - self.run.step) // self.run.envs_per_seed):
                self._round()
        except BaseException:
            self.within.update(range(len(self.run.seeds)))
            raise

    def _round(self) -> None:
        """Take one step in every environment."""
        run = self.run
        shape = run.actor.state.shape
        for k, (table, params, actor, rng) in enumerate(self.parts):
            for e in range(run.envs_per_seed):
                if self.masked:
                    self._allow(k, actor.state[e], None if self.mask is None else self.mask[k, e])
                self.act(table, params, actor, e, rng)
        row = self.rows.step(run.actor.action.reshape(-1))
        next_mask, self.mask = self._masks(row.next_mask), self._masks(row.mask)
        if row.discount is not None and not self.discounted:
            self._respect_discounts()
        following, going_on = self._states(row.next_obs).tolist(), self._states(row.obs).tolist()
        flags = row.reward, row.terminated, row.truncated
        reward, terminated, truncated = (array.reshape(shape).tolist() for array in flags)
        scale = (np.ones(shape) if row.discount is None else row.discount.reshape(shape)).tolist()
        real = np.ones(shape, bool) if row.valid is None else row.valid.reshape(shape)
        for k, (table, params, actor, rng) in enumerate(self.parts):
            steps = actor.counters[STEPS_DONE]
            for e in range(run.envs_per_seed):
                if real[k, e]:
                    next_s = following[k][e]
                    if self.masked:
                        self._allow(k, next_s, None if next_mask is None else next_mask[k, e])
                    answer = next_s, float(reward[k][e]), terminated[k][e], truncated[k][e]
                    self.learn_from(table, params, actor, e, steps, *answer, rng, scale[k][e])
                else:
                    actor.held[e] = 0  # the action selected for this call was not taken
                actor.state[e] = going_on[k][e]
            actor.counters[STEPS_DONE] = steps + run.envs_per_seed

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        warnings.warn(
            f"{self.rows.name} is a VectorEnv, whose state cannot be saved: new episodes start, and the run is not bit-identical"
            " to an uninterrupted one. Pass an environment id or a function to get exact resumption.",
            RuntimeWarning,
            stacklevel=2,
        )
        self.begin()
        self.run.begin_anew(...)


def _warn_of_fresh_episodes(name: str, seeds: Any, step: int) -> None:
    warnings.warn(
        f"An exception interrupted {name} (seed {seeds}) within a step, after {step:,} steps: new episodes start there.",
        RuntimeWarning,
        stacklevel=6,
    )
