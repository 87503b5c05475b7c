"""See `rl.deep.agent`."""

from rl.deep.agent import DeepAgent, NotFinite

__all__ = ["DeepAgent", "NotFinite"]
