#!/usr/bin/env python
"""Measure speed, as ratios to a baseline timed in turn in the same process, and what the tuned agents learn.

python scripts/benchmark.py tables
python scripts/benchmark.py supervised --data-dir DIR
python scripts/benchmark.py recurrent                     training steps of GRUs and tanh cells, compared with PyTorch
python scripts/benchmark.py r2d2                          whole runs of R2D2, compared with plain PyTorch
python scripts/benchmark.py deep                          Q-networks, compared with Stable-Baselines3, and memory use
python scripts/benchmark.py learning CartPole-v1          return of the tuned agent: 10 seeds, with an interval
python scripts/benchmark.py learning --check              all four environments of docs/results.md; fails if one is worse
python scripts/benchmark.py memory --task chain-50        recurrent networks where memory is needed, with a target
python scripts/benchmark.py native                        native environments, compared with the originals
python scripts/benchmark.py pqn --peer FOLDER             PQN, compared with a checkout of purejaxql
python scripts/benchmark.py atari                         DQN in Pong, compared with Stable-Baselines3
python scripts/benchmark.py cuda --output FILE.json       a GPU: parity with the CPU, speed, waits, memory; in 8 minutes
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console

from supervised.session import results
from supervised.validate import ArgumentError, integer


@dataclass
class Settings:
    """Measure speed, or what an agent learns."""

    what: Annotated[
        Literal[
            "tables", "supervised", "recurrent", "r2d2", "deep", "learning", "memory", "native", "pqn", "atari", "cuda"
        ],
        tyro.conf.Positional,
    ] = "tables"
    """tables: tabular agents, compiled and in plain Python, compared with the classic numpy loop. supervised: epochs of an MLP
    and a CNN, compared with the usual loop, Keras and Lightning (pip install '.[benchmark]'); 32 members at once, compared
    with one by one; and an epoch of the MLP, compared with the shortest possible PyTorch loop. recurrent: compiled training
    steps of recurrent networks with 64 units, compared with PyTorch one member after another, in CPU time on one thread.
    r2d2: the same for whole runs of R2D2. deep: Q-networks in CartPole. learning: the return an agent reaches in ENV (no
    speed). memory: the same for recurrent agents and DQN on TASK. native: 1,024 copies of CartPole and of MinAtar's games,
    compared with Gymnasium's and MinAtar's own. pqn: PQN in CartPole, compared with purejaxql, on one core each. atari: two
    seeds of DQN in Pong on two workers, compared with two processes of Stable-Baselines3. cuda: Q-networks and fits on a
    GPU; without one everything runs in small sizes on a simulated GPU, without speeds, to show that it works."""
    env: Annotated[str, tyro.conf.Positional] = "CartPole-v1"
    """Environment, for learning."""
    check: bool = False
    """For learning: train in every environment of docs/results.md instead of ENV, and exit with 1 if a mean is below the
    interval published there, or if an environment cannot be created."""
    agent: str = "best"
    """Agent, for learning; best is the one tuned for the environment."""
    task: str = "chain-50"
    """Task, for memory: chain-50, chain-20, t-maze or repeat-previous. Exits with 1 if an agent misses the task's target."""
    seeds: int | None = None
    """Number of seeds, for learning and memory. Default: 10; for memory, the number that the task's target is for."""
    first_seed: int = 20
    """The first seed, for memory. 20 to 29 are reserved for reported results: tune on others, 100 and up."""
    steps: int | None = None
    """Environment steps per seed, for memory. Default: the task's own."""
    workers: int = 2
    """Number of processes over which the seeds are distributed, for learning and memory."""
    episodes: int = 100
    """Greedy episodes per seed at the end, for learning."""
    repeats: int = 5
    """Number of times each variant is timed, in turn; medians are shown."""
    pairs: int = 15
    """Number of pairs of timings in turn with plain PyTorch: epochs of the MLP for supervised, training steps for recurrent."""
    data_dir: Path | None = None
    """Folder of MNIST's idx files, for supervised. Default: images of noise, which take the same time."""
    peer: Path | None = None
    """Folder of a checkout of purejaxql, for pqn. Default: no comparison."""
    peer_python: str = "python"
    """A Python interpreter with the packages that purejaxql needs (jax, flax, optax, gymnax 0.0.6), for pqn."""
    parts: tuple[int, ...] = ()
    """Numbers of the parts to run, for cuda (default: all): 0 about, 1 tests, 2 parity, 3 speed, 4 busy, 5 waits, 6 memory, 7
    captured update, 8 grouped convolutions. Each part has its own deadline."""
    output: Path | None = None
    """Also write the figures to this file as JSON; for cuda after each part."""


def measured(s: Settings, console: Console) -> dict[str, Any]:
    """Run the requested measurement. Modules are imported when they are needed, since most of them import torch."""
    if s.what in ("learning", "memory"):
        return learned(s, console)
    match s.what:
        case "tables":
            from benchmarks import tables

            return tables.tables(s.repeats, console)
        case "supervised":
            from benchmarks import fitting

            return fitting.fitting(s.data_dir, s.repeats, s.pairs, console)
        case "recurrent":
            from benchmarks import fitting

            return fitting.recurrent(s.pairs, console)
        case "r2d2":
            from benchmarks import r2d2

            return r2d2.r2d2(s.repeats, console)
        case "deep":
            from benchmarks import deep

            return deep.deep(s.repeats, console)
        case "native":
            from benchmarks import native

            return native.native(s.repeats, console)
        case "pqn":
            from benchmarks import pqn

            return pqn.pqn(s.peer, s.peer_python, s.repeats, console)
        case "atari":
            from benchmarks import atari

            return atari.atari(s.repeats, console)
        case _:
            from benchmarks import cuda

            return cuda.cuda(s.parts, s.output, console)


def learned(s: Settings, console: Console) -> dict[str, Any]:
    """Measure what agents learn."""
    from benchmarks import deep, memory

    seeds = 10 if s.seeds is None else s.seeds
    if s.what == "memory":
        return memory.memory(s.task, s.seeds, s.first_seed, s.workers, s.steps, console)
    if s.check:
        return deep.check(seeds, s.workers, s.episodes, console)
    return deep.learning(s.env, s.agent, seeds, s.workers, s.episodes, console)


def command() -> int:
    settings = tyro.cli(Settings)
    try:
        integer(settings.repeats, "--repeats", 1)
        integer(settings.pairs, "--pairs", 1)
    except ArgumentError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    try:
        figures = measured(settings, Console())
    except ValueError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    if settings.output is not None:
        machine = results.about()
        results.write(figures | machine, settings.output)
    return 1 if figures.get("failed") else 0


if __name__ == "__main__":
    sys.exit(command())
