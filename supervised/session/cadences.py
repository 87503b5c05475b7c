"""When something is due that is done every so many steps."""

from __future__ import annotations

from collections.abc import Mapping


class Cadences:
    """What is done how often, by name: {"log": 100, "save": 1000}. Whoever steps says where the last step began and ended."""

    def __init__(self, every: Mapping[str, int]) -> None:
        self.every = dict(every)

    def next(self, step: int) -> int:
        """The first step after `step` at which something is due."""
        return min((step // every + 1) * every for every in self.every.values())

    def due(self, name: str, before: int, after: int, last: bool = False) -> bool:
        """Whether `name` is due after the steps from `before` to `after`. last: no more follow, so that everything is."""
        every = self.every[name]
        return last or after // every > before // every
