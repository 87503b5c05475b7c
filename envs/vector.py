"""Many environments as one: `reset()`, then `step(actions) -> Step`.

Autoreset is handled in `envs.backends`. In every autoreset mode, `Step.next_obs` is the true successor, also at the end of an
episode, and `Step.obs` is the observation to act on next.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import gymnasium as gym
import numpy as np

from envs.backends.rows import Rows, rows_of
from envs.errors import EnvError
from envs.source import EnvLike, Source, source
from supervised import validate
from supervised.validate import explained, is_tensor, seeds_of

if TYPE_CHECKING:
    from torch import Tensor


class Step(NamedTuple):
    """The result of a step: tensors, or numpy arrays from `World.arrays`. N seeds, E environments per seed, A actions."""

    reward: Any  # float32 [N, E]
    terminated: Any  # bool [N, E]
    truncated: Any  # bool [N, E]
    next_obs: Any  # [N, E, *O], the true successor, also at an episode's end; a dict if observations have parts
    obs: Any  # [N, E, *O], the observation to act on next (after a reset, if one happened)
    next_mask: Any = None  # bool [N, E, A], actions allowed in next_obs; None: all
    valid: Any = None  # bool [N, E], False where NEXT_STEP mode used the call for a reset; None: all True
    mask: Any = None  # bool [N, E, A], actions allowed in obs; None: all
    discount: Any = None  # float64 [N, E], multiplies gamma for this step; None: all 1


class ArrayWorld:
    """N * E environments in lockstep, as numpy arrays. Row k * E + e of a vector environment is environment e of seed k."""

    def __init__(self, rows: Rows, seeds: tuple[int, ...], envs_per_seed: int) -> None:
        self.rows, self.shape = rows, (len(seeds), envs_per_seed)
        self.mask: np.ndarray | None = None  # bool [N, E, A], the actions allowed now; None: all
        self.calls = 0  # of step, since the environments were created

    def reset(self) -> Any:
        """Start an episode in every environment -> the observations [N, E, *O], an array or a dict of arrays."""
        obs, mask = self.rows.reset()
        self.mask = self.by_seed(mask)
        return self.by_seed(obs)

    def step(self, taken: np.ndarray) -> Step:
        """Like `World.step`."""
        self._check(taken)
        self.calls += 1
        row = self.rows.step(taken.reshape(-1, *taken.shape[2:]))
        next_obs, self.mask = self.by_seed(row.next_obs), self.by_seed(row.mask)
        return Step(
            row.reward.astype(np.float32).reshape(self.shape),
            row.terminated.reshape(self.shape),
            row.truncated.reshape(self.shape),
            next_obs,
            next_obs if row.obs is row.next_obs else self.by_seed(row.obs),
            self.mask if row.next_mask is row.mask else self.by_seed(row.next_mask),
            self.by_seed(row.valid),
            self.mask,
            self.by_seed(row.discount),
        )

    def _check(self, taken: np.ndarray) -> None:
        count = self.rows.actions
        if taken.shape[:2] != self.shape or (count is not None and taken.ndim > 2):
            raise EnvError(
                f"step takes actions [seeds, environments per seed] = {list(self.shape)}, not {list(taken.shape)}."
            )
        if count is not None:
            low, high = _range(taken)
            if taken.dtype.kind not in "iu" or low < 0 or high >= count:
                raise EnvError(
                    f"Actions must be whole numbers from 0 to {count - 1}; got {taken.dtype} {taken.tolist()}."
                )

    def by_seed(self, rows: Any) -> Any:
        """Reshape rows [R, ...] to [N, E, ...], also in nested dicts and tuples, which become dicts; None stays."""
        if rows is None:
            return None
        if isinstance(rows, Mapping):
            return {key: self.by_seed(part) for key, part in rows.items()}
        if isinstance(rows, tuple):
            return {str(i): self.by_seed(part) for i, part in enumerate(rows)}
        return rows.reshape(*self.shape, *rows.shape[1:])

    def state_dict(self) -> dict[str, Any]:
        return {"calls": self.calls, **self.rows.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> tuple[Any, np.ndarray]:
        """Like `World.load_state_dict`."""
        self.calls = int(state.get("calls", 0))
        obs, mask, fresh = self.rows.load_state_dict(state)
        self.mask = self.by_seed(mask)
        return self.by_seed(obs), self.by_seed(fresh)


def _range(numbers: np.ndarray) -> tuple[Any, Any]:
    """Return the least and the largest of some numbers; of a few, Python's min and max are faster."""
    if numbers.size > 64:
        return numbers.min(), numbers.max()
    few = numbers.ravel().tolist()
    return min(few), max(few)


class World:
    """N * E environments in lockstep, as tensors. Row k * E + e of a vector environment is environment e of seed k.

    arrays: the same environments with numpy arrays.
    """

    def __init__(self, rows: Rows, seeds: tuple[int, ...], envs_per_seed: int) -> None:
        self.rows, self.arrays = rows, ArrayWorld(rows, seeds, envs_per_seed)
        self.seeds, self.envs_per_seed = seeds, envs_per_seed
        self.name = rows.name
        self.observation_space: gym.Space[Any] = rows.observation_space
        self.action_space: gym.Space[Any] = rows.action_space
        self.frames = rows.frames  # the number of stacked frames per observation; 1: no frame stacking
        self.mask: Tensor | None = None  # bool [N, E, A], the actions allowed now; None: all

    @property
    def calls(self) -> int:
        """The number of calls of `step` since the environments were created."""
        return self.arrays.calls

    def reset(self) -> Any:
        """Start an episode in every environment -> the observations [N, E, *O], a tensor or a dict of tensors."""
        obs = tensors(self.arrays.reset())
        self.mask = tensors(self.arrays.mask)
        return obs

    @explained("actions int64 [N, E], counted from 0")
    def step(self, actions: Tensor | np.ndarray) -> Step:
        """Take actions int64 [N, E], counted from 0, or actions [N, E, *A] of spaces that are not Discrete.

        Raises EnvError for a wrong shape, a reward or observation that is NaN or outside its space, a mask that allows no
        action, a discount outside [0, 1], and any other violation of Gymnasium's interface.
        """
        taken = actions.cpu().numpy() if is_tensor(actions) else np.asarray(actions)
        step: Step = tensors(self.arrays.step(taken))
        self.mask = step.mask
        return step

    @property
    def resumable(self) -> bool:
        """Whether the environments can be saved and resumed in the middle of an episode."""
        return self.rows.resumable

    def state_dict(self) -> dict[str, Any]:
        """Return the state of every environment. Raises EnvError for a VectorEnv whose state cannot be saved."""
        return self.arrays.state_dict()

    @explained("the state that state_dict returned")
    def load_state_dict(self, state: dict[str, Any]) -> tuple[Any, np.ndarray]:
        """Restore a saved state -> the observations to act on, and bool [N, E]: which had to start a new episode instead."""
        obs, fresh = self.arrays.load_state_dict(state)
        self.mask = tensors(self.arrays.mask)
        return tensors(obs), fresh

    def close(self) -> None:
        """Close all environments."""
        self.rows.close()


def tensors(values: Any) -> Any:
    """Convert arrays to tensors that share their memory, also in dicts and in a Step; None stays."""
    if isinstance(values, Step):
        return Step(*map(tensors, values))
    if isinstance(values, dict):
        return {key: tensors(part) for key, part in values.items()}
    if values is None:
        return None
    import torch

    return torch.from_numpy(values)


def make(
    env: EnvLike | Source,
    seeds: int | Iterable[int] = 1,
    envs_per_seed: int = 1,
    env_kwargs: Mapping[str, Any] | None = None,
) -> World:
    """Create N seeds with E environments each, as one `World`.

    env: a Gymnasium id, an EnvSpec, a function that returns a new gym.Env, or a VectorEnv with N * E rows in any autoreset
    mode. seeds: a count (0..N-1), a list, a range, an array or a tensor; at most 1 000 000 environments in total. Raises EnvError
    for environments that cannot be created.
    """
    numbers = seeds_of(seeds)
    count = validate.envs_per_seed(envs_per_seed, len(numbers))
    return World(rows_of(source(env, env_kwargs), numbers, count), numbers, count)
