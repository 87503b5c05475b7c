"""Which parameters of a test that takes long are tried in every run of the tests."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def daily(values: Iterable[Any], kept: Iterable[Any]) -> list[Any]:
    """The parameters `values`: those in `kept` always, the others under `-m full` alone."""
    always = list(kept)
    return [value if value in always else pytest.param(*_arguments(value), marks=pytest.mark.full) for value in values]


def _arguments(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)
