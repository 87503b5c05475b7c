"""What stands in for drawn pictures of agents, each of which takes a tenth of a second, and a short run draws thirty."""

from __future__ import annotations

import numpy as np

from envs.backends.member import digest
from rl.report import pictures
from rl.run.processes import split
from rl.run.run import Run


def sketch(run: Run, k: int = 0) -> dict[str, np.ndarray]:
    """A stand-in for `rl.report.pictures.to_images`: small pictures that any bit of what the seed has learned changes."""
    panels = pictures.table_plots(run, k)
    learned = split(run.agent.state_dict(), k, k + 1, len(run.seeds)) if panels else {}
    return {name: _picture(digest({"panel": name, **learned})) for name in panels}


def _picture(code: str) -> np.ndarray:
    """uint8 [4, 8, 3], made of a text."""
    return np.resize(np.frombuffer(code.encode(), np.uint8), (4, 8, 3))
