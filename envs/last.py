"""A wrapper that adds the last action and reward to observations."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.utils import RecordConstructorArgs

from supervised.validate import ArgumentError, instance, shown

ACTION, REWARD = "last_action", "last_reward"
Join = Callable[[Any, np.ndarray], Any]


class LastActionReward(gym.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """Adds the last action, one-hot, and the last reward to each observation; both are 0 at the start of an episode.

    These are inputs of R2D2 (Kapturowski et al. 2019, section 2.3), and before it of Wang et al. (2016), Learning to
    reinforcement learn. With A actions:

    - a vector of floats [n] becomes a float32 vector [n + A + 1];
    - a Discrete observation with n values becomes the same vector, with the value one-hot;
    - a Dict gets the parts `last_action` [A] and `last_reward` [1], both float32;
    - any other observation (images, integers) becomes a Dict of `obs`, `last_action` and `last_reward`.

    Rewards, endings and `info` are those of `env`. The reward in the observation is not scaled. Raises ArgumentError for action
    spaces that are not Discrete, and for a Dict that already has one of the two parts.
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        RecordConstructorArgs.__init__(self)
        gym.Wrapper.__init__(self, instance(env, "env", gym.Env, "a gymnasium.Env"))
        if not isinstance(env.action_space, gym.spaces.Discrete):
            raise ArgumentError(f"LastActionReward requires Discrete actions, not {env.action_space}.")
        self.first, self.count = int(env.action_space.start), int(env.action_space.n)
        self.observation_space, self._join = _joined(env.observation_space, self.count)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        obs, info = self.env.reset(seed=seed, options=options)
        return self._join(obs, np.zeros(self.count + 1, np.float32)), info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        number = int(action) - self.first
        if not 0 <= number < self.count:
            raise ArgumentError(
                f"An action must be in {self.first}..{self.first + self.count - 1}, not {shown(action)}."
            )
        obs, reward, terminated, truncated, info = self.env.step(action)
        last = np.zeros(self.count + 1, np.float32)
        last[number], last[-1] = 1.0, reward
        return self._join(obs, last), reward, terminated, truncated, info


def _joined(space: gym.Space[Any], actions: int) -> tuple[gym.Space[Any], Join]:
    """Return the extended space, and a function that joins an observation with float32 [A + 1], the last action and reward."""
    action, reward = gym.spaces.Box(0, 1, (actions,), np.float32), gym.spaces.Box(-np.inf, np.inf, (1,), np.float32)
    if isinstance(space, gym.spaces.Discrete):
        one_hot = gym.spaces.Box(0, 1, (int(space.n),), np.float32)
        codes = np.eye(int(space.n), dtype=np.float32)
        return _vector(one_hot, action, reward), functools.partial(_after_one_hot, space, codes)
    if isinstance(space, gym.spaces.Box) and len(space.shape) == 1 and np.issubdtype(space.dtype, np.floating):
        return _vector(space, action, reward), _after_vector
    added = {ACTION: action, REWARD: reward}
    if not isinstance(space, gym.spaces.Dict):
        return gym.spaces.Dict({"obs": space, **added}), _beside
    taken = [name for name in added if name in space.spaces]
    if taken:
        raise ArgumentError(f"The observations already have the part {taken[0]!r}: LastActionReward would replace it.")
    return gym.spaces.Dict({**space.spaces, **added}), _among


def _vector(*boxes: gym.spaces.Box) -> gym.spaces.Box:
    """Return the box of the concatenated float32 vectors of these boxes."""
    with np.errstate(over="ignore"):  # float64 bounds may become infinite
        low, high = (
            np.concatenate([end.astype(np.float32) for end in ends])
            for ends in zip(*((box.low, box.high) for box in boxes), strict=True)
        )
    return gym.spaces.Box(low, high, dtype=np.float32)


def _after_one_hot(space: gym.spaces.Discrete[Any], codes: np.ndarray, obs: Any, last: np.ndarray) -> np.ndarray:
    if not space.contains(obs):
        raise ArgumentError(f"the observation {shown(obs)} is not in {space}")
    return np.concatenate([codes[int(obs - space.start)], last])


def _after_vector(obs: Any, last: np.ndarray) -> np.ndarray:
    return np.concatenate([np.asarray(obs, np.float32), last])


def _beside(obs: Any, last: np.ndarray) -> dict[str, Any]:
    return _among({"obs": obs}, last)


def _among(obs: Mapping[str, Any], last: np.ndarray) -> dict[str, Any]:
    return {**obs, ACTION: last[:-1], REWARD: last[-1:]}
