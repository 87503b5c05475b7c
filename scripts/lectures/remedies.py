"""Dropout, L2, early stopping, gradient clipping and online learning, each in isolation."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor, nn

import supervised
from lectures.experiment import OnDigits, Seeded
from lectures.report import Report
from supervised import MLP, RNN, Data, Recipe, SoftmaxRegression, Stack, determinism
from supervised.stack import clip_per_seed
from supervised.stack.optimizers import optimizer
from supervised.streams import generator

PENALTY = 0.001  # the notes' .001 sum(W²)


def flat(data: Data) -> Data:
    """Return images [M, H, W] as rows of numbers in [0, 1]."""
    return Data(data.x.flatten(1).float() / (255 if data.x.dtype == torch.uint8 else 1), data.y)


def drawn(data: Data, seed: int, sizes: Sequence[int], wrong: float = 0.0) -> list[Data]:
    """Draw disjoint parts of these sizes for each seed.

    wrong: the share of their labels that are drawn at random among the digits.
    """
    rng = generator(seed, "data")
    order = torch.from_numpy(rng.permutation(len(data.x)))
    y = torch.where(
        torch.from_numpy(rng.random(len(data.x)) < wrong), torch.from_numpy(rng.integers(10, size=len(data.x))), data.y
    )
    ends = np.cumsum(sizes)
    if ends[-1] > len(data.x):
        raise ValueError(f"{ends[-1]:,} images are needed, but there are only {len(data.x):,}.")
    return [Data(data.x[part], y[part]) for part in (order[e - n : e] for e, n in zip(ends, sizes, strict=True))]


def stacked(parts: Sequence[Data]) -> Data:
    """Stack the same part of each seed: x [N, M, ...], y [N, M]."""
    return Data(torch.stack([part.x for part in parts]), torch.stack([part.y for part in parts]))


def batches(data: Data, size: int, seeds: Sequence[int], epochs: int) -> Iterator[Data]:
    """Yield batches [N, size, ...] of data [N, M, ...], in a different order for each seed."""
    rngs = [generator(seed, "agent") for seed in seeds]
    each = data.x.shape[1]
    for _ in range(epochs):
        order = torch.from_numpy(np.stack([k * each + rng.permutation(each) for k, rng in enumerate(rngs)]))
        for index in order.split(size, 1):
            chosen = [part.flatten(0, 1).index_select(0, index.flatten()) for part in data]
            yield Data(*(part.view(*index.shape, *part.shape[1:]) for part in chosen))


def costs(logits: Tensor, y: Tensor) -> Tensor:
    """Return each seed's mean cross-entropy, [N], for logits [N, B, C] and y [N, B]."""
    return F.cross_entropy(logits.flatten(0, 1), y.flatten(), reduction="none").view(y.shape).mean(1)


def judge(stack: Stack, data: Data) -> tuple[np.ndarray, np.ndarray]:
    """Return each seed's accuracy and cost, [N] each, on data [M, ...]."""
    with stack.eval_mode():
        logits = torch.cat([stack(x.expand(len(stack.seeds), *x.shape)) for x in data.x.split(1000)], 1)
    y = data.y.expand(len(stack.seeds), -1)
    return (logits.argmax(-1) == y).double().mean(1).numpy(), costs(logits, y).double().numpy()


@dataclass
class Dropout(Seeded):
    """The mean of dropout: with inverted scaling, training and test outputs agree on average; as first published, they do not."""

    draws: int = 2000
    """Number of masks drawn for each seed."""

    def run(self, report: Report) -> None:
        for keep in (0.7, 0.5):
            layer = nn.Dropout(1 - keep)
            inverted, published, change = [], [], []
            for rng in self.generators():
                x = torch.randn(256, generator=rng, dtype=torch.float64).relu()
                torch.manual_seed(int(torch.randint(2**31, (1,), generator=rng)))
                out = layer.train()(x.expand(self.draws, -1))
                inverted.append(float(out.mean() / x.mean()))
                published.append(keep * inverted[-1])  # the same masks, without scaling
                change.append(float((layer.eval()(x) - x).abs().max()))
            so_far = out.mean(1).cumsum(0) / torch.arange(1, self.draws + 1) / x.mean()
            report.curve("mean_over_masks_so_far_last_seed", so_far, f"keep_{keep:g}", every=max(1, self.draws // 200))
            name = f"keep {keep:g}"
            report.seeds(
                f"{name}, inverted: mean in training / mean of the input", inverted, self.all_seeds, "1", low=0.0
            )
            report.row(f"{name}, inverted: largest change at test time", max(change), "none: identity")
            report.seeds(
                f"{name}, as first published: mean in training / mean of the input",
                published,
                self.all_seeds,
                f"{keep:g}; so weights times {keep:g} at test time",
                low=0.0,
            )
        self.average(report)

    def average(self, report: Report) -> None:
        """Compare one test pass with the mean over all masks: equal after one linear layer, nearly equal after two."""
        for name, widths in (("one linear layer", ()), ("two layers with ReLU", (64,))):

            def make(widths: tuple[int, ...] = widths) -> nn.Module:
                return nn.Sequential(nn.Dropout(0.3), MLP(64, 10, widths, dropout=0.3))

            stack, x = Stack(make, self.all_seeds), torch.rand(len(self.all_seeds), 1, 64)
            with torch.no_grad():
                rounds = range(max(1, self.draws // 100))
                mean = torch.stack([stack.train()(x.expand(-1, 100, -1)).mean(1) for _ in rounds]).mean(0)
                once = stack.train(False)(x)[:, 0]
            away = (mean - once).norm(dim=-1) / once.norm(dim=-1)
            report.seeds(
                f"{name}: relative distance of test-time outputs from the mean over masks",
                away,
                self.all_seeds,
                "test-time average",
                low=0.0,
            )


@dataclass
class Regularization(OnDigits):
    """The notes' L2, .001 sum(W²), on few digits, a fifth of them with random labels; each seed has its own digits."""

    seeds: int = 10
    """Number of seeds."""
    pictures: int = 500
    """Number of training images."""
    wrong: float = 0.2
    """Share of random labels."""

    def run(self, report: Report) -> None:
        found = self.digits(report)
        train, test = flat(found.train), flat(found.test)
        parts = stacked([drawn(train, seed, [self.pictures], self.wrong)[0] for seed in self.all_seeds])
        right, weights = {}, {}
        for strength in (0.0, PENALTY, 0.01, 0.1):
            stack = self.descend(parts, weight_decay=2 * strength)
            right[strength], cost = judge(stack, test)
            weights[strength] = stack.flat.detach().clone()
            name = f"{strength:g} sum(W²)" if strength else "no L2"
            note = "the notes'" if strength == PENALTY else ""
            if strength in (0.0, PENALTY):
                inside = [float((logits.argmax(-1) == y).double().mean()) for logits, y in self.inside(stack, parts)]
                report.shares(f"{name}: accuracy, training", inside, self.all_seeds, note)
                report.seeds(f"{name}: test cost", cost, self.all_seeds, note, low=0.0)
            report.shares(f"{name}: accuracy, test", right[strength], self.all_seeds, note)
        report.seeds(
            f"{PENALTY:g} sum(W²): test accuracy gained",
            right[PENALTY] - right[0.0],
            self.all_seeds,
            low=-1.0,
            high=1.0,
        )
        added = self.descend(parts, penalty=PENALTY).flat.detach()
        report.row(
            "largest difference of weights: .001 sum(W²) in the cost, SGD's weight_decay .002",
            float((added - weights[PENALTY]).abs().max()),
            "none",
            6,
        )
        report.picture("strengths", self.draw(right))

    def inside(self, stack: Stack, parts: Data) -> Iterator[tuple[Tensor, Tensor]]:
        """Return each seed's logits for its own training data, and their labels."""
        with stack.eval_mode():
            yield from zip(stack(parts.x), parts.y, strict=True)

    def descend(self, parts: Data, weight_decay: float = 0.0, penalty: float = 0.0) -> Stack:
        """Train softmax regression with SGD. penalty: coefficient of the sum of squares of all weights in the cost."""
        stack = Stack(lambda: SoftmaxRegression(parts.x.shape[-1], 10), self.all_seeds)
        sgd = optimizer(stack, "SGD", 0.5, weight_decay=weight_decay)
        with determinism.threads(1):
            for x, y in batches(parts, 50, self.all_seeds, 100 if self.epochs is None else self.epochs):
                learn(stack, sgd, x, y, penalty)
        return stack

    def draw(self, right: dict[float, np.ndarray]) -> Figure:
        figure = Figure(figsize=(7, 4.5), layout="constrained")
        axes = figure.subplots()
        axes.plot(range(len(right)), np.stack(list(right.values())), "-", color="0.8", linewidth=1)
        axes.plot(range(len(right)), [values.mean() for values in right.values()], "o-", color="C0", label="mean")
        axes.set_xticks(range(len(right)), [f"{strength:g}" for strength in right])
        axes.set(
            xlabel="strength of sum(W²) in the cost",
            ylabel="test accuracy",
            title=f"L2 where a fifth of the labels is drawn at random ({len(next(iter(right.values())))} seeds in grey)",
        )
        axes.legend()
        return figure


@dataclass
class EarlyStopping(OnDigits):
    """An MLP on a thousand digits, a fifth of them with random labels, with and without early stopping by the validation loss."""

    seeds: int = 10
    """Number of seeds; each has its own training and validation data."""
    pictures: int = 1000
    """Number of training images, and of validation images."""
    patience: int = 5
    """Number of epochs without a lower validation loss before a seed stops."""

    def run(self, report: Report) -> None:
        found = self.digits(report)
        train, test = flat(found.train), flat(found.test)
        whole = Recipe(epochs=40 if self.epochs is None else self.epochs, batch_size=50)
        stopping = dataclasses.replace(whole, patience_epochs=self.patience)
        curves: list[np.ndarray] = []
        kept, ended, right = [], [], {"without": [], "with early stopping": []}
        for seed in self.all_seeds:
            some, held = drawn(train, seed, [self.pictures, self.pictures], 0.2)
            for name, recipe in (("without", whole), ("with early stopping", stopping)):
                fitted = supervised.fit(
                    lambda: MLP(train.x.shape[1], 10, (128,)),
                    some,
                    recipe,
                    validation=held,
                    seeds=[seed],
                    device=self.device,
                    threads=self.threads,
                    progress=False,
                )
                right[name].append(float(fitted.evaluate(test)["accuracy"][0]))
                if recipe is whole:
                    losses = [
                        [float(row[f"{part}/loss"][0]) for part in ("train", "validation")] for row in fitted.history
                    ]
                    curves.append(np.array(losses))
            kept.append(int(fitted.best_epoch[0]))
            ended.append(fitted.epoch)
        lines = np.stack(curves)
        for part, values in (("train", lines[..., 0]), ("validation", lines[..., 1])):
            report.curve(f"{part}_loss", values.mean(0))
        report.seeds("validation loss, lowest", lines[..., 1].min(1), self.all_seeds, low=0.0)
        report.seeds("validation loss, last epoch", lines[:, -1, 1], self.all_seeds, low=0.0)
        report.seeds(
            f"epoch kept, of {whole.epochs}", kept, self.all_seeds, digits=1, low=1.0, high=float(whole.epochs)
        )
        report.seeds(
            "epochs trained with early stopping", ended, self.all_seeds, digits=1, low=1.0, high=float(whole.epochs)
        )
        for name, values in right.items():
            report.shares(f"{name}: accuracy, test", values, self.all_seeds)
        gained = np.subtract(right["with early stopping"], right["without"])
        report.seeds("test accuracy gained", gained, self.all_seeds, low=-1.0, high=1.0)
        report.picture("stopping", self.draw(lines, kept))

    def draw(self, lines: np.ndarray, kept: Sequence[int]) -> Figure:
        figure = Figure(figsize=(8, 4.8), layout="constrained")
        axes = figure.subplots()
        epochs = np.arange(1, lines.shape[1] + 1)
        for i, name in enumerate(("training", "validation")):
            axes.plot(epochs, lines[..., i].T, color=f"C{i}", alpha=0.25, linewidth=1)
            axes.plot(
                epochs, lines[..., i].mean(0), color=f"C{i}", linewidth=2, label=f"{name}, mean of {len(lines)} seeds"
            )
        axes.plot(kept, lines[np.arange(len(kept)), np.array(kept) - 1, 1], "k.", label="epoch kept, each seed")
        axes.set(xlabel="epoch", ylabel="loss", ylim=(0, None), title="Early stopping goes by the validation loss")
        figure.legend(loc="outside lower center", ncols=3)
        return figure


@dataclass
class Online(OnDigits):
    """Online learning: digits arrive one at a time, are predicted, then learned once; compared with retraining from scratch."""

    seeds: int = 10
    """Number of seeds; each has its own images."""
    pictures: int = 500
    """Number of training images before new ones arrive."""
    arriving: int = 3000
    """Number of images that arrive, one at a time."""

    def run(self, report: Report) -> None:
        found = self.digits(report)
        train, test = flat(found.train), flat(found.test)
        parts = [drawn(train, seed, [self.pictures, self.arriving]) for seed in self.all_seeds]
        self.run_order(report, "as they come", parts, test)
        # The same, where the known digits are 0 to 4 and those that arrive are 5 to 9.
        old, new = (Data(*(p[chosen] for p in train)) for chosen in (train.y < 5, train.y >= 5))
        sizes = min(self.pictures, len(old.x)), min(self.arriving, len(new.x))
        sorted_parts = [
            [drawn(some, seed, [size])[0] for some, size in zip((old, new), sizes, strict=True)]
            for seed in self.all_seeds
        ]
        known = Data(*(part[test.y < 5] for part in test))
        self.run_order(report, "0 to 4, then 5 to 9", sorted_parts, test, known)

    def run_order(
        self, report: Report, name: str, parts: Sequence[Sequence[Data]], test: Data, known: Data | None = None
    ) -> None:
        """Run one order of arrival: the old model, the same after online learning, and a model retrained on everything.

        known: of the old digits alone, to see whether they are forgotten.
        """
        first, later = (stacked([part[i] for part in parts]) for i in (0, 1))
        everything = Data(torch.cat([first.x, later.x], 1), torch.cat([first.y, later.y], 1))
        epochs = 20 if self.epochs is None else self.epochs
        stack = self.trained(first, epochs)
        judged = [("before", *judge(stack, test)[:1], stack)]
        memory = None if known is None else judge(stack, known)[0]
        right = self.arrive(stack, later)
        report.curve(f"{name.replace(' ', '_').replace(',', '')}/right_before_learning", right.mean(0), every=10)
        judged.append(("online", judge(stack, test)[0], stack))
        again = self.trained(everything, epochs)
        judged.append(("retrained", judge(again, test)[0], again))
        for how, values, _ in judged:
            report.shares(f"{name}, {how}: accuracy, test", values, self.all_seeds)
        if memory is None:
            tail = right[:, -max(1, right.shape[1] // 4) :]
            report.shares(
                f"{name}: accuracy on the last quarter, each example before it is learned", tail.mean(1), self.all_seeds
            )
            online, retrained = judged[1][1], judged[2][1]
            report.seeds(f"{name}: gain from retraining", retrained - online, self.all_seeds, low=-1.0, high=1.0)
            used = everything.x.shape[1] * epochs
            report.row(f"{name}: examples learned from, online and retrained", f"{later.x.shape[1]:,}, {used:,}")
            return
        assert known is not None
        for how, values in (
            ("before", memory),
            ("online", judge(stack, known)[0]),
            ("retrained", judge(again, known)[0]),
        ):
            report.shares(f"{name}, {how}: accuracy on 0 to 4", values, self.all_seeds)

    def trained(self, data: Data, epochs: int) -> Stack:
        """Train softmax regression from scratch, in passes over all data [N, M, ...]."""
        stack = Stack(lambda: SoftmaxRegression(data.x.shape[-1], 10), self.all_seeds)
        sgd = optimizer(stack, "SGD", 0.1)
        with determinism.threads(1):
            for x, y in batches(data, 20, self.all_seeds, epochs):
                learn(stack, sgd, x, y)
        return stack

    def arrive(self, stack: Stack, data: Data) -> np.ndarray:
        """Learn each example [N, M, ...] once, in order of arrival. Return whether it was right before it was learned, [N, M]."""
        sgd = optimizer(stack, "SGD", 0.02)
        right = []
        with determinism.threads(1):
            for x, y in zip(data.x.split(1, 1), data.y.split(1, 1), strict=True):
                logits = learn(stack, sgd, x, y)
                right.append((logits.argmax(-1) == y)[:, 0])
        return torch.stack(right, 1).double().numpy()


def learn(stack: Stack, sgd: Any, x: Tensor, y: Tensor, penalty: float = 0.0) -> Tensor:
    """Take one gradient step. Return the logits before it, [N, B, C]. penalty: coefficient of the sum of squared weights."""
    sgd.zero_grad()
    logits: Tensor = stack(x)
    cost = costs(logits, y).sum()
    if penalty:
        cost = cost + penalty * torch.stack([(w**2).sum() for w in stack.weights.values()]).sum()
    cost.backward()
    sgd.step()
    return logits.detach()


@dataclass
class Clipping(Seeded):
    """Exploding gradients in an RNN, and clipping: the largest norm before and after, and the resulting accuracy."""

    length: int = 40
    """Time steps."""
    steps: int = 250
    """Steps of gradient descent."""
    scale: float = 1.3
    """Singular values of the initial recurrent matrix; above 1, gradients can grow from step to step."""

    def run(self, report: Report) -> None:
        figure = Figure(figsize=(8, 4.8), layout="constrained")
        axes = figure.subplots()
        for i, (name, clip) in enumerate({"not clipped": None, "clipped at 1": 1.0}.items()):
            before, after, right = self.descend(clip)
            report.seeds(f"{name}: largest norm before clipping", before.max(0), self.all_seeds, digits=1, low=0.0)
            report.seeds(f"{name}: largest norm of a step", after.max(0), self.all_seeds, digits=4, low=0.0)
            report.shares(f"{name}: accuracy", right, self.all_seeds)
            report.curve("largest_norm_before", before.max(1), name.replace(" ", "_"))
            axes.plot(before.max(1), color=f"C{i}", label=f"{name}: before")
            if clip is not None:
                axes.plot(after.max(1), color=f"C{i}", linestyle="--", label=f"{name}: after")
        axes.set(
            yscale="log",
            xlabel="step of gradient descent",
            ylabel=f"gradient's norm, the largest of {len(self.all_seeds)} seeds",
            title=f"Which sign came {self.length} steps ago: an RNN with singular values {self.scale:g}",
        )
        figure.legend(loc="outside lower center", ncols=3)
        report.picture("norms", figure)

    def descend(self, clip: float | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Train. Return each step's norms before and after clipping, [steps, N] each, and the accuracy on new data, [N]."""

        def make() -> nn.Module:
            net = RNN(2, 2, 16, cell="rnn", shape="many-to-one")
            with torch.no_grad():
                nn.init.orthogonal_(net.trunk.cell.weight_hh_l0, self.scale)
            return net

        stack = Stack(make, self.all_seeds)
        sgd = optimizer(stack, "SGD", 0.5)
        before, after = [], []
        rngs = [generator(seed, "data") for seed in self.all_seeds]
        with determinism.threads(1):
            for _ in range(self.steps):
                x, y = self.signs(rngs, 16)
                sgd.zero_grad()
                costs(stack(x)[0], y).sum().backward()
                before.append(stack.memory.gradient_norms().clone())
                if clip is not None:
                    clip_per_seed(stack, clip)
                after.append(stack.memory.gradient_norms().clone())
                sgd.step()
            x, y = self.signs(rngs, 500)
            with stack.eval_mode():
                right = (stack(x)[0].argmax(-1) == y).double().mean(1)
        return torch.stack(before).numpy(), torch.stack(after).numpy(), right.numpy()

    def signs(self, rngs: Sequence[np.random.Generator], count: int) -> Data:
        """Return noise whose first step starts with -1 or 1, x [N, count, length, 2], and which of the two, y [N, count]."""
        found = []
        for rng in rngs:
            x, y = 0.1 * rng.standard_normal((count, self.length, 2)), rng.integers(0, 2, count)
            x[:, 0, 0] = 2 * y - 1
            found.append(Data(torch.from_numpy(x.astype(np.float32)), torch.from_numpy(y)))
        return stacked(found)
