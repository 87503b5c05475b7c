"""The ids of native environments, which `gymnasium.make_vec` finds.

`gymnasium.make` with the same id creates a single environment of the same kind: Gymnasium's or this package's own, where there is
one, else one copy of the native one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym

from envs.diagnostic import DIAGNOSTIC
from envs.memory import MEMORY
from envs.native.arrays import Arrays
from envs.native.classic import Acrobot, CartPole, MountainCar
from envs.native.finite import Finite
from envs.native.game import Game
from envs.native.memory import MemoryChain, RepeatFirst, RepeatPrevious
from envs.native.minatar import Asterix, Breakout
from envs.native.single import NativeEnv
from envs.native.vector import NativeVectorEnv
from envs.native.views import CartPoleNoVelocity, MountainCarNoVelocity
from envs.textbook import FORMER, TEXTBOOK
from envs.views import VIEWS

Games = dict[str, Callable[..., Game]]

# Gymnasium's, by the names there.
CLASSIC: Games = {"CartPole-v1": CartPole, "Acrobot-v1": Acrobot, "MountainCar-v0": MountainCar}
FINITE = ("FrozenLake-v1", "FrozenLake8x8-v1", "CliffWalking-v1", "CliffWalkingSlippery-v1", "Taxi-v4")
MINATAR: Games = {"MinAtarBreakout-v1": Breakout, "MinAtarAsterix-v1": Asterix}

# Ids for which `rl.train` uses the native environment; for the others it uses single environments, whose random draws differ.
NATIVE = {f"envs/{name}" for name in (*CLASSIC, *FINITE, *MINATAR)}

# Native forms whose trajectories equal those of Gymnasium's environments to the bit, resets included; by their entry points.
EXACT: Games = {
    "gymnasium.envs.classic_control.cartpole:CartPoleEnv": CartPole,
    "gymnasium.envs.classic_control.mountain_car:MountainCarEnv": MountainCar,
}

# Environments of this package whose native versions are games in their own right; the others run over their finite models.
OWN: Games = {
    "MemoryChain-v0": MemoryChain,
    "RepeatPrevious-v0": RepeatPrevious,
    "RepeatFirst-v0": RepeatFirst,
    "CartPole-NoVelocity-v1": CartPoleNoVelocity,
    "MountainCar-NoVelocity-v0": MountainCarNoVelocity,
}
CHANGING = ("BlockingMaze", "ShortcutMaze")  # whose models change over time


def vectors(game: Callable[..., Game]) -> Callable[..., NativeVectorEnv]:
    """Return the vector entry point of a game."""

    def make(num_envs: int = 1, max_episode_steps: int | None = None, **settings: Any) -> NativeVectorEnv:
        own = {name: settings.pop(name) for name in ("autoreset_mode", "render_mode", "device") if name in settings}
        return NativeVectorEnv(lambda arrays: game(arrays, **settings), num_envs, max_episode_steps, **own)

    return make


def singles(game: Callable[..., Game]) -> Callable[..., NativeEnv]:
    """Return the entry point of single copies of a game."""

    def make(render_mode: str | None = None, **settings: Any) -> NativeEnv:
        return NativeEnv(lambda arrays: game(arrays, **settings), render_mode)

    return make


def finite(name: str) -> Callable[..., NativeVectorEnv]:
    """Return the vector entry point of an environment with a finite model, by its id."""

    def game(arrays: Arrays, **settings: Any) -> Game:
        return Finite(arrays, gym.make(name, **settings))

    return vectors(game)


def register() -> None:
    """Register the native environments with Gymnasium, unless already done."""
    for name in (*CLASSIC, *FINITE):
        if f"envs/{name}" not in gym.registry:
            spec = gym.spec(name)
            gym.register(
                f"envs/{name}", spec.entry_point, spec.reward_threshold, max_episode_steps=spec.max_episode_steps,
                disable_env_checker=spec.disable_env_checker, kwargs=dict(spec.kwargs),
                vector_entry_point=vectors(CLASSIC[name]) if name in CLASSIC else finite(name),
            )  # fmt: skip
    for name, game in MINATAR.items():
        if f"envs/{name}" not in gym.registry:
            gym.register(f"envs/{name}", singles(game), vector_entry_point=vectors(game))
    tables = [f"{name}-v0" for name in (*DIAGNOSTIC, *TEXTBOOK, *FORMER, *MEMORY) if name not in CHANGING]
    for name in (*tables, *VIEWS):
        gym.registry[f"envs/{name}"].vector_entry_point = vectors(OWN[name]) if name in OWN else finite(f"envs/{name}")
