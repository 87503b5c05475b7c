"""See `envs.backends.rows`."""

from envs.backends.rows import MemberRows, Rows, RowStep, VectorRows, rows_of

__all__ = ["MemberRows", "RowStep", "Rows", "VectorRows", "rows_of"]
