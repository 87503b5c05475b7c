"""Native rows in place of Gymnasium's own environments, where trajectories are equal to the bit, resets included.

Two rows take as long as two single environments, ten a third to a quarter of the time of ten. A checkpoint does not show which of
the two wrote it.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np

from envs.backends.beginning import member_seed
from envs.backends.member import ReplayableEnv, digest
from envs.backends.native_rows import NativeRows, native_rows
from envs.backends.row_step import RowStep
from envs.native.register import EXACT
from envs.native.vector import NativeVectorEnv
from envs.source import Source

FEW = 2  # rows below which single environments are as fast
TRIED, LIMIT = 250, 100  # steps in which a stand-in is compared with the original, and their time limit


class StandInRows(NativeRows):
    """Rows of Gymnasium's environments, computed by their native forms and saved like `ReplayableEnv`."""

    def __init__(self, vector: NativeVectorEnv, seeds: Sequence[int], envs_per_seed: int, where: Source) -> None:
        super().__init__(vector, seeds, envs_per_seed, where.name)
        self.where = where
        self.places = [(seed, e) for seed in seeds for e in range(envs_per_seed)]
        self.taken: deque[np.ndarray] = deque(maxlen=vector.limit)  # the last actions, int64 [R] each
        self.episode = np.full(vector.num_envs, -1)
        self.total = np.zeros(vector.num_envs)  # reward since the start of the episode

    def reset(self) -> tuple[Any, np.ndarray | None]:
        self._begin(np.ones(self.vector.num_envs, np.bool_))
        return super().reset()

    def step(self, actions: np.ndarray) -> RowStep:
        self.taken.append(actions.copy())
        found = super().step(actions)
        self.total += found.reward
        over = found.terminated | found.truncated
        if over.any():
            self._begin(over)
        return found

    def cut(self, rows: np.ndarray) -> tuple[Any, np.ndarray | None]:
        self._begin(rows)
        return super().cut(rows)

    def _begin(self, rows: np.ndarray) -> None:
        self.episode[rows] += 1
        self.total[rows] = 0.0

    def state_dict(self) -> dict[str, Any]:
        vector, obs = self.vector, self.vector.game.observe(self.vector.state)
        actions = np.array(self.taken, np.int64).reshape(len(self.taken), vector.num_envs)
        return {
            "members": [
                {
                    "episode": int(self.episode[r]),
                    "generator": vector.draws.before_reset(r) if self.episode[r] else None,  # None: of the seed
                    "readable": True,
                    "lasting": None,
                    "total": float(self.total[r]),
                    "obs": digest(obs[r]),
                    "actions": actions[len(actions) - vector.elapsed[r] :, r].copy(),
                }
                for r in range(vector.num_envs)
            ]
        }

    def load_state_dict(self, state: dict[str, Any]) -> tuple[Any, np.ndarray | None, np.ndarray]:
        members = [ReplayableEnv(self.where.make(), seed, e) for seed, e in self.places]
        try:
            fresh = [not m.load_state_dict(saved) for m, saved in zip(members, state["members"], strict=True)]
            self._take_over(members)
        finally:
            for member in members:
                member.env.close()
        return self.vector.game.observe(self.vector.state), None, np.array(fresh)

    def _take_over(self, members: Sequence[ReplayableEnv]) -> None:
        """Continue where single environments are."""
        vector = self.vector
        vector.seed([member_seed(seed, e) for seed, e in self.places])
        for r, member in enumerate(members):
            if member.beginning.generator is not None:
                vector.draws.generators[r].bit_generator.state = member.beginning.generator
        vector.reset()
        steps = np.array([len(member.actions) for member in members])
        taken = np.zeros((steps.max(), len(members)), np.int64)
        for r, member in enumerate(members):
            taken[len(taken) - steps[r] :, r] = member.actions
            for part, number in zip(vector.state.values(), member.env.unwrapped.state, strict=True):  # type: ignore[attr-defined]  # both have it
                part[r] = number
        vector.elapsed[:] = steps
        self.taken.clear()
        self.taken.extend(taken)
        self.episode[:] = [member.beginning.episode for member in members]
        self.total[:] = [member.total for member in members]


def array_rows(where: Source, seeds: Sequence[int], envs_per_seed: int) -> NativeRows | None:
    """Return rows that are stepped in arrays, native ones or stand-ins, or None if there are none."""
    return native_rows(where, seeds, envs_per_seed) or stand_in(where, seeds, envs_per_seed)


def stand_in(where: Source, seeds: Sequence[int], envs_per_seed: int) -> StandInRows | None:
    """Return native rows for a source that has an equal native form, and None for any other, and for a few rows."""
    count, described = len(seeds) * envs_per_seed, where.description or {}
    spec = gym.registry.get(described.get("id", ""))
    if count < FEW or spec is None or spec.entry_point not in EXACT:
        return None
    settings = {**spec.kwargs, **described["kwargs"]}
    limit = settings.pop("max_episode_steps", spec.max_episode_steps)
    if settings or spec.additional_wrappers or described.get("wrappers") or not isinstance(limit, int) or limit < 1:
        return None
    entry = str(spec.entry_point)
    if not is_exact(entry, _methods(entry)):
        return None
    return StandInRows(NativeVectorEnv(EXACT[entry], count, limit), seeds, envs_per_seed, where)


def _methods(entry_point: str) -> tuple[Any, ...]:
    """Return the methods of an original, which a program may have replaced."""
    game: Any = EXACT[entry_point]
    return tuple(filter(callable, vars(game.original).values()))


@functools.cache
def is_exact(entry_point: str, methods: tuple[Any, ...]) -> bool:  # noqa: ARG001  (a key of the cache)
    """Return whether a native form equals the original to the bit: numpy's sines differ between processors.

    methods: those of the original, so that it is compared again once one of them has been replaced.
    """
    game: Any = EXACT[entry_point]
    original = game.original()
    env, vector = gym.wrappers.TimeLimit(original, LIMIT), NativeVectorEnv(game, 1, LIMIT)
    vector.seed([0])
    same = digest(env.reset(seed=0)[0]) == digest(vector.reset()[0][0])
    for action in np.random.default_rng(0).integers(vector.count, size=TRIED):
        obs, *outcome, _ = env.step(action)
        found = vector.advance(np.array([action]))
        same = same and digest(obs) == digest(found.next_obs[0])
        same = same and outcome == [found.reward[0], found.terminated[0], found.truncated[0]]
        if any(outcome[1:]):
            env.reset()
        state = np.array([part[0] for part in vector.state.values()])
        same = same and digest(np.array(original.state, np.float64)) == digest(state)
    env.close()
    return same
