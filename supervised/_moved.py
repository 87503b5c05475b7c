"""Compatibility with earlier versions: former module paths still import and unpickle."""

from __future__ import annotations

import importlib
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
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


class _Finder:
    """Finds `supervised.OLD` on `sys.meta_path`, and makes it the new module itself."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        package, _, old = name.partition(".")
        return ModuleSpec(name, self) if package == "supervised" and old in MOVED else None  # type: ignore[arg-type]  # the two methods are all that is called

    def create_module(self, spec: ModuleSpec) -> None:
        """Return None: the import system creates the module that `exec_module` replaces."""

    def exec_module(self, module: ModuleType) -> None:
        old = module.__name__.partition(".")[2]
        sys.modules[module.__name__] = importlib.import_module(f"supervised.{MOVED[old]}")


class _Package(ModuleType):
    """The package, in which `import supervised.fit`, a former module, does not hide the function `supervised.fit`."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in MOVED and name in self.__all__ and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


def enter() -> None:
    """Make `import supervised.OLD` find the new module; `supervised.fit` stays the function."""
    sys.meta_path.append(_Finder())
    sys.modules["supervised"].__class__ = _Package


def find(name: str) -> ModuleType:
    """Return the module whose former name in `supervised` this is. Raises AttributeError for any other name."""
    if name not in MOVED:
        raise AttributeError(f"module 'supervised' has no attribute {name!r}")
    return importlib.import_module(f"supervised.{name}")
