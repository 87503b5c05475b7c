"""One `gym.Env` that can be left in the middle of an episode and gone on with, bit for bit.

An environment's inner state cannot be saved in general. What can: its random generator as it was when the episode
began, and the actions since. To go on, the generator is put back, the episode begun and the actions replayed, and what
comes out compared with what was saved. An environment that keeps something beyond an episode says so by two methods:
`lasting_state()` gives it as JSON values, `put_back(state)` takes it.
"""

from __future__ import annotations

import copy
import hashlib
import math
import warnings
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np

from envs.source import EnvError


def member_seed(seed: int, e: int, episode: int = 0) -> int:
    """The number that environment e of a seed is reset with: the seed itself for the first, as users do."""
    if e == 0 and episode == 0:
        return seed
    return int(np.random.SeedSequence(seed, spawn_key=(e, episode)).generate_state(1)[0])


class Member:
    """Environment e of a seed. Actions count from 0; observations go through `encode` (for tables: to state numbers)."""

    def __init__(
        self, env: gym.Env[Any, Any], seed: int, e: int = 0, encode: Callable[[Any], Any] | None = None
    ) -> None:
        self.env, self.seed, self.e = env, seed, e
        self.encode = encode or (lambda observation: observation)
        self.discrete = isinstance(env.action_space, gym.spaces.Discrete)
        self.first_action = int(getattr(env.action_space, "start", 0))
        self.name = env.spec.id if env.spec is not None else type(env.unwrapped).__name__
        if hasattr(env.unwrapped, "lasting_state") != hasattr(env.unwrapped, "put_back"):
            raise EnvError(
                f"{self.name} has one of lasting_state and put_back: it takes both, to tell and to take back."
            )
        self.episode = -1
        self.readable = True
        self.generator: dict[str, Any] | None = None  # as it was before the present episode's reset
        self.actions: list[Any] = []
        self.total = 0.0
        self.lasting: Any = None  # what outlived the last episode, where the environment tells
        self.obs: Any = None
        self.mask: Any = None  # the actions allowed now, info["action_mask"]; None: all

    def reset(self) -> Any:
        """Begin an episode -> its first observation, encoded."""
        self.episode += 1
        base: Any = self.env.unwrapped
        self.lasting = copy.deepcopy(base.lasting_state()) if hasattr(base, "lasting_state") else None
        if self.episode == 0:
            self._reset(seed=member_seed(self.seed, self.e))
            # An environment that does not hand the seed to gym.Env.reset keeps its generator where we cannot see it.
            self.readable = isinstance(getattr(base, "_np_random", None), np.random.Generator)
            self.generator = None
        elif self.readable:
            self.generator = dict(base.np_random.bit_generator.state)
            self._reset()
        else:
            self._reset(seed=member_seed(self.seed, self.e, self.episode))
        self.actions = []
        self.total = 0.0
        return self._encoded()

    def _reset(self, seed: int | None = None) -> None:
        answer: Any = self.env.reset(seed=seed)
        if not isinstance(answer, tuple) or len(answer) != 2:
            raise EnvError(f"{self.name}: reset must return (observation, info), not {answer!r}.")
        self.obs, self.mask = answer[0], answer[1].get("action_mask")

    def step(self, action: Any) -> tuple[Any, float, bool, bool]:
        """-> (observation, encoded; reward; terminated; truncated). Raises EnvError for a reward that is no number."""
        self.obs, reward, terminated, truncated, info = self.env.step(
            action + self.first_action if self.discrete else action
        )
        self.mask = info.get("action_mask")
        self.actions.append(action)
        try:
            value = float(reward)
        except (TypeError, ValueError):
            value = math.nan
        if not -1e300 < value < 1e300:
            raise EnvError(
                f"{self.name} (seed {self.seed}) gave the reward {reward!r} at step {len(self.actions)} of episode"
                f" {self.episode}; rewards must be finite numbers."
            )
        self.total += value
        return self._encoded(), value, bool(terminated), bool(truncated)

    def _encoded(self) -> Any:
        try:
            return self.encode(self.obs)
        except ValueError as error:
            raise EnvError(f"{error} (Seed {self.seed}, episode {self.episode}, step {len(self.actions)}.)") from error

    def state_dict(self) -> dict[str, Any]:
        """Where the environment is, as JSON values and one array (the actions since the episode began)."""
        return {
            "episode": self.episode,
            "generator": self.generator,
            "readable": self.readable,
            "total": self.total,
            "lasting": self.lasting,
            "obs": digest(self.obs),
            "actions": np.array(self.actions, dtype=np.int64 if self.discrete else None),
        }

    def load_state_dict(self, state: dict[str, Any]) -> bool:
        """Go back to a saved place -> whether it was reached; otherwise a fresh episode has begun, with a warning."""
        self.episode = state["episode"] - 1
        self.readable = state["readable"]
        if state["generator"] is not None:
            self.env.unwrapped.np_random = np.random.Generator(np.random.PCG64())
            self.env.unwrapped.np_random.bit_generator.state = state["generator"]
        if state.get("lasting") is not None:  # older checkpoints have none
            base: Any = self.env.unwrapped
            base.put_back(state["lasting"])
        self.reset()
        over = False
        for action in state["actions"].tolist() if self.discrete else list(state["actions"]):
            if over:
                break
            *_, terminated, truncated = self.step(action)
            over = terminated or truncated
        if not over and digest(self.obs) == state["obs"] and self.total == state["total"]:
            return True
        warnings.warn(
            f"{self.name} (seed {self.seed}) did not come back to where it was when its episode was replayed: it is not"
            " deterministic, or keeps state that outlives an episode. A fresh episode begins; the run is not bit-equal.",
            RuntimeWarning,
            stacklevel=2,
        )
        self.reset()
        return False


def digest(observation: Any) -> str:
    """A fingerprint of an observation of any kind, exact to the bit."""
    sha = hashlib.sha256()

    def feed(part: Any) -> None:
        if isinstance(part, dict):
            for key in sorted(part):
                sha.update(str(key).encode())
                feed(part[key])
        elif isinstance(part, (tuple, list)):
            for item in part:
                feed(item)
        else:
            array = np.asarray(part)
            sha.update(str((array.shape, array.dtype.kind)).encode())
            sha.update(
                array.astype(array.dtype.newbyteorder("<")).tobytes()
                if array.dtype.kind in "biuf"
                else repr(part).encode()
            )

    feed(observation)
    return sha.hexdigest()[:32]
