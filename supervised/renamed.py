"""Deprecated names, which work for one more version with a warning: one table for all packages, and the functions that use it.

Saved files of any version are read through it without a warning (`rl.core.registry.migrate`).
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import sys
import warnings
from collections.abc import Callable
from typing import Any, TypeVar, cast

# By the former name: of a class or function, of a member (Type.attribute), keyword (function.keyword), preset or tag.
RENAMED: dict[str, str] = {
    "PrioritisedSweeping": "PrioritizedSweeping",
    "TableAgent": "TabularAgent",
    "DQN.prioritised": "prioritized",
    "Tabular": "TabularConfig",
    "OnPolicy": "OnPolicyConfig",
    "Table": "QTable",
    "Description": "AgentConfig",
    "World": "ModelState",
    "TabularConfig.knows_policy": "needs_policy",
    "TabularConfig.memory": "state_type",
    "TabularConfig.tables": "seed_arrays",
    "TabularConfig.trail": "episode_arrays",
    "TabularConfig.constants": "rule_params",
    "TabularConfig.begin": "init_from_q",
    "TabularConfig.limits": "index_bounds",
    "TabularConfig.check_saved": "validate_state",
    "TabularAgent.description": "config",
    "LinearAgent.description": "config",
    "DeepAgent.description": "config",
    "DeepAgent.look": "raise_if_not_finite",
    "begin_anew.lanes": "rows",
    "NetworkPolicy.description": "config",
    "Run.description": "agent_config",
    "Run.config": "to_json",
    "start.description": "agent",
    "Fit.manner": "compute_plan",
    "taken": "select",
    "at_taken": "scatter_to_action",
    "huber_slope": "huber_grad",
    "squared_slope": "squared_grad",
    "by_rule": "select_actions",
    "NOISE": "GAUSSIAN_NOISE",
    "panels": "table_plots",
    "pixels": "to_images",
    "rendered": "make_render_env",
    "gif": "record_gif",
    "NotATable": "NoModelError",
    "Member": "ReplayableEnv",
    "MemberRows": "SingleEnvs",
    "VectorRows": "VectorEnvs",
    "env.lasting_state": "persistent_state",
    "env.put_back": "set_persistent_state",
    "normalisation": "normalization",
    "regularisation": "regularization",
    "initialisation": "initialization",
    "mnist-initialisers": "mnist-initializers",
    "optimisers": "optimizers",
    "initialise": "initialize",
    "INITIALISERS": "INITIALIZERS",
    "Moment": "Transition",
    "Exact.best": "optimal_return",
    "Exact.stationary": "optimal_stationary_return",
    "Exact.promised": "target_return",
    "Exact.continuing": "is_continuing",
    "rollout/promised_return": "rollout/predicted_return",
    "prioritised-dqn": "prioritized-dqn",
    "prioritised-sweeping": "prioritized-sweeping",
}

K = TypeVar("K", bound=type)
F = TypeVar("F", bound=Callable[..., Any])
V = TypeVar("V")


def warn(old: str, new: str, stacklevel: int = 3) -> None:
    """Warn that a name is deprecated. stacklevel: see warnings.warn."""
    warnings.warn(
        f"{old} is deprecated and will be removed in the next version: use {new}.", DeprecationWarning, stacklevel
    )


def new_name(old: str, stacklevel: int = 4) -> str | None:
    """Return the current name for a deprecated one, with a warning; None for any other name."""
    new = RENAMED.get(old)
    if new is not None:
        warn(old, new, stacklevel)
    return new


def renamed_settings(kind: type) -> dict[str, str]:
    """Return the renamed settings of a class and its bases, {old: new}."""
    places = [(base.__name__, key.partition(".")) for base in kind.__mro__ for key in RENAMED if "." in key]
    return {old: RENAMED[f"{owner}.{old}"] for name, (owner, _, old) in places if name == owner}


def accept_renamed(kind: K) -> K:
    """Let a dataclass accept its settings by their former names: as keywords, in dataclasses.replace and as attributes."""
    fields = {field.name for field in dataclasses.fields(kind)}
    names = {old: new for old, new in renamed_settings(kind).items() if new in fields}
    if not names:
        return kind
    _accept_keywords(kind, names)
    for old, new in names.items():
        setattr(kind, old, property(functools.partial(_read, old, new)))
    return kind


def accept_renamed_members(kind: type) -> None:
    """Let a subclass define methods and class attributes by their former names."""
    for old, new in renamed_settings(kind).items():
        if old in vars(kind) and new not in vars(kind):
            warn(f"{kind.__name__}.{old}", f"{kind.__name__}.{new}", 4)
            setattr(kind, new, vars(kind)[old])


def former_attributes(kind: K) -> K:
    """Decorate a class so that its attributes, and its constructor's keywords, also have their former names, with a warning."""
    names = renamed_settings(kind)
    for old, new in names.items():
        setattr(kind, old, property(functools.partial(_read, old, new)))
    parameters = inspect.signature(vars(kind)["__init__"]).parameters
    _accept_keywords(kind, {old: new for old, new in names.items() if new in parameters})
    return kind


def _accept_keywords(kind: type, names: dict[str, str]) -> None:
    """Let a class's constructor accept keywords by their former names, {old: new}, with a warning."""
    create: Callable[..., None] = vars(kind)["__init__"]

    @functools.wraps(create)
    def init(self: Any, *args: Any, **settings: Any) -> None:
        for old in names.keys() & settings.keys():
            warn(f"{kind.__name__}({old}=...)", f"{names[old]}=...")
            settings[names[old]] = settings.pop(old)  # overrides the new name, which dataclasses.replace fills in
        create(self, *args, **settings)

    setattr(kind, "__init__", init)  # noqa: B010  (a type checker refuses the plain assignment)


def former_keywords(function: F) -> F:
    """Decorate a function so that it accepts keyword arguments by their former names, with a warning."""
    prefix = f"{function.__name__}."
    names = {old.removeprefix(prefix): new for old, new in RENAMED.items() if old.startswith(prefix)}

    @functools.wraps(function)
    def call(*args: Any, **given: Any) -> Any:
        for old in names.keys() & given.keys():
            warn(f"{function.__name__}({old}=...)", f"{names[old]}=...")
            given[names[old]] = given.pop(old)
        return function(*args, **given)

    return cast(F, call)


def former_members(env: Any) -> dict[str, str]:
    """Return the former names, {new: old}, under which a user's environment defines renamed members, with a warning."""
    names = {new: old.removeprefix("env.") for old, new in RENAMED.items() if old.startswith("env.")}
    found = {new: old for new, old in names.items() if hasattr(env, old) and not hasattr(env, new)}
    for new, old in found.items():
        warn(f"{type(env).__name__}.{old}", f"{type(env).__name__}.{new}", 5)
    return found


def former_name(module: str, stacklevel: int = 3) -> Callable[[str], Any]:
    """Return a `__getattr__` for a module that finds its names by their former ones, with a warning.

    In a package whose names are lazy it is the `otherwise` of `supervised.lazy.names`, one more frame away (stacklevel 4).
    """

    def find(name: str) -> Any:
        new = RENAMED.get(name)
        if new is None or not hasattr(sys.modules[module], new):
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        warn(f"{module}.{name}", f"{module}.{new}", stacklevel)
        return getattr(sys.modules[module], new)

    return find


def _read(old: str, new: str, description: Any) -> Any:
    warn(f"{type(description).__name__}.{old}", f".{new}")
    return getattr(description, new)


class ByName(dict[str, V]):
    """A dict by name that also finds entries by their former names, with a warning."""

    def __missing__(self, name: str) -> V:
        new = new_name(name) if isinstance(name, str) else None
        if new is None:
            raise KeyError(name)
        return self[new]
