"""Environments: made, vectorised, and where possible known exactly."""

from envs.diagnostic import TableEnv, exact_q, register
from envs.member import Member
from envs.source import EnvError, EnvLike, Source, source
from envs.tables import Model, NotATable, read
from envs.vector import Step, World, make, seeds_of

register()

__all__ = [
    "EnvError",
    "EnvLike",
    "Member",
    "Model",
    "NotATable",
    "Source",
    "Step",
    "TableEnv",
    "World",
    "exact_q",
    "make",
    "read",
    "register",
    "seeds_of",
    "source",
]
