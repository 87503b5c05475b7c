"""See `rl.deep.agent`."""

from rl.deep.agent import DeepAgent, Learned, NotFinite

__all__ = ["DeepAgent", "Learned", "NotFinite"]
