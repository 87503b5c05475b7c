"""Compatibility with earlier versions: former module paths still import and unpickle, former names work and warn."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Callable, Mapping
from typing import Any

MOVED = {
    **{
        "chain": "stack.manual_backward",
        "fused": "stack.compiled_mlp",
        "guard": "stack.guard",
        "memory": "stack.memory",
    },
    **{"optimize": "stack.optimizers", "rules": "stack.batched_layers", "bits": "determinism"},
    **{name: f"models.{name}" for name in ("cnn", "layers", "mlp", "regression", "rnn")},
    **{name: f"fitting.{name}" for name in ("divergence", "objective", "recipe")},
    **{"fit": "fitting.loop", "trial": "fitting.check_data", "watch": "fitting.inspect"},
    **{name: f"session.{name}" for name in ("cadences", "progress", "results")},
}


def enter() -> None:
    """Make `import supervised.OLD` find the new module; `supervised.fit` stays the function."""
    package = sys.modules["supervised"]
    for old, new in MOVED.items():
        module = importlib.import_module(f"supervised.{new}")
        sys.modules[f"supervised.{old}"] = module
        if not hasattr(package, old):
            setattr(package, old, module)


def module_getattr(module: str, names: Mapping[str, Any], renamed: Mapping[str, str]) -> Callable[[str], Any]:
    """Return a `__getattr__` for a module with these names that also finds renamed ones, {old: new}, with a warning."""

    def find(name: str) -> Any:
        if name not in renamed:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        warnings.warn(
            f"{module}.{name} is deprecated and will be removed in the next version: use {module}.{renamed[name]}.",
            DeprecationWarning,
            stacklevel=2,
        )
        return names[renamed[name]]

    return find
