"""See `rl.tabular.agent`."""

from rl.tabular.agent import Moment, OnPolicy, Table, Tabular, TabularAgent

__all__ = ["Moment", "OnPolicy", "Table", "Tabular", "TabularAgent"]
