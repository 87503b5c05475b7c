"""See `rl.tabular.agent`."""

from rl.tabular.agent import OnPolicyConfig, QTable, TabularAgent, TabularConfig, Transition, __getattr__

__all__ = ["OnPolicyConfig", "QTable", "TabularAgent", "TabularConfig", "Transition", "__getattr__"]
