"""Extraction of an environment's finite model, verified against its behavior.

Gymnasium's toy-text environments contain their complete model: `P[s][a]` is a list of (probability, next state, reward,
terminated), `initial_state_distrib` the initial state distribution. `read` converts it to arrays, then steps the environment
with the same random numbers: every step must match bit for bit before a compiled loop may replace the environment. Any
difference raises an error that names it.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.toy_text.cliffwalking import CliffWalkingEnv
from gymnasium.envs.toy_text.frozen_lake import FrozenLakeEnv
from gymnasium.envs.toy_text.taxi import TaxiEnv
from gymnasium.wrappers import OrderEnforcing, PassiveEnvChecker, RecordEpisodeStatistics, TimeLimit

from envs.errors import EnvError
from envs.model.model import Model, NoModelError
from envs.model.proof import proved
from supervised.validate import instance

HARMLESS = (TimeLimit, OrderEnforcing, PassiveEnvChecker, RecordEpisodeStatistics)


def read(env: gym.Env[Any, Any]) -> Model:
    """Return the finite model of `env`, which is stepped, and so changed, to verify it.

    Raises NoModelError, with the reason, if there is no model or the environment does not behave like it; EnvError for a
    FrozenLake map without a start or goal.
    """
    base = instance(env, "env", gym.Env, "a gymnasium.Env").unwrapped
    name = env.spec.id if env.spec is not None else type(base).__name__
    if isinstance(base, FrozenLakeEnv):
        _check_map(base, name)
    limit = peeled(env)[1]
    if getattr(base, "fickle_passenger", False):
        raise NoModelError(
            f"{name}: fickle_passenger makes the passenger's change of mind hidden state, so P is not the complete model."
        )
    if not hasattr(base, "P") or not hasattr(base, "initial_state_distrib"):
        raise NoModelError(f"{name} has no model: it lacks P or initial_state_distrib.")
    if not isinstance(base.observation_space, gym.spaces.Discrete) or not isinstance(
        base.action_space, gym.spaces.Discrete
    ):
        raise NoModelError(f"{name} has P, but its observations or actions are not Discrete.")
    if callable(getattr(base, "action_masks", None)):
        raise NoModelError(f"{name} has P, but P does not include the actions allowed by action_masks().")
    if base.action_space.start != 0 or base.observation_space.start != 0:
        raise NoModelError(f"{name} has P, but its states or actions are not numbered from 0.")
    model = _arrays(base, name, limit)
    return proved(base, model)


def _check_map(base: FrozenLakeEnv, name: str) -> None:
    """Raise EnvError for a map without a start or goal; Gymnasium itself would only divide by zero."""
    letters = np.asarray(base.desc).astype(str)
    for letter, what in (("S", "start"), ("G", "goal")):
        if not (letters == letter).any():
            raise EnvError(f"{name}: the map {[''.join(row) for row in letters]} has no {what} ({letter}).")


def peeled(env: gym.Env[Any, Any], owns: str = "") -> tuple[gym.Env[Any, Any], int | None]:
    """Return the environment inside the wrappers of `env`, and their time limit. owns: stop at the first layer with this method.

    Raises NoModelError for a wrapper that may change what an agent observes.
    """
    limits = []
    while isinstance(env, gym.Wrapper) and not (owns and callable(getattr(env, owns, None))):
        if type(env) not in HARMLESS:
            raise NoModelError(
                f"The wrapper {type(env).__name__} may change observations, rewards, actions or endings."
            )
        if isinstance(env, TimeLimit):
            limits.append(int(env._max_episode_steps))
        env = env.env
    return env, min(limits, default=None)


def _arrays(base: Any, name: str, limit: int | None) -> Model:
    states, actions = int(base.observation_space.n), int(base.action_space.n)
    try:
        rows = [[list(base.P[s][a]) for a in range(actions)] for s in range(states)]
        model = Model.of(name, rows, base.initial_state_distrib, limit)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise NoModelError(
            f"{name} has P, but not in Gymnasium's format (probability, next state, reward, terminated)."
        ) from error
    start, following = model.start, model.next_state
    if (
        start.shape != (states,)
        or not np.isclose(start.sum(), 1)
        or not np.allclose(model.probability.sum(-1), 1)
        or (model.probability < 0).any()
    ):
        raise NoModelError(f"{name} has P, but its probabilities do not sum to 1 in every state and action.")
    if (following < 0).any() or (following >= states).any() or not np.isfinite(model.reward).all():
        raise NoModelError(
            f"{name} has P, but P contains a next state outside 0..{states - 1} or a reward that is not finite."
        )
    desc, success = _map_and_goal(base, following, model.terminated)
    return dataclasses.replace(model, success=success, desc=desc, mask=_mask(base, name, states, actions))


def _mask(base: Any, name: str, states: int, actions: int) -> np.ndarray | None:
    """Return the actions allowed in each state by the environment's `action_mask(state)`; None: it has no such method.

    If a state allows no action, all count as allowed, since none is ever taken there.
    """
    if not callable(getattr(base, "action_mask", None)):
        return None
    try:
        mask = np.array([np.asarray(base.action_mask(s)) for s in range(states)]) != 0
    except Exception as error:  # whatever a user's method may raise
        raise NoModelError(
            f"{name} has P, but its action_mask(state) raises {type(error).__name__}: {error}"
        ) from error
    if mask.shape != (states, actions):
        raise NoModelError(f"{name} has P, but its action_mask(state) does not return {actions} entries.")
    mask |= ~mask.any(-1, keepdims=True)
    return None if mask.all() else mask


def _map_and_goal(
    base: Any, next_state: np.ndarray, terminated: np.ndarray
) -> tuple[tuple[str, ...] | None, np.ndarray | None]:
    """Return the map as rows of letters, and which outcomes reach the goal, for environments with a known goal."""
    if type(base) is FrozenLakeEnv:
        desc = tuple("".join(letter.decode() for letter in row) for row in np.asarray(base.desc).tolist())
        goal = np.array([letter == "G" for row in desc for letter in row])
        return desc, terminated & goal[next_state]
    if type(base) is CliffWalkingEnv:
        rows = [["S" if s == 36 else "F" for s in range(r * 12, r * 12 + 12)] for r in range(4)]
        for column in range(1, 11):
            rows[3][column] = "H"
        rows[3][11] = "G"
        return tuple("".join(row) for row in rows), terminated
    return None, terminated if type(base) is TaxiEnv else None
