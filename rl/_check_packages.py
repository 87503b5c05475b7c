"""Check, before anything else is imported, that `envs` and `supervised` are the packages of this project.

The names are common, so Python may find other packages of the same name.
"""

import importlib.util
from pathlib import Path

for name in ("supervised", "envs"):
    spec = importlib.util.find_spec(name)
    ours = Path(__file__).resolve().parent.parent / name
    found = Path(spec.origin).resolve() if spec is not None and spec.origin else None
    if found != ours / "__init__.py":
        raise ImportError(
            f"`import {name}` finds {found or 'nothing'}, which is not part of this package; `rl` needs {ours}."
            " Move or rename the other one, or remove its folder from sys.path."
        )
