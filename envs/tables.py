"""The finite model of an environment, extracted and verified against its behavior: see `envs.model`."""

from envs.model.extract import HARMLESS, read
from envs.model.kernel import ModelState, model_reset, model_step, world_of
from envs.model.model import Model, NoModelError
from supervised.renamed import former_name

__all__ = ["HARMLESS", "Model", "ModelState", "NoModelError", "model_reset", "model_step", "read", "world_of"]

__getattr__ = former_name(__name__)
