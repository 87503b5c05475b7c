"""The state of an environment at the start of an episode: everything needed to start the same episode again."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np

from envs.backends.running import Running
from envs.errors import EnvError
from supervised.renamed import former_members


def member_seed(seed: int, e: int, episode: int = 0) -> int:
    """Return the seed for resetting environment e of a seed: the seed itself for the first environment and episode."""
    if e == 0 and episode == 0:
        return seed
    return int(np.random.SeedSequence(seed, spawn_key=(e, episode)).generate_state(1)[0])


PERSISTENCE = ("persistent_state", "set_persistent_state")  # methods of an environment whose state outlasts episodes


class Beginning:
    """The index, random generator, persistent state and running statistics at the start of the current episode.

    Raises EnvError for an environment that has only one of `persistent_state` and `set_persistent_state`.
    """

    def __init__(self, env: gym.Env[Any, Any], name: str, seed: int, e: int) -> None:
        self.env, self.name, self.seed, self.e = env, name, seed, e
        self.base: Any = env.unwrapped
        former = former_members(self.base)
        self.reads, self.writes = (former.get(name, name) for name in PERSISTENCE)
        if hasattr(self.base, self.reads) != hasattr(self.base, self.writes):
            raise EnvError(
                f"{name} has only one of persistent_state and set_persistent_state: both are needed, to save and to restore."
            )
        self.episode = -1
        self.readable = True  # whether the environment's generator can be read
        self.generator: dict[str, Any] | None = None  # None: the episode starts from a seed
        self.lasting: Any = None  # the environment's persistent_state, if it has one
        self.running = Running(env)
        self.statistics: list[dict[str, Any]] = []  # of the wrappers

    def next(self) -> int | None:
        """Record the state before another episode -> the seed for its reset; None: the environment's generator continues."""
        self.episode += 1
        base = self.base
        self.lasting = copy.deepcopy(getattr(base, self.reads)()) if hasattr(base, self.reads) else None
        if self.running:
            self.statistics = self.running.state()
        self.generator = None
        if self.episode == 0 or not self.readable:
            return member_seed(self.seed, self.e, self.episode)
        self.generator = dict(base.np_random.bit_generator.state)
        return None

    def begun(self) -> None:
        """Record that the environment has been reset."""
        if self.episode == 0:
            # An environment that does not pass the seed to gym.Env.reset keeps its generator where it cannot be read.
            self.readable = isinstance(getattr(self.env.unwrapped, "_np_random", None), np.random.Generator)

    def state_dict(self) -> dict[str, Any]:
        """Return the state at the start of the episode as JSON values and arrays."""
        state = {name: getattr(self, name) for name in ("episode", "generator", "readable", "lasting")}
        return state | ({"statistics": self.statistics} if self.running else {})

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Prepare the environment to start the saved episode. Raises ValueError for a state that does not fit."""
        self.episode = state["episode"] - 1
        self.readable = state["readable"]
        if state["generator"] is not None:
            self.env.unwrapped.np_random = np.random.Generator(np.random.PCG64())
            self.env.unwrapped.np_random.bit_generator.state = state["generator"]
        if state.get("lasting") is not None:  # older checkpoints have none
            getattr(self.base, self.writes)(state["lasting"])
        if "statistics" in state:
            self.running.load_state(state["statistics"])
        elif self.running:
            warnings.warn(
                f"{self.name} (seed {self.seed}): the checkpoint is from an older version that did not save the running"
                f" statistics of {', '.join(self.running.names)}. They start over; the run is not bit-identical.",
                RuntimeWarning,
                stacklevel=3,
            )
