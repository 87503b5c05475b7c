"""Sources of environments: a Gymnasium id, an `EnvSpec`, a function, or a `VectorEnv`."""

from __future__ import annotations

import copy
import json
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import EnvSpec, WrapperSpec
from gymnasium.vector import VectorEnv, VectorWrapper

from envs.errors import EnvError
from envs.ids import find
from envs.last import LastActionReward

__all__ = ["EnvError", "EnvLike", "Source", "from_description", "source", "vector_layers", "with_last", "with_wrappers"]

from supervised.validate import ArgumentError, choice, instance, shown, unwrapped

EnvLike = str | EnvSpec | Callable[[], gym.Env[Any, Any]] | VectorEnv[Any, Any, Any]


# Wrappers that a checkpoint may name: creating them runs only this package's code and Gymnasium's, which writes no file.
WRAPPERS: dict[str, Any] = {
    "LastActionReward": LastActionReward,
    **{
        name: getattr(gym.wrappers, name)
        for name in (
            *("AtariPreprocessing", "ClipReward", "DelayObservation", "DiscretizeAction", "DiscretizeObservation"),
            *("FilterObservation", "FlattenObservation", "FrameStackObservation", "GrayscaleObservation"),
            *("MaxAndSkipObservation", "NormalizeObservation", "NormalizeReward", "RepeatAction", "RescaleObservation"),
            *("ReshapeObservation", "ResizeObservation", "StickyAction", "TimeAwareObservation", "TimeLimit"),
        )
        if hasattr(gym.wrappers, name)
    },
}
Layer = str | tuple[str, Mapping[str, Any]]  # a wrapper by name, with its settings if any are given
# Vector wrappers that do not change observations, actions or rewards.
HARMLESS_VECTOR = ("RecordEpisodeStatistics", "RecordVideo", "HumanRendering")


@dataclass(frozen=True, eq=False)
class Source:
    """Creates environments. description: id, kwargs and wrappers for a checkpoint; None if the source is code."""

    name: str
    maker: Callable[..., gym.Env[Any, Any]] | None  # for a VectorEnv: a function of the row
    description: dict[str, Any] | None
    vector: VectorEnv[Any, Any, Any] | None = None
    made: weakref.WeakSet[gym.Env[Any, Any]] = field(default_factory=weakref.WeakSet)

    def make(self, render_mode: str | None = None, row: int = 0) -> gym.Env[Any, Any]:
        """Create an environment. row: for a VectorEnv, the row to imitate.

        Raises EnvError if it cannot be created, or if a function returns an environment that it returned before.
        """
        if self.maker is None:
            assert self.vector is not None
            raise EnvError(f"{self.name}: {_no_single(self.vector)}")
        try:
            with np.errstate(invalid="ignore"):  # FrozenLake divides by zero if the map has no start
                if self.vector is not None:
                    env = self.maker(row)
                else:
                    env = self.maker(render_mode=render_mode) if self.description else self.maker()
        except Exception as error:  # whatever a user's environment may raise
            raise EnvError(f"{self.name} could not be created: {type(error).__name__}: {error}") from error
        if not isinstance(env, gym.Env):
            raise EnvError(f"{self.name} must return a gymnasium.Env, not {type(env).__name__}.")
        if any(env.unwrapped is other for other in self.made):
            raise EnvError(f"{self.name} returned the same environment twice; it must create a new one at each call.")
        if self.description is None:
            self.made.add(env.unwrapped)
        if self.vector is not None:
            _check_single(self.name, env, self.vector)
        return env

    def why_not_made(self) -> str | None:
        """Try to create and close another environment -> None, or the reason why it cannot be created."""
        try:
            self.make().close()
        except EnvError as error:
            return str(error)
        return None


def source(env: EnvLike | Source, env_kwargs: Mapping[str, Any] | None = None) -> Source:
    """Return the source of environments. Raises EnvError for anything unsupported, and for an unknown id with similar ones."""
    if env_kwargs is not None and not isinstance(env_kwargs, Mapping):
        raise EnvError(f"env_kwargs must be a dict of the environment's settings, not {shown(env_kwargs)}.")
    kwargs = dict(env_kwargs or {})
    if isinstance(env, Source):
        return env
    if isinstance(env, str):
        return _from_id(env, kwargs)
    if isinstance(env, EnvSpec):
        made = {**env.kwargs, **kwargs}
        if _is_registered(env):
            kwargs = _limited(env) | made
            added = _added_wrappers(env, _from_id(env.id, kwargs))
            if added is not None:
                return _from_id(env.id, kwargs, added)
        spec = copy.deepcopy(env)
        spec.kwargs = made
        return Source(env.id, lambda: gym.make(spec), None)
    if kwargs:
        raise EnvError("env_kwargs require an id or an EnvSpec; a function or a VectorEnv already has its settings.")
    if isinstance(env, VectorEnv):
        return _of_vector(env)
    if isinstance(env, gym.Env):
        raise EnvError(
            f"A single {type(env.unwrapped).__name__} cannot serve several seeds. Pass an id, or a function that returns a new"
            " environment at each call, for example lambda: MyEnv()."
        )
    if callable(env):
        return Source(getattr(env, "__name__", type(env).__name__), env, None)
    raise EnvError(
        f"{shown(env)} is not an environment: pass a Gymnasium id, an EnvSpec, a function that returns one, or a VectorEnv."
    )


def with_last(env: str, **kwargs: Any) -> EnvSpec:
    """Return the spec of an environment wrapped in `LastActionReward`, for `rl.train`, `gym.make` and others.

    Checkpoints record the wrapper. env: a Gymnasium id. kwargs: those of `gym.make`: the environment's settings and
    max_episode_steps (-1: no limit). Raises EnvError for an unknown id or an environment that cannot be created, ArgumentError
    for actions that are not Discrete.
    """
    return with_wrappers(env, ["LastActionReward"], **kwargs)


def with_wrappers(env: str, wrappers: Sequence[Layer], **kwargs: Any) -> EnvSpec:
    """The environment of a Gymnasium id in wrappers, for `rl.train`, `gym.make` and the like; checkpoints record them.

    wrappers: from the innermost out, each a name of WRAPPERS (those of gymnasium.wrappers that take plain settings only, and
    LastActionReward), or (name, {setting: value}). kwargs: as of `with_last`. Raises EnvError for an unknown id, and for an
    environment or a wrapper that cannot be created; ArgumentError for an unknown wrapper.
    """
    where = _from_id(instance(env, "env", str, "a Gymnasium id"), kwargs)
    wrapped = where.make()
    for name, settings in map(_layer, wrappers):
        choice(name, "wrapper", WRAPPERS)
        try:
            wrapped = WRAPPERS[name](wrapped, **settings)
        except ArgumentError:
            wrapped.close()
            raise
        except Exception as error:  # whatever a wrapper may raise for an environment or settings that it does not take
            wrapped.close()
            raise EnvError(f"{name} cannot wrap {env}: {type(error).__name__}: {error}") from error
    wrapped.close()
    spec = copy.deepcopy(gym.spec(env.rsplit(":", maxsplit=1)[-1]))
    limit = kwargs.pop("max_episode_steps", None)
    if limit is not None:
        spec.max_episode_steps = None if limit == -1 else limit
    spec.kwargs.update(kwargs)
    spec.additional_wrappers = _wrappers(wrapped)
    return spec


def _layer(layer: Layer) -> tuple[str, dict[str, Any]]:
    """A wrapper's name and settings; lists, which tuples are in JSON, as tuples."""
    name, settings = (layer, {}) if isinstance(layer, str) else layer
    return name, {key: tuple(value) if isinstance(value, list) else value for key, value in settings.items()}


def _wrappers(env: gym.Env[Any, Any]) -> tuple[WrapperSpec, ...]:
    return () if env.spec is None else env.spec.additional_wrappers


def _added_wrappers(spec: EnvSpec, where: Source) -> list[Layer] | None:
    """Return the wrappers that a spec adds to those of its registered id, or None if some are not in WRAPPERS."""
    if not spec.additional_wrappers:
        return []
    env = where.make()
    env.close()
    own = _wrappers(env)
    if spec.additional_wrappers[: len(own)] != own:
        return None
    known = {kind.wrapper_spec().entry_point: name for name, kind in WRAPPERS.items()}
    found: list[Layer] = []
    for wrapper in spec.additional_wrappers[len(own) :]:
        name, settings = known.get(wrapper.entry_point), wrapper.kwargs
        if name is None or settings is None or not _is_plain(settings):
            return None
        found.append((name, settings) if settings else name)
    return found


def _is_plain(settings: Mapping[str, Any]) -> bool:
    """Whether JSON gives settings back as they are, but for tuples, which are lists there."""
    try:
        return _layer(("", json.loads(json.dumps(settings, allow_nan=False))))[1] == _layer(("", settings))[1]
    except (TypeError, ValueError):
        return False


def _is_registered(spec: EnvSpec) -> bool:
    """Return whether a spec differs from the registered one of its id only in kwargs, time limit and wrappers."""
    registered = gym.registry.get(spec.id)
    if registered is None:
        return False
    same = copy.copy(registered)
    same.kwargs, same.max_episode_steps = spec.kwargs, spec.max_episode_steps
    same.additional_wrappers = spec.additional_wrappers
    return same == spec


def _limited(spec: EnvSpec) -> dict[str, Any]:
    """Return the arguments of `gym.make` for the time limit of `spec`, none if it is the registered one."""
    limit = spec.max_episode_steps
    if limit == gym.spec(spec.id).max_episode_steps:
        return {}
    return {"max_episode_steps": -1 if limit is None else limit}


def vector_layers(vector: VectorEnv[Any, Any, Any]) -> list[VectorEnv[Any, Any, Any]]:
    """Return a vector environment's wrappers, outermost first, and finally the vector environment itself."""
    found = [vector]
    while isinstance(vector, VectorWrapper):
        vector = vector.env
        found.append(vector)
    return found


def _of_vector(vector: VectorEnv[Any, Any, Any]) -> Source:
    found = Source(vector.spec.id if vector.spec else type(vector).__name__, _single(vector), None, vector)
    for env in getattr(vector.unwrapped, "envs", ()):  # its functions must not return these
        found.made.add(env.unwrapped)
    return found


def _single(vector: VectorEnv[Any, Any, Any]) -> Callable[[int], gym.Env[Any, Any]] | None:
    """Return a function that creates a single environment like a row of `vector`, or None if there is no way to know how."""
    if _altering(vector):
        return None
    functions = getattr(vector.unwrapped, "env_fns", None)
    if functions is not None:
        return lambda row: functions[row]()
    if vector.spec is None or vector.spec.kwargs.get("wrappers"):
        return None
    single = copy.deepcopy(vector.spec)
    for name in ("num_envs", "vectorization_mode", "vector_kwargs", "wrappers"):
        single.kwargs.pop(name, None)
    if "max_episode_steps" in single.kwargs:  # an argument of native vector environments
        single.max_episode_steps = single.kwargs.pop("max_episode_steps")
    return lambda _row: gym.make(single)


def _altering(vector: VectorEnv[Any, Any, Any]) -> list[str]:
    """Return the wrappers of a vector environment that a single environment would lack."""
    return [type(x).__name__ for x in vector_layers(vector)[:-1] if type(x).__name__ not in HARMLESS_VECTOR]


def _no_single(vector: VectorEnv[Any, Any, Any]) -> str:
    """Return the reason why no single environment can be created for a vector environment."""
    around = _altering(vector)
    why = f"it is a VectorEnv in {', '.join(around)}" if around else "it is a VectorEnv without a spec or functions"
    return f"{why}, so no single environment can be created for evaluation. Pass an id or a function that returns one."


def _check_single(name: str, env: gym.Env[Any, Any], vector: VectorEnv[Any, Any, Any]) -> None:
    """Raise EnvError if a single environment's spaces differ from those of the rows."""
    mine, theirs = (
        (env.observation_space, env.action_space),
        (
            vector.single_observation_space,
            vector.single_action_space,
        ),
    )
    if mine != theirs:
        env.close()
        raise EnvError(
            f"{name}: a single environment has the spaces {mine}, but the rows of the VectorEnv have {theirs}."
        )


def from_description(description: Mapping[str, Any]) -> Source:
    """Return the source that a checkpoint describes. Raises EnvError for an id that would import a module."""
    name, kwargs, wrappers = description.get("id"), description.get("kwargs", {}), description.get("wrappers", [])
    if not isinstance(name, str) or not isinstance(kwargs, dict) or not isinstance(wrappers, list):
        raise EnvError("The checkpoint's description of its environment is damaged; pass the environment as env=...")
    plain = [wrapper[0] if _is_pair(wrapper) else wrapper for wrapper in wrappers]
    unknown = [wrapper for wrapper in plain if wrapper not in list(WRAPPERS)]
    if unknown:
        raise EnvError(
            f"The checkpoint names the wrapper {unknown[0]!r}; known are {', '.join(WRAPPERS)}. Pass the environment as"
            " env=..."
        )
    if ":" in name:
        module = name.split(":")[0]
        if name.split(":")[1] not in gym.registry:
            raise EnvError(
                f"The checkpoint names the environment {name!r}, which would import {module!r}. Loading imports nothing:"
                f" if you trust it, import {module} yourself, or pass env={name!r}."
            )
        name = name.split(":")[1]
    return _from_id(name, dict(kwargs), wrappers)


def _is_pair(wrapper: Any) -> bool:
    """Whether this is a wrapper's name with its settings."""
    return isinstance(wrapper, (list, tuple)) and len(wrapper) == 2 and isinstance(wrapper[1], dict)


def _from_id(name: str, kwargs: dict[str, Any], wrappers: Sequence[Layer] = ()) -> Source:
    find(name)
    kwargs = unwrapped(kwargs)

    def make(render_mode: str | None = None) -> gym.Env[Any, Any]:
        env = gym.make(name, **({**kwargs, "render_mode": render_mode} if render_mode else kwargs))
        for wrapper, settings in map(_layer, wrappers):
            env = WRAPPERS[wrapper](env, **settings)
        return env

    title = f"{name} with {', '.join(wrapper for wrapper, _ in map(_layer, wrappers))}" if wrappers else name
    try:
        plain = json.loads(json.dumps(kwargs, allow_nan=False))
    except (TypeError, ValueError):
        # Settings that are not JSON cannot be saved; the environment must then be passed to rl.load again.
        return Source(title, make, None)
    saved = [layer if isinstance(layer, str) else [layer[0], json.loads(json.dumps(layer[1]))] for layer in wrappers]
    return Source(title, make, {"id": name, "kwargs": plain} | ({"wrappers": saved} if wrappers else {}))
