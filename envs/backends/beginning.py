"""What an episode of an environment begins from: all that must be put back for it to begin in the same way again."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np

from envs.backends.running import Running
from envs.errors import EnvError


def member_seed(seed: int, e: int, episode: int = 0) -> int:
    """The number that environment e of a seed is reset with: the seed itself for the first, as users do."""
    if e == 0 and episode == 0:
        return seed
    return int(np.random.SeedSequence(seed, spawn_key=(e, episode)).generate_state(1)[0])


class Beginning:
    """The number, random generator, lasting state and running statistics that the present episode began with.

    Raises EnvError for an environment that has one of `lasting_state` and `put_back` without the other.
    """

    def __init__(self, env: gym.Env[Any, Any], name: str, seed: int, e: int) -> None:
        self.env, self.name, self.seed, self.e = env, name, seed, e
        if hasattr(env.unwrapped, "lasting_state") != hasattr(env.unwrapped, "put_back"):
            raise EnvError(f"{name} has one of lasting_state and put_back: it takes both, to tell and to take back.")
        self.episode = -1
        self.readable = True  # whether the environment's generator can be read
        self.generator: dict[str, Any] | None = None  # None: the episode begins from a seed
        self.lasting: Any = None  # what outlived the last episode, where the environment tells
        self.running = Running(env)
        self.statistics: list[dict[str, Any]] = []  # of the wrappers

    def next(self) -> int | None:
        """Note what is there, for another episode is about to begin -> the seed for its reset; None: the generator's turn."""
        self.episode += 1
        base: Any = self.env.unwrapped
        self.lasting = copy.deepcopy(base.lasting_state()) if hasattr(base, "lasting_state") else None
        if self.running:
            self.statistics = self.running.state()
        self.generator = None
        if self.episode == 0 or not self.readable:
            return member_seed(self.seed, self.e, self.episode)
        self.generator = dict(base.np_random.bit_generator.state)
        return None

    def begun(self) -> None:
        """The environment has been reset."""
        if self.episode == 0:
            # An environment that does not hand the seed to gym.Env.reset keeps its generator where we cannot see it.
            self.readable = isinstance(getattr(self.env.unwrapped, "_np_random", None), np.random.Generator)

    def state_dict(self) -> dict[str, Any]:
        """The beginning as JSON values and arrays."""
        state = {name: getattr(self, name) for name in ("episode", "generator", "readable", "lasting")}
        return state | ({"statistics": self.statistics} if self.running else {})

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Make the environment ready to begin the saved episode. Raises ValueError for a state that does not fit."""
        self.episode = state["episode"] - 1
        self.readable = state["readable"]
        if state["generator"] is not None:
            self.env.unwrapped.np_random = np.random.Generator(np.random.PCG64())
            self.env.unwrapped.np_random.bit_generator.state = state["generator"]
        if state.get("lasting") is not None:  # older checkpoints have none
            base: Any = self.env.unwrapped
            base.put_back(state["lasting"])
        if "statistics" in state:
            self.running.load_state(state["statistics"])
        elif self.running:
            warnings.warn(
                f"{self.name} (seed {self.seed}): the checkpoint is of an older version, which did not save the running"
                f" statistics of {', '.join(self.running.names)}. They begin anew; the run is not bit-equal.",
                RuntimeWarning,
                stacklevel=3,
            )
