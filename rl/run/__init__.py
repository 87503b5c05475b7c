"""Runs: N seeds of an agent in an environment, in this process or in several; how they are opened, saved and evaluated.

This package may import every family of agents, since it chooses the loop for each (`rl.run.run.LOOPS`).
"""

from typing import TYPE_CHECKING

from supervised import lazy

if TYPE_CHECKING:
    from rl.run.files import load
    from rl.run.run import Run, start

_PLACES = {"Run": "rl.run.run", "load": "rl.run.files", "start": "rl.run.run"}

__all__ = ["Run", "load", "start"]

__getattr__, __dir__ = lazy.names(__name__, _PLACES)
