"""The speed of fits, compared with plain PyTorch and other libraries: `benchmark.py supervised` and `recurrent`."""

from __future__ import annotations

import copy
import functools
import itertools
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks import baselines
from benchmarks.timing import cpu_seconds, in_turn, median_ratio, rounds, seconds
from supervised import CNN, MLP, RNN, Data, Fit, Recipe, Stack, determinism, losses, mnist
from supervised import optimizer as make_optimizer
from supervised.models.cnn import Image


def pictures(data_dir: Path | None, console: Console) -> tuple[Data, Data | None]:
    """Return (training data, test data): MNIST if its folder is given, else images of noise and None."""
    if data_dir is not None:
        found = mnist.mnist(data_dir)
        return found.train, found.test
    console.print("Without --data-dir the images are noise, so only times are reported, not the accuracy.")
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(256, (60_000, 28, 28), generator=generator, dtype=torch.uint8)
    return Data(x, torch.randint(10, (60_000,), generator=generator)), None


def mlp_epoch(train: Data, repeats: int, console: Console) -> dict[str, float]:
    """An epoch of the MLP, compared with the usual loop, Keras and Lightning."""
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
    return in_turn(ways, repeats)


def mlp_pairs(train: Data, pairs: int, console: Console) -> dict[str, float]:
    """An epoch of the MLP compared with the shortest PyTorch loop, timed in turn."""
    fit = Fit(Stack(lambda: MLP(784, 10, (256, 256)), [0]), train, None, Recipe(batch_size=baselines.BATCH))
    found = rounds({"ours": lambda: seconds(fit.advance, 1), "plain": baselines.plain_mlp(*train)}, pairs)
    ratio, low, high = median_ratio(found["ours"], found["plain"])
    console.print(
        f"An epoch takes {ratio:.3f} [{low:.3f}, {high:.3f}] times as long as in the plain loop ({pairs} pairs)."
    )
    return {"ratio": ratio, "low": low, "high": high, "pairs": pairs}


def cnn_epoch(train: Data, test: Data | None, repeats: int) -> tuple[dict[str, float], dict[str, float]]:
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
        {f"ours ({fit.compute_plan})": lambda: seconds(fit.advance, 1), "plain float32": plain_epoch}, repeats
    )
    if test is None:
        return medians, {}
    plain.eval()
    with torch.no_grad():
        right = torch.cat([plain(x.float() / 255).argmax(-1) for x in test.x.split(1000)]) == test.y
    return medians, {"ours": float(fit.evaluate(test)["accuracy"][0]), "plain float32": float(right.float().mean())}


def stacked(repeats: int) -> dict[str, float]:
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
    return in_turn(ways, repeats)


def fitting(data_dir: Path | None, repeats: int, pairs: int, console: Console) -> dict[str, Any]:
    """Epochs and steps of fits, compared with those of other libraries."""
    train, test = pictures(data_dir, console)
    torch.set_num_threads(1)
    found: dict[str, Any] = {
        "MLP 784-256-256-10, epoch of 60 000, batch 100": mlp_epoch(train, repeats, console),
        "32 members of 4-64-64-2, batch 64, a step": stacked(repeats),
    }
    name = "CNN 32-64-128, epoch of 12 000, batch 100"
    found[name], accuracy = cnn_epoch(train, test, repeats)
    table = Table(title=f"Fitting, seconds, medians of {repeats} in turn (ratio to ours)")
    for column in ("what", "who", "seconds", "ratio", f"accuracy after {repeats} epochs"):
        table.add_column(column)
    for what, row in found.items():
        ours = next(iter(row.values()))
        for i, (who, time_) in enumerate(row.items()):
            right = accuracy.get(who.split(" (")[0]) if what == name else None
            table.add_row(
                "" if i else what, who, f"{time_:.4g}", f"{time_ / ours:.2f}x", "" if right is None else f"{right:.4f}"
            )
    console.print(table)
    return {"seconds": found, "cnn_accuracy": accuracy, "plain_loop": mlp_pairs(train, pairs, console)}


def recurrent(pairs: int, console: Console) -> dict[str, Any]:
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
        times = rounds({name: functools.partial(cpu_seconds, way) for name, way in ways.items()}, pairs + 1)
        ours, theirs = times["ours"][1:], times["torch"][1:]  # the first compiles
        ratio, low, high = median_ratio(theirs, ours)
        found[f"{cell}, N = {n}"] = {
            **{"ours_ms": 1e3 * statistics.median(ours), "torch_ms": 1e3 * statistics.median(theirs)},
            **{"ratio": ratio, "low": low, "high": high},
        }
    table = Table(title=f"A training step, ms of CPU time, medians of {pairs} pairs")
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
