"""Many environments as one world: `reset()`, then `step(actions) -> Step`.

`envs.backends` alone knows autoreset. Whatever Gymnasium's vector environments do at an episode's end, a `Step`
says it in one way: `next_obs` is the true successor of the action, also at the end, and `obs` is what to act on next.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from envs.backends.rows import Rows, rows_of
from envs.errors import EnvError
from envs.source import EnvLike, Source, source
from supervised import validate
from supervised.validate import explained, seeds_of

Obs = Tensor | dict[str, Any]


class Step(NamedTuple):
    """What a world answers; N seeds, E environments a seed, A actions."""

    reward: Tensor  # float32 [N, E]
    terminated: Tensor  # bool [N, E]
    truncated: Tensor  # bool [N, E]
    next_obs: Obs  # [N, E, *O], the true successor, also at an episode's end
    obs: Obs  # [N, E, *O], what to act on next (after a reset, if one happened)
    next_mask: Tensor | None = None  # bool [N, E, A], actions allowed in next_obs; None: all
    valid: Tensor | None = None  # bool [N, E], false where NEXT_STEP mode spent the call on a reset; None: all true
    mask: Tensor | None = None  # bool [N, E, A], actions allowed in obs; None: all
    discount: Tensor | None = None  # float64 [N, E], which multiplies gamma for this step; None: 1 throughout


class World:
    """N * E environments in lockstep. Row k * E + e of a vector environment is environment e of seed k."""

    def __init__(self, rows: Rows, seeds: tuple[int, ...], envs_per_seed: int) -> None:
        self.rows = rows
        self.seeds, self.envs_per_seed = seeds, envs_per_seed
        self.name = rows.name
        self.observation_space: gym.Space[Any] = rows.observation_space
        self.action_space: gym.Space[Any] = rows.action_space
        self.frames = rows.frames  # how many of the newest frames each observation repeats; 1: none are stacked
        self.mask: Tensor | None = None  # bool [N, E, A], the actions allowed now; None: all
        self.calls = 0  # of step, since the environments were made

    def reset(self) -> Any:
        """Begin an episode in every environment -> its observation [N, E, *O], a tensor or a dict of tensors."""
        obs, mask = self.rows.reset()
        self.mask = self._mask(mask)
        return self._tensors(obs)

    @explained("actions int64 [N, E], counted from 0")
    def step(self, actions: Tensor | np.ndarray) -> Step:
        """Take actions int64 [N, E], counted from 0; those that are not Discrete [N, E, *A] as they are.

        Raises EnvError for a bad shape, a reward or an observation that is NaN or outside its space, a mask that allows
        nothing, a discount outside [0, 1], and whatever else breaks Gymnasium's interface.
        """
        shape = (len(self.seeds), self.envs_per_seed)
        taken = actions.cpu().numpy() if isinstance(actions, Tensor) else np.asarray(actions)
        count = self.rows.actions
        if taken.shape[:2] != shape or (count is not None and taken.ndim > 2):
            raise EnvError(f"step takes actions [seeds, environments a seed] = {list(shape)}, not {list(taken.shape)}.")
        if count is not None:
            numbers = taken.ravel().tolist()  # Python's min and max are faster for what is usually one number, or eight
            if taken.dtype.kind not in "iu" or min(numbers) < 0 or max(numbers) >= count:
                raise EnvError(f"Actions are whole numbers from 0 to {count - 1}; got {taken.dtype} {taken.tolist()}.")
        self.calls += 1
        row = self.rows.step(taken.reshape(-1, *taken.shape[2:]))
        next_obs = self._tensors(row.next_obs)
        self.mask = self._mask(row.mask)
        return Step(
            torch.from_numpy(row.reward.astype(np.float32).reshape(shape)),
            torch.from_numpy(row.terminated.reshape(shape)),
            torch.from_numpy(row.truncated.reshape(shape)),
            next_obs,
            next_obs if row.obs is row.next_obs else self._tensors(row.obs),
            self.mask if row.next_mask is row.mask else self._mask(row.next_mask),
            None if row.valid is None else torch.from_numpy(row.valid.reshape(shape)),
            self.mask,
            None if row.discount is None else torch.from_numpy(row.discount.reshape(shape)),
        )

    def as_tensors(self, obs: Any, mask: np.ndarray | None) -> tuple[Any, Tensor | None]:
        """Rows of observations and masks as `step` gives them: [N, E, ...]."""
        return self._tensors(obs), self._mask(mask)

    def _tensors(self, obs: Any) -> Any:
        if isinstance(obs, Mapping):
            return {key: self._tensors(part) for key, part in obs.items()}
        if isinstance(obs, tuple):
            return {str(i): self._tensors(part) for i, part in enumerate(obs)}
        array = np.array(obs)  # a copy: nobody writes into what was given
        return torch.from_numpy(array.reshape(len(self.seeds), self.envs_per_seed, *array.shape[1:]))

    def _mask(self, mask: np.ndarray | None) -> Tensor | None:
        """Actions allowed, bool [N, E, A]; None: all."""
        return None if mask is None else torch.from_numpy(mask.reshape(len(self.seeds), self.envs_per_seed, -1))

    @property
    def resumable(self) -> bool:
        """Whether the environments can be gone on with, in the middle of an episode."""
        return self.rows.resumable

    def state_dict(self) -> dict[str, Any]:
        """Where every environment is. Raises EnvError for a VectorEnv that keeps this to itself."""
        return {"calls": self.calls, **self.rows.state_dict()}

    @explained("the state that state_dict returned")
    def load_state_dict(self, state: dict[str, Any]) -> tuple[Any, np.ndarray]:
        """Go back to a saved place -> the observations to act on, and bool [N, E]: which are in a fresh episode instead."""
        self.calls = int(state.get("calls", 0))
        obs, mask, fresh = self.rows.load_state_dict(state)
        self.mask = self._mask(mask)
        return self._tensors(obs), fresh.reshape(len(self.seeds), self.envs_per_seed)

    def close(self) -> None:
        self.rows.close()


def make(
    env: EnvLike | Source,
    seeds: int | Iterable[int] = 1,
    envs_per_seed: int = 1,
    env_kwargs: Mapping[str, Any] | None = None,
) -> World:
    """N seeds with E environments each, as one `World`.

    env: a Gymnasium id, an EnvSpec, a function that returns a new gym.Env, or a VectorEnv of N * E rows in any autoreset
    mode. seeds: a count (0..N-1), a list, a range, an array or a tensor; at most 1 000 000 environments in all. Raises EnvError
    or SpaceError, in a sentence, for what cannot be made or acted in.
    """
    numbers = seeds_of(seeds)
    count = validate.envs_per_seed(envs_per_seed, len(numbers))
    return World(rows_of(source(env, env_kwargs), numbers, count), numbers, count)
