"""What is done every so many steps, and when it is due."""

from __future__ import annotations

from collections.abc import Mapping


class Cadences:
    """How often each thing is done, by name: {"log": 100, "save": 1000}. The caller keeps count of the steps."""

    def __init__(self, every: Mapping[str, int]) -> None:
        self.every = dict(every)

    def next(self, step: int) -> int:
        """The first step after `step` at which something is due."""
        return min((step // every + 1) * every for every in self.every.values())

    def due(self, name: str, before: int, after: int, last: bool = False) -> bool:
        """Whether `name` is due after the steps from `before` to `after`. last: no more steps follow, so everything is due."""
        every = self.every[name]
        return last or after // every > before // every
