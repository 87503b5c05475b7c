"""The policy of a Q-network or tile coding, with the `predict` interface of Stable-Baselines3."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from envs.backends.running import Statistics
from rl.core.observations import leaves
from rl.core.policy_inputs import as_answer, as_array, as_floats, as_mask, as_start, check_rule, frozen
from rl.core.registry import check, for_policy, to_json
from rl.core.spaces import SpaceError, space_to_json
from rl.explore import EPSILON_GREEDY, check_some, select_on_host
from rl.masked import best_allowed
from supervised import checkpoint, validate
from supervised.renamed import former_attributes
from supervised.streams import Streams
from supervised.validate import flag, instance, integer, shown


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
        if not all(np.isfinite(as_floats(weight, f"weights[{name!r}]")).all() for name, weight in weights.items()):
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

        For one observation the action is an np.int64; for a batch [B] the actions are int64 [B]. state: the state returned by
        the previous call, None at the start; agents without memory return it unchanged. episode_start: bool [B], which
        observations start an episode. action_masks: bool [A] or [B, A], the actions allowed; None: all. Raises SpaceError for
        an observation outside the space and ValueError if the shape of a mask, state or episode_start differs.
        """
        arrays, shape = self._arrays(obs)
        allowed = None if action_masks is None else as_mask(action_masks, shape, self.agent.actions)
        start = None if episode_start is None else as_start(episode_start, shape)
        q, following = self.agent.judge(arrays, state, start)
        allowed = self.agent.allowed_of(arrays, allowed)
        if flag(deterministic, "deterministic"):
            check_some(allowed)
            actions = best_allowed(q, allowed)
        else:
            level = np.full(q.shape[:2], self.level)
            actions = select_on_host(self.explore, q, level, self.streams, allowed, True)
        return as_answer(actions.reshape(-1) + self.agent.first_action, shape), following or state

    def q(self, obs: Any, state: Any = None, episode_start: Any = None) -> np.ndarray:
        """Return the Q-values of an observation, [A], or of a batch, [B, A].

        state, episode_start: see `predict`. Raises SpaceError for an observation outside the space.
        """
        arrays, shape = self._arrays(obs)
        start = None if episode_start is None else as_start(episode_start, shape)
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
        start = None if episode_start is None else as_start(episode_start, shape)
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
        found = {name: as_array(part) for name, part in leaves(obs).items()}
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
