"""A native environment as a single one, for `gymnasium.make`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
from gymnasium.vector import AutoresetMode

from envs.native.arrays import Arrays
from envs.native.game import Game
from envs.native.vector import NativeVectorEnv
from supervised.validate import integer


class NativeEnv(gym.Env[Any, Any]):
    """One copy of a game. make: creates the game where it computes. render_mode: None or "rgb_array"."""

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 30}  # noqa: RUF012  (as Gymnasium declares it)

    def __init__(self, make: Callable[[Arrays], Game], render_mode: str | None = None) -> None:
        self.vector = NativeVectorEnv(make, 1, None, AutoresetMode.DISABLED, render_mode)
        self.observation_space = self.vector.single_observation_space
        self.action_space = self.vector.single_action_space
        self.render_mode = render_mode

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        if seed is None and self.vector.draws is None:
            seed = int(self.np_random.integers(2**63 - 1))
        obs, info = self.vector.reset(seed=None if seed is None else [seed])
        return obs[0], {name: part[0] for name, part in info.items()}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        obs, reward, terminated, truncated, info = self.vector.step([integer(action, "action")])
        inside = {name: part[0] for name, part in info.items()}
        return obs[0], float(reward[0]), bool(terminated[0]), bool(truncated[0]), inside

    def render(self) -> Any:
        """Return a picture, uint8 [height, width, 3]; None without render_mode="rgb_array"."""
        pictures = self.vector.render()
        return None if pictures is None else pictures[0]
