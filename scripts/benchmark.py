#!/usr/bin/env python
"""Speed, as ratios to a baseline timed in turn in the same process.

python scripts/benchmark.py tables
python scripts/benchmark.py supervised --data-dir DIR
python scripts/benchmark.py recurrent                     whole training steps of GRUs and tanh cells beside PyTorch's
python scripts/benchmark.py r2d2                          whole runs of R2D2 beside plain PyTorch, one seed and eight
python scripts/benchmark.py deep                          Q-networks beside Stable-Baselines3, and their memory
python scripts/benchmark.py learning CartPole-v1          what the tuned agent reaches: 10 seeds, with an interval
python scripts/benchmark.py learning --check              all four environments of docs/results.md; fails where one falls below
python scripts/benchmark.py memory --task chain-50        what recurrent networks learn where memory is needed, beside a bar
python scripts/benchmark.py cuda --output FILE.json       a GPU: parity with the CPU, speed, waits, memory; below 8 minutes
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
    """Measure speed."""

    what: Annotated[
        Literal["tables", "supervised", "recurrent", "r2d2", "deep", "learning", "memory", "cuda"], tyro.conf.Positional
    ] = "tables"
    """tables: Q-learning compiled and in the plain loop, against the classic numpy loop. supervised: epochs of an MLP and a
    CNN against the usual loop, Keras and Lightning (pip install '.[benchmark]'), 32 members at once against one by one, and an
    epoch of the MLP beside the shortest loop that PyTorch allows, with an interval. recurrent: training steps of recurrent
    networks of 64 units, compiled, beside PyTorch's own one after another, in CPU time on one thread. r2d2: whole runs of
    R2D2 likewise. deep: Q-networks in CartPole. learning: no speed, but what an agent learns in ENV. memory: what recurrent
    agents learn in TASK, beside DQN. cuda: Q-networks and fits on a GPU; without one everything runs small on a pretended
    GPU, to show that it runs, and no speed is given."""
    env: Annotated[str, tyro.conf.Positional] = "CartPole-v1"
    """For learning: where."""
    check: bool = False
    """For learning: train in every environment of docs/results.md instead of ENV, and exit with 1 where a mean lies below
    the interval that stands there, or where an environment cannot be made."""
    agent: str = "best"
    """For learning: who; best is the agent that was tuned for the environment."""
    task: str = "chain-50"
    """For memory: chain-50, chain-20, t-maze or repeat-previous. Exits with 1 where an agent misses the task's bar."""
    seeds: int | None = None
    """For learning and memory: how many; 10 if not given, for memory as many as the task's bar is for."""
    first_seed: int = 20
    """For memory: the first of them. 20 to 29 are for what is reported: tune on others, 100 and up."""
    steps: int | None = None
    """For memory: environment steps a seed; the task's own if not given."""
    workers: int = 2
    """For learning and memory: how many processes share out the seeds."""
    episodes: int = 100
    """For learning: greedy episodes a seed at the end."""
    repeats: int = 5
    """How often each is timed, in turn; medians are shown."""
    pairs: int = 15
    """For supervised: epochs of the MLP, each followed by one of the plain PyTorch loop; for recurrent: likewise of steps."""
    data_dir: Path | None = None
    """For supervised: the folder of MNIST's idx files; without it pictures of noise, which take the same time."""
    parts: tuple[int, ...] = ()
    """For cuda: the numbers of the parts to run, all if none is given: 0 about, 1 tests, 2 parity, 3 speed, 4 busy, 5 waits, 6
    memory, 7 captured update, 8 grouped convolutions. Each ends at a deadline of its own."""
    output: Path | None = None
    """Also write the figures as JSON; for cuda after each part."""


def measured(s: Settings, console: Console) -> dict[str, Any]:
    """Measure what is asked for. Each way is imported when it is taken, for most of them need torch."""
    seeds = 10 if s.seeds is None else s.seeds
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
        case "learning":
            from benchmarks import deep

            if s.check:
                return deep.check(seeds, s.workers, s.episodes, console)
            return deep.learning(s.env, s.agent, seeds, s.workers, s.episodes, console)
        case "memory":
            from benchmarks import memory

            return memory.memory(s.task, s.seeds, s.first_seed, s.workers, s.steps, console)
        case "cuda":
            from benchmarks import cuda

            return cuda.cuda(s.parts, s.output, console)


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
