"""Inspection of an environment before a run starts: its model, its spaces, and whether its episodes are reproducible."""

from __future__ import annotations

import hashlib
import time
import warnings
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np

import envs
from envs import tables
from envs.backends.repeatable import why_not_repeatable
from envs.source import Source
from rl.core import registry


def model_digest(model: tables.Model) -> str:
    """Return a fingerprint of a model, which depends on its process but not on its name."""
    sha = hashlib.sha256(repr((model.limit, model.step_draws, model.reset_draws)).encode())
    for name, value in sorted(vars(model).items()):
        if name != "mask" and isinstance(value, np.ndarray):
            sha.update(name.encode() + np.ascontiguousarray(value).tobytes())
    return sha.hexdigest()[:32]


def probe(where: Source) -> tuple[tables.Model | None, str, tuple[Any, Any]]:
    """Return the model of an environment (or None and the reason), and its spaces.

    At most one environment is open at a time, and none at the end.
    """
    if where.vector is not None:
        spaces = where.vector.single_observation_space, where.vector.single_action_space
        return None, "the model of a VectorEnv is not read", spaces
    began = time.perf_counter()
    env = where.make()
    spaces = env.observation_space, env.action_space
    try:
        model = tables.read(env)
    except tables.NoModelError as reason:
        why = str(reason)
    except BaseException:
        env.close()
        raise
    else:
        env.close()
        _check_same(where, model)
        return model, "", spaces
    if not isinstance(spaces[1], gym.spaces.Discrete):
        env.close()
        return None, why, spaces
    if hasattr(env.unwrapped, "P"):  # tables.read may have stepped it
        env.close()
        env = where.make()
    fault = why_not_repeatable(env, where.make, began)
    if fault is not None:
        warnings.warn(f"{where.name} {fault}", RuntimeWarning, stacklevel=4)
    return None, why, spaces


def unable(where: Source, agents: Mapping[str, Any]) -> dict[str, str]:
    """Which of these agents cannot act in an environment, by name, and why: by its spaces, and by its model where it is known."""
    env = where.make()
    try:
        model = tables.read(env)
    except tables.NoModelError:
        model = None
    finally:
        env.close()
    found = {}
    for name, agent in agents.items():
        why = registry.why_it_cannot_act(agent, env.observation_space, env.action_space)
        if why is None and model is not None:
            try:
                registry.optional_setting(agent, "check_model", lambda _model: None)(model)
            except ValueError as error:
                why = str(error)
        if why is not None:
            found[name] = why.replace("The environment", where.name, 1)
    return found


def _check_same(where: Source, model: tables.Model) -> None:
    """Raise EnvError if the environment has another model each time it is created."""
    env = where.make()
    try:
        same = model.same_as(tables.read(env))
    except tables.NoModelError:
        same = False
    finally:
        env.close()
    if not same:
        raise envs.EnvError(
            f"{where.name} is a different environment each time it is created (a random map, perhaps), so seeds cannot be"
            " compared and policies cannot be evaluated. Fix its map, for example with desc=..."
        )
