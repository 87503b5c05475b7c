"""Value-based reinforcement learning on Gymnasium environments."""

import rl._siblings  # noqa: F401  (first, for it explains what would otherwise fail below)
from rl import explore, planning, targets
from rl.agents.q_learning import QLearning, presets
from rl.agents.table import TableAgent
from rl.evaluate import Evaluation
from rl.policy import TablePolicy, load_policy
from rl.run import Run, load, start
from rl.train import train
from rl.types import Agent, Batch, Update
from supervised.checkpoint import CheckpointError

__version__ = "0.1.0"

__all__ = [
    "Agent",
    "Batch",
    "CheckpointError",
    "Evaluation",
    "QLearning",
    "Run",
    "TableAgent",
    "TablePolicy",
    "Update",
    "explore",
    "load",
    "load_policy",
    "planning",
    "presets",
    "start",
    "targets",
    "train",
]
