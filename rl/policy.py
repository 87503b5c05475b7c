"""A policy to use elsewhere: greedy, small, without replay or optimiser. Speaks Stable-Baselines3's `predict`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from rl.explore import EPSILON_GREEDY, choose
from rl.spaces import SpaceError, StateIndex, actions_of, space_from_json, space_to_json
from supervised import checkpoint
from supervised.checkpoint import CheckpointError
from supervised.streams import generator


class TablePolicy:
    """The policy of one seed's Q-table.

    q [S, A]; explore and level: the rule, with its epsilon, temperature or scale, that deterministic=False follows.
    """

    def __init__(
        self,
        q: np.ndarray,
        observation_space: Any,
        action_space: Any,
        seed: int = 0,
        explore: int = EPSILON_GREEDY,
        level: float = 0.0,
    ) -> None:
        self.q = np.array(q, dtype=np.float64)
        self.observation_space, self.action_space = observation_space, action_space
        self.seed, self.explore, self.level = seed, explore, level
        self.index = StateIndex(observation_space)
        self.actions, self.first_action = actions_of(action_space)
        if self.q.shape != (self.index.size, self.actions) or not np.isfinite(self.q).all():
            raise ValueError(f"The table must be finite and [{self.index.size}, {self.actions}].")
        self.greedy = self.q.argmax(-1)
        self.rng = generator(seed, "policy")

    def predict(
        self, obs: Any, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> tuple[np.ndarray, Any]:
        """Observation(s) as the environment gives them -> (action(s) as it takes them, state).

        One observation gives an int64 array of shape [], a batch [B] of them (as a vector environment stacks them) gives
        [B]. state and episode_start are for recurrent policies; a table hands the state back as it came. Raises SpaceError
        for an observation outside the space.
        """
        if self._is_one(obs):
            states, shape = np.array([self.index(obs)]), ()
        else:
            if not isinstance(self.observation_space, gym.spaces.Tuple):
                obs = np.asarray(obs)
            first = obs[0] if isinstance(obs, tuple) else obs
            states = self.index.many(obs, len(np.asarray(first)))
            shape = states.shape
        if deterministic:
            actions = self.greedy[states]
        else:
            actions = np.array([choose(self.q, int(s), self.explore, self.level, True, self.rng) for s in states])
        return (actions + self.first_action).reshape(shape).astype(np.int64), state

    def _is_one(self, obs: Any) -> bool:
        if isinstance(self.observation_space, gym.spaces.Tuple):
            return all(
                np.ndim(part) == len(space.shape or ())
                for part, space in zip(obs, self.observation_space, strict=False)
            )
        return np.ndim(obs) == len(self.observation_space.shape or ())

    def save(self, path: str | Path) -> None:
        """Write the policy to a safetensors file."""
        meta = {
            "kind": "policy",
            "observation_space": space_to_json(self.observation_space),
            "action_space": space_to_json(self.action_space),
            "seed": self.seed,
            "explore": self.explore,
            "level": self.level,
        }
        checkpoint.save(path, {"q": self.q}, meta, keep=False)


def load_policy(path: str | Path) -> TablePolicy:
    """Read what `policy.save` wrote. Raises CheckpointError for anything else; nothing in the file is run."""
    state, meta = checkpoint.load(path)
    if meta.get("kind") != "policy":
        raise CheckpointError(f"{path} holds a {meta.get('kind')}, not a policy. Read a run with rl.load.")
    try:
        spaces = space_from_json(meta["observation_space"]), space_from_json(meta["action_space"])
        return TablePolicy(state["q"], *spaces, int(meta["seed"]), int(meta["explore"]), float(meta["level"]))
    except (KeyError, TypeError, ValueError, SpaceError) as error:
        raise CheckpointError(f"{path} is a damaged policy: {error}") from error
