"""Action masks: where environments provide them, and how they are read.

An environment may provide a mask in three ways, of which the first present one is used: `info["action_mask"]`, the method
`action_masks()` of the environment or a wrapper, and the part `action_mask` of a Dict observation. Without a mask all actions
are allowed. Each environment and each step is treated separately.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import gymnasium as gym
import numpy as np

from envs.backends.contract import Breach, numbers_in

KEY = "action_mask"
METHOD = "action_masks"
MOST_KNOWN = 10_000  # size of the cache of checked masks


class Reader:
    """Reads and checks the masks of one environment with `actions` actions (None: not Discrete), caching those seen before.

    Equal masks share one array, which must not be modified.
    """

    def __init__(self, actions: int | None) -> None:
        self.actions = actions
        self._known: dict[bytes, tuple[Any, Any, np.ndarray]] = {}

    def __call__(self, given: Any, over: bool) -> np.ndarray:
        """Convert a mask to bool [A]. over: whether the episode has ended, so that no action need be allowed. Raises Breach."""
        if type(given) is not np.ndarray or given.dtype.hasobject:
            return usable(read(given, self.actions), over)
        key = given.tobytes()
        known = self._known.get(key)
        if known is not None and known[0] == given.dtype and known[1] == given.shape:
            return known[2]
        allowed = read(given, self.actions)
        if not allowed.any():
            return usable(allowed, over)
        if len(self._known) >= MOST_KNOWN:
            self._known.clear()
        self._known[key] = given.dtype, given.shape, allowed
        return allowed


def read(given: Any, actions: int | None) -> np.ndarray:
    """Convert a mask (a list, an array of any numeric dtype, a tensor) to a new bool array [A].

    Raises Breach for a wrong length, for values other than 0 and 1, and if actions are not Discrete (actions=None).
    """
    if actions is None:
        raise Breach(
            "it returned an action mask, but its action space is not Discrete; masks require Discrete actions."
        )
    values = numbers_in(given)
    if values is None or values.shape != (actions,):
        what = repr(given) if values is None else f"shape {list(values.shape)}"
        raise Breach(
            f"it returned an action mask of {what}; it must have {actions} entries, one per action, each 0 or 1."
        )
    allowed: np.ndarray = values.astype(np.bool_)
    if values.dtype != np.bool_ and not np.array_equal(allowed, values):
        raise Breach(f"it returned the action mask {given!r}; its entries must be 0 (not allowed) or 1 (allowed).")
    return allowed


def usable(allowed: np.ndarray, over: bool) -> np.ndarray:
    """Return a mask [A], or all True if it allows no action at the end of an episode, where it has no meaning.

    Raises Breach if it allows no action during an episode.
    """
    if allowed.any():
        return allowed
    if not over:
        raise Breach(
            "it returned an action mask that allows no action; at least one must be allowed unless the episode has ended."
        )
    return np.ones_like(allowed)


def beyond_info(env: gym.Env[Any, Any]) -> Callable[[Any], Any] | None:
    """Return a function of the observation that gives the mask if `info` does not, or None if there is no other source."""
    if not isinstance(env.action_space, gym.spaces.Discrete):
        return None
    if env.has_wrapper_attr(METHOD):
        method = env.get_wrapper_attr(METHOD)
        if callable(method):
            return lambda _observation: method()
    if in_observation(env.observation_space):
        return lambda observation: observation[KEY] if isinstance(observation, Mapping) else None
    return None


def in_observation(space: gym.Space[Any]) -> bool:
    """Return whether observations have the part `action_mask`."""
    return isinstance(space, gym.spaces.Dict) and KEY in space.spaces
