"""The executor over a VectorEnv, all rows in lockstep."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from envs.backends.rows import rows_of
from envs.source import Source
from rl.core.spaces import StateIndex
from rl.tabular.executors.executor import Stepped, warn_of_fresh_episodes
from rl.tabular.executors.step_by_step import StepByStep
from rl.tabular.kernel import STEPS_DONE


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
            warn_of_fresh_episodes(self.rows.name, self.run.seeds, self.run.step)
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
