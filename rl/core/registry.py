"""The list of agents: which there are, their presets, and their settings as JSON and back.

Each agent enters itself, where it is defined: `@register` above its class, and `add_presets` below. A file can name no
types but those in this list.
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
    """What every agent is described by: a dataclass that `build`s the live agent. `rl.QLearning` and `rl.DQN` are two."""

    @property
    def gamma(self) -> Any: ...
    @property
    def explore(self) -> Any: ...
    def build(self, observation_space: Any, action_space: Any, seeds: Any = 1, device: str = "cpu") -> Any:
        """The live agent: a TabularAgent, a LinearAgent or a DeepAgent."""
        ...


AGENTS: dict[str, type] = {}
TYPES: dict[str, Any] = {**{t.__name__: t for t in RULES}, **KINDS}
# The kinds of presets, in the order in which they are listed.
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
    """A file needs a function or a class that it cannot hold, and that was not given."""


def register(kind: K) -> K:
    """Let checkpoints know a config of your own: a class decorator. Whoever loads one imports your module first.

    It is a dataclass whose `build` makes a TabularAgent, a LinearAgent or a DeepAgent: a subclass of rl.QLearning's base
    `TabularConfig` or of rl.DQN, or a class of its own. Its settings are what a file can hold: numbers, flags, texts, tuples,
    schedules, rl.explore's rules, other registered dataclasses, and functions for `network` and `mask`. Raises ArgumentError
    for anything else, and for a name that another class has.
    """
    dataclass_ = isinstance(kind, type) and "__dataclass_params__" in vars(kind)
    if not dataclass_ or not callable(getattr(kind, "build", None)):
        raise ArgumentError(
            f"{shown(kind)} is no config of an agent: that is a dataclass with a method build(observation_space,"
            " action_space, seeds, device). @rl.register stands above @dataclass(frozen=True)."
        )
    other = TYPES.get(kind.__name__)
    if other is not None and (other.__module__, other.__qualname__) != (kind.__module__, kind.__qualname__):
        raise ArgumentError(
            f"{kind.__name__} is the name of {other.__module__}.{other.__qualname__} already: take another."
        )
    AGENTS[kind.__name__] = TYPES[kind.__name__] = kind
    return accept_renamed(kind)


def register_part(kind: K) -> K:
    """Let checkpoints know a dataclass that is a setting of configs: a class decorator."""
    TYPES[kind.__name__] = kind
    return kind


def add_presets(group: str, presets: Mapping[str, AgentConfig]) -> None:
    """Enter agents with their settings, by name, in a group of GROUPS."""
    PRESETS[group].update(presets)


def complete() -> None:
    """Import every module of this package that enters agents; `rl.settings` names them."""
    importlib.import_module("rl.settings")


def presets(groups: Iterable[str] = GROUPS) -> dict[str, AgentConfig]:
    """The presets of these groups by name, group after group."""
    complete()
    return ByName({name: agent for group in groups for name, agent in PRESETS[group].items()})


def check(config: Any) -> None:
    """Raise ArgumentError for what is no config of an agent, a class in its place included."""
    if isinstance(config, type) or not isinstance(config, AgentConfig):
        raise ArgumentError(f"The agent is a config such as rl.QLearning(), not {shown(config)}.")


def for_policy(config: Any) -> Any:
    """The config of the agent that a policy needs, which learns no more: what its method `for_policy` returns, or itself."""
    return config.for_policy() if hasattr(config, "for_policy") else config


def for_returns(config: Any, returns: Any, action_space: Any) -> Any:
    """The config for an environment whose returns are bounded: what its method `for_returns` returns, or itself."""
    return config.for_returns(returns, action_space) if hasattr(config, "for_returns") else config


def why_it_cannot_act(config: Any, observation_space: Any, action_space: Any) -> str | None:
    """Why an agent cannot act in spaces, as its method `check_spaces` says, without building it; None: it can."""
    try:
        optional_setting(config, "check_spaces", lambda *spaces: None)(observation_space, action_space)
    except ValueError as error:
        return str(error)
    return None


def functions_of(config: Any) -> dict[str, Any]:
    """The settings of a config that are functions, which no file can hold, by name."""
    given = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    return {name: value for name, value in given.items() if callable(value)}


def name_of(config: Any) -> str:
    """What messages and files call a config."""
    return type(config).__name__


def lacking(config: Any, names: Iterable[str]) -> list[str]:
    """Which of these settings a config does not have."""
    return [name for name in names if not hasattr(config, name)]


def optional_setting(config: Any, name: str, default: Any) -> Any:
    """A setting that a config of somebody's own need not have."""
    return getattr(config, name, default)


def envs_per_seed(config: Any, given: int | None) -> Any:
    """How many environments each seed acts in: what was given, else what the config says, else one."""
    return optional_setting(config, "envs_per_seed", 1) if given is None else given


def to_json(value: Any) -> Any:
    """A config as JSON values: dataclasses become {"type": NAME, field: value, ...}."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        if type(value).__name__ not in TYPES:
            raise TypeError(
                f"{type(value).__name__} is not one of the known configs: {', '.join(TYPES)}. One of your own is made known"
                " by @rl.register."
            )
        fields = {f.name: to_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"type": type(value).__name__, **fields}
    if callable(value):
        return functions.to_json(value)
    return [to_json(item) for item in value] if isinstance(value, tuple) else unwrapped(value)


def migrate(data: dict[str, Any]) -> dict[str, Any]:
    """A saved config, or a part of one, with the names of today."""
    kind = renamed.RENAMED.get(data.get("type", ""), data.get("type"))
    return {renamed.RENAMED.get(f"{kind}.{name}", name): value for name, value in {**data, "type": kind}.items()}


def current(data: Any) -> Any:
    """A saved config as `to_json` writes it today: names migrated, settings that it does not have at their defaults.

    Functions stay names. Raises ValueError as `from_json` does.
    """
    stand_ins = {name: functions.stand_in(value) for name, value in data.items() if functions.is_function(value)}
    return to_json(from_json(data, **stand_ins))


def from_json(data: Any, **given: Any) -> Any:
    """The config that `to_json` wrote. given: what stands in for code, by the name of the setting.

    Raises NotHere for an unknown type and where a function is missing, ValueError for unknown settings.
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
                    f"{kind} was made with {setting}={value.get('name')}, a function, which no file can hold: hand it over"
                    f" again as {setting}=..."
                )
            data = {**data, setting: given[setting]}
    if kind not in TYPES:
        raise NotHere(
            f"{kind!r} is not one of the known configs: {', '.join(TYPES)}. One of somebody's own is known once its"
            " module is imported."
        )
    try:
        return TYPES[kind](
            **{name: value if callable(value) else from_json(value) for name, value in data.items() if name != "type"}
        )
    except TypeError as error:
        raise ValueError(f"The settings of {kind} are damaged: {error}") from error


__getattr__ = former_name(__name__)
