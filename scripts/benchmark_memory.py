"""What recurrent Q-networks learn where memory is needed, beside DQN of the same observations (`benchmark.py memory`)."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

import rl
from rl.run.processes import shared
from supervised import statistics as intervals
from supervised.schedules import Linear
from supervised.session.results import summary
from supervised.validate import choice, integer

LOOKS = 10  # evaluations of a run, at equal distances
EPISODES = 20  # of an evaluation, for each seed
FEED_FORWARD = "dqn"


@dataclass(frozen=True)
class Task:
    """A world, who learns there, and what is asked of it. Values are returns, or shares of 1 where a return is 1 or -1."""

    env: str
    steps: int
    agents: Mapping[str, Any]  # with a recurrent network, by name
    bar: float  # what a seed must reach
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    seeds: int = 10
    enough: int = 9  # seeds that must reach the bar
    last: int = 1  # evaluations, at the end, at which they must reach it
    minutes: float | None = None  # that all agents with a recurrent network may take
    sign: bool = False  # returns are 1 or -1
    best: float | None = None  # the best value with memory, where it is known
    memoryless: float | None = None  # the best without


def tasks() -> dict[str, Task]:
    """The tasks by name."""
    presets, falling = rl.presets(), Linear(1e-3, 0.0)
    small: dict[str, Any] = {"network": "gru(64)", "batch_size": 16, "double": True, "target_every_updates": 200}
    chain: dict[str, Any] = {"sign": True, "best": 1.0, "memoryless": 0.5, "bar": 0.95}
    return {
        # Two episodes only: one look can be luck, so five are asked for.
        "chain-50": Task(
            "envs/MemoryChain-v0",
            100_000,
            {"recurrent": rl.DQN(**small, learning_rate=falling, update_every_steps=10, chrono_steps=50)},
            kwargs={"length": 50}, last=5, minutes=15, **chain,
        ),
        "chain-20": Task(
            "envs/MemoryChain-v0",
            40_000,
            {name: presets[name] for name in ("drqn", "r2d2")},
            kwargs={"length": 20}, seeds=4, enough=4, minutes=10, **chain,
        ),
        "repeat-previous": Task(
            "envs/RepeatPrevious-v0",
            20_000,
            {"recurrent": rl.DQN(**small, gamma=0.5, reward_scale=10.0, learning_rate=falling, update_every_steps=4)},
            kwargs={"k": 4}, best=1.0, memoryless=2 * 13 / 51 - 1, bar=0.95,
        ),
    }  # fmt: skip


def values(task: Task, returns: np.ndarray) -> np.ndarray:
    """Each seed's mean over episodes of returns [N, E], as the task counts them -> [N]."""
    mean: np.ndarray = ((returns + 1) / 2 if task.sign else returns).mean(1)
    return mean


def reached(task: Task, looks: np.ndarray) -> np.ndarray:
    """Which seeds reach the bar at each of the last evaluations [L, N] -> bool [N]."""
    found: np.ndarray = (looks[-task.last :] >= task.bar).all(0)
    return found


def verdict(task: Task, count: int, seeds: int, minutes: float) -> str:
    """Whether so many of the seeds suffice, in proportion where others than the task's were run, and in time."""
    if count * task.seeds < task.enough * seeds:
        return "missed"
    return "ok" if task.minutes is None or minutes <= task.minutes else "too slow"


def without(task: Task, low: float, high: float) -> str:
    """Whether the interval of an agent without memory contains the best that can be had so."""
    return "ok" if task.memoryless is None or low <= task.memoryless <= high else "off the bound"


def learn(task: Task, agent: Any, seeds: range, steps: int, workers: int) -> tuple[np.ndarray, float, rl.Run]:
    """Train, with an evaluation at each look -> values [LOOKS, N], seconds of wall time, the run."""
    began, looks = time.perf_counter(), []
    run = rl.start(task.env, agent, seeds, steps=steps, env_kwargs=task.kwargs)
    with shared(run, workers):
        for i in range(LOOKS):
            run.advance(steps * (i + 1) // LOOKS - run.step)
            looks.append(values(task, run.evaluate(EPISODES).returns))
    return np.array(looks), time.perf_counter() - began, run


def memory(name: str, seeds: int | None, first: int, workers: int, steps: int | None, console: Console) -> dict[str, Any]:
    """Train a task's agents, and DQN without memory, and judge their last parameters; `failed` names those that miss."""
    task = tasks()[choice(name, "--task", tasks())]
    chosen = range(first, first + integer(task.seeds if seeds is None else seeds, "--seeds", 1))
    steps = integer(task.steps if steps is None else steps, "--steps", LOOKS)
    title = f"{name}: {task.env}, {dict(task.kwargs)}, {steps:,} steps, seeds {chosen[0]} to {chosen[-1]}, last parameters"
    table = Table(title=title)
    head = ("agent", "share right" if task.sign else "return", f"reach {task.bar:g}", "minutes", "")
    for column in head:
        table.add_column(column)
    rows, failed, spent = {}, [], 0.0
    for who, agent in {**task.agents, FEED_FORWARD: rl.presets()[FEED_FORWARD]}.items():
        looks, seconds, run = learn(task, agent, chosen, steps, workers)
        good = reached(task, looks)
        spent += seconds / 60
        possible = (0.0, 1.0) if task.sign else run.evaluate(1).possible
        row = summary(looks[-1], run.seeds, *possible)
        if who == FEED_FORWARD:
            says = without(task, *row["interval_95"])
        else:
            says = verdict(task, int(good.sum()), len(chosen), spent)
        failed += [] if says == "ok" else [who]
        text = intervals.describe(looks[-1], digits=3, low=possible[0], high=possible[1])
        table.add_row(who, text, f"{good.sum()} of {len(good)}", f"{seconds / 60:.1f}", says)
        rows[who] = {"settings": run.config()["agent"], "value": row, "looks": looks.tolist(), "reached": good.tolist(),
                     "seconds": seconds, "verdict": says}  # fmt: skip
    console.print(table)
    for known, what in ((task.best, "best with memory"), (task.memoryless, "best without")):
        if known is not None:
            console.print(f"{what}: {known:.3f}", highlight=False)
    return {"task": name, "env": task.env, "kwargs": dict(task.kwargs), "steps": steps, "bar": task.bar,
            "agents": rows, "failed": failed}  # fmt: skip
