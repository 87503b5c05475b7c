"""See `rl.core.policy`; policies that were pickled before it lay there name this module."""

from rl.core.policy import NetworkPolicy, TablePolicy, load_policy

__all__ = ["NetworkPolicy", "TablePolicy", "load_policy"]
