"""See `envs.backends.rows`."""

from envs.backends.rows import Rows, RowStep, SingleEnvs, VectorEnvs, rows_of
from supervised.renamed import former_name

__all__ = ["RowStep", "Rows", "SingleEnvs", "VectorEnvs", "rows_of"]

__getattr__ = former_name(__name__)
