"""Rows of environments: single ones side by side, or a `VectorEnv`, in whatever autoreset mode."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import gymnasium as gym
import numpy as np
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.vector.utils import concatenate, create_empty_array

from envs.member import Member, member_seed
from envs.source import EnvError, Source

# Wrappers that hand observations on as they come.
TRANSPARENT = (
    gym.wrappers.TimeLimit,
    gym.wrappers.OrderEnforcing,
    gym.wrappers.PassiveEnvChecker,
    gym.wrappers.RecordEpisodeStatistics,
    gym.wrappers.TransformReward,
    gym.wrappers.RecordVideo,
)
PLAIN = (gym.spaces.Box, gym.spaces.Discrete, gym.spaces.MultiDiscrete, gym.spaces.MultiBinary)


class RowStep(NamedTuple):
    """What rows of environments answer, without the seed axis."""

    next_obs: Any
    obs: Any
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    valid: np.ndarray | None  # None: all
    next_mask: np.ndarray | None  # bool [rows, A], from info["action_mask"]; None: there is none
    mask: np.ndarray | None


class Rows(Protocol):
    """Rows of environments, without the seed axis: single ones, or a VectorEnv."""

    name: str
    observation_space: gym.Space[Any]
    action_space: gym.Space[Any]
    actions: int | None  # None: not Discrete, and handed on as they are
    frames: int

    def reset(self) -> tuple[Any, np.ndarray | None]: ...

    def step(self, actions: np.ndarray) -> RowStep: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> tuple[Any, np.ndarray | None, np.ndarray]: ...

    def close(self) -> None: ...


class MemberRows:
    """Rows of single environments, each resumable."""

    def __init__(self, members: list[Member]) -> None:
        self.members = members
        self.name = members[0].name
        self.observation_space = members[0].env.observation_space
        self.action_space = members[0].env.action_space
        self.actions = _discrete(self.action_space)
        self.frames = _frames(members[0].env)

    def reset(self) -> tuple[Any, np.ndarray | None]:
        return self.stack([member.reset() for member in self.members]), self.masks()

    def step(self, actions: np.ndarray) -> RowStep:
        results = [member.step(a) for member, a in zip(self.members, self._each(actions), strict=True)]
        observations, reward, terminated, truncated = zip(*results, strict=True)
        next_obs, next_mask = self.stack(observations), self.masks()
        obs, mask = next_obs, next_mask
        if any(terminated) or any(truncated):
            obs = self.stack([m.reset() if r[2] or r[3] else r[0] for m, r in zip(self.members, results, strict=True)])
            mask = self.masks()
        return RowStep(
            next_obs, obs, np.array(reward), np.array(terminated), np.array(truncated), None, next_mask, mask
        )

    def _each(self, actions: np.ndarray) -> list[Any]:
        return list(actions) if self.actions is None else actions.tolist()

    def stack(self, observations: Sequence[Any]) -> Any:
        space = self.observation_space
        if isinstance(space, PLAIN):
            rows = np.array(observations, dtype=space.dtype)
            if rows.shape[1:] == space.shape:
                return rows
            raise EnvError(f"{self.name} gave an observation of shape {list(rows.shape[1:])}; its space is {space}.")
        out: Any = create_empty_array(space, n=len(observations))
        return concatenate(space, observations, out)

    def masks(self) -> np.ndarray | None:
        if self.members[0].mask is None:
            return None
        return np.array([member.mask for member in self.members])

    def state_dict(self) -> dict[str, Any]:
        return {"members": [member.state_dict() for member in self.members]}

    def load_state_dict(self, state: dict[str, Any]) -> tuple[Any, np.ndarray | None, np.ndarray]:
        fresh = [not m.load_state_dict(saved) for m, saved in zip(self.members, state["members"], strict=True)]
        return self.stack([member.obs for member in self.members]), self.masks(), np.array(fresh)

    def close(self) -> None:
        for member in self.members:
            member.env.close()


class VectorRows:
    """A `gymnasium.vector.VectorEnv` in any autoreset mode."""

    def __init__(self, vector: VectorEnv[Any, Any, Any], seeds: list[int]) -> None:
        self.vector, self.seeds = vector, seeds
        self.name = vector.spec.id if vector.spec is not None else type(vector.unwrapped).__name__
        self.observation_space = vector.single_observation_space
        self.action_space = vector.single_action_space
        self.actions = _discrete(self.action_space)
        self.first_action = int(getattr(self.action_space, "start", 0))
        mode = vector.metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP)
        self.mode = mode if isinstance(mode, AutoresetMode) else AutoresetMode(mode)
        self.over = np.zeros(vector.num_envs, dtype=np.bool_)
        self.frames = 1

    def reset(self) -> tuple[Any, np.ndarray | None]:
        # A native vector environment has one generator for all its rows and takes one number.
        many = isinstance(self.vector.unwrapped, (SyncVectorEnv, AsyncVectorEnv))
        seed: Any = self.seeds if many else self.seeds[0]
        obs, infos = self.vector.reset(seed=seed)
        self.over[:] = False
        return obs, infos.get("action_mask")

    def step(self, actions: np.ndarray) -> RowStep:
        obs, reward, terminated, truncated, infos = self.vector.step(
            actions if self.actions is None else actions + self.first_action
        )
        obs = _copied(obs)
        reward, terminated, truncated = (np.array(x) for x in (reward, terminated, truncated))
        if not np.isfinite(reward).all():
            row = int(np.flatnonzero(~np.isfinite(reward))[0])
            raise EnvError(f"{self.name} gave the reward {reward[row]} in row {row}; rewards must be finite numbers.")
        over = terminated | truncated
        mask = infos.get("action_mask")
        mask = None if mask is None else np.array(mask)
        if self.mode == AutoresetMode.NEXT_STEP:
            # A row that was over spent this call on its reset: what it answers belongs to no action.
            valid = ~self.over
            self.over = over
            if mask is not None:
                mask[over] = True  # what is answered to an action after the end counts for nothing
            return RowStep(obs, obs, reward, terminated, truncated, None if valid.all() else valid, mask, mask)
        if not over.any():
            return RowStep(obs, obs, reward, terminated, truncated, None, mask, mask)
        if self.mode == AutoresetMode.SAME_STEP:
            next_mask = None if mask is None else self._final_mask(mask, infos, over)
            return RowStep(
                self._with_final(obs, infos, over), obs, reward, terminated, truncated, None, next_mask, mask
            )
        fresh, infos = self.vector.reset(options={"reset_mask": over})
        later = mask
        if mask is not None:
            later = np.where(over[:, None], infos.get("action_mask", mask), mask)
        return RowStep(obs, _copied(fresh), reward, terminated, truncated, None, mask, later)

    @staticmethod
    def _final_mask(mask: np.ndarray, infos: dict[str, Any], over: np.ndarray) -> np.ndarray:
        """The masks with the true last ones put in where an episode is over."""
        final = infos.get("final_info", {}).get("action_mask")
        return np.where(over[:, None], True if final is None else final, mask)

    def _with_final(self, obs: Any, infos: dict[str, Any], over: np.ndarray) -> Any:
        """The observations with the true last ones put in where an episode is over."""
        final = infos.get("final_obs")
        if final is None:
            raise EnvError(
                f"{self.name} resets in the same step but gives no infos['final_obs']: the last step is lost."
            )
        true = _copied(obs)
        for row in np.flatnonzero(over):
            _put(true, int(row), _row(final, int(row)))
        return true

    def state_dict(self) -> dict[str, Any]:
        raise EnvError(f"{self.name} is a VectorEnv, which keeps its state to itself: it cannot be saved mid-episode.")

    def load_state_dict(self, state: dict[str, Any]) -> tuple[Any, np.ndarray | None, np.ndarray]:
        raise EnvError(f"{self.name} is a VectorEnv, whose state cannot be set.")

    def close(self) -> None:
        self.vector.close()


def _discrete(space: gym.Space[Any]) -> int | None:
    return int(space.n) if isinstance(space, gym.spaces.Discrete) else None


def _frames(env: gym.Env[Any, Any]) -> int:
    """How many frames FrameStackObservation puts into each observation, where no wrapper around it alters them; else 1."""
    while isinstance(env, gym.Wrapper):
        if isinstance(env, gym.wrappers.FrameStackObservation):
            return int(env.stack_size)
        if not isinstance(env, TRANSPARENT):
            return 1
        env = env.env
    return 1


def _copied(obs: Any) -> Any:
    if isinstance(obs, dict):
        return {key: _copied(part) for key, part in obs.items()}
    return tuple(_copied(part) for part in obs) if isinstance(obs, tuple) else np.array(obs)


def _row(batch: Any, row: int) -> Any:
    if isinstance(batch, dict):
        return {key: _row(part, row) for key, part in batch.items()}
    return tuple(_row(part, row) for part in batch) if isinstance(batch, tuple) else batch[row]


def _put(batch: Any, row: int, value: Any) -> None:
    if isinstance(batch, dict):
        for key, part in batch.items():
            _put(part, row, value[key])
    elif isinstance(batch, tuple):
        for part, item in zip(batch, value, strict=True):
            _put(part, row, item)
    else:
        batch[row] = value


def members_of(where: Source, seeds: Sequence[int], envs_per_seed: int, encode: Any = None) -> list[Member] | None:
    """N * E single environments of a source, or None where it is a VectorEnv that cannot be taken apart."""
    if where.vector is None:
        return [Member(where.make(), seed, e, encode) for seed in seeds for e in range(envs_per_seed)]
    _check_rows(where, len(seeds), envs_per_seed)
    if type(where.vector) is not SyncVectorEnv:
        return None
    rows = [(seed, e) for seed in seeds for e in range(envs_per_seed)]
    return [Member(env, seed, e, encode) for env, (seed, e) in zip(where.vector.envs, rows, strict=True)]


def _check_rows(where: Source, n: int, e: int) -> None:
    if where.vector is not None and where.vector.num_envs != n * e:
        raise EnvError(
            f"{where.name} has {where.vector.num_envs} environments, but {n} seeds with {e} each need {n * e}."
            " Row k * envs_per_seed + e belongs to seed k."
        )


def rows_of(where: Source, seeds: tuple[int, ...], envs_per_seed: int) -> MemberRows | VectorRows:
    """The N * E environments of a source, row k * E + e for environment e of seed k."""
    members = members_of(where, seeds, envs_per_seed)
    if members is not None:
        return MemberRows(members)
    assert where.vector is not None
    return VectorRows(where.vector, [member_seed(seed, e) for seed in seeds for e in range(envs_per_seed)])
