"""Environments: made, vectorized, and where possible known exactly."""

from envs import memory, textbook, views
from envs.backends.member import Member
from envs.diagnostic import TableEnv, exact_q, exact_returns, register
from envs.last import LastActionReward
from envs.memory import HiddenStates
from envs.model.partial import PartialModel, read_partial
from envs.source import EnvError, EnvLike, Source, source, with_last
from envs.tables import Model, NotATable, read
from envs.textbook import exact_access_control, exact_textbook_q
from envs.vector import Step, World, make
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
    "Member",
    "Model",
    "NotATable",
    "PartialModel",
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
]
