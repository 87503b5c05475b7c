"""Fitting models; the floor that `rl` stands on: schedules, random streams, checkpoints, curves, statistics."""

from supervised import schedules, statistics
from supervised.streams import Streams

__all__ = ["Streams", "schedules", "statistics"]
