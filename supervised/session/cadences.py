"""Periodic actions, and when each is due."""

from __future__ import annotations

from collections.abc import Mapping


class Cadences:
    """The period of each action in steps, by name: {"log": 100, "save": 1000}. The caller counts the steps."""

    def __init__(self, every: Mapping[str, int]) -> None:
        self.every = dict(every)

    def next(self, step: int) -> int:
        """Return the first step after `step` at which any action is due."""
        return min((step // every + 1) * every for every in self.every.values())

    def due(self, name: str, before: int, after: int, last: bool = False) -> bool:
        """Return whether action `name` is due after the steps `before`..`after`. last: no steps follow, so everything is due."""
        every = self.every[name]
        return last or after // every > before // every
