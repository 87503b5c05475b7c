"""See `rl.tabular.agent`."""

from rl.tabular.agent import Moment, OnPolicy, Table, TableAgent, Tabular

__all__ = ["Moment", "OnPolicy", "Table", "TableAgent", "Tabular"]
