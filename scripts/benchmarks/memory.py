"""What recurrent Q-networks learn where memory is needed, beside DQN of the same observations (`benchmark.py memory`)."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.wrappers import FlattenObservation, FrameStackObservation
from rich.console import Console
from rich.table import Table

import rl
from rl.explore import EpsilonGreedy
from rl.run.processes import sharded
from supervised import statistics as intervals
from supervised.schedules import Linear
from supervised.session.results import summary
from supervised.statistics import Range
from supervised.validate import choice, integer

LOOKS = 10  # evaluations of a run, at equal distances
EPISODES = 20  # of an evaluation, for each seed
CARTPOLE = "envs/CartPole-NoVelocity-v1"
PLAIN, OK = "feed-forward", "ok"


@dataclass(frozen=True)
class Task:
    """A world, who learns there, and what is asked of it. Values are returns, or shares of 1 where a return is 1 or -1."""

    env: Any  # an id, or a function that makes an environment
    steps: int
    agents: Mapping[str, Any]  # with a recurrent network, by name
    plain: Any  # without
    bar: float  # what a seed must reach, or with `mean` the mean of all
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    seeds: int = 10
    enough: int = 9  # seeds that must reach the bar
    last: int = 1  # evaluations, at the end, at which they must reach it
    minutes: float | None = None  # that training and evaluating all agents may take
    mean: bool = False  # whether the bar is for the mean over seeds
    episodes: int = EPISODES
    sign: bool = False  # returns are 1 or -1
    best: float | None = None  # the best value with memory, where it is known
    memoryless: float | None = None  # the best without


def tasks() -> dict[str, Task]:
    """The tasks by name; settings were tuned on seeds from 100 on."""
    presets, falling = rl.presets(), Linear(1e-3, 0.0)
    small: dict[str, Any] = {"network": "gru(64)", "batch_size": 16, "double": True, "target_every_updates": 200}
    plain = rl.DQN(double=True, update_every_steps=4, learning_rate=falling)
    chain: dict[str, Any] = {"plain": plain, "sign": True, "best": 1.0, "memoryless": 0.5, "bar": 0.95}
    poles: dict[str, Any] = {"mean": True, "episodes": 100}
    velocities = rl.presets("CartPole-v1")["best"]  # tuned where they are seen
    cards: dict[str, Any] = {"reward_scale": 10.0, "learning_rate": falling}  # rewards are 1/49 or -1/49
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
        # The turn is rare in the replay as long as episodes wander: priorities and 5 steps find it. Without memory a turn brings
        # 4 or -0.1: the squared error has its one minimum at their mean, the Huber loss is flat between them.
        "t-maze": Task(
            "envs/TMaze-v0",
            50_000,
            {
                "recurrent": dataclasses.replace(
                    presets["r2d2"], batch_size=16, gamma=0.99, learning_rate=falling, update_every_steps=8, chrono_steps=20
                )
            },
            dataclasses.replace(plain, loss="squared"),
            0.95 * 4.0, kwargs={"length": 20}, best=4.0, memoryless=1.95,
        ),
        # Actions do not change which cards come. Without memory suits differ by 2 cards of 51: much exploration, no future.
        "repeat-previous": Task(
            "envs/RepeatPrevious-v0",
            20_000,
            {"recurrent": rl.DQN(**small, **cards, gamma=0.5, update_every_steps=8)},
            rl.DQN(**cards, gamma=0.0, batch_size=128, update_every_steps=4, explore=EpsilonGreedy(1.0)),
            0.95, kwargs={"k": 4}, best=1.0, memoryless=2 * 13 / 51 - 1,
        ),
        # Velocities follow from two observations; four of them stacked are the usual way to do without memory.
        "cartpole": Task(CARTPOLE, 200_000, {"recurrent": rl.presets(CARTPOLE)["best"]}, velocities, 400.0, **poles),
        "cartpole-4-frames": Task(four_frames, 200_000, {}, velocities, 400.0, **poles),
    }  # fmt: skip


def four_frames() -> gym.Env[Any, Any]:
    """CartPole without velocities, of which the last four observations are seen, [8]."""
    return FlattenObservation(FrameStackObservation(gym.make(CARTPOLE), 4))


def values(task: Task, returns: np.ndarray) -> np.ndarray:
    """Each seed's mean over episodes of returns [N, E], as the task counts them -> [N]."""
    mean: np.ndarray = ((returns + 1) / 2 if task.sign else returns).mean(1)
    return mean


def reached(task: Task, looks: np.ndarray) -> np.ndarray:
    """Which seeds reach the bar at each of the last evaluations [L, N] -> bool [N]."""
    found: np.ndarray = (looks[-task.last :] >= task.bar).all(0)
    return found


def verdict(task: Task, good: np.ndarray, last: np.ndarray) -> str:
    """Whether enough seeds reach the bar, in proportion where others than the task's were run; or the mean of the last values."""
    if task.mean:
        return OK if last.mean() >= task.bar else "missed"
    return OK if good.sum() * task.seeds >= task.enough * len(good) else "missed"


def bounded(task: Task, low: float, high: float) -> str:
    """Whether an interval of an agent without memory contains the best that can be had so."""
    return OK if task.memoryless is None or low <= task.memoryless <= high else "off the best without memory"


def learn(task: Task, agent: Any, seeds: range, steps: int, workers: int) -> tuple[np.ndarray, float, rl.Run, Range]:
    """Train, with an evaluation at each look -> values [LOOKS, N], seconds, the run, and between what values lie."""
    began, looks = time.perf_counter(), []
    run = rl.start(task.env, agent, seeds, steps=steps, env_kwargs=task.kwargs)
    with sharded(run, workers):
        for i in range(LOOKS):
            run.advance(steps * (i + 1) // LOOKS - run.step)
            evaluation = run.evaluate(task.episodes)
            looks.append(values(task, evaluation.returns))
    possible = (0.0, 1.0) if task.sign else evaluation.possible
    return np.array(looks), time.perf_counter() - began, run, possible


def memory(
    name: str, seeds: int | None, first: int, workers: int, steps: int | None, console: Console
) -> dict[str, Any]:
    """Train a task's agents and judge their last parameters; `failed` names who misses the bar, or the bound, or the time."""
    task = tasks()[choice(name, "--task", tasks())]
    chosen = range(first, first + integer(task.seeds if seeds is None else seeds, "--seeds", 1))
    steps = integer(task.steps if steps is None else steps, "--steps", LOOKS)
    table = Table(
        title=f"{name}: {steps:,} steps, seeds {chosen[0]} to {chosen[-1]}, {workers} workers, the last parameters, greedy"
    )
    for column in ("agent", "share right" if task.sign else "return", f"seeds at {task.bar:g}", "minutes", ""):
        table.add_column(column)
    rows: dict[str, Any] = {}
    for who, agent in {**task.agents, PLAIN: task.plain}.items():
        looks, seconds, run, (low, high) = learn(task, agent, chosen, steps, workers)
        row, good = summary(looks[-1], run.seeds, low, high), reached(task, looks)
        says = bounded(task, *row["interval_95"]) if who == PLAIN else verdict(task, good, looks[-1])
        rows[who] = {
            "settings": run.to_json()["agent"], "value": row, "looks": looks.tolist(), "reached": good.tolist(),
            "seconds": seconds, "verdict": says,
        }  # fmt: skip
        text = intervals.describe(looks[-1], digits=3, low=low, high=high)
        table.add_row(who, text, f"{good.sum()} of {len(good)}", f"{seconds / 60:.1f}", says)
    console.print(table)
    minutes = sum(row["seconds"] for row in rows.values()) / 60
    slow = task.minutes is not None and minutes > task.minutes
    limit = "" if task.minutes is None else f" of {task.minutes:g} that are allowed: {'missed' if slow else 'ok'}"
    known = [(task.best, "best with memory"), (task.memoryless, "best without")]
    best = [f"{what} {value:.3f}" for value, what in known if value is not None]
    console.print(", ".join([*best, f"{minutes:.1f} minutes{limit}"]), highlight=False)
    failed = [who for who, row in rows.items() if row["verdict"] != OK] + ["time"] * slow
    return {
        "task": name, "env": getattr(task.env, "__name__", task.env), "kwargs": dict(task.kwargs), "steps": steps,
        "bar": task.bar, "best": task.best, "memoryless": task.memoryless, "workers": workers, "minutes": minutes,
        "agents": rows, "failed": failed,
    }  # fmt: skip
