"""References to functions in files: files contain no code, only a function's name; the reader provides the function again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

FUNCTION = "function"  # the "type" of a JSON value that refers to a function


def name(function: Any) -> str:
    """Return the name of a function or other callable."""
    return str(getattr(function, "__qualname__", type(function).__name__))


def to_json(function: Any) -> dict[str, Any]:
    """Return a JSON value that refers to a function."""
    return {"type": FUNCTION, "name": name(function)}


def is_function(value: Any) -> bool:
    """Return whether a JSON value refers to a function."""
    return isinstance(value, dict) and value.get("type") == FUNCTION


def stand_in(value: dict[str, Any]) -> Callable[..., None]:
    """A function of the same name, for a description that is only compared."""

    def stand_in(*_: Any) -> None: ...

    stand_in.__qualname__ = str(value.get("name"))
    return stand_in
