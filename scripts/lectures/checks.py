"""Two checks before training (CS231n, lecture 6), and a network trained with a handwritten backward pass."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import nn

from lectures.experiment import OnDigits
from lectures.report import Report
from supervised import MLP, Data, Recipe
from supervised.streams import generator

TEN = 10  # examples to overfit
OVERFIT = Recipe(epochs=200, batch_size=None, learning_rate=1e-2)
Parameters = list[np.ndarray]  # weights [inputs, outputs] and biases [outputs] of each layer in turn, float64


@dataclass
class SanityChecks(OnDigits):
    """Two checks before training: the initial cost is log C, and a working network overfits ten examples."""

    seeds: int = 10
    """Number of seeds."""
    data: Literal["auto", "mnist", "digits"] = "digits"
    """digits: scikit-learn's 1 797 small images; mnist: MNIST; auto: MNIST if available, otherwise digits."""
    pictures: int = 10_000
    """Number of training images over which the initial cost is averaged."""
    penalty: float = 0.01
    """Strength of the L2 penalty, penalty * sum(W²)."""

    def run(self, report: Report) -> None:
        train = self.digits(report, self.pictures).train
        inputs = math.prod(train.x.shape[1:])

        def net(init: str, classes: int = 10) -> Callable[[], nn.Module]:
            return lambda: MLP(inputs, classes, (64,), init=init)

        for classes in (2, 5, 10):
            some = Data(train.x[train.y < classes], train.y[train.y < classes])
            first = [first_cost(net("normal(0.01)", classes), some, seed) for seed in self.all_seeds]
            what = f"{classes} classes, normal(.01): first cost"
            report.seeds(what, first, self.all_seeds, f"log {classes} = {math.log(classes):.4f}", low=0.0)
        first = [first_cost(net("normal(0.01)"), train, seed, self.penalty) for seed in self.all_seeds]
        report.seeds(
            f"10 classes, with {self.penalty:g} sum(W²): first cost", first, self.all_seeds, "goes up", low=0.0
        )
        first = [first_cost(net("normal"), train, seed) for seed in self.all_seeds]
        report.seeds("10 classes, N(0, 1): first cost", first, self.all_seeds, "fails: weights too large", 2, low=0.0)
        ten = Data(train.x[:TEN], train.y[:TEN])
        drawn = Data(ten.x, torch.from_numpy(generator(0, "data").integers(0, 10, TEN)))
        curves = {
            "ten examples": self.overfit(report, "ten examples", net("he"), ten, "cost 0, all correct"),
            "ten random labels": self.overfit(report, "ten random labels", net("he"), drawn, "cost 0, all correct"),
            "all weights zero": self.overfit(report, "all weights zero", net("zeros"), ten, "fails: it cannot learn"),
        }
        report.picture("overfit", draw_costs(curves, "Ten examples are overfitted by a network that can learn", 1e-4))

    def overfit(self, report: Report, name: str, make: Callable[[], nn.Module], data: Data, note: str) -> np.ndarray:
        """Fit ten examples and report the result. Return the cost at each step, averaged over seeds."""
        fitted = self.fit(report, name.replace(" ", "_"), make, data, OVERFIT)
        found = fitted.evaluate(data)
        report.seeds(f"{name}: cost after {fitted.epoch} steps", found["loss"], self.all_seeds, note, low=0.0)
        report.shares(f"{name}: accuracy", found["accuracy"], self.all_seeds)
        costs = np.array([row["train/loss"].mean() for row in fitted.history])
        report.curve("cost", costs, name.replace(" ", "_"))
        return costs


def first_cost(make: Callable[[], nn.Module], data: Data, seed: int, penalty: float = 0.0) -> float:
    """Return the mean cross-entropy of an untrained network, plus penalty * sum(W²)."""
    torch.manual_seed(seed)
    model = make()
    with torch.no_grad():
        cost = F.cross_entropy(model(data.x.float() / 255), data.y)
        squares = sum(float(p.square().sum()) for p in model.parameters() if p.ndim > 1)
    return float(cost) + penalty * squares


def draw_costs(curves: dict[str, np.ndarray], title: str, low: float) -> Figure:
    """Plot training costs over steps, one line each; values below `low` are cut off."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for (name, costs), style in zip(curves.items(), ("-", "--", "-."), strict=False):
        axes.plot(costs, style, label=name)
    axes.set(yscale="log", xlabel="step", ylabel="training cost (cross-entropy)", title=title)
    axes.set_ylim(bottom=max(low, min(float(costs.min()) for costs in curves.values()) / 1.5))
    figure.legend(loc="outside lower center", ncols=len(curves))
    return figure


@dataclass
class BackwardByHand(OnDigits):
    """A network with two hidden layers in numpy and a handwritten backward pass; gradients and costs compared with autograd's."""

    seeds: int = 10
    """Number of seeds."""
    data: Literal["auto", "mnist", "digits"] = "digits"
    """digits: scikit-learn's 1 797 small images; mnist: MNIST; auto: MNIST if available, otherwise digits."""
    pictures: int = 10_000
    """Number of training images."""
    widths: tuple[int, ...] = (64, 32)
    """Units of each hidden layer."""
    rate: float = 0.2
    """Learning rate of gradient descent."""

    def run(self, report: Report) -> None:
        from threadpoolctl import threadpool_limits

        with threadpool_limits(self.threads or 1):  # the matrices are small
            self.compare(report)

    def compare(self, report: Report) -> None:
        """Train both ways from the same weights, seed by seed."""
        found = self.digits(report, self.pictures)
        x, y = rows_of(found.train)
        test_x, test_y = rows_of(found.test)
        differences, numeric, apart, right, learned = [], [], [], [], []
        for seed in self.all_seeds:
            rng = generator(seed, "weights")
            start = first_parameters((x.shape[1], *self.widths, 10), rng)
            _, by_hand = backward(start, x[:50], y[:50])
            differences.append(largest_difference(by_hand, autograd(start, x[:50], y[:50])[1]))
            numeric.append(largest_difference(*by_differences(start, by_hand, x[:50], y[:50], rng)))
            batches = [
                part for _ in range(self.epochs or 10) for part in np.split(rng.permutation(len(x)), cuts(len(x)))
            ]
            costs, end = descend(backward, start, x, y, batches, self.rate)
            costs_of_torch, end_of_torch = descend(autograd, start, x, y, batches, self.rate)
            apart.append(float(np.abs(costs - costs_of_torch).max()))
            right.append(float((forward(end, test_x)[-1].argmax(1) == test_y).mean()))
            learned.append(float((forward(end_of_torch, test_x)[-1].argmax(1) == test_y).mean()))
            if seed == self.all_seeds[0]:
                curves = {"by hand (numpy)": costs, "autograd (torch)": costs_of_torch}
        note = "local slope times the one from above"
        self.largest(report, "gradient by hand and by autograd: largest relative difference", differences, note)
        self.largest(report, "gradient by hand and by differences: largest relative difference", numeric)
        self.largest(report, f"cost by hand and by autograd: largest difference in {len(batches)} steps", apart)
        report.shares("trained by hand: test accuracy", right, self.all_seeds)
        report.shares("trained by autograd: test accuracy", learned, self.all_seeds)
        for name, costs in curves.items():
            report.curve("cost", costs, name.split(" (")[0].replace(" ", "_"))
        report.picture(
            "costs", draw_costs(curves, "One curve: the costs of the first seed, by hand and by autograd", 1e-6)
        )

    def largest(self, report: Report, what: str, values: Sequence[float], note: str = "") -> None:
        """Report the largest value over all seeds."""
        report.row(f"{what}, {len(values)} seeds", f"{max(values):.1e}", note)


def rows_of(data: Data) -> tuple[np.ndarray, np.ndarray]:
    """Return images as rows, float64 [M, pixels] in [0, 1], and their classes, int64 [M]."""
    return data.x.flatten(1).double().numpy() / 255, data.y.numpy()


def cuts(examples: int, batch: int = 50) -> list[int]:
    """Return the batches of a random permutation of the examples."""
    return list(range(batch, examples, batch))


def first_parameters(sizes: Sequence[int], rng: np.random.Generator) -> Parameters:
    """Return He-initialized weights and small random biases, so that no ReLU input is exactly 0."""
    found: Parameters = []
    for inputs, outputs in itertools.pairwise(sizes):
        found += [rng.normal(0, math.sqrt(2 / inputs), (inputs, outputs)), rng.normal(0, 0.01, outputs)]
    return found


def forward(parameters: Parameters, x: np.ndarray) -> list[np.ndarray]:
    """Return the input [B, inputs], each hidden layer after its ReLU [B, units], and the logits [B, classes]."""
    answers = [x]
    for weight, bias in zip(parameters[:-2:2], parameters[1:-2:2], strict=True):
        answers.append(np.maximum(answers[-1] @ weight + bias, 0))
    return [*answers, answers[-1] @ parameters[-2] + parameters[-1]]


def backward(parameters: Parameters, x: np.ndarray, y: np.ndarray) -> tuple[float, Parameters]:
    """Return the mean cross-entropy of x [B, inputs] and y [B], and its gradient for each parameter, by the chain rule."""
    *answers, logits = forward(parameters, x)
    shifted = logits - logits.max(1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    cost = -float(log_p[np.arange(len(y)), y].mean())
    slope = np.exp(log_p)  # gradient of the cost for the logits: (softmax - one-hot) / B
    slope[np.arange(len(y)), y] -= 1
    slope /= len(y)
    gradients: Parameters = []
    for weight, inputs in zip(parameters[-2::-2], reversed(answers), strict=True):
        gradients = [inputs.T @ slope, slope.sum(0), *gradients]
        slope = (slope @ weight.T) * (inputs > 0)  # through the layer, then through the ReLU below it
    return cost, gradients


def autograd(parameters: Parameters, x: np.ndarray, y: np.ndarray) -> tuple[float, Parameters]:
    """Return the same cost and gradients, computed by torch.autograd."""
    leaves = [torch.tensor(p, requires_grad=True) for p in parameters]
    answer = torch.from_numpy(x)
    for weight, bias in zip(leaves[:-2:2], leaves[1:-2:2], strict=True):
        answer = torch.relu(answer @ weight + bias)
    cost = F.cross_entropy(answer @ leaves[-2] + leaves[-1], torch.from_numpy(y))
    return float(cost.detach()), [g.numpy() for g in torch.autograd.grad(cost, leaves)]


def by_differences(
    parameters: Parameters, gradients: Parameters, x: np.ndarray, y: np.ndarray, rng: np.random.Generator, each: int = 5
) -> tuple[Parameters, Parameters]:
    """Return some entries of each gradient, and the same by central differences of the cost."""
    step, given, found = 1e-6, [], []
    for parameter, gradient in zip(parameters, gradients, strict=True):
        places = rng.choice(parameter.size, min(each, parameter.size), replace=False)
        costs = []
        for place in places:
            kept = parameter.flat[place]
            for moved in (kept + step, kept - step):
                parameter.flat[place] = moved
                costs.append(backward(parameters, x, y)[0])
            parameter.flat[place] = kept
        found.append((np.array(costs[::2]) - np.array(costs[1::2])) / (2 * step))
        given.append(gradient.flat[places])
    return given, found


def largest_difference(some: Parameters, others: Parameters) -> float:
    """Return the largest difference between two lists of arrays, relative to each array's largest entry."""
    return max(
        float(np.abs(a - b).max() / max(np.abs(a).max(), np.abs(b).max(), 1e-12))
        for a, b in zip(some, others, strict=True)
    )


def descend(
    slopes: Callable[[Parameters, np.ndarray, np.ndarray], tuple[float, Parameters]],
    start: Parameters,
    x: np.ndarray,
    y: np.ndarray,
    batches: Sequence[np.ndarray],
    rate: float,
) -> tuple[np.ndarray, Parameters]:
    """Run gradient descent with the gradients from `slopes`. Return the cost before each step, and the final parameters."""
    parameters, costs = [p.copy() for p in start], []
    for batch in batches:
        cost, gradients = slopes(parameters, x[batch], y[batch])
        parameters = [p - rate * g for p, g in zip(parameters, gradients, strict=True)]
        costs.append(cost)
    return np.array(costs), parameters
