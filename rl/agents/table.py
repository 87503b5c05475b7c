"""See `rl.tabular.agent`."""

from rl.tabular.agent import OnPolicy, Table, Tabular, TabularAgent, Transition, __getattr__

__all__ = ["OnPolicy", "Table", "Tabular", "TabularAgent", "Transition", "__getattr__"]
