"""Policies for deployment: greedy by default, without replay or optimizer, with the `predict` interface of Stable-Baselines3."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from envs.backends.running import Running, Statistics, checked
from rl import masked, network_names
from rl.core import jit
from rl.core.observations import leaves
from rl.core.registry import AGENTS, NotHere, check, for_policy, from_json, name_of, to_json
from rl.core.spaces import SpaceError, StateIndex, actions_of, space_from_json, space_to_json
from rl.explore import BOLTZMANN, EPSILON_GREEDY, GAUSSIAN_NOISE, check_some, choose, select_on_host
from rl.masked import best_allowed, check_allowed
from supervised import checkpoint, validate
from supervised.checkpoint import CheckpointError
from supervised.renamed import former_attributes
from supervised.streams import Streams, generator
from supervised.validate import ArgumentError, flag, instance, integer, number, shown

UNREAD = np.empty((0, 0))  # placeholder for visit counts, which a policy does not have


class TablePolicy:
    """The policy of one seed's Q-table.

    table: Q-values [S, A]. explore and level: the exploration rule and its epsilon, temperature or scale, used if
    deterministic=False. statistics: see `NetworkPolicy`. allowed: uint8 [S, A], the actions that the environment allowed in each
    state; None: all. Raises ValueError for a table of another shape and for NaN or infinite values.
    """

    def __init__(
        self,
        table: np.ndarray,
        observation_space: Any,
        action_space: Any,
        seed: int = 0,
        explore: int = EPSILON_GREEDY,
        level: float = 0.0,
        statistics: Statistics | None = None,
        allowed: np.ndarray | None = None,
    ) -> None:
        self.statistics = statistics
        self.table = _floats(table, "table")
        self.observation_space, self.action_space = observation_space, action_space
        self.seed = integer(seed, "seed", 0)
        self.explore, self.level = check_rule(explore, level)
        self.index = StateIndex(observation_space)
        self.actions, self.first_action = actions_of(action_space)
        if self.table.shape != (self.index.size, self.actions) or not np.isfinite(self.table).all():
            raise ValueError(f"The table must be finite and [{self.index.size}, {self.actions}].")
        self.allowed = None if allowed is None else np.array(allowed)
        if self.allowed is not None:
            check_allowed(self.allowed, self.table.shape)
        self.rng = generator(self.seed, "policy")

    def predict(
        self,
        obs: Any,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = True,
        action_masks: Any = None,
    ) -> tuple[np.ndarray | np.int64, Any]:
        """Return (action, state) for an observation of the environment, or (actions, state) for a batch.

        An observation gives an np.int64, a batch [B] (stacked as in a vector environment) int64 [B]; the environment takes them
        unchanged. action_masks: bool [A] or [B, A], the actions allowed; None: those allowed in training. state and episode_start
        are for recurrent policies; a table returns the state unchanged. Raises SpaceError for an observation outside the space
        and ValueError for a mask of another shape.
        """
        states, shape = self.index.each(obs)
        q, allowed = self.table[states], None if self.allowed is None else self.allowed[states]
        if action_masks is not None:
            allowed = _mask(action_masks, shape, self.actions)[0]
        if flag(deterministic, "deterministic"):
            actions = best_allowed(q, allowed)
        else:
            chooser = jit.specialize(choose, **masked.RULES)
            rule = (self.explore, self.level, True, self.rng)
            mask = None if allowed is None else masked.as_mask(allowed)
            actions = np.array([chooser(q, UNREAD, b, *rule, mask) for b in range(len(states))], np.int64)
        return _answer(actions + self.first_action, shape), state

    def q(self, obs: Any) -> np.ndarray:
        """Return the Q-values of an observation, float64 [A], or of a batch, float64 [B, A].

        -infinity for actions that the environment forbade in training. Raises SpaceError for an observation outside the space.
        """
        states, shape = self.index.each(obs)
        values: np.ndarray = self.table[states]
        if self.allowed is not None:
            values = values + masked.as_mask(self.allowed[states])
        return values.reshape(*shape, self.actions)

    def wrap(self, env: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
        """Freeze the running statistics of training into the wrappers of `env` and return it.

        The policy expects the observations of that environment. Raises ValueError if its wrappers are not those of training.
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
        masks = {} if self.allowed is None else {"allowed": self.allowed}
        state = {"q": self.table, "statistics": self.statistics, **masks}
        checkpoint.save(validate.path(path, "path"), state, meta, keep=False)


@former_attributes
class NetworkPolicy:
    """The policy of one seed's Q-network or tile coding.

    config: the config of the agent. weights: arrays by their names in the agent. explore and level: see `TablePolicy`.
    statistics: the running statistics of the environment's wrappers (NormalizeObservation) in training; `wrap` puts them into
    another environment. Raises ValueError if the weights belong to another network.
    """

    def __init__(
        self,
        config: Any,
        weights: dict[str, np.ndarray],
        observation_space: Any,
        action_space: Any,
        seed: int = 0,
        explore: int = EPSILON_GREEDY,
        level: float = 0.0,
        statistics: Statistics | None = None,
    ) -> None:
        self.config, self.statistics = config, statistics
        self.observation_space, self.action_space = observation_space, action_space
        self.seed = integer(seed, "seed", 0)
        self.explore, self.level = check_rule(explore, level)
        check(config)
        instance(weights, "weights", Mapping, "a dict of arrays by name")
        if not all(np.isfinite(_floats(weight, f"weights[{name!r}]")).all() for name, weight in weights.items()):
            raise ValueError("The weights contain NaN or infinite values.")
        self.agent = self._built(weights)
        self.streams = Streams([self.seed], "policy")

    def predict(
        self,
        obs: Any,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = True,
        action_masks: Any = None,
    ) -> tuple[np.ndarray | np.int64, Any]:
        """Return (action, state) for an observation of the environment, or (actions, state) for a batch.

        An observation gives an np.int64, a batch [B] int64 [B]. state: the state returned by the previous call, None at the
        start; agents without memory return it unchanged. episode_start: bool [B], which observations start an episode.
        action_masks: bool [A] or [B, A], the actions allowed; None: all. Raises SpaceError for an observation outside the space
        and ValueError for a mask, state or episode_start of another shape.
        """
        arrays, shape = self._arrays(obs)
        allowed = None if action_masks is None else _mask(action_masks, shape, self.agent.actions)
        start = None if episode_start is None else _start(episode_start, shape)
        q, following = self.agent.judge(arrays, state, start)
        allowed = self.agent.allowed_of(arrays, allowed)
        if flag(deterministic, "deterministic"):
            check_some(allowed)
            actions = best_allowed(q, allowed)
        else:
            level = np.full(q.shape[:2], self.level)
            actions = select_on_host(self.explore, q, level, self.streams, allowed, True)
        return _answer(actions.reshape(-1) + self.agent.first_action, shape), following or state

    def q(self, obs: Any, state: Any = None, episode_start: Any = None) -> np.ndarray:
        """Return the Q-values of an observation, [A], or of a batch, [B, A].

        state, episode_start: see `predict`. Raises SpaceError for an observation outside the space.
        """
        arrays, shape = self._arrays(obs)
        start = None if episode_start is None else _start(episode_start, shape)
        judged = self.agent.judge(arrays, state, start)
        found: np.ndarray = judged.q.reshape(*shape, self.agent.actions)
        return found

    def distribution(
        self, obs: Any, state: Any = None, episode_start: Any = None, fractions: Any = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the learned return distributions as (values, probabilities), each [A, Z], or [B, A, Z] for a batch.

        state, episode_start: see `predict`. fractions: see `DeepAgent.distribution`. Raises SpaceError like `q`, and
        ArgumentError for an agent that learns only expected values, and for fractions without implicit quantiles.
        """
        arrays, shape = self._arrays(obs)
        start = None if episode_start is None else _start(episode_start, shape)
        found = self.agent.distribution(arrays, state, start, fractions)
        values, probability = (part[0].cpu().numpy().reshape(*shape, *part.shape[2:]) for part in found)
        return values, probability

    def __getstate__(self) -> dict[str, Any]:
        """Return the state for pickle and deepcopy, with weights instead of the agent, whose compiled parts cannot be copied."""
        kept = {name: value for name, value in vars(self).items() if name != "agent"}
        return {**kept, "weights": self.agent.weights_of(0)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update({name: value for name, value in state.items() if name != "weights"})
        self.agent = self._built(state["weights"])

    def _built(self, weights: Mapping[str, np.ndarray]) -> Any:
        """Build an agent with these weights, for acting only."""
        spaces = self.observation_space, self.action_space
        agent = for_policy(self.config).build(*spaces, [self.seed])
        agent.load_seed_weights(weights)
        return agent

    def _arrays(self, obs: Any) -> tuple[Any, tuple[int, ...]]:
        """Return observation(s) as arrays [1, B, *O] by part, and the shape of the result: () for one, (B,) for a batch."""
        found = {name: _array(part) for name, part in leaves(obs).items()}
        shapes: set[tuple[int, ...]] = set()
        for part in self.agent.parts:
            given = found.get(part.name)
            axes = -1 if given is None else given.ndim - len(part.shape)
            if (
                given is None
                or given.dtype.kind not in "fiub"
                or axes not in (0, 1)
                or given.shape[axes:] != part.shape
            ):
                raise SpaceError(
                    f"{shown(obs)} is neither an observation of {self.observation_space} nor a batch of them."
                )
            if given.dtype.kind == "f" and np.isnan(given).any():
                raise SpaceError(f"The observation contains NaN: {shown(obs)}.")
            if part.kind == "discrete" and not part.holds(given):
                raise SpaceError(
                    f"{shown(obs)} is neither an observation of {self.observation_space} nor a batch of them."
                )
            shapes.add(given.shape[:axes])
            found[part.name] = given if axes else given[None]
        if len(shapes) > 1:
            raise SpaceError("The parts of the observation have different batch sizes.")
        arrays = {name: np.array(part)[None] for name, part in found.items()}
        return arrays.get("", arrays), shapes.pop()

    def wrap(self, env: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
        """Freeze the running statistics of training into the wrappers of `env` and return it.

        The policy expects the observations of that environment. Raises ValueError if its wrappers are not those of training.
        """
        return frozen(env, self.statistics)

    def save(self, path: str | Path) -> None:
        """Write the policy to a safetensors file."""
        meta = {
            "kind": "network policy",
            "agent": to_json(self.config),
            "observation_space": space_to_json(self.observation_space),
            "action_space": space_to_json(self.action_space),
            "seed": self.seed,
            "explore": self.explore,
            "level": self.level,
        }
        state = {"weights": self.agent.weights_of(0), "statistics": self.statistics}
        checkpoint.save(validate.path(path, "path"), state, meta, keep=False)


def frozen(env: gym.Env[Any, Any], statistics: Statistics | None) -> gym.Env[Any, Any]:
    """Return `env` with running statistics frozen into its wrappers; unchanged if statistics is None."""
    if statistics is not None:
        Running(env).freeze(statistics)
    return env


def _answer(actions: np.ndarray, shape: tuple[int, ...]) -> np.ndarray | np.int64:
    """Return actions [B] as int64 [B], or a single action as an np.int64, which environments can use as a dict key."""
    return actions.astype(np.int64) if shape else np.int64(actions[0])


def _array(values: Any) -> np.ndarray:
    """Convert to an array; ragged input becomes an object array."""
    try:
        return np.asarray(values.detach().cpu() if isinstance(values, torch.Tensor) else values)
    except ValueError:  # lists of different lengths
        return np.empty((), object)


def _floats(values: Any, name: str) -> np.ndarray:
    try:
        return np.array(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        raise ArgumentError(f"{name} must be an array of numbers, not {shown(values)}.") from None


def _start(given: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Return episode_start as bool [1, B]. Raises ArgumentError for another shape."""
    start = _array(given)
    if start.size != math.prod(shape) or start.dtype.kind not in "biuf":
        raise ArgumentError(
            f"episode_start must be bool {list(shape)}, true for observations that start an episode, not {shown(given)}."
        )
    return start.astype(bool).reshape(1, -1)


def _mask(given: Any, shape: tuple[int, ...], actions: int) -> np.ndarray:
    """Return an action mask as bool [1, B, A]. Raises ArgumentError for another shape."""
    mask = _array(given)
    if mask.shape != (*shape, actions) or mask.dtype.kind not in "biu":
        raise ArgumentError(
            f"action_masks must be bool {[*shape, actions]}, true for allowed actions, not {shown(given)}."
        )
    if not mask.astype(bool).any(-1).all():
        raise ArgumentError("action_masks allows no action; at least one must be allowed.")
    return mask.astype(bool).reshape(1, -1, actions)


def check_rule(explore: Any, level: Any) -> tuple[int, float]:
    """Check the exploration rule of a policy and its epsilon, temperature or scale. Raises ArgumentError for invalid ones."""
    limits = {EPSILON_GREEDY: (0.0, 1.0), BOLTZMANN: (1e-12, math.inf), GAUSSIAN_NOISE: (0.0, math.inf)}
    explore = integer(explore, "explore")
    if explore not in limits:
        raise ArgumentError(
            f"explore must be a kind of rule that a policy supports, {', '.join(map(str, limits))}, not {explore}."
        )
    return explore, number(level, f"level of the rule {explore}", *limits[explore])


def load_policy(path: str | Path, network: Any = None, mask: Any = None) -> TablePolicy | NetworkPolicy:
    """Load a policy written by `policy.save`. Never executes code from the file.

    network, mask: the functions that the agent was created with, if any. Raises CheckpointError for any other file.
    """
    path = validate.path(path, "path")
    state, meta = checkpoint.load(path)
    if meta.get("kind") not in ("policy", "network policy"):
        raise CheckpointError(f"{path} holds a {meta.get('kind')}, not a policy. Read a run with rl.load.")
    if network is not None:
        network_names.check(network)
    try:
        spaces = space_from_json(meta["observation_space"]), space_from_json(meta["action_space"])
        rest: dict[str, Any] = {
            name: kind(meta[name]) for name, kind in (("seed", int), ("explore", int), ("level", float))
        }
        rest["statistics"] = checked(state.get("statistics"))
        if meta["kind"] == "policy":
            return TablePolicy(state["q"], *spaces, **rest, allowed=state.get("allowed"))
        config = from_json(meta["agent"], network=network, mask=mask)
        if name_of(config) not in AGENTS:
            raise CheckpointError(f"{path} does not contain the config of an agent.")
        return NetworkPolicy(config, state["weights"], *spaces, **rest)
    except NotHere as error:
        raise CheckpointError(f"{path} contains no code. {error}") from error
    except CheckpointError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, OverflowError, SpaceError) as error:
        if network is not None or mask is not None:
            raise CheckpointError(f"{path} does not match the given function, or is damaged: {error}") from error
        raise CheckpointError(f"{path} is a damaged policy: {error}") from error
