"""How long numba has been compiling in this process, and whom to tell when it begins.

What is compiled once lies on disk afterwards; loading it is no compiling.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any


class _Clock:
    """The time within compilations; one within another is counted once."""

    def __init__(self) -> None:
        self.total, self.depth, self.began = 0.0, 0, 0.0
        self.listeners: list[Callable[[], None]] = []

    def start(self) -> None:
        self.depth += 1
        if self.depth == 1:
            self.began = time.perf_counter()
            for tell in self.listeners:
                tell()

    def end(self) -> None:
        self.depth -= 1
        if self.depth == 0:
            self.total += time.perf_counter() - self.began


_clock = _Clock()


def seconds() -> float:
    """How many seconds this process has been compiling, since it was first asked."""
    _listen()
    return _clock.total


@contextlib.contextmanager
def notifying(tell: Callable[[], None]) -> Iterator[None]:
    """Call `tell` meanwhile whenever a compilation begins."""
    _listen()
    _clock.listeners.append(tell)
    try:
        yield
    finally:
        _clock.listeners.remove(tell)


@cache
def _listen() -> None:
    """Count from now on. Without numba there is nothing to count."""
    try:
        from numba.core import event
    except ImportError:
        return

    class Listener(event.Listener):
        def on_start(self, event: Any) -> None:
            _clock.start()

        def on_end(self, event: Any) -> None:
            _clock.end()

    register: Any = event.register  # numba has no annotations
    register("numba:compile", Listener())
