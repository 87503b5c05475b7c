"""The time units of schedules, and the window of episode statistics."""

from __future__ import annotations

from supervised.schedules import EPISODES, VISITS, Curve

WINDOW = 100  # number of episodes whose returns and lengths are kept, as in Stable-Baselines3


def time_in(curve: Curve, steps: int, episodes: int, visits: int) -> int:
    """Return the time in the unit of `curve`: steps, episodes or visits."""
    time = steps
    if curve.unit == EPISODES:
        time = episodes
    elif curve.unit == VISITS:
        time = visits
    return time
