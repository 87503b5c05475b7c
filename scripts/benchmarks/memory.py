"""Recurrent Q-networks on tasks that need memory, compared with DQN on the same observations (`benchmark.py memory`)."""

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

LOOKS = 10  # evaluations of a run, equally spaced
EPISODES = 20  # per seed and evaluation
CARTPOLE = "envs/CartPole-NoVelocity-v1"
PLAIN, OK = "feed-forward", "ok"


@dataclass(frozen=True)
class Task:
    """An environment, its agents and their target. Values are returns, or the share of returns of 1 if returns are 1 or -1."""

    env: Any  # an id, or a function that creates an environment
    steps: int
    agents: Mapping[str, Any]  # recurrent, by name
    plain: Any  # the agent without memory
    bar: float  # the target for each seed, or with `mean` for the mean
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    seeds: int = 10
    enough: int = 9  # seeds that must reach the target
    last: int = 1  # final evaluations at which they must reach it
    minutes: float | None = None  # limit for training and evaluating all agents
    mean: bool = False  # whether the target is for the mean over seeds
    episodes: int = EPISODES
    sign: bool = False  # returns are 1 or -1
    best: float | None = None  # the best value with memory, if known
    memoryless: float | None = None  # the best value without memory


def tasks() -> dict[str, Task]:
    """Return the tasks by name; their settings were tuned on seeds 100 and up."""
    presets, falling = rl.presets(), Linear(1e-3, 0.0)
    small: dict[str, Any] = {"network": "gru(64)", "batch_size": 16, "double": True, "target_every_updates": 200}
    plain = rl.DQN(double=True, update_every_steps=4, learning_rate=falling)
    chain: dict[str, Any] = {"plain": plain, "sign": True, "best": 1.0, "memoryless": 0.5, "bar": 0.95}
    poles: dict[str, Any] = {"mean": True, "episodes": 100}
    velocities = rl.presets("CartPole-v1")["best"]  # tuned with velocities visible
    cards: dict[str, Any] = {"reward_scale": 10.0, "learning_rate": falling}  # rewards are 1/49 or -1/49
    return {
        # There are only two kinds of episode, so one evaluation can succeed by luck: five are required.
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
        # The turn is rare in the replay of an untrained agent: priorities and 5-step returns help. Without memory a turn returns
        # 4 or -0.1: the squared error has its minimum at their mean, the Huber loss is flat between them.
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
        # Actions do not affect the cards. Without memory suits differ by 2 cards of 51: much exploration, gamma 0.
        "repeat-previous": Task(
            "envs/RepeatPrevious-v0",
            20_000,
            {"recurrent": rl.DQN(**small, **cards, gamma=0.5, update_every_steps=8)},
            rl.DQN(**cards, gamma=0.0, batch_size=128, update_every_steps=4, explore=EpsilonGreedy(1.0)),
            0.95, kwargs={"k": 4}, best=1.0, memoryless=2 * 13 / 51 - 1,
        ),
        # Velocities follow from two observations; stacking four is the usual alternative to memory.
        "cartpole": Task(CARTPOLE, 200_000, {"recurrent": rl.presets(CARTPOLE)["best"]}, velocities, 400.0, **poles),
        "cartpole-4-frames": Task(four_frames, 200_000, {}, velocities, 400.0, **poles),
    }  # fmt: skip


def four_frames() -> gym.Env[Any, Any]:
    """Return CartPole without velocities, with the last four observations stacked, [8]."""
    return FlattenObservation(FrameStackObservation(gym.make(CARTPOLE), 4))


def values(task: Task, returns: np.ndarray) -> np.ndarray:
    """Return each seed's mean value, [N], of returns [N, E]."""
    mean: np.ndarray = ((returns + 1) / 2 if task.sign else returns).mean(1)
    return mean


def reached(task: Task, looks: np.ndarray) -> np.ndarray:
    """Return which seeds reach the target at each of the last evaluations [L, N], bool [N]."""
    found: np.ndarray = (looks[-task.last :] >= task.bar).all(0)
    return found


def verdict(task: Task, good: np.ndarray, last: np.ndarray) -> str:
    """Return whether enough seeds (in proportion to the number run), or the mean of the last values, reach the target."""
    if task.mean:
        return OK if last.mean() >= task.bar else "missed"
    return OK if good.sum() * task.seeds >= task.enough * len(good) else "missed"


def bounded(task: Task, low: float, high: float) -> str:
    """Return whether the interval of a memoryless agent contains the best memoryless value."""
    return OK if task.memoryless is None or low <= task.memoryless <= high else "off the best without memory"


def learn(task: Task, agent: Any, seeds: range, steps: int, workers: int) -> tuple[np.ndarray, float, rl.Run, Range]:
    """Train with LOOKS evaluations. Return values [LOOKS, N], seconds, the run, and the bounds of the values."""
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
    """Train a task's agents and evaluate the last parameters; `failed` names those that miss the target, bound or time."""
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
