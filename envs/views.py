"""Partially observable versions of known environments: CartPole and MountainCar without velocities, FrozenLake's 3x3 window."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.classic_control import CartPoleEnv, MountainCarEnv
from gymnasium.envs.toy_text.frozen_lake import FrozenLakeEnv

from envs.model.extract import read
from envs.model.partial import PartialModel, looked_at
from supervised.validate import ArgumentError, instance, integers, number, shown

OUTSIDE = "#"  # marks squares outside the map


class Components(gym.ObservationWrapper[Any, Any, Any]):
    """Reduces vector observations to some components, each divided by its scale: obs[keep] / scale, float32 [len(keep)].

    keep: the indices of the components. scale: a number above 0 for each, 1 by default.
    """

    def __init__(self, env: gym.Env[Any, Any], keep: Sequence[int], scale: Sequence[float] | None = None) -> None:
        super().__init__(instance(env, "env", gym.Env, "a gymnasium.Env"))
        space = instance(env.observation_space, "env.observation_space", gym.spaces.Box, "a Box")
        if len(space.shape) != 1:
            raise ArgumentError(f"Components requires vector observations, not ones of shape {space.shape}.")
        self.keep = list(integers(keep, "keep", 0, space.shape[0] - 1))
        ones = [1.0] * len(self.keep)
        given = list(
            ones if scale is None else instance(scale, "scale", (list, tuple, np.ndarray), "a list of numbers")
        )
        if len(given) != len(self.keep):
            raise ArgumentError(
                f"scale must have a number for each of the {len(self.keep)} components, not {shown(scale)}."
            )
        self.scale = np.array([number(x, "scale", 0.0, above=True) for x in given])
        low, high = (self.observation(bound) for bound in (space.low, space.high))
        self.observation_space = gym.spaces.Box(low, high, dtype=np.float32)

    def observation(self, observation: Any) -> np.ndarray:
        found: np.ndarray = (np.asarray(observation)[self.keep] / self.scale).astype(np.float32)
        return found


class Window(gym.ObservationWrapper[Any, Any, Any]):
    """FrozenLake in which the agent observes its own square and the eight around it, but not its position.

    Observation: the index of this window among the distinct windows of the map, Discrete; `windows` contains their letters,
    three rows of three, with `#` outside the map. Actions, rewards, endings and starts are FrozenLake's.
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(instance(env, "env", gym.Env, "a gymnasium.Env"))
        lake = instance(env.unwrapped, "env", FrozenLakeEnv, "a FrozenLake environment")
        desc = np.pad(np.asarray(lake.desc).astype(str), 1, constant_values=OUTSIDE)
        rows, columns = lake.nrow, lake.ncol
        around = ["\n".join("".join(row) for row in desc[r : r + 3, c : c + 3]) for r, c in np.ndindex(rows, columns)]
        self.windows = tuple(dict.fromkeys(around))
        self.number = [self.windows.index(letters) for letters in around]  # of each square
        self.observation_space = gym.spaces.Discrete(len(self.windows))

    def observation(self, observation: Any) -> int:
        return self.number[int(observation)]

    def partial_model(self) -> PartialModel:
        """Return FrozenLake's model with the observation on each square."""
        return looked_at(read(self.env), self.number)


def cart_pole(**kwargs: Any) -> Components:
    """CartPole (Barto, Sutton and Anderson 1983) without velocities: position / 2.4 and angle / 0.21, float32 [2].

    Both are in [-1, 1] until the episode ends. Arguments, reward, start and the limit of 500 steps are those of CartPole-v1. The
    optimum is not known exactly; the maximum return is 500.
    """
    return Components(CartPoleEnv(**kwargs), keep=(0, 2), scale=(2.4, 0.21))


def mountain_car(**kwargs: Any) -> Components:
    """MountainCar (Moore 1990) without the velocity: only the position, float32 [1], from -1.2 to 0.6.

    Arguments, reward, start and the limit of 200 steps are those of MountainCar-v0.
    """
    return Components(MountainCarEnv(**kwargs), keep=(0,))


def frozen_lake(**kwargs: Any) -> Window:
    """FrozenLake observed through a 3x3 `Window`, with Gymnasium's time limits: 100 steps, 200 for the id of the 8x8 map."""
    return Window(FrozenLakeEnv(**kwargs))


VIEWS: dict[str, tuple[Callable[..., gym.Env[Any, Any]], int, dict[str, Any]]] = {
    "CartPole-NoVelocity-v1": (cart_pole, 500, {}),
    "MountainCar-NoVelocity-v0": (mountain_car, 200, {}),
    "FrozenLake-Window-v1": (frozen_lake, 100, {"map_name": "4x4"}),
    "FrozenLake8x8-Window-v1": (frozen_lake, 200, {"map_name": "8x8"}),
}


def register() -> None:
    """Register these environments with Gymnasium, unless already done."""
    for name, (make, limit, kwargs) in VIEWS.items():
        if f"envs/{name}" not in gym.registry:
            gym.register(f"envs/{name}", entry_point=make, max_episode_steps=limit, kwargs=kwargs)
