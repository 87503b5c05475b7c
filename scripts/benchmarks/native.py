"""Native environments: steps per second of 1,024 copies compared with the originals (`benchmark.py native`)."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from rich.console import Console

import envs  # noqa: F401  (registers the native environments)
from benchmarks.timing import rounds, speeds

COPIES = 1_024
STEPS = 2_000  # of all copies, or COPIES / 8 times as many of one


def vectorized(name: str) -> Callable[[], float]:
    """Return a function that takes random actions in all copies and returns steps per second."""
    env = gym.make_vec(name, COPIES, vectorization_mode="vector_entry_point")
    env.reset(seed=0)
    actions = np.random.default_rng(0).integers(env.single_action_space.n, size=(64, COPIES))  # type: ignore[attr-defined]

    def time_it() -> float:
        began = time.perf_counter()
        for t in range(STEPS):
            env.step(actions[t % 64])
        return STEPS * COPIES / (time.perf_counter() - began)

    return time_it


def single_minatar(game: str, observes: bool) -> Callable[[], float]:
    """Return the same for a single copy of the original. observes: whether each step also asks for the observation."""
    from minatar import Environment

    env = Environment(game)
    env.seed(0)
    env.reset()
    actions = np.random.default_rng(0).choice(env.minimal_action_set(), size=64).tolist()
    steps = STEPS * 32

    def time_it() -> float:
        began = time.perf_counter()
        for t in range(steps):
            _, terminated = env.act(actions[t % 64])
            if terminated:
                env.reset()
            if observes:
                env.state()
        return steps / (time.perf_counter() - began)

    return time_it


def native(repeats: int, console: Console) -> dict[str, Any]:
    # The peers of each way, and the ratio that is aimed at.
    targets: dict[str, dict[str, float]] = {"envs/CartPole-v1": {"Gymnasium's CartPoleVectorEnv": 1.0}}
    ways: dict[str, Callable[[], float]] = {"Gymnasium's CartPoleVectorEnv": vectorized("CartPole-v1")}
    ways["envs/CartPole-v1"] = vectorized("envs/CartPole-v1")
    for game in ("Breakout", "Asterix"):
        name, alone, observed = f"envs/MinAtar{game}-v1", f"MinAtar's {game}, act", f"MinAtar's {game}, act and state"
        try:
            ways[observed], ways[alone] = single_minatar(game.lower(), True), single_minatar(game.lower(), False)
            targets[name] = {observed: 15.0, alone: 8.0}
        except ImportError as error:
            console.print(f"MinAtar is skipped: {error}. Install it with pip install MinAtar.")
        ways[name] = vectorized(name)
    found = rounds(ways, repeats)
    medians = {name: statistics.median(values) for name, values in found.items()}
    ratios = {
        name: ", ".join(f"{medians[name] / medians[peer]:.1f}x ({bar:g}x)" for peer, bar in peers.items())
        for name, peers in targets.items()
    }
    title = f"{COPIES:,} copies, resets in the next step, with the target of each ratio: medians of {repeats} in turn"
    console.print(speeds(title, found, ratios))
    return {"steps_per_second": medians}
