"""The time that a schedule is counted in, and how long episodes are remembered."""

from __future__ import annotations

from supervised.schedules import EPISODES, VISITS, Curve

WINDOW = 100  # episodes whose returns and lengths are kept, as Stable-Baselines3 does


def time_in(curve: Curve, steps: int, episodes: int, visits: int) -> int:
    """The time that `curve` is counted in."""
    time = steps
    if curve.unit == EPISODES:
        time = episodes
    elif curve.unit == VISITS:
        time = visits
    return time
