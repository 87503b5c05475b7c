"""See `envs.backends.rows`."""

from envs.backends.rows import Rows, RowStep, SingleEnvs, VectorEnvs, rows_of
from supervised.renamed import module_getattr

__all__ = ["RowStep", "Rows", "SingleEnvs", "VectorEnvs", "rows_of"]

__getattr__ = module_getattr(__name__, globals())
