"""Known worlds of which a part is hidden: CartPole and MountainCar without velocities, FrozenLake through a window."""

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

OUTSIDE = "#"  # of the map, in a window


class Components(gym.ObservationWrapper[Any, Any, Any]):
    """Shows some components of an observation, each divided by its scale: obs[keep] / scale, float32 [len(keep)].

    keep: their indices in the observation, a vector of floats; scale: a number above 0 for each, 1 if not given.
    """

    def __init__(self, env: gym.Env[Any, Any], keep: Sequence[int], scale: Sequence[float] | None = None) -> None:
        super().__init__(instance(env, "env", gym.Env, "a gymnasium.Env"))
        space = instance(env.observation_space, "env.observation_space", gym.spaces.Box, "a Box")
        if len(space.shape) != 1:
            raise ArgumentError(f"Components of vectors are shown, not of observations of the shape {space.shape}.")
        self.keep = list(integers(keep, "keep", 0, space.shape[0] - 1))
        ones = [1.0] * len(self.keep)
        given = list(
            ones if scale is None else instance(scale, "scale", (list, tuple, np.ndarray), "a list of numbers")
        )
        if len(given) != len(self.keep):
            raise ArgumentError(f"scale has a number for each of the {len(self.keep)} components, not {shown(scale)}.")
        self.scale = np.array([number(x, "scale", 0.0, above=True) for x in given])
        low, high = (self.observation(bound) for bound in (space.low, space.high))
        self.observation_space = gym.spaces.Box(low, high, dtype=np.float32)

    def observation(self, observation: Any) -> np.ndarray:
        found: np.ndarray = (np.asarray(observation)[self.keep] / self.scale).astype(np.float32)
        return found


class Window(gym.ObservationWrapper[Any, Any, Any]):
    """FrozenLake of which the agent sees the square that it stands on and the eight around it, not where it is.

    Observation: the number of what it sees among the different windows of the map, Discrete; `windows` has their letters, three
    rows of three, `#` outside the map. Actions, rewards, endings and starts are FrozenLake's.
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
        """FrozenLake's model, and what is seen on each square."""
        return looked_at(read(self.env), self.number)


def cart_pole(**kwargs: Any) -> Components:
    """CartPole (Barto, Sutton and Anderson 1983) without velocities: position / 2.4 and angle / 0.21, float32 [2].

    Both lie in [-1, 1] until the episode ends. Reward, start and the limit of 500 steps are those of CartPole-v1, whose
    settings it takes. The optimum is not known exactly; 500 is the most that an episode can bring.
    """
    return Components(CartPoleEnv(**kwargs), keep=(0, 2), scale=(2.4, 0.21))


def mountain_car(**kwargs: Any) -> Components:
    """MountainCar (Moore 1990) without its velocity: the position alone, float32 [1], from -1.2 to 0.6.

    Reward, start and the limit of 200 steps are those of MountainCar-v0, whose settings it takes.
    """
    return Components(MountainCarEnv(**kwargs), keep=(0,))


def frozen_lake(**kwargs: Any) -> Window:
    """FrozenLake through a 3x3 `Window`. Limits are Gymnasium's: 100 steps, 200 on the 8x8 map of its id."""
    return Window(FrozenLakeEnv(**kwargs))


VIEWS: dict[str, tuple[Callable[..., gym.Env[Any, Any]], int, dict[str, Any]]] = {
    "CartPole-NoVelocity-v1": (cart_pole, 500, {}),
    "MountainCar-NoVelocity-v0": (mountain_car, 200, {}),
    "FrozenLake-Window-v1": (frozen_lake, 100, {"map_name": "4x4"}),
    "FrozenLake8x8-Window-v1": (frozen_lake, 200, {"map_name": "8x8"}),
}


def register() -> None:
    """Enter these views in Gymnasium's registry, once."""
    for name, (make, limit, kwargs) in VIEWS.items():
        if f"envs/{name}" not in gym.registry:
            gym.register(f"envs/{name}", entry_point=make, max_episode_steps=limit, kwargs=kwargs)
