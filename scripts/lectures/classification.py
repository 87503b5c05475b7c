"""Classification: logistic and softmax regression, learning rates, and XOR, which one layer cannot learn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor

from lectures.datasets import FromFiles, rows_of
from lectures.experiment import Fitted, Seeded
from lectures.report import Report
from supervised import MLP, Data, Fit, LogisticRegression, Recipe, SoftmaxRegression, data

DESCENT = Recipe(epochs=10_001, batch_size=None, optimizer="SGD", learning_rate=0.01)


def small(name: str) -> Data:
    """Return one of the lecture's small tables; the last column is the class."""
    table = torch.tensor(rows_of(name))
    return Data(table[:, :-1], table[:, -1].long())


def draw_plane(axes: Any, fitted: Fit, x: Tensor, y: Tensor, margin: float = 1.0) -> None:
    """Plot the first seed's probability of class 1 over the plane, every seed's decision boundary, and the data."""
    low, high = x.min(0).values - margin, x.max(0).values + margin
    grid = torch.meshgrid(
        *[torch.linspace(float(a), float(b), 120) for a, b in zip(low, high, strict=True)], indexing="xy"
    )
    yes = fitted.probabilities(torch.stack(grid, -1).flatten(0, 1)).cpu()
    yes = (yes[..., 1] if yes.shape[-1] > 1 else yes[..., 0]).reshape(-1, 120, 120)
    shown = axes.contourf(*grid, yes[0], levels=np.linspace(0, 1, 21), cmap="RdBu_r", alpha=0.8)
    for each in yes:
        axes.contour(*grid, each, levels=[0.5], colors="k", linewidths=0.7)
    for value, marker, name in ((0, "o", "0"), (1, "s", "1")):
        axes.scatter(*x[y == value].T, marker=marker, c="w", edgecolors="k", s=70, label=name, zorder=3)
    if axes.get_subplotspec().is_last_col():
        axes.figure.legend(*axes.get_legend_handles_labels(), title="class", loc="outside lower center", ncols=2)
        axes.figure.colorbar(shown, ax=axes, label="probability of class 1 (first seed)")


@dataclass
class Logistic(Fitted, FromFiles):
    """Logistic regression: pass or fail from two numbers, with the decision boundary; then diabetes from eight."""

    def run(self, report: Report) -> None:
        points = small("pass-or-fail")
        fitted = self.fit(report, "pass_or_fail", lambda: LogisticRegression(2), points, DESCENT)
        found = fitted.evaluate(points)
        report.seeds("six students: cost", found["loss"], self.all_seeds, low=0.0)
        report.shares("six students: accuracy", found["accuracy"], self.all_seeds, "all correct")
        figure = Figure(figsize=(6.5, 5), layout="constrained")
        axes = figure.subplots()
        draw_plane(axes, fitted, *points)
        axes.set(
            xlabel="first number", ylabel="second number", title="Decision boundary: where the probability is one half"
        )
        report.picture("boundary", figure)
        table = self.table(report, "data-03-diabetes.csv")
        if table is not None:
            report.row("rows, columns of the file", f"{table.values.shape[0]}, {table.values.shape[1]}", "759, 9")
            name, whole = (
                "diabetes",
                Data(*(torch.from_numpy(part) for part in (table.values[:, :-1], table.values[:, -1]))),
            )
        else:
            from sklearn.datasets import load_breast_cancer

            name, loaded = "breast cancer (scikit-learn's, in place of diabetes)", load_breast_cancer()
            whole = Data(
                *(torch.from_numpy(part) for part in (data.scale("standard", loaded.data)[1][0], loaded.target))
            )
        train, test = data.split(whole, 0.2)
        fitted = self.fit(report, "table", lambda: LogisticRegression(train.x.shape[1]), train, DESCENT)
        report.shares(f"{name}: accuracy, training", fitted.evaluate(train)["accuracy"], self.all_seeds)
        report.shares(f"{name}: accuracy, held-out fifth", fitted.evaluate(test)["accuracy"], self.all_seeds)


@dataclass
class Softmax(Fitted, FromFiles):
    """Softmax regression on the lecture's eight rows, then on the animals of a zoo; softmax compared with sigmoids."""

    def run(self, report: Report) -> None:
        rows = small("three-classes")
        recipe = Recipe(epochs=2001, batch_size=None, optimizer="SGD", learning_rate=0.1)
        fitted = self.fit(report, "three_classes", lambda: SoftmaxRegression(4, 3), rows, recipe)
        found = fitted.evaluate(rows)
        report.seeds("eight rows: cost", found["loss"], self.all_seeds, low=0.0)
        report.shares("eight rows: accuracy", found["accuracy"], self.all_seeds, "all correct")
        logits = fitted.predict(torch.tensor([[1.0, 11.0, 7.0, 9.0]]))[0, 0].cpu()
        report.row("probabilities of softmax for 1, 11, 7, 9 add up to", float(logits.softmax(0).sum()), "1")
        report.row("three sigmoids of the same numbers add up to", float(logits.sigmoid().sum()), "not 1")
        table = self.table(report, "data-04-zoo.csv")
        if table is not None:
            report.row("rows, columns of the file", f"{table.values.shape[0]}, {table.values.shape[1]}", "101, 17")
            name, x, y = "zoo", table.values[:, :-1], table.values[:, -1]
        else:
            from sklearn.datasets import load_wine

            name, loaded = "wine (scikit-learn's, in place of the zoo)", load_wine()
            x, y = data.scale("standard", loaded.data)[1][0], loaded.target
        whole = Data(torch.from_numpy(x), torch.from_numpy(y.astype(np.int64)))
        classes = int(whole.y.max()) + 1
        report.row(
            "classes", str(classes), '7, each animal in one: multi-class, not "multi-label"' if name == "zoo" else ""
        )
        for folder, (train, test) in (("all", (whole, None)), ("held_out", data.split(whole, 0.2))):
            fitted = self.fit(report, folder, lambda: SoftmaxRegression(x.shape[1], classes), train, recipe)
            judged, what = (train, "trained on all") if test is None else (test, "held-out fifth")
            report.shares(f"{name}: accuracy, {what}", fitted.evaluate(judged)["accuracy"], self.all_seeds)


def cost_of(kind: str, logits: Tensor, y: Tensor) -> Tensor:
    """Return the cross-entropy of each seed, [N]; "naive" takes the logarithm of the softmax, as the notes' code does."""
    if kind == "naive":
        return -(F.one_hot(y, 3) * logits.softmax(-1).log()).sum(-1).mean(-1)
    return F.cross_entropy(logits.flatten(0, 1), y.repeat(len(logits)), reduction="none").view(len(logits), -1).mean(-1)


@dataclass
class LearningRates(Seeded):
    """Learning rates too small, right and too large for softmax regression, with two forms of its loss."""

    steps: int = 201
    """Steps of gradient descent."""

    def run(self, report: Report) -> None:
        train = small("learning-rates")
        test_x, test_y = torch.tensor([[2.0, 1, 1], [3, 1, 2], [3, 3, 4]]), torch.tensor([2, 2, 2])
        notes = {1e-10: ("5.73203, unmoved", "0"), 0.1: ("0.670909", "1"), 1.5: ("nan", "0")}
        curves = {}
        for kind in ("naive", "library"):
            for rate, (cost_note, right_note) in notes.items():
                costs, w, b = self.descend(kind, rate, train)
                curves[kind, rate] = costs
                name = f"rate {rate:g}, {kind} loss"
                report.seeds(
                    f"{name}: cost at the end", costs[-1], self.all_seeds, cost_note if kind == "naive" else "", low=0.0
                )
                if rate < 1e-3:
                    report.seeds(f"{name}: change of the cost", costs[-1] - costs[0], self.all_seeds, "", 6)
                right = ((test_x @ w + b).argmax(-1) == test_y).double().mean(-1)
                report.shares(f"{name}: accuracy", right, self.all_seeds, right_note if kind == "naive" else "")
                report.curve("cost", costs.mean(1), f"{kind}_{rate:g}")
        report.picture("costs", self.draw(curves))

    def descend(self, kind: str, rate: float, train: Data) -> tuple[np.ndarray, Tensor, Tensor]:
        """Train from N(0, 1). Return costs [steps, N], final weights [N, 3, 3] and biases [N, 1, 3]."""
        w, b = (
            torch.stack([torch.randn(shape, generator=g) for g in self.generators()]).requires_grad_()
            for shape in ((3, 3), (1, 3))
        )
        costs = []
        for _ in range(self.steps):
            cost = cost_of(kind, train.x @ w + b, train.y)
            slopes = torch.autograd.grad(cost.sum(), (w, b))
            with torch.no_grad():
                w -= rate * slopes[0]
                b -= rate * slopes[1]
            costs.append(cost.detach().numpy())
        return np.stack(costs), w.detach(), b.detach()

    def draw(self, curves: dict[tuple[str, float], np.ndarray]) -> Figure:
        figure = Figure(figsize=(11, 4.5), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True)
        for axes, kind in ((left, "naive"), (right, "library")):
            for (which, rate), costs in curves.items():
                if which == kind:
                    axes.plot(np.where(np.isfinite(costs), costs, np.nan).mean(1), label=f"rate {rate:g}")
            axes.set(
                xlabel="step",
                yscale="log",
                title=f"{kind} loss" + (": 1.5 becomes nan" if kind == "naive" else ": 1.5 only leaps"),
            )
            axes.legend()
        left.set_ylabel("cost, mean over seeds (a line ends at the first nan)")
        return figure


@dataclass
class Xor(Fitted):
    """XOR: one layer cannot learn it, two can; also wider and deeper networks, each with its output over the plane."""

    def run(self, report: Report) -> None:
        square = Data(torch.tensor([[0.0, 0], [0, 1], [1, 0], [1, 1]]), torch.tensor([0, 1, 1, 0]))
        recipe = Recipe(epochs=10_001, batch_size=None, optimizer="SGD", learning_rate=0.1, loss="binary_cross_entropy")
        nets: dict[str, Sequence[int]] = {
            "one layer": (),
            "2-2-1": (2,),
            "wide, 2-10-1": (10,),
            "deep, 2-10-10-10-1": (10, 10, 10),
        }
        figure = Figure(figsize=(13, 4.4), layout="constrained")
        for axes, (name, widths) in zip(figure.subplots(1, 4), nets.items(), strict=True):
            fitted = self.fit(
                report,
                name.split(",")[0].replace(" ", "_"),
                lambda widths=widths: MLP(2, 1, widths, activation="sigmoid", init="normal"),
                Data(square.x, square.y.float()),
                recipe,
            )
            found = fitted.evaluate(Data(square.x, square.y.float()))
            note = "never right: cost .693, share .5" if not widths else "learns it"
            report.seeds(f"{name}: cost", found["loss"], self.all_seeds, note, low=0.0)
            whole = int((found["accuracy"] == 1).sum())
            report.row(
                f"{name}: seeds with all four correct",
                f"{whole} of {len(found['accuracy'])}",
                "0" if not widths else "",
            )
            draw_plane(axes, fitted, square.x, square.y, 0.3)
            axes.set(title=name, xlabel="first input", ylabel="second input")
        report.picture("plane", figure)
