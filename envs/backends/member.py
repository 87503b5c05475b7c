"""A `gym.Env` that can be saved in the middle of an episode and resumed bit for bit.

In general an environment's internal state cannot be saved. Instead, a checkpoint contains its random generator at the start of
the episode, the running statistics of its wrappers, and the actions since. Resuming restores these, starts the episode, replays
the actions and compares the result with what was saved. An environment with other state that persists across episodes provides
two methods: `persistent_state()` returns it as JSON values, `set_persistent_state(state)` restores it.

Violations of Gymnasium's interface raise an EnvError that names environment, seed, episode and step. Exceptions raised by the
environment itself keep their type and get this place as a note.
"""

from __future__ import annotations

import copy
import hashlib
import warnings
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import gymnasium as gym
import numpy as np

from envs.backends import contract, discounts, masks
from envs.backends.beginning import Beginning
from envs.backends.contract import Breach
from envs.backends.discounts import KEY as DISCOUNT
from envs.backends.masks import KEY as MASK
from envs.errors import EnvError
from supervised.renamed import former_name

WINDOW = 100  # number of recorded returns to keep


class ReplayableEnv:
    """Environment e of a seed. Actions count from 0; observations pass through `encode` (for tables: to state indices).

    mask: the currently allowed actions, bool [A], read-only; None: all. See `envs.backends.masks` for its sources.
    discount: info["discount"] of the last step, which multiplies gamma for that step; 1 by default.
    recorded: the returns in info["episode"] of the seed's last episodes, shared by its environments.
    """

    def __init__(
        self,
        env: gym.Env[Any, Any],
        seed: int,
        e: int = 0,
        encode: Callable[[Any], Any] | None = None,
        recorded: deque[float] | None = None,
    ) -> None:
        self.env, self.seed, self.e = env, seed, e
        self.label = f"seed {seed}"  # for messages
        self.encode = encode or _as_it_is
        space = env.action_space
        self.discrete = isinstance(space, gym.spaces.Discrete)
        self.action_count = int(space.n) if isinstance(space, gym.spaces.Discrete) else None
        self.first_action = int(space.start) if isinstance(space, gym.spaces.Discrete) else 0
        self.name = env.spec.id if env.spec is not None else type(env.unwrapped).__name__
        self.beginning = Beginning(env, self.name, seed, e)
        self.running = self.beginning.running  # the wrappers' statistics
        self.actions: list[Any] = []  # since the start of the episode
        self.total = 0.0
        self.obs: Any = None
        self.mask: np.ndarray | None = None
        self.discount = 1.0
        self._read = masks.Reader(self.action_count)
        self._mask_beyond_info = masks.beyond_info(env)
        self.recorded: deque[float] = deque(maxlen=WINDOW) if recorded is None else recorded
        self.recorded_return: float | None = None  # from info["episode"], if the last step ended an episode

    @property
    def place(self) -> str:
        """Seed, environment, episode and step, for messages; step 0 is the reset."""
        return self._place(len(self.actions))

    def _place(self, step: int) -> str:
        environment = f", environment {self.e}" if self.e else ""
        return f"{self.label}{environment}, episode {self.beginning.episode}, step {step}"

    def reset(self) -> Any:
        """Start an episode -> its first observation, encoded."""
        self.actions, self.total, self.recorded_return = [], 0.0, None
        self._reset(self.beginning.next())
        self.beginning.begun()
        try:
            return self.encode(self.obs)
        except ValueError as error:
            raise self._misplaced(error) from error

    def _reset(self, seed: int | None) -> None:
        try:
            result: Any = self.env.reset(seed=seed)
        except Exception as error:  # the environment's own, re-raised with its place
            self._explain(error, "reset", 0)
            raise
        try:
            self.obs, info = contract.reset_result(result)
            self._read_mask(info, over=False)
        except Breach as breach:
            raise self._error(breach) from None

    def step(self, action: Any) -> tuple[Any, float, bool, bool]:
        """Take an action -> (encoded observation, reward, terminated, truncated). Raises EnvError for interface violations."""
        if self.discrete:
            given = action + self.first_action
        else:
            given, action = copy.deepcopy(action), copy.deepcopy(action)
        try:
            result: Any = self.env.step(given)
        except Exception as error:  # the environment's own, re-raised with its place
            self._explain(error, "step", len(self.actions) + 1)
            raise
        self.actions.append(action)
        try:
            if result.__class__ is not tuple or len(result) != 5:
                result = contract.step_result(result)
            obs, reward, terminated, truncated, info = result
            self.obs = obs
            if terminated.__class__ is not bool:
                terminated = contract.as_flag(terminated, "terminated")
            if truncated.__class__ is not bool:
                truncated = contract.as_flag(truncated, "truncated")
            if reward.__class__ is not float or not -1e300 < reward < 1e300:
                reward = contract.as_reward(reward)
            if info.__class__ is not dict and not isinstance(info, Mapping):
                raise contract.info_fault(info)
            self.discount = discounts.read(info[DISCOUNT]) if DISCOUNT in info else 1.0
            over = terminated or truncated
            if MASK in info or self._mask_beyond_info is not None:
                self._read_mask(info, over)
            else:
                self.mask = None
        except Breach as breach:
            raise self._error(breach) from None
        self.total += reward
        if over:
            self._record(info)
        try:
            return self.encode(obs), reward, terminated, truncated
        except ValueError as error:
            raise self._misplaced(error) from error

    def _read_mask(self, info: Mapping[str, Any], over: bool) -> None:
        given = info.get(MASK)
        if given is None and self._mask_beyond_info is not None:
            try:
                given = self._mask_beyond_info(self.obs)
            except Exception as error:  # likewise
                self._explain(error, masks.METHOD, len(self.actions))
                raise
        self.mask = None if given is None else self._read(given, over)

    def _record(self, info: Mapping[str, Any]) -> None:
        """Store the return in info["episode"] at the end of an episode (of any RecordEpisodeStatistics wrapper)."""
        self.recorded_return = contract.recorded_return(info.get("episode"))
        if self.recorded_return is not None:
            self.recorded.append(self.recorded_return)

    def _misplaced(self, error: ValueError) -> EnvError:
        """Return the error for an observation that `encode` rejected."""
        return EnvError(f"{error} ({self.place.capitalize()}.)")

    def misfit(self, why: object) -> EnvError:
        """Return the error for an observation that does not fit its space."""
        return self._error(f"it returned the observation {self.obs!r}: {why}.")

    def _error(self, what: object) -> EnvError:
        return EnvError(f"{self.name} ({self.place}): {what}")

    def _explain(self, error: Exception, method: str, step: int) -> None:
        """Raise EnvError if an exception stems from a violation of the interface; else add the place as a note."""
        place = f"{self.name} ({self._place(step)})"
        fault = contract.interface_fault(error, self.env)
        if fault is not None:
            raise EnvError(f"{place}: {fault}") from error
        if not contract.raised_by_environment(error):
            error.add_note(f"{contract.NOTE}{place} in {method}.")

    def state_dict(self) -> dict[str, Any]:
        """Return the state as JSON values and arrays (actions since the start of the episode, running statistics)."""
        state = {
            **self.beginning.state_dict(),
            "total": self.total,
            "obs": digest(self.obs),
            "actions": np.array(self.actions, dtype=np.int64 if self.discrete else None),
        }
        return state | ({"recorded": np.array(self.recorded)} if self.recorded else {})

    def load_state_dict(self, state: dict[str, Any]) -> bool:
        """Restore a saved state -> whether that succeeded; otherwise a new episode has started, with a warning.

        Raises ValueError for a state that does not fit.
        """
        actions = self._checked(state["actions"])
        self.beginning.load_state_dict(state)
        self.reset()
        reached = self._replay(actions) and digest(self.obs) == state["obs"] and self.total == state["total"]
        self.recorded.clear()
        self.recorded.extend(np.asarray(state.get("recorded", ())).tolist())
        if reached:
            return True
        warnings.warn(
            f"{self.name} (seed {self.seed}) did not reach its saved state when the episode was replayed: it is not"
            " deterministic, or keeps state across episodes. A new episode starts; the run is not bit-identical.",
            RuntimeWarning,
            stacklevel=2,
        )
        self.reset()
        return False

    def _checked(self, actions: np.ndarray) -> list[Any]:
        """Return saved actions as a list. Raises ValueError for actions outside the action space."""
        if not self.discrete:
            return list(actions)
        if (
            actions.dtype != np.int64
            or actions.ndim != 1
            or (actions < 0).any()
            or (actions >= self.action_count).any()
        ):
            raise ValueError(f"The saved actions of seed {self.seed} must be in 0..{(self.action_count or 0) - 1}.")
        found: list[Any] = actions.tolist()
        return found

    def _replay(self, actions: list[Any]) -> bool:
        """Replay the actions -> whether the episode continues after them."""
        for action in actions:
            *_, terminated, truncated = self.step(action)
            if terminated or truncated:
                return False
        return True


def _as_it_is(observation: Any) -> Any:
    return observation


def digest(observation: Any) -> str:
    """Return a fingerprint of an observation of any kind, sensitive to every bit."""
    sha = hashlib.sha256()

    def feed(part: Any) -> None:
        if isinstance(part, dict):
            for key in sorted(part):
                sha.update(str(key).encode())
                feed(part[key])
        elif isinstance(part, (tuple, list)):
            for item in part:
                feed(item)
        else:
            array = np.asarray(part)
            sha.update(str((array.shape, array.dtype.kind)).encode())
            sha.update(
                array.astype(array.dtype.newbyteorder("<")).tobytes()
                if array.dtype.kind in "biuf"
                else repr(part).encode()
            )

    feed(observation)
    return sha.hexdigest()[:32]


__getattr__ = former_name(__name__)
