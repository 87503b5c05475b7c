#!/usr/bin/env python
"""Speed, as ratios to a baseline timed in turn in the same process.

python scripts/benchmark.py tables
"""

from __future__ import annotations

import json
import resource
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import gymnasium as gym
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

import rl
from envs import tables as models
from supervised import results

ENVIRONMENTS = ("FrozenLake-v1", "FrozenLake8x8-v1", "CliffWalking-v1", "Taxi-v4")


@dataclass
class Settings:
    """Measure speed."""

    what: Annotated[Literal["tables"], tyro.conf.Positional] = "tables"
    """tables: Q-learning compiled and in the plain loop, against the classic numpy loop."""
    repeats: int = 5
    """How often each is timed, in turn; medians are shown."""
    output: Path | None = None
    """Also write the figures as JSON."""


def classic(env_id: str, steps: int) -> float:
    """The loop that everybody writes, gymnasium.make and a numpy table -> steps a second."""
    env = gym.make(env_id)
    q = np.zeros((int(env.observation_space.n), int(env.action_space.n)))  # type: ignore[attr-defined]
    rng = np.random.default_rng(0)
    state, _ = env.reset(seed=0)
    began = time.perf_counter()
    for t in range(steps):
        epsilon = max(0.05, 1 - 0.95 * t / steps)
        action = int(rng.integers(q.shape[1])) if rng.random() < epsilon else int(np.argmax(q[state]))
        following, reward, terminated, truncated, _ = env.step(action)
        target = reward + 0.99 * (0.0 if terminated else np.max(q[following]))
        q[state, action] += 0.1 * (target - q[state, action])
        state = env.reset()[0] if terminated or truncated else following
    return steps / (time.perf_counter() - began)


def ours(env_id: str, steps: int, seeds: int = 1, workers: int | None = None) -> Callable[[], float]:
    """Q-learning as `rl.QLearning()` describes it -> a function that gives environment steps a second, all seeds summed."""
    run = rl.start(env_id, rl.QLearning(), seeds, steps=steps * 20, workers=workers)
    run.advance(1)

    def time_it() -> float:
        began = time.perf_counter()
        run.advance(steps)
        return steps * seeds / (time.perf_counter() - began)

    return time_it


def plain(env_id: str, steps: int) -> Callable[[], float]:
    """The same with the model refused, so that the plain loop over Gymnasium's environment runs."""
    read = models.read

    def refuse(env: Any) -> models.Model:
        raise models.NotATable("refused, to time the plain loop")

    models.read = refuse
    try:
        return ours(env_id, steps)
    finally:
        models.read = read


def compile_seconds() -> float:
    """What making the compiled loop ready cost: seconds the first time on a machine, a fraction of one from the cache."""
    run = rl.start("FrozenLake-v1", rl.QLearning(), steps=1000)
    began = time.perf_counter()
    run.advance(1)
    return time.perf_counter() - began


def tables(settings: Settings, console: Console) -> dict[str, Any]:
    ready = compile_seconds()
    rows: dict[str, dict[str, float]] = {}
    for env_id in ENVIRONMENTS:
        ways = {
            "classic": lambda env_id=env_id: classic(env_id, 100_000),
            "plain": plain(env_id, 100_000),
            "one seed": ours(env_id, 4_000_000, workers=1),
            "64 seeds": ours(env_id, 1_000_000, seeds=64),
        }
        times: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(settings.repeats):
            for name, way in ways.items():
                times[name].append(way())
        rows[env_id] = {name: statistics.median(found) for name, found in times.items()}
    table = Table(
        title=f"Q-learning, environment steps a second, medians of {settings.repeats} (ratio to the classic loop)"
    )
    for column in ("environment", "classic", "plain", "one seed", "64 seeds, summed"):
        table.add_column(column, justify="right")
    for env_id, row in rows.items():
        cells = [f"{row['classic']:,.0f}"]
        cells += [f"{row[name]:,.0f} ({row[name] / row['classic']:.3g}x)" for name in ("plain", "one seed", "64 seeds")]
        table.add_row(env_id, *cells)
    console.print(table)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    console.print(f"compiled loop ready in {ready:.2f} s; peak memory of this process {peak:.0f} MB")
    return {"compile_seconds": ready, "steps_per_second": rows, "peak_memory_mb": peak}


def command() -> int:
    settings = tyro.cli(Settings)
    if settings.repeats < 1:
        print(f"Error: --repeats is a whole number from 1 on, not {settings.repeats}.", file=sys.stderr)
        return 1
    console = Console()
    figures = tables(settings, console)
    if settings.output is not None:
        machine = results.about()
        settings.output.write_text(json.dumps(figures | machine, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(command())
