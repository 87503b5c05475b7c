"""Linear regression: the cost surface, gradient descent, and several inputs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from lectures.datasets import FromFiles, rows_of
from lectures.experiment import Fitted
from lectures.report import Report
from supervised import Data, LinearRegression, Recipe, data

X = Y = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)  # the notes' data: y is x, so W = 1 and b = 0


def cost(w: Tensor, b: Tensor | float = 0.0) -> Tensor:
    """Return the mean squared error of W x + b, for any number of W and b at once."""
    return ((w[..., None] * X + torch.as_tensor(b)[..., None] - Y) ** 2).mean(-1)


def descend(w: float, rate: float, steps: int, factor: float = 2.0) -> list[float]:
    """Return W after each step of gradient descent. factor: 2 for the exact gradient; the notes' handwritten code omits it."""
    path = [w]
    for _ in range(steps):
        w -= rate * factor * float(((w * X - Y) * X).mean())
        path.append(w)
    return path


def newton(w: float, steps: int) -> list[float]:
    """Return W after each step of Newton's method, with both derivatives by autograd."""
    path = [w]
    for _ in range(steps):
        here = torch.tensor(w, dtype=torch.float64, requires_grad=True)
        (slope,) = torch.autograd.grad(cost(here), here, create_graph=True)
        (curvature,) = torch.autograd.grad(slope, here)
        w -= float(slope.detach() / curvature)
        path.append(w)
    return path


@dataclass
class Linear(Fitted):
    """Linear regression with one input, y = x: cost surface, gradient descent step by step, and Newton's method."""

    rate: float = 0.1
    """Learning rate of the handwritten gradient descent; the notes' figures are for 0.1."""

    def check(self) -> None:
        """Raise ValueError for an invalid flag, before any work."""
        super().check()
        if not 0 < self.rate < 1e6:
            raise ValueError(f"--rate must be a number above 0 and below 1e6, not {self.rate:g}.")

    def run(self, report: Report) -> None:
        down, up = descend(5.0, self.rate, 6), descend(-3.0, self.rate, 6)
        by_hand, at_once = descend(5.0, self.rate, 6, factor=1.0), newton(5.0, 2)
        for step, note in zip(range(5), ("5", "1.2667", "1.0178", "1.0012", "1.00008"), strict=True):
            report.row(f"W from 5, step {step}", down[step], note, 5)
        report.row("W from 5, step 6", down[6], "1, found in 6 steps", 6)
        report.row("W from -3, step 6", up[6], "1, found in 6 steps", 6)
        report.row("the factor 2 left out: steps 1 and 2", f"{by_hand[1]:.3f}, {by_hand[2]:.3f}", "3.133, 2.138")
        report.row("Newton's method from 5, step 1", at_once[1], "asked, not answered", 6)
        for tag, path in (("gradient", down), ("gradient_without_2", by_hand), ("newton", at_once)):
            report.curve("W", path, tag)
        recipe = Recipe(epochs=2001, batch_size=None, optimizer="SGD", learning_rate=0.01)
        fitted = self.fit(report, "fit", lambda: LinearRegression(1), Data(X[:, None].float(), Y.float()), recipe)
        w, b = (fitted.stack.state_dict()[f"head.{part}"].flatten(1)[:, 0] for part in ("weight", "bias"))
        report.seeds(f"W fitted at rate .01 in {fitted.epoch:,} steps", w, self.all_seeds, "close to 1")
        report.seeds("b fitted in the same way", b, self.all_seeds, "close to 0")
        report.picture("cost", self.draw(down, up, at_once))

    def draw(self, down: list[float], up: list[float], at_once: list[float]) -> Figure:
        figure = Figure(figsize=(12, 5), layout="constrained")
        curve = figure.add_subplot(1, 2, 1)
        w = torch.linspace(-3.2, 5.2, 200, dtype=torch.float64)
        curve.plot(w, cost(w), color="0.6")
        for path, name, style in ((down, "gradient, from 5", "o-"), (up, "gradient, from -3", "s-")):
            curve.plot(path, cost(torch.tensor(path)), style, label=name)
        curve.plot(at_once, cost(torch.tensor(at_once)), "^--", label="Newton, from 5")
        curve.set(
            xlabel="W", ylabel="cost(W)", title="The cost of y = W x is a parabola with its lowest point at W = 1"
        )
        curve.legend()
        surface = figure.add_subplot(1, 2, 2, projection="3d")
        w, b = torch.meshgrid(*[torch.linspace(-3, 5, 60, dtype=torch.float64)] * 2, indexing="ij")
        surface.plot_surface(w.numpy(), b.numpy(), cost(w, b).numpy(), cmap="viridis", alpha=0.8)
        surface.plot([1], [0], [0], "ro")
        surface.set(xlabel="W", ylabel="b", zlabel="cost(W, b)", title="With a bias: one bowl, lowest at W = 1, b = 0")
        return figure


@dataclass
class MultiVariable(Fitted, FromFiles):
    """Linear regression with several inputs: the final exam from three earlier ones, by gradient descent and least squares."""

    def run(self, report: Report) -> None:
        five = np.array(rows_of("exam-scores"))
        self.compare(report, "five students", five, 1e-5, 2001)
        table = self.table(report, "data-01-test-score.csv")
        if table is not None:
            report.row("rows, columns of the file", f"{table.values.shape[0]}, {table.values.shape[1]}", "25, 4")
            self.compare(report, "the file's students", table.values, 1e-5, 2001)

    def compare(self, report: Report, name: str, table: np.ndarray, rate: float, steps: int) -> None:
        """Fit the last column to the others: raw, as in the notes, and with standardized inputs."""
        x, y = table[:, :-1], table[:, -1]
        exact = least_squares(x, y)
        raw = Recipe(epochs=steps, batch_size=None, optimizer="SGD", learning_rate=rate)
        scaler, (scaled,) = data.scale("standard", x)
        fits = {
            "raw": self.fit(report, f"{name} raw".replace(" ", "_"), lambda: LinearRegression(3), Data(*_f(x, y)), raw),
            "standardized": self.fit(
                report,
                f"{name} standardized".replace(" ", "_"),
                lambda: LinearRegression(3),
                Data(*_f(scaled, y)),
                Recipe(epochs=steps, batch_size=None, optimizer="SGD", learning_rate=0.1),
            ),
        }
        report.row(f"{name}: cost of the exact solution", exact, "", 3)
        for how, inputs in (("raw", x), ("standardized", scaled)):
            loss = fits[how].evaluate(Data(*_f(inputs, y)))["loss"]
            report.seeds(
                f"{name}: cost after {fits[how].epoch:,} steps, {how} inputs", loss, self.all_seeds, "", 3, low=0.0
            )
        new = np.array([[100.0, 70.0, 101.0]])
        report.seeds(
            f"{name}: score predicted for 100, 70, 101",
            fits["standardized"].predict(scaler.transform(new))[:, 0, 0].cpu(),
            self.all_seeds,
            "",
            1,
        )


def least_squares(x: np.ndarray, y: np.ndarray) -> float:
    """Return the mean squared error of the exact least-squares solution."""
    wide = np.column_stack([x, np.ones(len(x))])
    best, *_ = np.linalg.lstsq(wide, y, rcond=None)
    return float(((wide @ best - y) ** 2).mean())


def _f(*parts: np.ndarray) -> list[Tensor]:
    return [torch.from_numpy(np.asarray(part, np.float32)) for part in parts]
