"""Rows of environments: single ones side by side, or a `VectorEnv`, split into its environments or stepped as a whole."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import SyncVectorEnv

from envs.backends import discounts
from envs.backends.contract import layers
from envs.backends.member import WINDOW, ReplayableEnv
from envs.backends.native_rows import NativeRows
from envs.backends.row_step import Rows, RowStep, together
from envs.backends.running import Statistics
from envs.backends.stand_in import array_rows
from envs.backends.values import Fit, Misfit
from envs.backends.vector_rows import VectorEnvs, discrete
from envs.errors import EnvError
from envs.source import Source
from supervised.renamed import former_name

__all__ = ["RowStep", "Rows", "SingleEnvs", "VectorEnvs", "altered_by", "members_of", "rows_of"]

# Wrappers that do not change observations.
TRANSPARENT = (
    gym.wrappers.TimeLimit,
    gym.wrappers.OrderEnforcing,
    gym.wrappers.PassiveEnvChecker,
    gym.wrappers.RecordEpisodeStatistics,
    gym.wrappers.TransformReward,
    gym.wrappers.RecordVideo,
)


class SingleEnvs:
    """Rows of single environments, each resumable."""

    resumable = True

    def __init__(self, members: list[ReplayableEnv]) -> None:
        self.members = members
        self.name = members[0].name
        self.observation_space = members[0].env.observation_space
        self.action_space = members[0].env.action_space
        self.actions = discrete(self.action_space)
        self.frames = _frames(members[0].env)
        self._fit = Fit(self.observation_space)

    def reset(self) -> tuple[Any, np.ndarray | None]:
        return self.stack([member.reset() for member in self.members]), self.masks()

    def step(self, actions: np.ndarray) -> RowStep:
        results = [member.step(a) for member, a in zip(self.members, self._each(actions), strict=True)]
        observations, reward, terminated, truncated = zip(*results, strict=True)
        next_obs, next_mask = self.stack(observations), self.masks()
        discount = discounts.together([member.discount for member in self.members])
        obs, mask = next_obs, next_mask
        if any(terminated) or any(truncated):
            obs = self.stack([m.reset() if r[2] or r[3] else r[0] for m, r in zip(self.members, results, strict=True)])
            mask = self.masks()
        flags = np.array(terminated), np.array(truncated)
        return RowStep(np.array(reward), *flags, discount, next_obs, obs, None, next_mask, mask)

    def _each(self, actions: np.ndarray) -> list[Any]:
        return list(actions) if self.actions is None else actions.tolist()

    def stack(self, observations: Sequence[Any]) -> Any:
        """Stack one observation per row -> [R, *O]. Raises EnvError for one that does not fit the space."""
        try:
            return self._fit.stack(observations)
        except Misfit as misfit:
            raise self.members[misfit.row].misfit(misfit) from None

    def masks(self) -> np.ndarray | None:
        """Return the currently allowed actions, bool [R, A], all True in rows without a mask, or None if no row has one."""
        return together([member.mask for member in self.members], self.actions)

    def statistics(self) -> list[Statistics] | None:
        """Return the running statistics of each row's wrappers, or None if there are none."""
        if not self.members[0].running:
            return None
        return [member.running.statistics() for member in self.members]

    def recorded_returns(self) -> np.ndarray | None:
        """Return the mean return in info["episode"] of each seed's last episodes, float64 [N], or None without any."""
        recorded = [member.recorded for member in self.members if member.e == 0]
        if not any(recorded):
            return None
        return np.array([np.mean(returns) if returns else np.nan for returns in recorded])

    def state_dict(self) -> dict[str, Any]:
        return {"members": [member.state_dict() for member in self.members]}

    def load_state_dict(self, state: dict[str, Any]) -> tuple[Any, np.ndarray | None, np.ndarray]:
        fresh = [not m.load_state_dict(saved) for m, saved in zip(self.members, state["members"], strict=True)]
        return self.stack([member.obs for member in self.members]), self.masks(), np.array(fresh)

    def close(self) -> None:
        for member in self.members:
            member.env.close()


def altered_by(env: gym.Env[Any, Any]) -> tuple[str, ...]:
    """Return the names of wrappers around `env` that are known to change rewards, outermost first."""
    altering = gym.RewardWrapper, gym.wrappers.NormalizeReward
    return tuple(type(layer).__name__ for layer in layers(env) if isinstance(layer, altering))


def _frames(env: gym.Env[Any, Any]) -> int:
    """Return the number of frames that FrameStackObservation stacks, or 1 if a wrapper around it may change observations."""
    while isinstance(env, gym.Wrapper):
        if isinstance(env, gym.wrappers.FrameStackObservation):
            return int(env.stack_size)
        if not isinstance(env, TRANSPARENT):
            return 1
        env = env.env
    return 1


def members_of(
    where: Source, seeds: Sequence[int], envs_per_seed: int, encode: Any = None
) -> list[ReplayableEnv] | None:
    """Create N * E single environments of a source; return None for a VectorEnv that cannot be split."""
    _check_rows(where, len(seeds), envs_per_seed)
    if where.vector is not None and type(where.vector) is not SyncVectorEnv:
        return None
    members = []
    for k, seed in enumerate(seeds):
        recorded: deque[float] = deque(maxlen=WINDOW)
        for e in range(envs_per_seed):
            row = k * envs_per_seed + e
            env = where.make() if where.vector is None else where.vector.envs[row]
            members.append(ReplayableEnv(env, seed, e, encode, recorded))
    return members


def _check_rows(where: Source, n: int, e: int) -> None:
    if where.vector is not None and where.vector.num_envs != n * e:
        raise EnvError(
            f"{where.name} has {where.vector.num_envs} environments, but {n} seeds with {e} each need {n * e}."
            " Row k * envs_per_seed + e belongs to seed k."
        )


def rows_of(where: Source, seeds: tuple[int, ...], envs_per_seed: int) -> SingleEnvs | VectorEnvs | NativeRows:
    """Create the N * E environments of a source; row k * E + e is environment e of seed k."""
    _check_rows(where, len(seeds), envs_per_seed)
    native = array_rows(where, seeds, envs_per_seed)
    if native is not None:
        return native
    members = members_of(where, seeds, envs_per_seed)
    if members is not None:
        return SingleEnvs(members)
    assert where.vector is not None
    return VectorEnvs(where.vector, seeds, envs_per_seed)


__getattr__ = former_name(__name__)
