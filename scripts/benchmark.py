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
python scripts/benchmark.py cuda --output FILE.json       a GPU: parity with the CPU, speed, waits, memory; in 8 minutes
"""

from __future__ import annotations

import copy
import functools
import itertools
import resource
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import gymnasium as gym
import numpy as np
import torch
import tyro
from benchmarks import baselines, cuda, deep, memory, r2d2
from rich.console import Console
from rich.table import Table
from torch import Tensor

import rl
from envs import tables as models
from rl.tabular.agent import TabularConfig
from supervised import CNN, MLP, RNN, Data, Fit, Recipe, Stack, determinism, losses, mnist
from supervised import optimizer as make_optimizer
from supervised.models.cnn import Image
from supervised.session import results
from supervised.validate import ArgumentError, integer

ENVIRONMENTS = ("FrozenLake-v1", "FrozenLake8x8-v1", "CliffWalking-v1", "Taxi-v4")


@dataclass
class Settings:
    """Measure speed, or what an agent learns."""

    what: Annotated[
        Literal["tables", "supervised", "recurrent", "r2d2", "deep", "learning", "memory", "cuda"], tyro.conf.Positional
    ] = "tables"
    """tables: tabular agents, compiled and in plain Python, compared with the classic numpy loop. supervised: epochs of an MLP
    and a CNN, compared with the usual loop, Keras and Lightning (pip install '.[benchmark]'); 32 members at once, compared
    with one by one; and an epoch of the MLP, compared with the shortest possible PyTorch loop. recurrent: compiled training
    steps of recurrent networks with 64 units, compared with PyTorch one member after another, in CPU time on one thread.
    r2d2: the same for whole runs of R2D2. deep: Q-networks in CartPole. learning: the return an agent reaches in ENV (no
    speed). memory: the same for recurrent agents and DQN on TASK. cuda: Q-networks and fits on a GPU; without one everything
    runs in small sizes on a simulated GPU, without speeds, to show that it works."""
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
    """The first seed, for memory. 20 to 29 are reserved for reported results: tune on others, from 100 on."""
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
    parts: tuple[int, ...] = ()
    """Numbers of the parts to run, for cuda (default: all): 0 about, 1 tests, 2 parity, 3 speed, 4 busy, 5 waits, 6 memory, 7
    captured update, 8 grouped convolutions. Each part has its own deadline."""
    output: Path | None = None
    """Also write the figures to this file as JSON; for cuda after each part."""


def classic(env_id: str, steps: int) -> float:
    """The loop that everybody writes, gymnasium.make and a numpy table -> steps a second."""
    env: Any = gym.make(env_id)
    q = np.zeros((int(env.observation_space.n), int(env.action_space.n)))
    rng = np.random.default_rng(0)
    state, _ = env.reset(seed=0)
    began = time.perf_counter()
    for t in range(steps):
        epsilon = max(0.05, 1 - 0.95 * t / steps)
        action = int(rng.integers(q.shape[1])) if rng.random() < epsilon else int(np.argmax(q[state]))
        following, reward, terminated, truncated, _ = env.step(action)
        target = reward + 0.99 * (0.0 if terminated else np.max(q[following]))
        q[state, action] += 0.1 * (target - q[state, action])
        state = env.reset()[0] if terminated or truncated else following
    return steps / (time.perf_counter() - began)


def classic_dyna(env_id: str, steps: int, planning: int = 10) -> float:
    """Dyna-Q as everybody writes it: a numpy table, the model in a dict -> steps a second."""
    env: Any = gym.make(env_id)
    q = np.zeros((int(env.observation_space.n), int(env.action_space.n)))
    rng = np.random.default_rng(0)
    model: dict[tuple[int, int], tuple[float, int, bool]] = {}
    known: list[tuple[int, int]] = []
    state, _ = env.reset(seed=0)
    began = time.perf_counter()
    for t in range(steps):
        epsilon = max(0.05, 1 - 0.95 * t / steps)
        action = int(rng.integers(q.shape[1])) if rng.random() < epsilon else int(np.argmax(q[state]))
        following, reward, terminated, truncated, _ = env.step(action)
        q[state, action] += 0.1 * (reward + 0.99 * (0.0 if terminated else np.max(q[following])) - q[state, action])
        model[state, action] = float(reward), following, terminated
        if len(model) > len(known):
            known = list(model)
        for i in rng.integers(len(known), size=planning):
            s, a = known[i]
            r, next_s, over = model[s, a]
            q[s, a] += 0.1 * (r + 0.99 * (0.0 if over else np.max(q[next_s])) - q[s, a])
        state = env.reset()[0] if terminated or truncated else following
    return steps / (time.perf_counter() - began)


def ours(
    env_id: str, steps: int, seeds: int = 1, workers: int | None = None, agent: TabularConfig | None = None
) -> Callable[[], float]:
    """Q-learning as `rl.QLearning()` describes it, or another -> a function that gives steps a second, all seeds summed."""
    run = rl.start(env_id, rl.QLearning() if agent is None else agent, seeds, steps=steps * 20, workers=workers)
    run.advance(1)

    def time_it() -> float:
        began = time.perf_counter()
        run.advance(steps)
        return steps * seeds / (time.perf_counter() - began)

    return time_it


def plain(env_id: str, steps: int) -> Callable[[], float]:
    """The same with the model refused, so that the plain loop over Gymnasium's environment runs."""
    read = models.read

    def refuse(env: Any) -> models.Model:
        raise models.NoModelError("refused, to time the plain loop")

    models.read = refuse
    try:
        return ours(env_id, steps)
    finally:
        models.read = read


def compile_seconds() -> float:
    """What making the compiled loop ready cost: seconds the first time on a machine, a fraction of one from the cache."""
    run = rl.start("FrozenLake-v1", rl.QLearning(), steps=1000)
    began = time.perf_counter()
    run.advance(1)
    return time.perf_counter() - began


def tables(settings: Settings, console: Console) -> dict[str, Any]:
    ready = compile_seconds()
    rows: dict[str, dict[str, float]] = {}
    for env_id in ENVIRONMENTS:
        ways = {
            "classic": lambda env_id=env_id: classic(env_id, 100_000),
            "plain": plain(env_id, 100_000),
            "one seed": ours(env_id, 4_000_000, workers=1),
            "64 seeds": ours(env_id, 1_000_000, seeds=64),
        }
        rows[env_id] = in_turn(ways, settings.repeats)
    table = Table(
        title=f"Q-learning, environment steps a second, medians of {settings.repeats} (ratio to the classic loop)"
    )
    for column in ("environment", "classic", "plain", "one seed", "64 seeds, summed"):
        table.add_column(column, justify="right")
    for env_id, row in rows.items():
        cells = [f"{row['classic']:,.0f}"]
        cells += [f"{row[name]:,.0f} ({row[name] / row['classic']:.3g}x)" for name in ("plain", "one seed", "64 seeds")]
        table.add_row(env_id, *cells)
    console.print(table)
    family_rows = family(settings, console)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    console.print(f"compiled loop ready in {ready:.2f} s; peak memory of this process {peak:.0f} MB")
    return {"compile_seconds": ready, "steps_per_second": rows, "family": family_rows, "peak_memory_mb": peak}


def family(settings: Settings, console: Console) -> dict[str, dict[str, float]]:
    """Every tabular agent, one seed, beside the classic loop; those that plan beside the classic Dyna-Q with 10 made-up steps."""
    known = {n: a for n, a in rl.presets().items() if isinstance(a, TabularConfig) and not a.continuing}
    agents = {n: a for n, a in known.items() if not n.startswith("lecture")}
    planning = {"classic dyna", *(n for n, a in agents.items() if isinstance(a, (rl.DynaQ, rl.PrioritizedSweeping)))}
    rows: dict[str, dict[str, float]] = {}
    for env_id in ("FrozenLake-v1", "Taxi-v4"):
        ways: dict[str, Callable[[], float]] = {
            "classic": lambda env_id=env_id: classic(env_id, 50_000),
            "classic dyna": lambda env_id=env_id: classic_dyna(env_id, 5_000),
        }
        ways |= {n: ours(env_id, 100_000 if n in planning else 500_000, workers=1, agent=a) for n, a in agents.items()}
        rows[env_id] = in_turn(ways, settings.repeats)
    table = Table(
        title="The family, one seed, environment steps a second (ratio to the classic loop, or classic Dyna-Q)"
    )
    for column in ("agent", *rows):
        table.add_column(column, justify="right")
    for name in ("classic", "classic dyna", *agents):
        cells = []
        for row in rows.values():
            beside = row["classic dyna" if name in planning else "classic"]
            cells.append(f"{row[name]:,.0f} ({row[name] / beside:.3g}x)")
        table.add_row(name, *cells)
    console.print(table)
    return rows


def pictures(settings: Settings, console: Console) -> tuple[Data, Data | None]:
    """MNIST if it was named, else noise of the same shape -> (to learn from, to be judged by)."""
    if settings.data_dir is not None:
        found = mnist.mnist(settings.data_dir)
        return found.train, found.test
    console.print("No --data-dir: pictures of noise, so times alone and no accuracy.")
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(256, (60_000, 28, 28), generator=generator, dtype=torch.uint8)
    return Data(x, torch.randint(10, (60_000,), generator=generator)), None


def in_turn(ways: dict[str, Callable[[], float]], repeats: int) -> dict[str, float]:
    """Time each way in turn, so that what else the machine does falls on all of them -> the median of each."""
    return {name: statistics.median(found) for name, found in rounds(ways, repeats).items()}


def rounds(ways: dict[str, Callable[[], float]], repeats: int) -> dict[str, list[float]]:
    """Each way's times, one a round."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            times[name].append(way())
    return times


def median_ratio(ours: list[float], theirs: list[float]) -> tuple[float, float, float]:
    """The median of the ratios of times taken in the same round, with the 95 % interval of a bootstrap."""
    ratios = np.array(ours) / np.array(theirs)
    draws = np.random.default_rng(0).choice(ratios, (10_000, len(ratios)))
    low, high = np.quantile(np.median(draws, 1), (0.025, 0.975))
    return float(np.median(ratios)), float(low), float(high)


def seconds(step: Callable[[], object], count: int) -> float:
    """How long one of `count` steps takes."""
    began = time.perf_counter()
    for _ in range(count):
        step()
    return (time.perf_counter() - began) / count


def mlp_epoch(train: Data, settings: Settings, console: Console) -> dict[str, float]:
    fit = Fit(Stack(lambda: MLP(784, 10, (256, 256)), [0]), train, None, Recipe(batch_size=baselines.BATCH))
    ways: dict[str, Callable[[], float]] = {"ours": lambda: seconds(fit.advance, 1)}
    for name, peer in {
        "DataLoader": baselines.data_loader,
        "Keras": baselines.keras,
        "Lightning": baselines.lightning,
    }.items():
        try:
            ways[name] = peer(*train)
        except ImportError as error:
            console.print(f"{name} is left out: {error}. Install the benchmark extra to see it.")
    return in_turn(ways, settings.repeats)


def mlp_pairs(train: Data, pairs: int, console: Console) -> dict[str, float]:
    """An epoch of the MLP beside the shortest loop that PyTorch allows, in turn."""
    fit = Fit(Stack(lambda: MLP(784, 10, (256, 256)), [0]), train, None, Recipe(batch_size=baselines.BATCH))
    found = rounds({"ours": lambda: seconds(fit.advance, 1), "plain": baselines.plain_mlp(*train)}, pairs)
    ratio, low, high = median_ratio(found["ours"], found["plain"])
    console.print(f"An epoch takes {ratio:.3f} [{low:.3f}, {high:.3f}] times that of the plain loop ({pairs} pairs).")
    return {"ratio": ratio, "low": low, "high": high, "pairs": pairs}


def cnn_epoch(train: Data, test: Data | None, settings: Settings) -> tuple[dict[str, float], dict[str, float]]:
    few = Data(train.x[:12_000], train.y[:12_000])

    def make() -> CNN:
        return CNN((1, 28, 28), 10, (32, 64, 128), widths=(625,), dropout=0.3, dense_dropout=0.5)

    fit = Fit(Stack(make, [0]), few, None, Recipe(batch_size=baselines.BATCH))
    plain = copy.deepcopy(fit.stack.modules[0])
    for part in plain.modules():
        if isinstance(part, Image):
            part.channels_last = False
    usual = baselines.plain_cnn(plain, *few)

    def plain_epoch() -> float:
        with determinism.threads(fit.compute_plan.threads):
            return usual()

    medians = in_turn(
        {f"ours ({fit.compute_plan})": lambda: seconds(fit.advance, 1), "plain float32": plain_epoch}, settings.repeats
    )
    if test is None:
        return medians, {}
    plain.eval()
    with torch.no_grad():
        right = torch.cat([plain(x.float() / 255).argmax(-1) for x in test.x.split(1000)]) == test.y
    return medians, {"ours": float(fit.evaluate(test)["accuracy"][0]), "plain float32": float(right.float().mean())}


def stacked(settings: Settings) -> dict[str, float]:
    """One step of 32 members of 4-64-64-2, batch 64."""
    n = 32
    stack = Stack(lambda: MLP(4, 2, (64, 64)), list(range(n)))
    optimizer = make_optimizer(stack, "Adam", 1e-3)
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(n, 64, 4, generator=generator), torch.randint(2, (n, 64), generator=generator)

    def step() -> None:
        loss = losses.per_seed(losses.cross_entropy(stack(x), y)).sum()
        stack.zero_grad()
        loss.backward()
        optimizer.step()

    nets = [copy.deepcopy(module) for module in stack.modules]
    one_by_one = {fused: baselines.one_after_another(copy.deepcopy(nets), x, y, fused) for fused in (False, True)}
    ways = {
        "stacked": lambda: seconds(step, 200),
        "one after another": lambda: seconds(one_by_one[False], 20),
        "the same, fused Adam": lambda: seconds(one_by_one[True], 20),
    }
    return in_turn(ways, settings.repeats)


def fitting(settings: Settings, console: Console) -> dict[str, Any]:
    train, test = pictures(settings, console)
    torch.set_num_threads(1)
    found: dict[str, Any] = {
        "MLP 784-256-256-10, epoch of 60 000, batch 100": mlp_epoch(train, settings, console),
        "32 members of 4-64-64-2, batch 64, a step": stacked(settings),
    }
    name = "CNN 32-64-128, epoch of 12 000, batch 100"
    found[name], accuracy = cnn_epoch(train, test, settings)
    table = Table(title=f"Fitting, seconds, medians of {settings.repeats} in turn (ratio to ours)")
    for column in ("what", "who", "seconds", "ratio", f"accuracy after {settings.repeats} epochs"):
        table.add_column(column)
    for what, row in found.items():
        ours = next(iter(row.values()))
        for i, (who, time_) in enumerate(row.items()):
            right = accuracy.get(who.split(" (")[0]) if what == name else None
            table.add_row(
                "" if i else what, who, f"{time_:.4g}", f"{time_ / ours:.2f}x", "" if right is None else f"{right:.4f}"
            )
    console.print(table)
    return {"seconds": found, "cnn_accuracy": accuracy, "plain_loop": mlp_pairs(train, settings.pairs, console)}


def recurrent(settings: Settings, console: Console) -> dict[str, Any]:
    """Whole training steps of RNN(64, 8, 64): batch 32, 40 steps of time, squared error, Adam."""
    torch.set_num_threads(1)
    generator, found = torch.Generator().manual_seed(0), {}
    for cell, n in itertools.product(("gru", "rnn"), (1, 8)):
        stack = Stack(lambda cell=cell: RNN(64, 8, 64, cell=cell), n, compiled=True)
        x, y = torch.randn(n, 32, 40, 64, generator=generator), torch.randn(n, 32, 40, 8, generator=generator)
        ways = {
            "ours": unrolled_step(stack, x, y),
            "torch": baselines.through_time([copy.deepcopy(module) for module in stack.modules], x, y),
        }
        times = rounds({name: functools.partial(cpu_seconds, way) for name, way in ways.items()}, settings.pairs + 1)
        ours, theirs = times["ours"][1:], times["torch"][1:]  # the first compiles
        ratio, low, high = median_ratio(theirs, ours)
        found[f"{cell}, N = {n}"] = {
            **{"ours_ms": 1e3 * statistics.median(ours), "torch_ms": 1e3 * statistics.median(theirs)},
            **{"ratio": ratio, "low": low, "high": high},
        }
    table = Table(title=f"A training step, ms of CPU time, medians of {settings.pairs} pairs")
    for column in ("cell", "ours", "torch, one after another", "ratio"):
        table.add_column(column, justify="right")
    for name, row in found.items():
        ratio_ = f"{row['ratio']:.2f}x [{row['low']:.2f}, {row['high']:.2f}]"
        table.add_row(name, f"{row['ours_ms']:.2f}", f"{row['torch_ms']:.2f}", ratio_)
    console.print(table)
    return found


def unrolled_step(stack: Stack, x: Tensor, y: Tensor) -> Callable[[], None]:
    """A training step of recurrent members, by `Stack.unroll_vjp`."""
    optimizer = make_optimizer(stack, "Adam", 1e-3)

    def step() -> None:
        prediction, _, backward = stack.unroll_vjp(x)
        prediction.requires_grad_()
        backward(*torch.autograd.grad(losses.per_seed(losses.mse(prediction, y)).sum(), prediction))
        optimizer.step()

    return step


def cpu_seconds(step: Callable[[], object]) -> float:
    """The CPU time of a step: what else the machine does counts little."""
    began = time.process_time()
    step()
    return time.process_time() - began


def command() -> int:
    settings = tyro.cli(Settings)
    try:
        integer(settings.repeats, "--repeats", 1)
        integer(settings.pairs, "--pairs", 1)
    except ArgumentError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    console = Console()
    s = settings
    seeds = 10 if s.seeds is None else s.seeds
    ways: dict[str, Callable[[], dict[str, Any]]] = {
        "tables": lambda: tables(s, console),
        "supervised": lambda: fitting(s, console),
        "recurrent": lambda: recurrent(s, console),
        "r2d2": lambda: r2d2.r2d2(s.repeats, console),
        "deep": lambda: deep.deep(s.repeats, console),
        "learning": lambda: (
            deep.check(seeds, s.workers, s.episodes, console)
            if s.check
            else deep.learning(s.env, s.agent, seeds, s.workers, s.episodes, console)
        ),
        "memory": lambda: memory.memory(s.task, s.seeds, s.first_seed, s.workers, s.steps, console),
        "cuda": lambda: cuda.cuda(s.parts, s.output, console),
    }
    try:
        figures = ways[settings.what]()
    except ValueError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    if settings.output is not None:
        machine = results.about()
        results.write(figures | machine, settings.output)
    return 1 if figures.get("failed") else 0


if __name__ == "__main__":
    sys.exit(command())
