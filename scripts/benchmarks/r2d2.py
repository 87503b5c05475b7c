"""R2D2 in CartPole compared with plain PyTorch (`benchmark.py r2d2`): whole runs, in CPU time on one thread."""

from __future__ import annotations

import dataclasses
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

import rl
from benchmarks import plain_r2d2
from rl.explore import EpsilonGreedy
from supervised.schedules import Linear

SETTINGS = plain_r2d2.Settings()
STEPS = 4_000  # per seed; learning starts after 1 000
SEEDS = (1, 8)


def ours(seeds: int, steps: int) -> None:
    """Train `seeds` seeds together, with the settings of the plain version."""
    s = SETTINGS
    agent = dataclasses.replace(
        rl.presets()["r2d2"],
        loss="squared",
        network=f"gru({s.units})",
        learning_rate=s.learning_rate,
        gamma=s.gamma,
        n_step=s.n,
        batch_size=s.batch_size,
        capacity_steps=s.capacity_windows * (s.window_steps - s.burn_in),
        learn_after_steps=s.learn_after_steps,
        update_every_steps=s.update_every_steps,
        target_every_updates=s.target_every_updates,
        max_grad_norm=s.max_grad_norm,
        explore=EpsilonGreedy(Linear(*s.epsilon, s.epsilon_steps)),
        sequence_steps=s.window_steps,
        sequence_every_steps=s.window_steps - s.burn_in,
        burn_in_steps=s.burn_in,
        priority_exponent=s.priority_exponent,
        priority_mix=s.priority_max_share,
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Episodes of")  # are longer than the windows, of both
        rl.train(s.env, agent, steps=steps, seeds=seeds, progress=False)


def peer(seeds: int, steps: int) -> None:
    """Run the plain version, one seed after another."""
    for seed in range(seeds):
        plain_r2d2.run(seed, steps, SETTINGS)


def r2d2(pairs: int, console: Console, steps: int = STEPS) -> dict[str, Any]:
    """Return CPU seconds of whole runs, ours and plain in turn, and their ratio by pair; above 1 if ours is faster."""
    torch.set_num_threads(1)
    found: dict[str, Any] = {"settings": dataclasses.asdict(SETTINGS), "steps": steps}
    table = Table(title=f"R2D2, {steps:,} steps of CartPole per seed, CPU seconds, medians of {pairs} pairs")
    for column in ("seeds", "ours", "plain PyTorch, one after another", "ratio", "lowest to highest"):
        table.add_column(column, justify="right")
    for seeds in SEEDS:
        ours(seeds, min(steps, SETTINGS.learn_after_steps + 200))  # compiles
        times = [(cpu_seconds(ours, seeds, steps), cpu_seconds(peer, seeds, steps)) for _ in range(pairs)]
        mine, theirs = (statistics.median(column) for column in zip(*times, strict=True))
        ratios = [b / a for a, b in times]
        ratio = float(np.median(ratios))
        found[f"N = {seeds}"] = {"ours_s": mine, "plain_s": theirs, "ratio": ratio, "ratios": ratios}
        table.add_row(
            *(str(seeds), f"{mine:.2f}", f"{theirs:.2f}", f"{ratio:.2f}x"), f"{min(ratios):.2f} to {max(ratios):.2f}"
        )
    console.print(table)
    return found


def cpu_seconds(train: Callable[[int, int], None], seeds: int, steps: int) -> float:
    began = time.process_time()
    train(seeds, steps)
    return time.process_time() - began
