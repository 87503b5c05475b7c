"""Environments: creating and vectorizing them, and reading the exact models of finite ones."""

from envs import memory, textbook, views
from envs.backends.member import ReplayableEnv
from envs.diagnostic import TableEnv, exact_q, exact_returns, register
from envs.last import LastActionReward
from envs.memory import HiddenStates
from envs.model.partial import PartialModel, read_partial
from envs.source import EnvError, EnvLike, Source, source, with_last, with_wrappers
from envs.tables import Model, NoModelError, read
from envs.textbook import exact_access_control, exact_textbook_q
from envs.vector import Step, World, make
from supervised.renamed import former_name
from supervised.validate import seeds_of

register()
textbook.register()
memory.register()
views.register()

__all__ = [
    "EnvError",
    "EnvLike",
    "HiddenStates",
    "LastActionReward",
    "Model",
    "NoModelError",
    "PartialModel",
    "ReplayableEnv",
    "Source",
    "Step",
    "TableEnv",
    "World",
    "exact_access_control",
    "exact_q",
    "exact_returns",
    "exact_textbook_q",
    "make",
    "read",
    "read_partial",
    "register",
    "seeds_of",
    "source",
    "with_last",
    "with_wrappers",
]

__getattr__ = former_name(__name__)
