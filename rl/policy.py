"""A policy to use elsewhere: greedy, small, without replay or optimiser. Speaks Stable-Baselines3's `predict`."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from envs.running import Running, Statistics, checked
from rl.agents.deep import DeepAgent
from rl.agents.dqn import DQN
from rl.agents.linear import LinearAgent, LinearSARSA
from rl.describe import from_json, to_json
from rl.explore import BOLTZMANN, EPSILON_GREEDY, NOISE, by_rule, choose, greedy
from rl.observations import leaves
from rl.spaces import SpaceError, StateIndex, actions_of, space_from_json, space_to_json
from supervised import checkpoint
from supervised.checkpoint import CheckpointError
from supervised.streams import Streams, generator

UNREAD = np.empty((0, 0))  # in the place of visit counts, which a policy does not have


class TablePolicy:
    """The policy of one seed's Q-table.

    q [S, A]; explore and level: the rule, with its epsilon, temperature or scale, that deterministic=False follows.
    statistics: as of `NetworkPolicy`.
    """

    def __init__(
        self,
        q: np.ndarray,
        observation_space: Any,
        action_space: Any,
        seed: int = 0,
        explore: int = EPSILON_GREEDY,
        level: float = 0.0,
        statistics: Statistics | None = None,
    ) -> None:
        self.statistics = statistics
        self.q = np.array(q, dtype=np.float64)
        self.observation_space, self.action_space = observation_space, action_space
        self.seed, self.explore, self.level = seed, explore, level
        self.index = StateIndex(observation_space)
        self.actions, self.first_action = actions_of(action_space)
        if self.q.shape != (self.index.size, self.actions) or not np.isfinite(self.q).all():
            raise ValueError(f"The table must be finite and [{self.index.size}, {self.actions}].")
        check_rule(explore, level)
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
            rule = (self.explore, self.level, True, self.rng)
            actions = np.array([choose(self.q, UNREAD, int(s), *rule) for s in states])
        return (actions + self.first_action).reshape(shape).astype(np.int64), state

    def _is_one(self, obs: Any) -> bool:
        if isinstance(self.observation_space, gym.spaces.Tuple):
            return all(
                np.ndim(part) == len(space.shape or ())
                for part, space in zip(obs, self.observation_space, strict=False)
            )
        return np.ndim(obs) == len(self.observation_space.shape or ())

    def wrap(self, env: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
        """Freeze the running statistics of training into the wrappers of `env`, which is returned.

        The policy takes observations as that environment then gives them. Raises ValueError where the wrappers are others.
        """
        return frozen(env, self.statistics)

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
        checkpoint.save(path, {"q": self.q, "statistics": self.statistics}, meta, keep=False)


class NetworkPolicy:
    """The policy of one seed's Q-network, or of its tiles.

    description: of the agent. weights: by the names they have in the agent. explore and level: as of `TablePolicy`.
    statistics: what the wrappers of its environment (NormalizeObservation) knew in training; `wrap` puts them into another.
    Raises ValueError where the weights are of another network.
    """

    def __init__(
        self,
        description: DQN | LinearSARSA,
        weights: dict[str, np.ndarray],
        observation_space: Any,
        action_space: Any,
        seed: int = 0,
        explore: int = EPSILON_GREEDY,
        level: float = 0.0,
        statistics: Statistics | None = None,
    ) -> None:
        self.description, self.statistics = description, statistics
        self.observation_space, self.action_space = observation_space, action_space
        self.seed, self.explore, self.level = seed, explore, level
        check_rule(explore, level)
        alone = description
        if isinstance(alone, DQN):  # a policy learns no more, so it needs no second network
            alone = dataclasses.replace(alone, double=False, target_every_updates=None, target_rate=1.0)
        self.agent: DeepAgent | LinearAgent = alone.build(observation_space, action_space, [seed])
        if not all(np.isfinite(weight).all() for weight in weights.values()):
            raise ValueError("The weights have values that are NaN or infinite.")
        self.agent.take_weights(weights)
        self.streams = Streams([seed], "policy")

    def predict(
        self,
        obs: Any,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = True,
        action_masks: Any = None,
    ) -> tuple[np.ndarray, Any]:
        """Observation(s) as the environment gives them -> (action(s) as it takes them, state).

        One observation gives an int64 array of shape [], a batch [B] of them gives [B]. action_masks: bool [A] or [B, A], the
        actions allowed; None: all. Raises SpaceError for an observation that is not of the space.
        """
        tensors, shape = self._tensors(obs)
        mask = (
            None
            if action_masks is None
            else torch.as_tensor(np.asarray(action_masks, bool)).reshape(1, *shape or (1,), -1)
        )
        q = self.agent.q(tensors)
        mask = self.agent.allowed(tensors, mask)
        if deterministic:
            actions = greedy(q, mask=mask)
        else:
            level = torch.full(q.shape[:2], self.level, dtype=torch.float64)
            actions = by_rule(self.explore, q, level, self.streams, mask, True)
        return (actions.numpy() + self.agent.first_action).reshape(shape), state

    def _tensors(self, obs: Any) -> tuple[Any, tuple[int, ...]]:
        """Observation(s) -> tensors [1, B, *O] by part, and the shape of the answer: () of one, (B,) of several."""
        found = {name: np.asarray(part) for name, part in leaves(obs).items()}
        shapes: set[tuple[int, ...]] = set()
        for part in self.agent.parts:
            given = found.get(part.name)
            axes = -1 if given is None else given.ndim - len(part.shape)
            if given is None or axes not in (0, 1) or given.shape[axes:] != part.shape:
                raise SpaceError(f"{obs!r} is no observation of {self.observation_space}, nor a batch of them.")
            if given.dtype.kind == "f" and np.isnan(given).any():
                raise SpaceError(f"The observation has NaN in it: {obs!r}.")
            if part.kind == "discrete" and not part.holds(given):
                raise SpaceError(f"{obs!r} is no observation of {self.observation_space}, nor a batch of them.")
            shapes.add(given.shape[:axes])
            found[part.name] = given if axes else given[None]
        if len(shapes) > 1:
            raise SpaceError("The parts of the observation are not of one number.")
        tensors = {name: torch.from_numpy(np.array(part))[None] for name, part in found.items()}
        return tensors.get("", tensors), shapes.pop()

    def wrap(self, env: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
        """Freeze the running statistics of training into the wrappers of `env`, which is returned.

        The policy takes observations as that environment then gives them. Raises ValueError where the wrappers are others.
        """
        return frozen(env, self.statistics)

    def save(self, path: str | Path) -> None:
        """Write the policy to a safetensors file."""
        meta = {
            "kind": "network policy",
            "agent": to_json(self.description),
            "observation_space": space_to_json(self.observation_space),
            "action_space": space_to_json(self.action_space),
            "seed": self.seed,
            "explore": self.explore,
            "level": self.level,
        }
        state = {"weights": self.agent.weights_of(0), "statistics": self.statistics}
        checkpoint.save(path, state, meta, keep=False)


def frozen(env: gym.Env[Any, Any], statistics: Statistics | None) -> gym.Env[Any, Any]:
    """`env`, with running statistics put into its wrappers and updated no more; None: as it is."""
    if statistics is not None:
        Running(env).freeze(statistics)
    return env


def check_rule(explore: int, level: float) -> None:
    """Raise ValueError for a rule that no policy can follow, or an epsilon, temperature or scale out of its range."""
    lowest, highest = {EPSILON_GREEDY: (0.0, 1.0), BOLTZMANN: (1e-12, math.inf), NOISE: (0.0, math.inf)}.get(
        explore, (math.nan, math.nan)
    )
    if not lowest <= level <= highest:
        raise ValueError(f"{explore} at {level} is no rule that a policy can follow.")


def load_policy(path: str | Path, network: Any = None, mask: Any = None) -> TablePolicy | NetworkPolicy:
    """Read what `policy.save` wrote. Nothing in the file is run.

    network, mask: the functions that the agent was made with, if it was. Raises CheckpointError for anything else.
    """
    state, meta = checkpoint.load(path)
    if meta.get("kind") not in ("policy", "network policy"):
        raise CheckpointError(f"{path} holds a {meta.get('kind')}, not a policy. Read a run with rl.load.")
    try:
        spaces = space_from_json(meta["observation_space"]), space_from_json(meta["action_space"])
        rest: Any = int(meta["seed"]), int(meta["explore"]), float(meta["level"]), checked(state.get("statistics"))
        if meta["kind"] == "policy":
            return TablePolicy(state["q"], *spaces, *rest)
        description = from_json(meta["agent"], network=network, mask=mask)
        if not isinstance(description, (DQN, LinearSARSA)):
            raise CheckpointError(f"{path} names no agent with weights.")
        return NetworkPolicy(description, state["weights"], *spaces, *rest)
    except CheckpointError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, OverflowError, SpaceError) as error:
        raise CheckpointError(f"{path} is a damaged policy: {error}") from error
