"""Value-based reinforcement learning on Gymnasium environments."""

import rl._siblings  # noqa: F401  (first, for it explains what would otherwise fail below)
from rl import explore, losses, networks, planning, targets
from rl.agents.deep import DeepAgent
from rl.agents.dqn import DQN
from rl.agents.q_learning import QLearning
from rl.agents.table import TableAgent
from rl.evaluate import Evaluation
from rl.policy import NetworkPolicy, TablePolicy, load_policy
from rl.replay import Replay
from rl.run import Run, load, start
from rl.settings import presets
from rl.train import train
from rl.types import Agent, Batch, Update
from supervised.checkpoint import CheckpointError

__version__ = "0.1.0"

__all__ = [
    "DQN",
    "Agent",
    "Batch",
    "CheckpointError",
    "DeepAgent",
    "Evaluation",
    "NetworkPolicy",
    "QLearning",
    "Replay",
    "Run",
    "TableAgent",
    "TablePolicy",
    "Update",
    "explore",
    "load",
    "load_policy",
    "losses",
    "networks",
    "planning",
    "presets",
    "start",
    "targets",
    "train",
]
