"""Measures numba's compile time in this process, and notifies listeners when a compilation starts.

Compiled functions are cached on disk; loading them from the cache does not count.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any


class _Clock:
    """Measures the time in compilations; nested ones are counted once."""

    def __init__(self) -> None:
        self.total, self.depth, self.began = 0.0, 0, 0.0
        self.listeners: list[Callable[[], None]] = []

    def start(self) -> None:
        self.depth += 1
        if self.depth == 1:
            self.began = time.perf_counter()
            for listener in self.listeners:
                listener()

    def end(self) -> None:
        self.depth -= 1
        if self.depth == 0:
            self.total += time.perf_counter() - self.began


_clock = _Clock()


def seconds() -> float:
    """Return the seconds that this process has spent compiling since the first call."""
    _listen()
    return _clock.total


@contextlib.contextmanager
def notifying(listener: Callable[[], None]) -> Iterator[None]:
    """Call `listener` at the start of every compilation within this context."""
    _listen()
    _clock.listeners.append(listener)
    try:
        yield
    finally:
        _clock.listeners.remove(listener)


@cache
def _listen() -> None:
    """Start measuring, if numba is installed."""
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
