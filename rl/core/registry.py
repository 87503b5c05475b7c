"""The registry of agents: their configs and presets, and the conversion of settings to JSON and back.

Each agent registers itself where it is defined, with `@register` above its class and `add_presets` below it. A file can refer
only to registered types.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Iterable, Mapping
from typing import Any, Protocol, TypeVar, runtime_checkable

from rl.explore import RULES
from supervised import functions, renamed
from supervised.checkpoint import CheckpointError
from supervised.renamed import ByName, accept_renamed, former_name
from supervised.schedules import KINDS
from supervised.validate import ArgumentError, shown, unwrapped


@runtime_checkable
class AgentConfig(Protocol):
    """The config of an agent: a dataclass whose method `build` creates the agent, such as `rl.QLearning` or `rl.DQN`."""

    @property
    def gamma(self) -> Any: ...
    @property
    def explore(self) -> Any: ...
    def build(self, observation_space: Any, action_space: Any, seeds: Any = 1, device: str = "cpu") -> Any:
        """Return the agent: a TabularAgent, a LinearAgent or a DeepAgent."""
        ...


AGENTS: dict[str, type] = {}
TYPES: dict[str, Any] = {**{t.__name__: t for t in RULES}, **KINDS}
# The groups of presets, in the order of listing.
GROUPS = (
    "the classic",
    "learning from one step",
    "from many",
    "from a model",
    "without an end",
    "exploring",
    "lecture notes",
    "tiles",
    "networks",
    "memory",
)
TABLES, ENDLESS, LECTURES = GROUPS[:7], "without an end", "lecture notes"
PRESETS: dict[str, dict[str, AgentConfig]] = {group: {} for group in GROUPS}


K = TypeVar("K", bound=type)


class NotHere(CheckpointError):
    """Raised if a file needs a function or class that it cannot contain and that was not given."""


def register(kind: K) -> K:
    """Register a config class, so that checkpoints can refer to it; a class decorator.

    Import the module of the class before loading its checkpoints. It must be a dataclass whose `build` returns a TabularAgent, a
    LinearAgent or a DeepAgent: a subclass of `TabularConfig` or rl.DQN, or an independent class. Its settings must be numbers,
    flags, strings, tuples, schedules, rl.explore's rules, other registered dataclasses, or functions for `network` and `mask`.
    Raises ArgumentError for anything else, and for the name of another registered class.
    """
    dataclass_ = isinstance(kind, type) and "__dataclass_params__" in vars(kind)
    if not dataclass_ or not callable(getattr(kind, "build", None)):
        raise ArgumentError(
            f"{shown(kind)} is not the config of an agent, which must be a dataclass with a method build(observation_space,"
            " action_space, seeds, device). Put @rl.register above @dataclass(frozen=True)."
        )
    other = TYPES.get(kind.__name__)
    if other is not None and (other.__module__, other.__qualname__) != (kind.__module__, kind.__qualname__):
        raise ArgumentError(
            f"{kind.__name__} is already the name of {other.__module__}.{other.__qualname__}: choose another name."
        )
    AGENTS[kind.__name__] = TYPES[kind.__name__] = kind
    return accept_renamed(kind)


def register_part(kind: K) -> K:
    """Register a dataclass used as a setting of configs, so that checkpoints can refer to it; a class decorator."""
    TYPES[kind.__name__] = kind
    return kind


def add_presets(group: str, presets: Mapping[str, AgentConfig]) -> None:
    """Add configs of agents, by name, to one of GROUPS."""
    PRESETS[group].update(presets)


def complete() -> None:
    """Import every module of this package that registers agents; `rl.settings` lists them."""
    importlib.import_module("rl.settings")


def presets(groups: Iterable[str] = GROUPS) -> dict[str, AgentConfig]:
    """Return the presets of these groups by name, in the order of the groups, and within a group of the modules' names.

    So the order does not depend on which module was imported first.
    """
    complete()
    found = [item for group in groups for item in sorted(PRESETS[group].items(), key=_module)]
    return ByName(dict(found))


def _module(preset: tuple[str, AgentConfig]) -> str:
    return type(preset[1]).__module__


def check(config: Any) -> None:
    """Raise ArgumentError unless config is the config of an agent; its class is not one."""
    if isinstance(config, type) or not isinstance(config, AgentConfig):
        raise ArgumentError(f"The agent must be a config such as rl.QLearning(), not {shown(config)}.")


def for_policy(config: Any) -> Any:
    """Return the config for a policy, which does not learn: the result of its method `for_policy`, or the config itself."""
    return config.for_policy() if hasattr(config, "for_policy") else config


def for_returns(config: Any, returns: Any, action_space: Any) -> Any:
    """Return the config for an environment's bounds of returns: the result of its method `for_returns`, or the config itself."""
    return config.for_returns(returns, action_space) if hasattr(config, "for_returns") else config


def why_it_cannot_act(config: Any, observation_space: Any, action_space: Any) -> str | None:
    """Return why an agent does not support spaces, according to its method `check_spaces`, or None. Does not build the agent."""
    try:
        optional_setting(config, "check_spaces", lambda *_spaces: None)(observation_space, action_space)
    except ValueError as error:
        return str(error)
    return None


def functions_of(config: Any) -> dict[str, Any]:
    """Return the settings of a config that are functions, which files cannot contain, by name."""
    given = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    return {name: value for name, value in given.items() if callable(value)}


def name_of(config: Any) -> str:
    """Return the name of a config in messages and files."""
    return type(config).__name__


def lacking(config: Any, names: Iterable[str]) -> list[str]:
    """Return those of the named settings that a config does not have."""
    return [name for name in names if not hasattr(config, name)]


def optional_setting(config: Any, name: str, default: Any) -> Any:
    """Return a setting, or the default if a user-defined config does not have it."""
    return getattr(config, name, default)


def envs_per_seed(config: Any, given: int | None) -> Any:
    """Return the number of environments per seed: the given one, else that of the config, else one."""
    return optional_setting(config, "envs_per_seed", 1) if given is None else given


def to_json(value: Any) -> Any:
    """Convert a config to JSON values: dataclasses become {"type": NAME, field: value, ...}."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        if type(value).__name__ not in TYPES:
            raise TypeError(
                f"{type(value).__name__} is not one of the registered configs: {', '.join(TYPES)}. Register your own classes with"
                " @rl.register."
            )
        fields = {f.name: to_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"type": type(value).__name__, **fields}
    if callable(value):
        return functions.to_json(value)
    return [to_json(item) for item in value] if isinstance(value, tuple) else unwrapped(value)


def migrate(data: dict[str, Any]) -> dict[str, Any]:
    """Return a saved config, or a part of one, with current names instead of former ones."""
    kind = renamed.RENAMED.get(data.get("type", ""), data.get("type"))
    return {renamed.RENAMED.get(f"{kind}.{name}", name): value for name, value in {**data, "type": kind}.items()}


def current(data: Any) -> Any:
    """Return a saved config as `to_json` writes it now: names are migrated, and missing settings have their defaults.

    Functions remain names. Raises ValueError like `from_json`.
    """
    stand_ins = {name: functions.stand_in(value) for name, value in data.items() if functions.is_function(value)}
    return to_json(from_json(data, **stand_ins))


def from_json(data: Any, **given: Any) -> Any:
    """Return the config that `to_json` converted. given: functions, by the name of their setting.

    Raises NotHere for an unknown type or a missing function, ValueError for unknown settings.
    """
    if isinstance(data, list):
        return tuple(from_json(item) for item in data)
    if not isinstance(data, dict):
        return data
    complete()
    data = migrate(data)
    kind = data["type"]
    for setting, value in data.items():
        if functions.is_function(value):
            if given.get(setting) is None:
                raise NotHere(
                    f"{kind} was created with the function {setting}={value.get('name')}, which files cannot contain: pass it"
                    f" again as {setting}=..."
                )
            data = {**data, setting: given[setting]}
    if kind not in TYPES:
        raise NotHere(
            f"{kind!r} is not one of the registered configs: {', '.join(TYPES)}. User-defined ones are registered when their"
            " module is imported."
        )
    try:
        return TYPES[kind](
            **{name: value if callable(value) else from_json(value) for name, value in data.items() if name != "type"}
        )
    except TypeError as error:
        raise ValueError(f"The settings of {kind} are damaged: {error}") from error


__getattr__ = former_name(__name__)
