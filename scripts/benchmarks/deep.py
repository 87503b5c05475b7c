"""Q-networks: speed compared with Stable-Baselines3 and memory (`benchmark.py deep`), returns (`benchmark.py learning`)."""

from __future__ import annotations

import dataclasses
import re
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from rich.console import Console
from rich.table import Table

import envs
import rl
from benchmarks import baselines
from envs import EnvError
from rl import settings as tuned
from supervised import statistics as intervals
from supervised.schedules import Linear
from supervised.session.results import summary

EXPLORE = rl.explore.EpsilonGreedy(Linear(1.0, 0.05, 5_000))
# One update per step: batch 64, 64-64, Huber loss, gradients clipped at 10, Adam, a target network copied every 500 updates.
EVERY_STEP = rl.DQN(explore=EXPLORE)
# rl-zoo's settings of CartPole: its target network is in fact updated once in each phase of 128 updates.
ZOO = rl.DQN(
    network="mlp(256,256)",
    learning_rate=2.3e-3,
    update_every_steps=256,
    updates=128,
    target_every_updates=128,
    explore=rl.explore.EpsilonGreedy(Linear(1.0, 0.04, fraction=0.16)),
)
# Published: rl-zoo's DQN, one run each. The target is this project's own.
LEARNING: dict[str, tuple[str, float]] = {
    "CartPole-v1": ("500", 490.0),
    "Acrobot-v1": ("-76.6", -85.0),
    "MountainCar-v0": ("-100.8", -110.0),
    "LunarLander-v3": ("154 (v2)", 200.0),
}


def ours(config: rl.DQN, seeds: int, steps: int) -> Callable[[], float]:
    """Return a function that advances a warmed-up run by `steps` per seed and returns steps per second, summed over seeds."""
    run = rl.start("CartPole-v1", config, seeds, steps=100_000)
    run.advance(config.learn_after_steps + 200)

    def time_it() -> float:
        began = time.perf_counter()
        run.advance(steps)
        return steps * seeds / (time.perf_counter() - began)

    return time_it


def shared_out(config: rl.DQN, seeds: int, steps: int, workers: int, env: str = "CartPole-v1") -> Callable[[], float]:
    """Return the same with the seeds distributed over processes."""
    run = rl.start(env, config, seeds, steps=100_000)
    from rl.run.processes import ProcessPool

    pool = ProcessPool(run, workers)
    pool.advance(config.learn_after_steps + 200)

    def time_it() -> float:
        began = time.perf_counter()
        pool.advance(steps)
        return steps * seeds / (time.perf_counter() - began)

    return time_it


def speed(repeats: int, console: Console) -> dict[str, float]:
    began = time.perf_counter()
    compiled = ours(EVERY_STEP, 1, 4_000)
    ready = time.perf_counter() - began
    ways: dict[str, Callable[[], float]] = {}
    try:
        ways["Stable-Baselines3"] = baselines.stable_baselines3((64, 64), 2_000)
    except ImportError as error:
        console.print(f"Stable-Baselines3 is skipped: {error}. Install it with pip install '.[benchmark]'.")
    ways["ours, one seed, torch alone"] = ours(dataclasses.replace(EVERY_STEP, compiled=False), 1, 4_000)
    ways["ours, one seed, compiled"] = compiled
    ways["ours, 32 seeds on 2 workers, summed"] = shared_out(EVERY_STEP, 32, 1_000, 2)
    ways["the same, native environment"] = shared_out(EVERY_STEP, 32, 1_000, 2, "envs/CartPole-v1")
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            times[name].append(way())
    medians = {name: statistics.median(found) for name, found in times.items()}
    table = Table(title=f"CartPole, one update per step, batch 64, 64-64: medians of {repeats} in turn")
    for column in ("variant", "steps per second", "ratio", "lowest to highest"):
        table.add_column(column, justify="right")
    base = next(iter(medians.values()))
    for name, median in medians.items():
        table.add_row(
            name, f"{median:,.0f}", f"{median / base:.2f}x", f"{min(times[name]):,.0f} to {max(times[name]):,.0f}"
        )
    console.print(table)
    console.print(
        f"Compiled code and the first {EVERY_STEP.learn_after_steps + 200:,} steps: {ready:.1f} s (not counted above)."
    )
    return medians | {"compile_and_first_steps_seconds": ready}


def zoo(console: Console) -> dict[str, float]:
    """Time our ten seeds on two workers and ten runs of Stable-Baselines3 in turn, with rl-zoo's settings, 50 000 steps."""
    found = {}
    try:
        peer = baselines.stable_baselines3(
            (256, 256),
            50_000,
            learn_after_steps=1_000,
            update_every_steps=256,
            updates=128,
            target_every_steps=10,
            learning_rate=2.3e-3,
        )
        found["Stable-Baselines3, one run"] = 50_000 / peer()
    except ImportError as error:
        console.print(f"Stable-Baselines3 is skipped: {error}. Install it with pip install '.[benchmark]'.")
    began = time.perf_counter()
    rl.train("CartPole-v1", ZOO, steps=50_000, seeds=10, workers=2, progress=False)
    found["ours, 10 seeds on 2 workers"] = time.perf_counter() - began
    one = found.get("Stable-Baselines3, one run")
    ratio = (
        "" if one is None else f"; {found['ours, 10 seeds on 2 workers'] / (10 * one):.2f}x the time of ten such runs"
    )
    console.print(
        "rl-zoo's CartPole settings, 50 000 steps: "
        + ", ".join(f"{name} {seconds:.1f} s" for name, seconds in found.items())
        + ratio,
        highlight=False,
    )
    return found


def memory(console: Console) -> dict[str, float]:
    """Measure the memory of a full replay: ten seeds of a million CartPole steps, and stacked images."""
    world = envs.make("CartPole-v1", seeds=10)
    before = resident()
    replay = rl.Replay(world, capacity_steps=1_000_000)
    for array in (*replay.obs.values(), replay.action, replay.reward, replay.kind, replay.starts):
        array.fill(0)  # so that the memory is really allocated
    taken = resident() - before
    frames = rl.Replay(_Pictures(), capacity_steps=100_000)
    pixels = 84 * 84 * 100_000
    found = {
        "CartPole, 10 seeds of 1 M steps, GB": replay.bytes / 1e9,
        "the same, measured, GB": taken / 1e9,
        "stacked pictures, bytes a stored pixel": frames.bytes / pixels,
    }
    console.print(", ".join(f"{name}: {value:.3f}" for name, value in found.items()), highlight=False)
    return found


def resident() -> int:
    """Return the resident memory of this process in bytes, or its peak on systems that do not report it."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return pages * resource.getpagesize()


class _Pictures:
    """The interface of an environment that a replay needs, with four stacked frames of 84 x 84."""

    observation_space: gym.Space[Any] = gym.spaces.Box(0, 255, (4, 84, 84), np.uint8)
    action_space: gym.Space[Any] = gym.spaces.Discrete(4)
    seeds, envs_per_seed, frames = (0,), 1, 4


def deep(repeats: int, console: Console) -> dict[str, Any]:
    torch.set_num_threads(1)
    return {"steps_per_second": speed(repeats, console), "zoo_seconds": zoo(console), "memory": memory(console)}


def learning(env: str, agent: str, seeds: int, workers: int, episodes: int, console: Console) -> dict[str, Any]:
    """Train `seeds` seeds of an agent and evaluate the last parameters, greedy, over `episodes` episodes per seed."""
    presets = rl.presets(env)
    if agent not in presets:
        raise ValueError(f"There is no agent {agent!r}; choose one of {', '.join(presets)}.")
    config, steps = presets[agent], tuned.steps_for(env, agent)
    console.print(f"{agent} in {env}, {steps:,} steps, {seeds} seeds on {workers} workers: {config}", highlight=False)
    began = time.perf_counter()
    run = rl.train(env, config, steps=steps, seeds=seeds, workers=workers, progress=sys.stderr.isatty())
    trained = time.perf_counter() - began
    evaluation = run.evaluate(episodes)
    values, (low, high) = evaluation.per_seed, evaluation.possible
    published, bar = LEARNING.get(env, ("-", float("nan")))
    table = Table(title=f"{env}: last parameters, greedy, {episodes} episodes per seed")
    for column in ("mean over seeds", "lowest seed", "highest", "published", "target"):
        table.add_column(column, justify="right")
    table.add_row(
        intervals.describe(values, digits=2, low=low, high=high),
        f"{values.min():.2f}",
        f"{values.max():.2f}",
        published,
        f"{bar:g}",
    )
    console.print(table)
    console.print("each seed: " + ", ".join(f"{value:.2f}" for value in values), highlight=False)
    console.print(
        f"trained in {trained:.0f} s, evaluated in {time.perf_counter() - began - trained:.0f} s", highlight=False
    )
    return {
        "env": env,
        "agent": agent,
        "settings": run.to_json()["agent"],
        "steps": steps,
        "return": summary(values, run.seeds, low, high),
        "published": published,
        "bar": bar,
        "train_seconds": trained,
    }


def published(page: str) -> dict[str, tuple[float, float]]:
    """Return the intervals of the table of tuned agents in docs/results.md, by environment."""
    rows = re.findall(r"^\| ([A-Za-z]+-v\d+), [\d ]+ \| -?[\d.]+ \[(-?[\d.]+), (-?[\d.]+)\] \|", page, re.MULTILINE)
    return {env: (float(low), float(high)) for env, low, high in rows}


def check(seeds: int, workers: int, episodes: int, console: Console) -> dict[str, Any]:
    """Run `learning` for each environment in docs/results.md; `failed` names those below the published interval."""
    expected = published((Path(__file__).parents[2] / "docs" / "results.md").read_text())
    found: dict[str, Any] = {}
    table = Table(title=f"Tuned agents, {seeds} seeds: mean return and the published interval")
    for column in ("environment", "mean", "published", ""):
        table.add_column(column)
    failed = []
    for env, (low, high) in expected.items():
        try:
            found[env] = learning(env, "best", seeds, workers, episodes, console)
            mean, text = found[env]["return"]["mean"], f"{found[env]['return']['mean']:.2f}"
            says = "ok" if mean >= low else "below it"
        except EnvError as error:
            text, says = "-", str(error)
        if says != "ok":
            failed.append(env)
        table.add_row(env, text, f"[{low:g}, {high:g}]", says)
    console.print(table)
    return {"learning": found, "failed": failed}
