"""PQN in CartPole: speed compared with purejaxql (`benchmark.py pqn`), on one core each."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

import rl
from benchmarks.timing import rounds, speeds

STEPS = {1: 244 * 2_048, 8: 100 * 2_048}  # per seed, by the number of seeds: whole rollouts
# purejaxql's settings; its max_grad_norm is 10 for half the squared error.
AGENT = rl.PQN(network="layer_norm_mlp(256,256)", reward_scale=0.1)
RUNNER = Path(__file__).with_name("purejaxql.py")


def ours(seeds: int) -> Callable[[], float]:
    """Return a function that trains anew and returns steps per second, summed over seeds.

    It writes curves, pictures and checkpoints. Like purejaxql's in this comparison, it has no evaluations during training.
    """

    def time_it(steps: int = STEPS[seeds]) -> float:
        with tempfile.TemporaryDirectory() as folder:
            began = time.perf_counter()
            rl.train(
                "envs/CartPole-v1", AGENT, steps=steps, seeds=seeds, logdir=folder, device="cpu", progress=False,
                evaluate_every_steps=100 * steps,
            )  # fmt: skip
            return steps * seeds / (time.perf_counter() - began)

    time_it(2 * 2_048)  # compile
    return time_it


def purejaxql(python: str, folder: Path, seeds: int) -> Callable[[], float]:
    """Return the same for purejaxql, which compiles first. Raises ValueError with what it printed if it fails."""
    command = [python, str(RUNNER), str(folder), str(seeds), str(STEPS[seeds])]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )

    def line() -> str:
        assert process.stdout is not None
        found = process.stdout.readline().strip()
        while found and found != "ready" and not found[0].isdigit():
            found = process.stdout.readline().strip()
        if not found:
            assert process.stderr is not None
            raise ValueError(f"{folder} could not be run with {python}: {process.stderr.read().strip()[-500:]}")
        return found

    line()

    def time_it() -> float:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
        return STEPS[seeds] * seeds / float(line())

    return time_it


def one_core() -> None:
    """Let this process, and those that it starts, run on one core only, where the system can."""
    torch.set_num_threads(1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def pqn(peer: Path | None, peer_python: str, repeats: int, console: Console) -> dict[str, Any]:
    one_core()
    ways: dict[str, Callable[[], float]] = {}
    for seeds in STEPS:
        name = "1 seed" if seeds == 1 else f"{seeds} seeds, summed"
        if peer is not None:
            ways[f"purejaxql, {name}"] = purejaxql(peer_python, peer, seeds)
        ways[f"ours, {name}"] = ours(seeds)
    if peer is None:
        console.print(
            "purejaxql is skipped: give its checkout as --peer, and a Python with its packages as --peer-python."
        )
    found = rounds(ways, repeats)
    medians = {name: statistics.median(values) for name, values in found.items()}
    bases = {name: medians.get(f"purejaxql, {name.partition(', ')[2]}") for name in medians}
    ratios = {name: f"{medians[name] / base:.2f}x" for name, base in bases.items() if base is not None}
    console.print(speeds(f"PQN, CartPole, 256-256, one core: medians of {repeats} in turn", found, ratios))
    return {"steps_per_second": medians, "python": sys.version.split()[0]}
