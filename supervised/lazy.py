"""Names of a package that are imported on first access (PEP 562), so that importing the package costs nothing.

A package lists for a type checker, under `if TYPE_CHECKING:`, the same names that it gives to `names`; `tests/test_layers.py`
compares the two.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any


def names(
    package: str,
    places: Mapping[str, str],
    modules: Iterable[str] = (),
    otherwise: Callable[[str], Any] | None = None,
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return the `__getattr__` and the `__dir__` of a package.

    places: the module of each name. modules: the submodules that are attributes without an import of their own. otherwise: what
    finds any other name, or raises AttributeError.
    """
    submodules = frozenset(modules)

    def find(name: str) -> Any:
        if name in places:
            found = getattr(importlib.import_module(places[name]), name)
        elif name in submodules:
            found = importlib.import_module(f"{package}.{name}")
        elif otherwise is not None:
            return otherwise(name)
        else:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        vars(sys.modules[package])[name] = found  # from here on Python finds it without this function
        return found

    def listed() -> list[str]:
        return sorted({*vars(sys.modules[package]), *places, *submodules})

    return find, listed
