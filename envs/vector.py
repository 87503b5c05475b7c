"""Many environments as one world: `reset()`, then `step(actions) -> Step`.

This is the only place that knows autoreset. Whatever Gymnasium's vector environments do at an episode's end, a `Step`
says it in one way: `next_obs` is the true successor of the action, also at the end, and `obs` is what to act on next.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.vector.utils import concatenate, create_empty_array
from torch import Tensor

from envs.member import Member, member_seed
from envs.source import EnvError, EnvLike, Source, source

Obs = Tensor | dict[str, Any]
# next_obs, obs, reward, terminated, truncated, valid (None: all)
RowStep = tuple[Any, Any, np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]


MOST_SEEDS = 100_000


class Step(NamedTuple):
    """What a world answers; N seeds, E environments a seed, A actions."""

    reward: Tensor  # float32 [N, E]
    terminated: Tensor  # bool [N, E]
    truncated: Tensor  # bool [N, E]
    next_obs: Obs  # [N, E, *O], the true successor, also at an episode's end
    obs: Obs  # [N, E, *O], what to act on next (after a reset, if one happened)
    next_mask: Tensor | None = None  # bool [N, E, A], actions allowed in next_obs; None: all
    valid: Tensor | None = None  # bool [N, E], false where NEXT_STEP mode spent the call on a reset; None: all true


def seeds_of(seeds: int | Iterable[int]) -> tuple[int, ...]:
    """A count becomes 0..n-1; a list or a range stays. Raises ValueError for none, negative or repeated seeds."""
    if isinstance(seeds, (bool, float, str)):
        raise ValueError(f"seeds is a count or a list of whole numbers, not {seeds!r}.")
    if isinstance(seeds, (int, np.integer)) and seeds > MOST_SEEDS:
        raise ValueError(f"At most {MOST_SEEDS:,} seeds can run at once, not {seeds:,}.")
    try:
        numbers = tuple(range(seeds)) if isinstance(seeds, (int, np.integer)) else tuple(seeds)
    except TypeError:
        raise ValueError(f"seeds is a count or a list of whole numbers, not {seeds!r}.") from None
    if not numbers:
        raise ValueError(f"At least one seed is needed, not {seeds!r}.")
    for seed in numbers:
        if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or not 0 <= seed < 2**63:
            raise ValueError(f"A seed is a whole number from 0 on, not {seed!r}.")
    double = sorted(seed for seed, count in Counter(numbers).items() if count > 1)
    if double:
        raise ValueError(f"Each seed can run once; {', '.join(map(str, double))} was given more than once.")
    return tuple(int(seed) for seed in numbers)


class World:
    """N * E environments in lockstep. Row k * E + e of a vector environment is environment e of seed k."""

    def __init__(self, rows: Rows, seeds: tuple[int, ...], envs_per_seed: int) -> None:
        self._rows = rows
        self.seeds, self.envs_per_seed = seeds, envs_per_seed
        self.name = rows.name
        self.observation_space: gym.Space[Any] = rows.observation_space
        self.action_space: gym.Space[Any] = rows.action_space

    def reset(self) -> Any:
        """Begin an episode in every environment -> its observation [N, E, *O], a tensor or a dict of tensors."""
        return self._tensors(self._rows.reset())

    def step(self, actions: Tensor | np.ndarray) -> Step:
        """Take actions int64 [N, E], counted from 0; those that are not Discrete [N, E, *A] as they are.

        Raises EnvError for a bad shape, a NaN reward or observation.
        """
        shape = (len(self.seeds), self.envs_per_seed)
        taken = actions.cpu().numpy() if isinstance(actions, Tensor) else np.asarray(actions)
        count = self._rows.actions
        if taken.shape[:2] != shape or (count is not None and taken.ndim > 2):
            raise EnvError(f"step takes actions [seeds, environments a seed] = {list(shape)}, not {list(taken.shape)}.")
        if count is not None and (taken.dtype.kind not in "iu" or taken.min() < 0 or taken.max() >= count):
            raise EnvError(f"Actions are whole numbers from 0 to {count - 1}; got {taken.dtype} {taken.tolist()}.")
        next_obs, obs, reward, terminated, truncated, valid = self._rows.step(taken.reshape(-1, *taken.shape[2:]))
        return Step(
            torch.from_numpy(reward.astype(np.float32).reshape(shape)),
            torch.from_numpy(terminated.reshape(shape)),
            torch.from_numpy(truncated.reshape(shape)),
            self._tensors(next_obs),
            self._tensors(obs),
            None,
            None if valid is None else torch.from_numpy(valid.reshape(shape)),
        )

    def _tensors(self, obs: Any) -> Any:
        if isinstance(obs, Mapping):
            return {key: self._tensors(part) for key, part in obs.items()}
        if isinstance(obs, tuple):
            return {str(i): self._tensors(part) for i, part in enumerate(obs)}
        array = np.array(obs)  # a copy: nobody writes into what was given
        if array.dtype.kind == "f" and np.isnan(array).any():
            raise EnvError(f"{self.name} gave an observation with NaN in it: {array!r}.")
        return torch.from_numpy(array.reshape(len(self.seeds), self.envs_per_seed, *array.shape[1:]))

    def state_dict(self) -> dict[str, Any]:
        """Where every environment is. Raises EnvError for a VectorEnv that keeps this to itself."""
        return self._rows.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> Any:
        """Go back to a saved place -> the observations to act on."""
        return self._tensors(self._rows.load_state_dict(state))

    def close(self) -> None:
        self._rows.close()


class Rows(Protocol):
    """Rows of environments, without the seed axis: single ones, or a VectorEnv."""

    name: str
    observation_space: gym.Space[Any]
    action_space: gym.Space[Any]
    actions: int | None  # None: not Discrete, and handed on as they are

    def reset(self) -> Any: ...

    def step(self, actions: np.ndarray) -> RowStep: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> Any: ...

    def close(self) -> None: ...


class MemberRows:
    """Rows of single environments, each resumable."""

    def __init__(self, members: list[Member]) -> None:
        self.members = members
        self.name = members[0].name
        self.observation_space = members[0].env.observation_space
        self.action_space = members[0].env.action_space
        self.actions = _discrete(self.action_space)

    def reset(self) -> Any:
        return self._stack([member.reset() for member in self.members])

    def step(self, actions: np.ndarray) -> RowStep:
        results = [member.step(a) for member, a in zip(self.members, self._each(actions), strict=True)]
        next_obs = [result[0] for result in results]
        obs = [m.reset() if r[2] or r[3] else r[0] for m, r in zip(self.members, results, strict=True)]
        reward, terminated, truncated = (np.array([r[i] for r in results]) for i in (1, 2, 3))
        return self._stack(next_obs), self._stack(obs), reward, terminated, truncated, None

    def _each(self, actions: np.ndarray) -> list[Any]:
        return list(actions) if self.actions is None else actions.tolist()

    def _stack(self, observations: list[Any]) -> Any:
        out: Any = create_empty_array(self.observation_space, n=len(observations))
        return concatenate(self.observation_space, observations, out)

    def state_dict(self) -> dict[str, Any]:
        return {"members": [member.state_dict() for member in self.members]}

    def load_state_dict(self, state: dict[str, Any]) -> Any:
        for member, saved in zip(self.members, state["members"], strict=True):
            member.load_state_dict(saved)
        return self._stack([member.obs for member in self.members])

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

    def reset(self) -> Any:
        # A native vector environment has one generator for all its rows and takes one number.
        many = isinstance(self.vector.unwrapped, (SyncVectorEnv, AsyncVectorEnv))
        seed: Any = self.seeds if many else self.seeds[0]
        obs, _ = self.vector.reset(seed=seed)
        self.over[:] = False
        return obs

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
        if self.mode == AutoresetMode.NEXT_STEP:
            # A row that was over spent this call on its reset: what it answers belongs to no action.
            valid = ~self.over
            self.over = over
            return obs, obs, reward, terminated, truncated, None if valid.all() else valid
        if not over.any():
            return obs, obs, reward, terminated, truncated, None
        if self.mode == AutoresetMode.SAME_STEP:
            return self._with_final(obs, infos, over), obs, reward, terminated, truncated, None
        fresh, _ = self.vector.reset(options={"reset_mask": over})
        return obs, _copied(fresh), reward, terminated, truncated, None

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

    def load_state_dict(self, state: dict[str, Any]) -> Any:
        raise EnvError(f"{self.name} is a VectorEnv, whose state cannot be set.")

    def close(self) -> None:
        self.vector.close()


def _discrete(space: gym.Space[Any]) -> int | None:
    return int(space.n) if isinstance(space, gym.spaces.Discrete) else None


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


def make(
    env: EnvLike | Source,
    seeds: int | Iterable[int] = 1,
    envs_per_seed: int = 1,
    env_kwargs: Mapping[str, Any] | None = None,
) -> World:
    """N seeds with E environments each, as one `World`.

    env: a Gymnasium id, an EnvSpec, a function that returns a new gym.Env, or a VectorEnv of N * E rows in any autoreset
    mode. Raises EnvError or SpaceError, in a sentence, for what cannot be made or acted in.
    """
    numbers = seeds_of(seeds)
    return World(rows_of(source(env, env_kwargs), numbers, envs_per_seed), numbers, envs_per_seed)


def rows_of(where: Source, seeds: tuple[int, ...], envs_per_seed: int) -> MemberRows | VectorRows:
    """The N * E environments of a source, row k * E + e for environment e of seed k."""
    if isinstance(envs_per_seed, bool) or not isinstance(envs_per_seed, int) or envs_per_seed < 1:
        raise ValueError(f"envs_per_seed is a whole number from 1 on, not {envs_per_seed!r}.")
    members = members_of(where, seeds, envs_per_seed)
    if members is not None:
        return MemberRows(members)
    assert where.vector is not None
    return VectorRows(where.vector, [member_seed(seed, e) for seed in seeds for e in range(envs_per_seed)])
