"""The executor over a finite model: the whole loop, compiled, one thread for several seeds."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from envs import tables
from envs.backends.beginning import member_seed
from rl.core import jit
from rl.core.registry import optional_setting
from rl.explore import masked
from rl.tabular.executors.executor import Executor, Stepped, as_memoryview, padded_zeros, warn_of_fresh_episodes
from rl.tabular.kernel import STEPS_DONE, loop

# Maximum steps per call of the compiled loop, which cannot be interrupted.
CHUNK = 1_000_000
TASKS_PER_THREAD = 4


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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
            warn_of_fresh_episodes(self.model.name, self.run.seeds[k], int(self.run.actor.counters[k, STEPS_DONE]))
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
