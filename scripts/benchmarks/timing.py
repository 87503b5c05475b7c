"""Timing of several ways to do the same, in turn."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np
from rich.table import Table


def in_turn(ways: dict[str, Callable[[], float]], repeats: int) -> dict[str, float]:
    """Time the alternatives in turn, so that other load on the machine affects all of them -> the median of each."""
    return {name: statistics.median(found) for name, found in rounds(ways, repeats).items()}


def rounds(ways: dict[str, Callable[[], float]], repeats: int) -> dict[str, list[float]]:
    """Return the times of each alternative, one per round."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            times[name].append(way())
    return times


def median_ratio(ours: list[float], theirs: list[float]) -> tuple[float, float, float]:
    """Return the median ratio of times from the same round, with its 95 % bootstrap interval."""
    ratios = np.array(ours) / np.array(theirs)
    draws = np.random.default_rng(0).choice(ratios, (10_000, len(ratios)))
    low, high = np.quantile(np.median(draws, 1), (0.025, 0.975))
    return float(np.median(ratios)), float(low), float(high)


def seconds(step: Callable[[], object], count: int) -> float:
    """Return the mean time of `count` steps."""
    began = time.perf_counter()
    for _ in range(count):
        step()
    return (time.perf_counter() - began) / count


def cpu_seconds(step: Callable[[], object]) -> float:
    """Return the mean CPU time of a step, which other load on the machine hardly affects."""
    began = time.process_time()
    step()
    return time.process_time() - began


def speeds(title: str, found: dict[str, list[float]], ratios: dict[str, str]) -> Table:
    """Return a table of steps per second: medians, ratios as text by variant, and ranges."""
    table = Table(title=title)
    for column in ("variant", "steps per second", "ratio", "lowest to highest"):
        table.add_column(column, justify="right")
    for name, values in found.items():
        spread = f"{min(values):,.0f} to {max(values):,.0f}"
        table.add_row(name, f"{statistics.median(values):,.0f}", ratios.get(name, ""), spread)
    return table
