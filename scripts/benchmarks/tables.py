"""The speed of tabular agents, compared with the classic loops: `benchmark.py tables`."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from rich.console import Console
from rich.table import Table

import rl
from benchmarks.timing import in_turn
from envs import tables as models
from rl.tabular.agent import TabularConfig

ENVIRONMENTS = ("FrozenLake-v1", "FrozenLake8x8-v1", "CliffWalking-v1", "Taxi-v4")


def classic(env_id: str, steps: int) -> float:
    """Time the classic loop, gymnasium.make and a numpy table -> steps per second."""
    env: Any = gym.make(env_id)
    q = np.zeros((int(env.observation_space.n), int(env.action_space.n)))
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


def classic_dyna(env_id: str, steps: int, planning: int = 10) -> float:
    """Time the classic Dyna-Q, a numpy table and the model in a dict -> steps per second."""
    env: Any = gym.make(env_id)
    q = np.zeros((int(env.observation_space.n), int(env.action_space.n)))
    rng = np.random.default_rng(0)
    model: dict[tuple[int, int], tuple[float, int, bool]] = {}
    known: list[tuple[int, int]] = []
    state, _ = env.reset(seed=0)
    began = time.perf_counter()
    for t in range(steps):
        epsilon = max(0.05, 1 - 0.95 * t / steps)
        action = int(rng.integers(q.shape[1])) if rng.random() < epsilon else int(np.argmax(q[state]))
        following, reward, terminated, truncated, _ = env.step(action)
        q[state, action] += 0.1 * (reward + 0.99 * (0.0 if terminated else np.max(q[following])) - q[state, action])
        model[state, action] = float(reward), following, terminated
        if len(model) > len(known):
            known = list(model)
        for i in rng.integers(len(known), size=planning):
            s, a = known[i]
            r, next_s, over = model[s, a]
            q[s, a] += 0.1 * (r + 0.99 * (0.0 if over else np.max(q[next_s])) - q[s, a])
        state = env.reset()[0] if terminated or truncated else following
    return steps / (time.perf_counter() - began)


def ours(
    env_id: str, steps: int, seeds: int = 1, workers: int | None = None, agent: TabularConfig | None = None
) -> Callable[[], float]:
    """Return a function that trains Q-learning, or another agent, and returns steps per second, summed over seeds."""
    run = rl.start(env_id, rl.QLearning() if agent is None else agent, seeds, steps=steps * 20, workers=workers)
    run.advance(1)

    def time_it() -> float:
        began = time.perf_counter()
        run.advance(steps)
        return steps * seeds / (time.perf_counter() - began)

    return time_it


def plain(env_id: str, steps: int) -> Callable[[], float]:
    """Return the same with the model rejected, so that the plain loop over Gymnasium's environment runs."""
    read = models.read

    def refuse(_env: Any) -> models.Model:
        raise models.NoModelError("rejected to time the plain loop")

    models.read = refuse
    try:
        return ours(env_id, steps)
    finally:
        models.read = read


def compile_seconds() -> float:
    """Return the seconds to prepare the compiled loop: several the first time on a machine, a fraction of one from the cache."""
    run = rl.start("FrozenLake-v1", rl.QLearning(), steps=1000)
    began = time.perf_counter()
    run.advance(1)
    return time.perf_counter() - began


def tables(repeats: int, console: Console) -> dict[str, Any]:
    """Time Q-learning in four environments, and all tabular agents, compared with the classic loops."""
    ready = compile_seconds()
    rows: dict[str, dict[str, float]] = {}
    for env_id in ENVIRONMENTS:
        ways = {
            "classic": lambda env_id=env_id: classic(env_id, 100_000),
            "plain": plain(env_id, 100_000),
            "one seed": ours(env_id, 4_000_000, workers=1),
            "64 seeds": ours(env_id, 1_000_000, seeds=64),
        }
        rows[env_id] = in_turn(ways, repeats)
    table = Table(title=f"Q-learning, environment steps per second, medians of {repeats} (ratio to the classic loop)")
    for column in ("environment", "classic", "plain", "one seed", "64 seeds, summed"):
        table.add_column(column, justify="right")
    for env_id, row in rows.items():
        cells = [f"{row['classic']:,.0f}"]
        cells += [f"{row[name]:,.0f} ({row[name] / row['classic']:.3g}x)" for name in ("plain", "one seed", "64 seeds")]
        table.add_row(env_id, *cells)
    console.print(table)
    family_rows = family(repeats, console)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    console.print(f"compiled loop ready in {ready:.2f} s; peak memory of this process {peak:.0f} MB")
    return {"compile_seconds": ready, "steps_per_second": rows, "family": family_rows, "peak_memory_mb": peak}


def family(repeats: int, console: Console) -> dict[str, dict[str, float]]:
    """Time every tabular agent, one seed, against the classic loop; those that plan against Dyna-Q with 10 simulated steps."""
    known = {n: a for n, a in rl.presets().items() if isinstance(a, TabularConfig) and not a.continuing}
    agents = {n: a for n, a in known.items() if not n.startswith("lecture")}
    planning = {"classic dyna", *(n for n, a in agents.items() if isinstance(a, (rl.DynaQ, rl.PrioritizedSweeping)))}
    rows: dict[str, dict[str, float]] = {}
    for env_id in ("FrozenLake-v1", "Taxi-v4"):
        ways: dict[str, Callable[[], float]] = {
            "classic": lambda env_id=env_id: classic(env_id, 50_000),
            "classic dyna": lambda env_id=env_id: classic_dyna(env_id, 5_000),
        }
        ways |= {n: ours(env_id, 100_000 if n in planning else 500_000, workers=1, agent=a) for n, a in agents.items()}
        rows[env_id] = in_turn(ways, repeats)
    table = Table(
        title="All tabular agents, one seed, environment steps per second (ratio to the classic loop, or classic Dyna-Q)"
    )
    for column in ("agent", *rows):
        table.add_column(column, justify="right")
    for name in ("classic", "classic dyna", *agents):
        cells = []
        for row in rows.values():
            beside = row["classic dyna" if name in planning else "classic"]
            cells.append(f"{row[name]:,.0f} ({row[name] / beside:.3g}x)")
        table.add_row(name, *cells)
    console.print(table)
    return rows
