"""Action masks: where an environment gives them, and how they are read.

An environment may say which actions are allowed in three ways. The first of these that it gives counts:
`info["action_mask"]`, its (or a wrapper's) method `action_masks()`, and the part `action_mask` of a Dict observation.
One that gives none allows all actions; each environment and each step stands for itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import gymnasium as gym
import numpy as np

from envs.backends.contract import Breach, numbers_in

KEY = "action_mask"
METHOD = "action_masks"
MOST_KNOWN = 10_000  # masks that are looked up instead of checked


class Reader:
    """Reads the masks of one environment with `actions` actions (None: they are not Discrete); those seen before by a look-up.

    Equal masks are answered by one array, which must not be written to.
    """

    def __init__(self, actions: int | None) -> None:
        self.actions = actions
        self._known: dict[bytes, tuple[Any, Any, np.ndarray]] = {}

    def __call__(self, given: Any, over: bool) -> np.ndarray:
        """A mask as given -> bool [A]; `over`: the episode is, so that it may forbid everything. Raises Breach."""
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
    """A mask as given (a list, an array of any numeric dtype, a tensor) -> a bool array [A] of one's own.

    Raises Breach for a wrong length, for values other than 0 and 1, and where actions are not Discrete (actions=None).
    """
    if actions is None:
        raise Breach("it gave an action mask, but its action space is not Discrete; masks are of Discrete actions.")
    values = numbers_in(given)
    if values is None or values.shape != (actions,):
        what = repr(given) if values is None else f"shape {list(values.shape)}"
        raise Breach(f"it gave an action mask of {what}; it must have {actions} entries, one an action, each 0 or 1.")
    allowed: np.ndarray = values.astype(np.bool_)
    if values.dtype != np.bool_ and not np.array_equal(allowed, values):
        raise Breach(f"it gave the action mask {given!r}; its entries must be 0 (not allowed) or 1 (allowed).")
    return allowed


def usable(allowed: np.ndarray, over: bool) -> np.ndarray:
    """A mask [A], where it forbids everything at an episode's end: all True, for there it says nothing.

    Raises Breach for one that forbids everything while the episode goes on.
    """
    if allowed.any():
        return allowed
    if not over:
        raise Breach(
            "it gave an action mask that allows no action; at least one must be allowed, or the episode be over."
        )
    return np.ones_like(allowed)


def beyond_info(env: gym.Env[Any, Any]) -> Callable[[Any], Any] | None:
    """What gives an environment's mask where `info` does not, as a function of the observation; None: nothing does."""
    if not isinstance(env.action_space, gym.spaces.Discrete):
        return None
    if env.has_wrapper_attr(METHOD):
        method = env.get_wrapper_attr(METHOD)
        if callable(method):
            return lambda observation: method()
    if in_observation(env.observation_space):
        return lambda observation: observation[KEY] if isinstance(observation, Mapping) else None
    return None


def in_observation(space: gym.Space[Any]) -> bool:
    """Whether observations have the part `action_mask`."""
    return isinstance(space, gym.spaces.Dict) and KEY in space.spaces
