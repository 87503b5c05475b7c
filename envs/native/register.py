"""The ids of native environments, which `gymnasium.make_vec` finds.

`gymnasium.make` with the same id makes a single environment of the same kind: Gymnasium's own, where it has one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym

from envs.native.arrays import Arrays
from envs.native.classic import Acrobot, CartPole, MountainCar
from envs.native.finite import Finite
from envs.native.game import Game
from envs.native.vector import NativeVectorEnv

CLASSIC: dict[str, Callable[..., Game]] = {
    "CartPole-v1": CartPole,
    "Acrobot-v1": Acrobot,
    "MountainCar-v0": MountainCar,
}
FINITE = ("FrozenLake-v1", "FrozenLake8x8-v1", "CliffWalking-v1", "CliffWalkingSlippery-v1", "Taxi-v4")

NATIVE = {f"envs/{name}" for name in (*CLASSIC, *FINITE)}


def classic(game: Callable[..., Game]) -> Callable[..., NativeVectorEnv]:
    """Return the vector entry point of a game."""

    def make(num_envs: int = 1, max_episode_steps: int | None = None, **settings: Any) -> NativeVectorEnv:
        own = {name: settings.pop(name) for name in ("autoreset_mode", "render_mode", "device") if name in settings}
        return NativeVectorEnv(lambda arrays: game(arrays, **settings), num_envs, max_episode_steps, **own)

    return make


def finite(make_single: Callable[..., gym.Env[Any, Any]]) -> Callable[..., NativeVectorEnv]:
    """Return the vector entry point of a single environment with a finite model."""

    def game(arrays: Arrays, **settings: Any) -> Game:
        return Finite(arrays, make_single(**settings))

    return classic(game)


def register() -> None:
    """Register the native environments with Gymnasium, unless already done."""
    for name, game in CLASSIC.items():
        _register(name, gym.spec(name).entry_point, classic(game))
    for name in FINITE:
        _register(name, gym.spec(name).entry_point, finite(_maker(name)))


def _maker(name: str) -> Callable[..., gym.Env[Any, Any]]:
    return lambda **settings: gym.make(name, **settings)


def _register(name: str, single: Any, vector: Callable[..., NativeVectorEnv]) -> None:
    """Register `envs/NAME` with the settings and time limit of NAME."""
    if f"envs/{name}" in gym.registry:
        return
    spec = gym.spec(name)
    gym.register(
        f"envs/{name}", entry_point=single, vector_entry_point=vector, max_episode_steps=spec.max_episode_steps,
        reward_threshold=spec.reward_threshold, kwargs=dict(spec.kwargs), disable_env_checker=spec.disable_env_checker,
    )  # fmt: skip
