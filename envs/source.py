"""Where environments come from: a Gymnasium id, an `EnvSpec`, a function, or a `VectorEnv`."""

from __future__ import annotations

import copy
import difflib
import importlib
import json
import re
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import VectorEnv

from supervised.validate import shown, unwrapped

EnvLike = str | EnvSpec | Callable[[], gym.Env[Any, Any]] | VectorEnv[Any, Any, Any]


class EnvError(ValueError):
    """An environment could not be made or misbehaved; the message names it."""


@dataclass(frozen=True, eq=False)
class Source:
    """Makes environments. `description` is what a checkpoint can hold: id and kwargs, or None for code."""

    name: str
    maker: Callable[..., gym.Env[Any, Any]] | None
    description: dict[str, Any] | None
    vector: VectorEnv[Any, Any, Any] | None = None
    made: weakref.WeakSet[gym.Env[Any, Any]] = field(default_factory=weakref.WeakSet)

    def make(self, render_mode: str | None = None) -> gym.Env[Any, Any]:
        """A new environment.

        Raises EnvError when it cannot be made, or when a function returns an environment that it returned before.
        """
        if self.maker is None:
            raise EnvError(
                f"{self.name} was given as a VectorEnv without a spec, or with wrappers, so no environment of its kind can be"
                " made to evaluate in. Give an id or a function that returns one environment."
            )
        try:
            with np.errstate(invalid="ignore"):  # FrozenLake divides by zero on a map without a start
                env = self.maker(render_mode=render_mode) if self.description else self.maker()
        except Exception as error:  # whatever a user's environment may raise
            raise EnvError(f"{self.name} could not be made: {type(error).__name__}: {error}") from error
        if not isinstance(env, gym.Env):
            raise EnvError(f"{self.name} must return a gymnasium.Env, not {type(env).__name__}.")
        if any(env.unwrapped is other for other in self.made):
            raise EnvError(f"{self.name} returned the same environment twice; it must make a new one at each call.")
        if self.description is None:
            self.made.add(env.unwrapped)
        return env


def source(env: EnvLike | Source, env_kwargs: Mapping[str, Any] | None = None) -> Source:
    """Describe where environments come from. Raises EnvError for what is none, with the nearest ids for an unknown id."""
    if env_kwargs is not None and not isinstance(env_kwargs, Mapping):
        raise EnvError(f"env_kwargs is a dict of the environment's settings, not {shown(env_kwargs)}.")
    kwargs = dict(env_kwargs or {})
    if isinstance(env, Source):
        return env
    if isinstance(env, str):
        return _from_id(env, kwargs)
    if isinstance(env, EnvSpec):
        made = {**env.kwargs, **kwargs}
        if gym.registry.get(env.id) == env:
            return _from_id(env.id, made)
        spec = copy.deepcopy(env)
        spec.kwargs = made
        return Source(env.id, lambda: gym.make(spec), None)
    if kwargs:
        raise EnvError("env_kwargs go with an id or an EnvSpec; a function or a VectorEnv has its settings already.")
    if isinstance(env, VectorEnv):
        return Source(env.spec.id if env.spec else type(env).__name__, _single(env), None, env)
    if isinstance(env, gym.Env):
        raise EnvError(
            f"A single {type(env.unwrapped).__name__} cannot serve several seeds. Give an id, or a function that returns a new"
            " environment at each call, for instance lambda: MyEnv()."
        )
    if callable(env):
        return Source(getattr(env, "__name__", type(env).__name__), env, None)
    raise EnvError(
        f"{shown(env)} is no environment: give a Gymnasium id, an EnvSpec, a function that returns one, or a VectorEnv."
    )


def _single(vector: VectorEnv[Any, Any, Any]) -> Callable[[], gym.Env[Any, Any]] | None:
    """What makes one environment of the kind that `vector` has many of; None where that cannot be known."""
    if vector.spec is None or vector.spec.kwargs.get("wrappers") or vector.unwrapped is not vector:
        return None
    single = copy.deepcopy(vector.spec)
    for name in ("num_envs", "vectorization_mode", "vector_kwargs", "wrappers"):
        single.kwargs.pop(name, None)
    return lambda: gym.make(single)


def from_description(description: Mapping[str, Any]) -> Source:
    """The source that a checkpoint describes. An id that would import a module is refused: a file runs nothing."""
    name, kwargs = description.get("id"), description.get("kwargs", {})
    if not isinstance(name, str) or not isinstance(kwargs, dict):
        raise EnvError(
            "The checkpoint's description of its environment is damaged; hand the environment over as env=..."
        )
    if ":" in name:
        module = name.split(":")[0]
        if name.split(":")[1] not in gym.registry:
            raise EnvError(
                f"The checkpoint names the environment {name!r}, which would import {module!r}. Loading imports nothing:"
                f" if you trust it, import {module} yourself, or hand it over as env={name!r}."
            )
        name = name.split(":")[1]
    return _from_id(name, dict(kwargs))


def _from_id(name: str, kwargs: dict[str, Any]) -> Source:
    _find(name)
    kwargs = unwrapped(kwargs)
    try:
        plain = json.loads(json.dumps(kwargs, allow_nan=False))
    except (TypeError, ValueError):
        # Settings that are not JSON cannot lie in a checkpoint; the environment is then handed to rl.load again.
        return Source(name, lambda: gym.make(name, **kwargs), None)

    def make(render_mode: str | None = None) -> gym.Env[Any, Any]:
        return gym.make(name, **({**kwargs, "render_mode": render_mode} if render_mode else kwargs))

    return Source(name, make, {"id": name, "kwargs": plain})


def _find(name: str) -> None:
    """Raise EnvError unless gymnasium knows `name`; "module:id" imports the module, as gymnasium.make does."""
    try:
        if ":" in name:  # as gymnasium.make does
            importlib.import_module(name.split(":", maxsplit=1)[0])
        gym.spec(name.rsplit(":", maxsplit=1)[-1])
    except (gym.error.Error, ImportError) as error:
        stem = re.sub(r"-v\d+$", "", name)
        known = {re.sub(r"-v\d+$", "", key).lower(): key for key in gym.registry}
        near = difflib.get_close_matches(stem.lower(), known, n=3, cutoff=0.6)
        hint = f" Did you mean {', '.join(known[key] for key in near)}?" if near else ""
        if isinstance(error, ImportError):
            hint = f" {error}"
        raise EnvError(f"Gymnasium knows no environment {name!r}.{hint}") from error
