"""A run: N seeds of an agent in an environment, here or in processes, opened, saved and judged.

It may import every family, for it chooses the loop of each (`rl.run.run.LOOPS`).
"""

from rl.run.files import load
from rl.run.run import Run, start

__all__ = ["Run", "load", "start"]
