"""DQN on Atari's Pong with published settings: speed compared with Stable-Baselines3 (`benchmark.py atari`), two seeds each."""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
import statistics
import time
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import torch
from rich.console import Console

import rl
from benchmarks.timing import rounds, speeds

ENV, SEEDS = "envs.atari:Atari/Pong-v5", 2
WARM_UP, STEPS = 600, 1_200  # per seed; learning starts within the first
# rl-zoo's settings of Atari; a small replay, which is filled sooner and takes the same time.
AGENT = dataclasses.replace(rl.presets(ENV)["dqn"], capacity_steps=20_000, learn_after_steps=500)


def ours() -> Callable[[], float]:
    """Return a function that advances two seeds on two workers and returns steps per second, summed."""
    from rl.run.processes import ProcessPool

    pool = ProcessPool(rl.start(ENV, AGENT, SEEDS), SEEDS)
    pool.advance(WARM_UP)

    def time_it() -> float:
        began = time.perf_counter()
        pool.advance(STEPS)
        return STEPS * SEEDS / (time.perf_counter() - began)

    return time_it


def stable_baselines3() -> Callable[[], float]:
    """Return the same for two processes of Stable-Baselines3, one thread each."""
    import stable_baselines3  # noqa: F401  (fails here, not in a process, if it is missing)

    context = multiprocessing.get_context("spawn")
    pipes = []
    for seed in range(SEEDS):
        mine, theirs = context.Pipe()
        context.Process(target=_stable_baselines3, args=(theirs, seed), daemon=True).start()
        pipes.append(mine)
    for pipe in pipes:
        pipe.recv()

    def time_it() -> float:
        began = time.perf_counter()
        for pipe in pipes:
            pipe.send("go")
        for pipe in pipes:
            pipe.recv()
        return STEPS * SEEDS / (time.perf_counter() - began)

    return time_it


def _stable_baselines3(pipe: Any, seed: int) -> None:
    from stable_baselines3 import DQN

    torch.set_num_threads(1)
    model = DQN(
        "CnnPolicy", gym.make(ENV), learning_rate=1e-4, buffer_size=20_000, learning_starts=500, batch_size=32, train_freq=4,
        target_update_interval=1_000, exploration_fraction=0.1, exploration_final_eps=0.01, seed=seed, device="cpu",
    )  # fmt: skip
    model.learn(WARM_UP)
    pipe.send("ready")
    with contextlib.suppress(EOFError):  # the other end is gone: all has been timed
        while pipe.recv():
            model.learn(STEPS, reset_num_timesteps=False)
            pipe.send("done")


def environment() -> Callable[[], float]:
    """Return the same for one environment with random actions, without an agent."""
    env = gym.make(ENV)
    env.reset(seed=0)

    def time_it() -> float:
        began = time.perf_counter()
        for _ in range(STEPS):
            *_, terminated, truncated, _ = env.step(env.action_space.sample())
            if terminated or truncated:
                env.reset()
        return STEPS / (time.perf_counter() - began)

    return time_it


def atari(repeats: int, console: Console) -> dict[str, Any]:
    ways: dict[str, Callable[[], float]] = {}
    peer = "Stable-Baselines3, two processes"
    try:
        ways[peer] = stable_baselines3()
    except ImportError as error:
        console.print(f"Stable-Baselines3 is skipped: {error}. Install it with pip install '.[benchmark]'.")
    ways["ours, two seeds on two workers"] = ours()
    ways["one environment, random actions"] = environment()
    found = rounds(ways, repeats)
    medians = {name: statistics.median(values) for name, values in found.items()}
    ratios = {name: f"{median / medians[peer]:.2f}x" for name, median in medians.items() if peer in medians}
    title = f"Pong, four frames of 84 x 84, batch 32 every 4 steps: medians of {repeats} in turn"
    console.print(speeds(title, found, ratios))
    return {"steps_per_second": medians}
