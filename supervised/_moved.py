"""Compatibility with earlier versions: former module paths still import and unpickle."""

from __future__ import annotations

import importlib
import sys

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
