"""The policy of a Q-table, with the `predict` interface of Stable-Baselines3."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from envs.backends.running import Statistics
from rl import masked
from rl.core import jit
from rl.core.policy_inputs import as_answer, as_floats, as_mask, check_rule, frozen
from rl.core.spaces import StateIndex, actions_of, space_to_json
from rl.explore import EPSILON_GREEDY, choose
from rl.masked import best_allowed, check_allowed
from supervised import checkpoint, validate
from supervised.streams import generator
from supervised.validate import flag, integer

UNREAD = np.empty((0, 0))  # placeholder for visit counts, which a policy does not have


class TablePolicy:
    """The policy of one seed's Q-table.

    table: Q-values [S, A]. explore and level: the exploration rule and its epsilon, temperature or scale, used if
    deterministic=False. statistics: see `NetworkPolicy`. allowed: uint8 [S, A], the actions that the environment allowed in each
    state; None: all. Raises ValueError if the shape of the table is wrong, and for NaN or infinite values.
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
        self.table = as_floats(table, "table")
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

        For one observation the action is an np.int64; for a batch [B], stacked as in a vector environment, the actions are
        int64 [B]. The environment takes them unchanged. action_masks: bool [A] or [B, A], the actions allowed; None: those
        allowed in training. state and episode_start are for recurrent policies; a table returns the state unchanged. Raises
        SpaceError for an observation outside the space and ValueError if the shape of a mask differs.
        """
        states, shape = self.index.each(obs)
        q, allowed = self.table[states], None if self.allowed is None else self.allowed[states]
        if action_masks is not None:
            allowed = as_mask(action_masks, shape, self.actions)[0]
        if flag(deterministic, "deterministic"):
            actions = best_allowed(q, allowed)
        else:
            chooser = jit.specialize(choose, **masked.RULES)
            rule = (self.explore, self.level, True, self.rng)
            mask = None if allowed is None else masked.as_mask(allowed)
            actions = np.array([chooser(q, UNREAD, b, *rule, mask) for b in range(len(states))], np.int64)
        return as_answer(actions + self.first_action, shape), state

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
