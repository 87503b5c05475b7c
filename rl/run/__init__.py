"""Runs: N seeds of an agent in an environment, in this process or in several; how they are opened, saved and evaluated.

This package may import every family of agents, since it chooses the loop for each (`rl.run.run.LOOPS`).
"""

from rl.run.files import load
from rl.run.run import Run, start

__all__ = ["Run", "load", "start"]
