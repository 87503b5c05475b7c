"""Names of earlier versions, which still work for one version and warn: one table, and what reads it.

Saved files of every age are read by it without a warning (`rl.core.registry.migrate`).
"""

from __future__ import annotations

import dataclasses
import functools
import sys
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

# By the former name, of a class, of a setting of a type (Type.setting), of a preset or of a tag.
RENAMED: dict[str, str] = {
    "PrioritisedSweeping": "PrioritizedSweeping",
    "TableAgent": "TabularAgent",
    "DQN.prioritised": "prioritized",
    "Tabular.knows_policy": "needs_policy",
    "Tabular.memory": "state_type",
    "Tabular.tables": "seed_arrays",
    "Tabular.trail": "episode_arrays",
    "Tabular.constants": "rule_params",
    "Tabular.begin": "init_from_q",
    "Tabular.limits": "index_bounds",
    "Tabular.check_saved": "validate_state",
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
V = TypeVar("V")


def warn(old: str, new: str, stacklevel: int = 3) -> None:
    """Say that a name is deprecated. stacklevel: as of warnings.warn, for whom it is said."""
    warnings.warn(f"{old} is deprecated and goes with the next version: use {new}.", DeprecationWarning, stacklevel)


def new_name(old: str, stacklevel: int = 4) -> str | None:
    """What a name of an earlier version is called today, with a warning; None for any other."""
    new = RENAMED.get(old)
    if new is not None:
        warn(old, new, stacklevel)
    return new


def renamed_settings(kind: type) -> dict[str, str]:
    """The settings of a description that had other names, its bases' too: {old: new}."""
    places = [(base.__name__, key.partition(".")) for base in kind.__mro__ for key in RENAMED if "." in key]
    return {old: RENAMED[f"{owner}.{old}"] for name, (owner, _, old) in places if name == owner}


def accept_renamed(kind: K) -> K:
    """Let a dataclass take its settings by their former names too: as keywords, in dataclasses.replace and as attributes."""
    fields = {field.name for field in dataclasses.fields(kind)}
    names = {old: new for old, new in renamed_settings(kind).items() if new in fields}
    if not names:
        return kind
    create: Callable[..., None] = vars(kind)["__init__"]

    @functools.wraps(create)
    def init(self: Any, *args: Any, **settings: Any) -> None:
        for old in names.keys() & settings.keys():
            warn(f"{kind.__name__}({old}=...)", f"{names[old]}=...")
            settings[names[old]] = settings.pop(old)  # over the new one, which dataclasses.replace fills in
        create(self, *args, **settings)

    setattr(kind, "__init__", init)  # noqa: B010  (a type checker refuses the plain assignment)
    for old, new in names.items():
        setattr(kind, old, property(functools.partial(_read, old, new)))
    return kind


def accept_renamed_members(kind: type) -> None:
    """Let a subclass define methods and class attributes by their former names."""
    for old, new in renamed_settings(kind).items():
        if old in vars(kind) and new not in vars(kind):
            warn(f"{kind.__name__}.{old}", f"{kind.__name__}.{new}", 4)
            setattr(kind, new, vars(kind)[old])


def former_name(module: str) -> Callable[[str], Any]:
    """What finds a module's names by those of earlier versions, with a warning: an `otherwise` of `supervised.lazy.names`."""

    def find(name: str) -> Any:
        new = RENAMED.get(name)
        if new is None or not hasattr(sys.modules[module], new):
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        warn(f"{module}.{name}", f"{module}.{new}", stacklevel=4)
        return getattr(sys.modules[module], new)

    return find


def _read(old: str, new: str, description: Any) -> Any:
    warn(f"{type(description).__name__}.{old}", f".{new}")
    return getattr(description, new)


class ByName(dict[str, V]):
    """A dict of things by name, which also finds them by the names of earlier versions."""

    def __missing__(self, name: str) -> V:
        new = new_name(name) if isinstance(name, str) else None
        if new is None:
            raise KeyError(name)
        return self[new]
