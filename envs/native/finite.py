"""Finite models in arrays: FrozenLake, CliffWalking, Taxi, the textbook's environments, and those with hidden states.

The transitions are those of the environment's own model (`envs.read`, `envs.read_partial`); only the random numbers differ: each
step draws one from the copy's own stream and selects the outcome with it as Gymnasium does.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

from envs.errors import EnvError
from envs.model.extract import read
from envs.model.model import Model, NoModelError
from envs.model.partial import read_partial
from envs.native.arrays import Arrays
from envs.native.draws import Counted
from envs.native.game import State


class Finite:
    """Copies of a finite environment; observations are the states, or the environment's observation of each state."""

    step_draws = 1
    reset_draws = 1
    draws = Counted
    persistent: tuple[str, ...] = ()

    def __init__(self, arrays: Arrays, env: gym.Env[Any, Any]) -> None:
        """env: an environment whose model can be read. Raises EnvError, with the reason, for any other."""
        self.arrays, self.env = arrays, env
        model, seen = _model(env)
        assert isinstance(env.action_space, gym.spaces.Discrete)
        self.observation_space: gym.Space[Any] = env.observation_space
        self.action_space = env.action_space
        self.limit = model.limit
        thresholds, next_state, reward, terminated = model.arrays
        self.thresholds = arrays.array(thresholds, "float64")  # [S, A, K]
        self.next_state = arrays.array(next_state, "int64")  # [S, A, K + 1], as are the next two
        self.rewards = arrays.array(reward, "float32")
        self.terminations = arrays.array(terminated, "bool")
        self.start = arrays.array(np.cumsum(model.start), "float64")  # [S]
        self.allowed = None if model.mask is None else arrays.array(model.mask, "bool")  # [S, A]
        self.seen = None if seen is None else arrays.array(seen, str(seen.dtype))  # [S, *O]

    def reset(self, draws: Any) -> State:
        state = (self.start <= draws[:, :1]).sum(-1)
        return {"state": self.arrays.xp.where(state < len(self.start), state, 0 * state)}

    def transition(self, state: State, action: Any, draws: Any) -> tuple[State, Any, Any]:
        s = state["state"]
        outcome = (self.thresholds[s, action] <= draws).sum(-1)
        place = s, action, outcome
        return {"state": self.next_state[place]}, self.rewards[place], self.terminations[place]

    def observe(self, state: State) -> Any:
        return state["state"] + 0 if self.seen is None else self.seen[state["state"]]

    def mask(self, state: State) -> Any:
        return None if self.allowed is None else self.allowed[state["state"]]

    def picture(self, state: State) -> np.ndarray:
        """Render the environment in this state. Raises EnvError if it cannot be rendered."""
        spec = self.env.spec
        if (
            spec is None
            or self.seen is not None
            or "rgb_array" not in (self.env.metadata or {}).get("render_modes", ())
        ):
            raise EnvError(f"{type(self.env.unwrapped).__name__} cannot be rendered.")
        drawn: Any = gym.make(spec, render_mode="rgb_array")
        drawn.reset()
        drawn.unwrapped.s = int(state["state"][0])
        picture: np.ndarray = drawn.render()
        drawn.close()
        return picture


def _model(env: gym.Env[Any, Any]) -> tuple[Model, np.ndarray | None]:
    """Return the model of an environment, and its observation of each state, [S, *O]; None: the state itself."""
    try:
        return read(env), None
    except NoModelError as error:
        why = error
    try:
        partial = read_partial(env)
    except NoModelError as error:
        why = error if hasattr(env.unwrapped, "partial_model") else why
        raise EnvError(f"The environment has no native version. {why}") from error
    space = env.observation_space
    seen = np.stack([np.asarray(o, space.dtype) for o in partial.seen])
    return partial.model, seen[partial.observation]
