"""Preparing the inputs, and remedies for overfitting."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from lectures.datasets import rows_of
from lectures.experiment import OnDigits, Seeded
from lectures.report import Report
from supervised import MLP, Data, Recipe

RATE = 1e-5  # the notes'


@dataclass
class Normalization(Seeded):
    """Eight days of a stock whose volume is a thousand times its price: raw rows diverge, normalized ones do not."""

    steps: int = 101
    """Steps of gradient descent."""

    def run(self, report: Report) -> None:
        rows = np.array(rows_of("shares"))
        x, y = rows[:, :-1], rows[:, -1:]
        for kind in (np.float32, np.float64):
            lost = self.lost_at(x.astype(kind), y.astype(kind))
            report.row(f"raw, rate 1e-5: first step whose cost is NaN, {kind.__name__}", lost, "nan after 100 steps", 0)
        report.row("raw: condition number of the cost's curvature", condition(x), "", 0)
        curves, plane = {}, {"raw": x[:, [0, 2]]}
        for name, prepare in preparations().items():
            z = prepare(x)
            plane[name] = z[:, [0, 2]]
            target = prepare(y) if name in ("min-max", "standardized") else (y - y.mean()) / y.std()
            for rate in (RATE, 0.05):
                costs = self.descend(z, target, rate)
                curves[name, rate] = costs
                note = "0.0136869 (one draw of the weights)" if (name, rate) == ("min-max", RATE) else ""
                report.seeds(
                    f"{name}, rate {rate:g}: cost at step {self.steps - 1}", costs[-1], self.all_seeds, note, 5, low=0.0
                )
                report.curve("cost", np.where(np.isfinite(costs), costs, np.nan).mean(1), f"{name}_{rate:g}")
            report.row(f"{name}: condition number", condition(z), "", 1)
        report.picture("preparations", self.draw(plane, curves))
        self.mean_picture(report)

    def lost_at(self, x: np.ndarray, y: np.ndarray) -> float:
        """Return the first step of gradient descent on raw rows whose cost is not finite."""
        w, b = np.zeros((4, 1), x.dtype), x.dtype.type(0)
        for step in range(1001):
            with np.errstate(all="ignore"):
                error = x @ w + b - y
                if not np.isfinite((error**2).mean()):
                    return step
                w, b = w - x.dtype.type(2 * RATE / len(x)) * (x.T @ error), b - x.dtype.type(2 * RATE) * error.mean()
        return np.inf

    def descend(self, x: np.ndarray, y: np.ndarray, rate: float) -> np.ndarray:
        """Return the cost [steps, N] of linear regression from weights N(0, 1)."""
        rows, target = torch.from_numpy(x), torch.from_numpy(y)
        w, b = (
            torch.stack([torch.randn(shape, generator=g, dtype=torch.float64) for g in self.generators()])
            for shape in ((x.shape[1], 1), (1, 1))
        )
        costs = []
        for _ in range(self.steps):
            error = rows @ w + b - target
            costs.append((error**2).mean((1, 2)))
            w, b = w - rate * 2 / len(x) * (rows.T @ error), b - rate * 2 * error.mean(1, keepdim=True)
        return torch.stack(costs).numpy()

    def draw(self, plane: dict[str, np.ndarray], curves: dict[tuple[str, float], np.ndarray]) -> Figure:
        figure = Figure(figsize=(15, 7), layout="constrained")
        above, below = figure.subfigures(2, 1)
        for axes, (name, points) in zip(above.subplots(1, 5), plane.items(), strict=True):
            axes.scatter(*points.T)
            axes.set(title=name, xlabel="first column", ylabel="third column")
            axes.ticklabel_format(useOffset=False)
            axes.tick_params(labelsize=7)
        wide = below.subplots()
        for (name, rate), costs in curves.items():
            if not np.isfinite(costs).all():
                continue
            wide.plot(costs.mean(1), "-" if rate > RATE else ":", label=f"{name}, rate {rate:g}")
        wide.set(
            xlabel="step",
            ylabel="cost, mean over seeds",
            yscale="log",
            title="Raw rows, and PCA alone, which leaves the scale as it was, are no numbers after a few steps",
        )
        wide.legend(ncols=2)
        return figure

    def mean_picture(self, report: Report) -> None:
        """Report the mean image of the digits, which CS231n subtracts before training."""
        from supervised import mnist

        x = mnist.digits().train.x.float()
        report.row(
            "digits: mean pixel before and after subtracting the mean image",
            f"{x.mean():.1f}, {abs(float((x - x.mean(0)).mean())):.1f}",
            "zero-centered",
        )


def condition(x: np.ndarray) -> float:
    """Return the condition number of the cost: the squared ratio of the inputs' largest to their smallest singular value."""
    values = np.linalg.svd(np.column_stack([x, np.ones(len(x))]), compute_uv=False)
    return float((values[0] / values[-1]) ** 2)


def preparations() -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """Return the notes' four transforms, each computed by scikit-learn."""
    from sklearn.decomposition import PCA
    from sklearn.preprocessing import MinMaxScaler, StandardScaler

    kinds: dict[str, Callable[[], Any]] = {
        "min-max": MinMaxScaler,
        "standardized": StandardScaler,
        "PCA": PCA,
        "whitened": lambda: PCA(whiten=True),
    }
    return {name: lambda x, kind=kind: kind().fit_transform(x) for name, kind in kinds.items()}


@dataclass
class Overfitting(OnDigits):
    """An MLP memorizes a hundred images; the remedies are more data, fewer features, L2 and dropout."""

    few: int = 100
    """Number of images in the small training set."""

    def run(self, report: Report) -> None:
        found = self.digits(report)
        pictures = found.train.x.flatten(1).float() / 255, found.test.x.flatten(1).float() / 255
        train, test = Data(pictures[0], found.train.y), Data(pictures[1], found.test.y)
        few, more = (
            Data(train.x[: self.few], train.y[: self.few]),
            Data(train.x[: 10 * self.few], train.y[: 10 * self.few]),
        )
        reduced = self.fewer(few, test)
        inputs = train.x.shape[1]
        recipe = Recipe(epochs=100, batch_size=20)
        l2 = Recipe(epochs=100, batch_size=20, optimizer="AdamW", weight_decay=1.0)
        cells = {
            "no remedy": (few, test, recipe, 0.0, inputs),
            "L2 (AdamW, 1.0)": (few, test, l2, 0.0, inputs),
            "dropout .5": (few, test, recipe, 0.5, inputs),
            "fewer features (16 of PCA)": (*reduced, recipe, 0.0, reduced[0].x.shape[1]),
            "ten times the data": (more, test, recipe, 0.0, inputs),
        }
        curves = {}
        for name, (some, judged, how, dropout, size) in cells.items():
            folder = name.split("(")[0].strip().replace(" ", "_")
            fitted = self.fit(
                report,
                folder,
                lambda size=size, dropout=dropout: MLP(size, 10, (256, 256), dropout=dropout),
                some,
                how,
                validation=judged,
            )
            inside, outside = (fitted.evaluate(part)["accuracy"] for part in (some, judged))
            report.shares(f"{name}: accuracy, training", inside, self.all_seeds)
            report.shares(f"{name}: accuracy, test", outside, self.all_seeds)
            curves[name] = [
                [float(row[f"{part}/loss"].mean()) for row in fitted.history] for part in ("train", "validation")
            ]
        self.folds(report, Data(few.x, few.y))
        report.picture("curves", self.draw(curves))

    def fewer(self, few: Data, test: Data) -> tuple[Data, Data]:
        """Return the same images as their 16 principal components, computed from the training images only."""
        from sklearn.decomposition import PCA

        pca = PCA(min(16, len(few.x)), random_state=0).fit(few.x.numpy())
        return tuple(Data(torch.from_numpy(pca.transform(p.x.numpy()).astype(np.float32)), p.y) for p in (few, test))

    def folds(self, report: Report, few: Data) -> None:
        """Choose the strength of L2 by five-fold cross-validation."""
        from sklearn.model_selection import KFold

        for decay in (0.0, 0.1, 1.0):
            recipe = Recipe(epochs=50, batch_size=20, optimizer="AdamW", weight_decay=decay)
            shares = []
            for k, (fit, held) in enumerate(KFold(5, shuffle=True, random_state=0).split(few.x)):
                part = Data(few.x[fit], few.y[fit])
                fitted = self.fit(
                    report, f"folds/{decay:g}_{k}", lambda: MLP(few.x.shape[1], 10, (256, 256)), part, recipe, seeds=[0]
                )
                shares.append(float(fitted.evaluate(Data(few.x[held], few.y[held]))["accuracy"][0]))
            report.shares(f"five folds, L2 {decay:g}: accuracy on the held-out fold", shares, range(5))

    def draw(self, curves: dict[str, list[list[float]]]) -> Figure:
        figure = Figure(figsize=(15, 4.2), layout="constrained")
        for axes, (name, (train, validation)) in zip(
            figure.subplots(1, len(curves), sharey=True), curves.items(), strict=True
        ):
            axes.plot(train, label="training")
            axes.plot(validation, label="test")
            axes.set(title=name, xlabel="epoch", yscale="log")
        figure.axes[0].set_ylabel("cost, mean over seeds")
        figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
        figure.suptitle("Overfitting: the training cost goes on falling, the test cost turns and rises")
        return figure
