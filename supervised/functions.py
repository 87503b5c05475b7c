"""Functions in files: a file holds no code, so it names a function, and whoever reads it gives the function again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

FUNCTION = "function"  # the type that stands for code


def name(function: Any) -> str:
    """What a function, or an object that can be called, is known by."""
    return str(getattr(function, "__qualname__", type(function).__name__))


def to_json(function: Any) -> dict[str, Any]:
    """A function as JSON."""
    return {"type": FUNCTION, "name": name(function)}


def is_function(value: Any) -> bool:
    """Whether a JSON value stands for a function."""
    return isinstance(value, dict) and value.get("type") == FUNCTION


def stand_in(value: dict[str, Any]) -> Callable[..., None]:
    """A function of the same name, for a description that is only compared."""

    def stand_in(*_: Any) -> None: ...

    stand_in.__qualname__ = str(value.get("name"))
    return stand_in
