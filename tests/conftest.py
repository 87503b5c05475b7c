"""What several tests need."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from envs import tables


@pytest.fixture
def plain_loop(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Call it to have every model refused from then on, so that the plain loop runs."""

    def refuse_all() -> None:
        def refuse(env: Any) -> tables.Model:
            raise tables.NotATable("refused by the test")

        monkeypatch.setattr(tables, "read", refuse)

    return refuse_all
