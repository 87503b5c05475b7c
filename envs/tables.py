"""The finite model of an environment, extracted and verified against its behavior: see `envs.model`."""

from envs.model.extract import HARMLESS, read
from envs.model.kernel import World, model_reset, model_step, world_of
from envs.model.model import Model, NotATable

__all__ = ["HARMLESS", "Model", "NotATable", "World", "model_reset", "model_step", "read", "world_of"]
