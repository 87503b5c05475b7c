"""Value-based reinforcement learning on Gymnasium environments.

Names are imported on first access (`supervised.lazy`). A type checker sees them all.
"""

from typing import TYPE_CHECKING, Any

import rl._check_packages  # noqa: F401  (first, for it explains what would otherwise fail below)
from rl._version import __version__ as __version__
from supervised import lazy

if TYPE_CHECKING:
    from rl import explore, losses, networks, planning, targets
    from rl.core.policy import NetworkPolicy, TablePolicy, load_policy
    from rl.core.registry import register
    from rl.core.types import Agent, Batch, SequenceBatch, Update
    from rl.deep.agent import DeepAgent
    from rl.deep.distributions import Atoms, ImplicitQuantiles, Quantiles
    from rl.deep.dqn import DQN
    from rl.deep.munchausen import Munchausen
    from rl.deep.pqn import PQN
    from rl.deep.replay.buffer import Replay
    from rl.deep.replay.sequences import SequenceReplay
    from rl.linear.agent import LinearAgent
    from rl.linear.sarsa import LinearSARSA
    from rl.run.exact import Evaluation
    from rl.run.files import load
    from rl.run.run import Run, start
    from rl.settings import presets
    from rl.tabular.double_q import DoubleQ
    from rl.tabular.dyna import DynaQ
    from rl.tabular.monte_carlo import MonteCarlo
    from rl.tabular.n_step import NStepSARSA, TreeBackup
    from rl.tabular.prioritized_sweeping import PrioritizedSweeping, RMax
    from rl.tabular.q_learning import QLearning
    from rl.tabular.r_learning import RLearning
    from rl.tabular.sarsa import SARSA, ExpectedSARSA
    from rl.tabular.speedy_q import SpeedyQ
    from rl.tabular.tables import TabularAgent
    from rl.tabular.traces import QLambda, SARSALambda
    from rl.tabular.weighted_q import WeightedQ
    from rl.training import iterate, train
    from supervised.checkpoint import CheckpointError

# Where each name lives; those that are modules of this package are not listed.
_PLACES = {
    "DQN": "rl.deep.dqn",
    "PQN": "rl.deep.pqn",
    "SARSA": "rl.tabular.sarsa",
    "Agent": "rl.core.types",
    "Atoms": "rl.deep.distributions",
    "Batch": "rl.core.types",
    "CheckpointError": "supervised.checkpoint",
    "DeepAgent": "rl.deep.agent",
    "DoubleQ": "rl.tabular.double_q",
    "DynaQ": "rl.tabular.dyna",
    "Evaluation": "rl.run.exact",
    "ExpectedSARSA": "rl.tabular.sarsa",
    "ImplicitQuantiles": "rl.deep.distributions",
    "LinearAgent": "rl.linear.agent",
    "LinearSARSA": "rl.linear.sarsa",
    "MonteCarlo": "rl.tabular.monte_carlo",
    "Munchausen": "rl.deep.munchausen",
    "NStepSARSA": "rl.tabular.n_step",
    "NetworkPolicy": "rl.core.policy",
    "PrioritizedSweeping": "rl.tabular.prioritized_sweeping",
    "QLambda": "rl.tabular.traces",
    "QLearning": "rl.tabular.q_learning",
    "Quantiles": "rl.deep.distributions",
    "RLearning": "rl.tabular.r_learning",
    "RMax": "rl.tabular.prioritized_sweeping",
    "Replay": "rl.deep.replay.buffer",
    "Run": "rl.run.run",
    "SARSALambda": "rl.tabular.traces",
    "SequenceBatch": "rl.core.types",
    "SequenceReplay": "rl.deep.replay.sequences",
    "SpeedyQ": "rl.tabular.speedy_q",
    "TabularAgent": "rl.tabular.tables",
    "TablePolicy": "rl.core.policy",
    "TreeBackup": "rl.tabular.n_step",
    "Update": "rl.core.types",
    "WeightedQ": "rl.tabular.weighted_q",
    "iterate": "rl.training",
    "load": "rl.run.files",
    "load_policy": "rl.core.policy",
    "presets": "rl.settings",
    "register": "rl.core.registry",
    "start": "rl.run.run",
    "train": "rl.training",
}

__all__ = [
    "DQN",
    "PQN",
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
    "iterate",
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


def _renamed(name: str) -> Any:
    """Find a name of an earlier version, with a warning. Raises AttributeError for any other."""
    from supervised.renamed import RENAMED, warn

    new = RENAMED.get(name)
    if new not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warn(f"rl.{name}", f"rl.{new}", 5)
    return __getattr__(new)


__getattr__, __dir__ = lazy.names(__name__, _PLACES, set(__all__) - set(_PLACES), _renamed)
