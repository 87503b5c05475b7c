"""The rows of a `gymnasium.vector.VectorEnv` that is stepped as a whole, in any autoreset mode."""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv

from envs.backends import contract, discounts
from envs.backends.beginning import member_seed
from envs.backends.contract import Breach
from envs.backends.member import WINDOW, digest
from envs.backends.row_step import RowStep
from envs.backends.running import Running, Statistics
from envs.backends.values import Fit, Misfit
from envs.backends.vector_masks import VectorMasks, merged
from envs.errors import EnvError
from envs.source import vector_layers


class VectorEnvs:
    """A vector environment of N * E rows, in any autoreset mode. Row k * E + e is environment e of seed k.

    Each row gets its own seed if the environment accepts a list of seeds; otherwise the first seed is used for all rows, with a
    warning. Raises EnvError for violations of Gymnasium's interface.
    """

    resumable = False

    def __init__(self, vector: VectorEnv[Any, Any, Any], seeds: tuple[int, ...], envs_per_seed: int) -> None:
        self.vector, self.of_seeds, self.envs_per_seed = vector, seeds, envs_per_seed
        self.seeds = [member_seed(seed, e) for seed in seeds for e in range(envs_per_seed)]  # of the rows
        self.name = vector.spec.id if vector.spec is not None else type(vector.unwrapped).__name__
        self.observation_space = vector.single_observation_space
        self.action_space = vector.single_action_space
        self.actions = discrete(self.action_space)
        self.first_action = int(getattr(self.action_space, "start", 0)) if self.actions is not None else 0
        mode = vector.metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP)
        self.mode = mode if isinstance(mode, AutoresetMode) else AutoresetMode(mode)
        self.over = np.zeros(vector.num_envs, dtype=np.bool_)
        self.episodes, self.lengths = np.zeros(vector.num_envs, np.int64), np.zeros(vector.num_envs, np.int64)
        self.frames = 1
        self.returns = Returns(len(seeds), envs_per_seed)
        self._fit = Fit(self.observation_space)
        self._masks = VectorMasks(vector, self.actions)
        kept = [type(layer).__name__ for layer in vector_layers(vector) if Running(layer)]  # type: ignore[arg-type]  # wrappers of both kinds
        if kept:
            warnings.warn(
                f"{self.name}: {', '.join(kept)} keeps running statistics over all rows, so seeds are not independent, and"
                " the statistics are not saved. Wrap the single environments instead.",
                RuntimeWarning,
                stacklevel=2,
            )

    def reset(self) -> tuple[Any, np.ndarray | None]:
        obs, infos = self._begin(self.seeds)
        self.over[:] = False
        obs = self._observations(obs)
        return obs, self._guard(self._masks.read, infos, obs, self.over)

    def _begin(self, numbers: list[int]) -> tuple[Any, Mapping[str, Any]]:
        if _takes_list(self.vector):
            return self._reset(numbers)
        if len(numbers) == 1:
            return self._reset(numbers[0])
        if _seeds_rows(self.vector, numbers):
            return self._reset(numbers)
        if len(self.of_seeds) > 1:
            warnings.warn(
                f"{self.name} is a vector environment that takes one seed for all rows: it is seeded with {numbers[0]}, and"
                " the seeds are not independent. Pass an id or a function to get independent seeds.",
                RuntimeWarning,
                stacklevel=4,
            )
        return self._reset(numbers[0])

    def _reset(self, seed: Any = None, **settings: Any) -> tuple[Any, Mapping[str, Any]]:
        result = self._call("reset", self.vector.reset, seed=seed, **settings)
        found: tuple[Any, Mapping[str, Any]] = self._guard(contract.reset_result, result)
        return found

    def step(self, actions: np.ndarray) -> RowStep:
        if self.mode == AutoresetMode.NEXT_STEP:
            self.episodes[self.over] += 1
            self.lengths[self.over] = -1  # this call is the reset
        self.lengths += 1
        given = np.array(actions) if self.actions is None else actions + self.first_action
        obs, reward, terminated, truncated, infos = self._answer(given)
        over = terminated | truncated
        if over.any():
            self.returns.note(infos, over)
        discount = self._guard(discounts.of_rows, infos, over, self.over)
        return RowStep(reward, terminated, truncated, discount, *self._following(obs, infos, over))

    def _answer(self, actions: np.ndarray) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, Mapping[str, Any]]:
        """Step the environment and check the result."""
        result = self._call("step", self.vector.step, actions)
        obs, reward, terminated, truncated, infos = self._guard(contract.step_result, result)
        if not isinstance(infos, Mapping):
            raise self._error(contract.info_fault(infos))
        rows = len(self.over)
        flags = (
            self._guard(contract.as_flags, flag, name, rows)
            for flag, name in ((terminated, "terminated"), (truncated, "truncated"))
        )
        return self._observations(obs), self._guard(contract.as_rewards, reward, rows), *flags, infos

    def _following(self, obs: Any, infos: Mapping[str, Any], over: np.ndarray) -> tuple[Any, ...]:
        """Return next_obs, obs, valid, next_mask and mask of `RowStep`, after the resets that the autoreset mode requires."""
        ended = bool(over.any())
        if self.mode == AutoresetMode.NEXT_STEP:
            # A row whose episode had ended used this call for its reset: its result belongs to no action.
            valid, self.over = ~self.over, over
            next_mask = mask = self._guard(self._masks.read, infos, obs, over)
            if mask is not None and ended:
                mask = mask | over[:, None]  # the action after the end is ignored
            return obs, obs, None if valid.all() else valid, next_mask, mask
        if self.mode == AutoresetMode.SAME_STEP:
            mask = self._guard(self._masks.read, infos, obs, self.over)
            if not ended:
                return obs, obs, None, mask, mask
            final = self._with_final(obs, infos, over)
            next_mask = self._guard(self._masks.final, mask, infos, final, over)
            self._begun(over)
            return final, obs, None, next_mask, mask
        next_mask = self._guard(self._masks.read, infos, obs, over)
        if not ended:
            return obs, obs, None, next_mask, next_mask
        self._begun(over)
        fresh, infos = self._reset(options={"reset_mask": over.copy()})
        fresh = self._observations(fresh)
        mask = merged(over, self._guard(self._masks.read, infos, fresh, ~over), next_mask)
        return obs, fresh, None, next_mask, mask

    def _begun(self, rows: np.ndarray) -> None:
        """Count a new episode in the rows where `rows` is True."""
        self.episodes[rows] += 1
        self.lengths[rows] = 0

    def _observations(self, obs: Any) -> Any:
        """Copy and check a batch of observations."""
        try:
            return self._fit.check(_copied(obs))
        except Misfit as misfit:
            value = _row(obs, misfit.row)
            raise self._error(f"it returned the observation {value!r}: {misfit}.", misfit.row) from None

    def _with_final(self, obs: Any, infos: Mapping[str, Any], over: np.ndarray) -> Any:
        """Return the observations with the true last ones in rows whose episode has ended."""
        final = infos.get("final_obs")
        if final is None:
            raise self._error(
                "it resets in the same step but provides no infos['final_obs'], so the last observation is lost."
            )
        ended = np.flatnonzero(over).tolist()
        try:
            last = self._fit.stack([_row(final, row) for row in ended])
        except Misfit as misfit:
            raise self._error(f"its infos['final_obs']: {misfit}.", ended[misfit.row]) from None
        true = _copied(obs)
        for i, row in enumerate(ended):
            _put(true, row, _row(last, i))
        return true

    def _call(self, method: str, function: Any, *arguments: Any, **settings: Any) -> Any:
        """Call the environment; its own exceptions get the place as a note."""
        try:
            return function(*arguments, **settings)
        except Exception as error:  # the environment's own, re-raised with its place
            fault = contract.interface_fault(error, self.vector)
            if fault is not None:
                raise self._error(fault) from error
            steps = int(self.lengths.max())
            error.add_note(f"{contract.NOTE}{self.name} in {method} (seeds {list(self.of_seeds)}, up to step {steps}).")
            raise

    def _guard(self, function: Any, *arguments: Any) -> Any:
        """Call a function that may raise a Breach, which becomes an EnvError that names the row."""
        try:
            return function(*arguments)
        except Breach as breach:
            raise self._error(breach, breach.row) from None

    def _error(self, what: object, row: int | None = None) -> EnvError:
        if row is None:
            return EnvError(f"{self.name}: {what}")
        seed = self.of_seeds[row // self.envs_per_seed]
        place = f"seed {seed}, row {row}, episode {self.episodes[row]}, step {self.lengths[row]}"
        return EnvError(f"{self.name} ({place}): {what}")

    def statistics(self) -> list[Statistics] | None:
        """Return the running statistics of each row's wrappers if the rows are in this process, else None."""
        if not isinstance(self.vector.unwrapped, SyncVectorEnv):
            return None
        rows = [Running(env) for env in self.vector.unwrapped.envs]
        return [row.statistics() for row in rows] if rows[0] else None

    def recorded_returns(self) -> np.ndarray | None:
        """Return the mean return in info["episode"] of each seed's last episodes, float64 [N], or None without any."""
        return self.returns.means()

    def state_dict(self) -> dict[str, Any]:
        raise EnvError(f"{self.name} is a VectorEnv, whose state cannot be read: it cannot be saved mid-episode.")

    def load_state_dict(self, state: dict[str, Any]) -> tuple[Any, np.ndarray | None, np.ndarray]:
        raise EnvError(f"{self.name} is a VectorEnv, whose state cannot be set.")

    def close(self) -> None:
        self.vector.close()


class Returns:
    """The returns in info["episode"] of each seed's last episodes (from RecordEpisodeStatistics)."""

    def __init__(self, seeds: int, envs_per_seed: int) -> None:
        self.envs_per_seed = envs_per_seed
        self.last: list[deque[float]] = [deque(maxlen=WINDOW) for _ in range(seeds)]

    def note(self, infos: Mapping[str, Any], over: np.ndarray) -> None:
        """Store the returns in a step's infos for the rows whose episode has ended, bool [R]."""
        inside = infos.get("final_info")
        for found in (infos, inside if isinstance(inside, Mapping) else {}):
            episode = found.get("episode")
            returns = contract.numbers_in(episode["r"]) if isinstance(episode, Mapping) and "r" in episode else None
            if returns is None or returns.shape != over.shape:
                continue
            given = np.asarray(found.get("_episode", over), np.bool_)
            for row in np.flatnonzero(over & given).tolist():
                self.last[row // self.envs_per_seed].append(float(returns[row]))
            return

    def means(self) -> np.ndarray | None:
        """Return the mean of each seed, float64 [N], or None without any."""
        if not any(self.last):
            return None
        return np.array([np.mean(returns) if returns else np.nan for returns in self.last])


def _takes_list(vector: VectorEnv[Any, Any, Any]) -> bool:
    """Return whether a vector environment is one of Gymnasium's own, which accept a list of seeds."""
    return isinstance(vector.unwrapped, (SyncVectorEnv, AsyncVectorEnv))


def _seeds_rows(vector: VectorEnv[Any, Any, Any], numbers: list[int]) -> bool:
    """Return whether a vector environment accepts a list of seeds and a row's first observation depends only on its own."""
    try:
        first = _copied(vector.reset(seed=numbers)[0])  # type: ignore[arg-type]  # this is what is being tested
        others = [numbers[0], *(number + 1 for number in numbers[1:])]
        second = vector.reset(seed=others)[0]  # type: ignore[arg-type]  # likewise
        return digest(_row(first, 0)) == digest(_row(second, 0))
    except Exception:  # an environment that accepts a single seed may raise anything
        return False


def discrete(space: gym.Space[Any]) -> int | None:
    """Return the number of actions of a space, or None if it is not Discrete."""
    return int(space.n) if isinstance(space, gym.spaces.Discrete) else None


def _copied(obs: Any) -> Any:
    if isinstance(obs, Mapping):
        return {key: _copied(part) for key, part in obs.items()}
    return tuple(_copied(part) for part in obs) if isinstance(obs, tuple) else np.array(obs)


def _row(batch: Any, row: int) -> Any:
    if isinstance(batch, Mapping):
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
