"""Value-based reinforcement learning on Gymnasium environments."""

import rl._siblings  # noqa: F401  (first, for it explains what would otherwise fail below)
from rl import explore, losses, networks, planning, targets
from rl._version import __version__ as __version__
from rl.core.policy import NetworkPolicy, TablePolicy, load_policy
from rl.core.registry import register
from rl.core.renamed import module_getattr
from rl.core.types import Agent, Batch, SequenceBatch, Update
from rl.deep.agent import DeepAgent
from rl.deep.distributions import Atoms, ImplicitQuantiles, Quantiles
from rl.deep.dqn import DQN
from rl.deep.munchausen import Munchausen
from rl.deep.replay.buffer import Replay
from rl.deep.replay.sequences import SequenceReplay
from rl.linear.sarsa import LinearAgent, LinearSARSA
from rl.run.exact import Evaluation
from rl.run.files import load
from rl.run.run import Run, start
from rl.settings import presets
from rl.tabular.agent import TabularAgent
from rl.tabular.double_q import DoubleQ
from rl.tabular.dyna import DynaQ
from rl.tabular.monte_carlo import MonteCarlo
from rl.tabular.n_step import NStepSARSA, TreeBackup
from rl.tabular.prioritized_sweeping import PrioritizedSweeping, RMax
from rl.tabular.q_learning import QLearning
from rl.tabular.r_learning import RLearning
from rl.tabular.sarsa import SARSA, ExpectedSARSA
from rl.tabular.speedy_q import SpeedyQ
from rl.tabular.traces import QLambda, SARSALambda
from rl.tabular.weighted_q import WeightedQ
from rl.train import train
from supervised.checkpoint import CheckpointError

__all__ = [
    "DQN",
    "SARSA",
    "Agent",
    "Atoms",
    "Batch",
    "CheckpointError",
    "DeepAgent",
    "DoubleQ",
    "DynaQ",
    "Evaluation",
    "ExpectedSARSA",
    "ImplicitQuantiles",
    "LinearAgent",
    "LinearSARSA",
    "MonteCarlo",
    "Munchausen",
    "NStepSARSA",
    "NetworkPolicy",
    "PrioritizedSweeping",
    "QLambda",
    "QLearning",
    "Quantiles",
    "RLearning",
    "RMax",
    "Replay",
    "Run",
    "SARSALambda",
    "SequenceBatch",
    "SequenceReplay",
    "SpeedyQ",
    "TablePolicy",
    "TabularAgent",
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


__getattr__ = module_getattr("rl", {name: globals()[name] for name in __all__})
