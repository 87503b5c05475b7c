"""Value-based reinforcement learning on Gymnasium environments."""

import rl._siblings  # noqa: F401  (first, for it explains what would otherwise fail below)
from rl import explore, losses, networks, planning, targets
from rl.agents.average import RLearning
from rl.agents.deep import DeepAgent
from rl.agents.double_q import DoubleQ
from rl.agents.dqn import DQN
from rl.agents.dyna import DynaQ
from rl.agents.linear import LinearAgent, LinearSARSA
from rl.agents.monte_carlo import MonteCarlo
from rl.agents.n_step import NStepSARSA, TreeBackup
from rl.agents.q_learning import QLearning
from rl.agents.sarsa import SARSA, ExpectedSARSA
from rl.agents.speedy import SpeedyQ
from rl.agents.sweeping import PrioritisedSweeping, RMax
from rl.agents.table import TableAgent
from rl.agents.traces import QLambda, SARSALambda
from rl.agents.weighted import WeightedQ
from rl.core.registry import register
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
    "SARSA",
    "Agent",
    "Batch",
    "CheckpointError",
    "DeepAgent",
    "DoubleQ",
    "DynaQ",
    "Evaluation",
    "ExpectedSARSA",
    "LinearAgent",
    "LinearSARSA",
    "MonteCarlo",
    "NStepSARSA",
    "NetworkPolicy",
    "PrioritisedSweeping",
    "QLambda",
    "QLearning",
    "RLearning",
    "RMax",
    "Replay",
    "Run",
    "SARSALambda",
    "SpeedyQ",
    "TableAgent",
    "TablePolicy",
    "TreeBackup",
    "Update",
    "WeightedQ",
    "explore",
    "load",
    "load_policy",
    "losses",
    "networks",
    "planning",
    "presets",
    "register",
    "start",
    "targets",
    "train",
]
