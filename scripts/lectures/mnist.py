"""The notes' models for handwritten digits: softmax regression, MLPs, deep MLPs, CNNs and an ensemble."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import nn

from lectures.experiment import OnDigits
from lectures.report import Report
from supervised import CNN, MLP, Fit, Recipe, SoftmaxRegression, mnist, statistics
from supervised.augment import Affine
from supervised.session import results

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Net:
    """A model for images of a given shape, its recipe, and the result in the notes."""

    title: str
    make: Callable[[Shape], nn.Module]
    recipe: Recipe
    note: str = ""


@dataclass
class Judged(OnDigits):
    """Models that are trained on all images and evaluated once on the test set."""

    NETS: ClassVar[Mapping[str, Net]] = {}

    hold_out: float = 0.0
    """Share of the training data used for validation, to choose settings; 0 trains on all of it."""

    def chosen(self) -> tuple[str, ...]:
        """Return the names of the models to train."""
        return tuple(self.NETS)

    def check(self) -> None:
        """Raise ValueError for an invalid flag, before any work."""
        super().check()
        if not self.chosen():
            raise ValueError(f"--nets needs at least one of {', '.join(self.NETS)}.")

    def run(self, report: Report) -> None:
        found = self.digits(report)
        for name in self.chosen():
            self.judge(report, name, found)

    def judge(self, report: Report, name: str, found: mnist.Digits) -> Fit:
        """Fit one model and evaluate it once on the test set."""
        net, shape = self.NETS[name], tuple(found.train.x.shape[1:])
        folder = name if len(self.chosen()) > 1 else ""
        fitted = self.fit(
            report, folder, lambda: net.make(shape), found.train, net.recipe, validation=self.hold_out or None
        )
        report.print(f"Computed in {fitted.compute_plan}.")
        facts: dict[str, Any] = {"recipe": fitted.recipe.to_json()}
        if fitted.validation is not None:
            accuracy = fitted.evaluate(fitted.validation)["accuracy"]
            facts["validation_accuracy"] = results.summary(accuracy, fitted.stack.seeds, *statistics.SHARE)
            report.row(f"{net.title}: validation accuracy", facts["validation_accuracy"])
        answers = fitted.probabilities(found.test.x)
        right = (answers.argmax(-1).cpu() == found.test.y).double().mean(1).numpy()
        facts["test_accuracy"] = results.summary(right, fitted.stack.seeds, *statistics.SHARE)
        report.facts.setdefault("nets", {})[name] = facts
        report.row(net.title, facts["test_accuracy"], self.note(report, net.note))
        if "ensemble" in name:
            together = float((answers.mean(0).argmax(-1).cpu() == found.test.y).double().mean())
            report.row(f"the {len(right)} of them together", together, self.note(report, ".9952 (7 of the lecture's)"))
            facts["ensemble_accuracy"] = together
        return fitted


ADAM = Recipe(epochs=15, batch_size=100)
FADING = dataclasses.replace(ADAM, schedule="LinearLR")
ALTERED = Affine(degrees=10, scale=0.1, shear=5, shift=0.05)
BEST = Recipe(epochs=10, batch_size=100, learning_rate=3e-3, schedule="OneCycleLR", augment=(ALTERED,))


def softmax(init: str) -> Callable[[Shape], nn.Module]:
    return lambda shape: SoftmaxRegression(math.prod(shape), 10, init=init)


def mlp(*widths: int, **options: Any) -> Callable[[Shape], nn.Module]:
    return lambda shape: MLP(math.prod(shape), 10, widths, **options)


def lecture_cnn(shape: Shape) -> nn.Module:
    """The notes' class model as written: convolutions without bias, drawn from normal(0.01), then Xavier with biases from
    normal(1); three tenths dropped everywhere."""
    net = CNN((1, *shape), 10, (32, 64, 128), widths=(625,), bias=False, dropout=0.3, dense_dropout=0.3, init="xavier")
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.normal_(layer.weight, std=0.01)
        elif isinstance(layer, nn.Linear):
            nn.init.normal_(layer.bias)
    return net


def best_cnn(shape: Shape) -> nn.Module:
    """Three pairs of convolutions with batch norm."""
    return CNN((1, *shape), 10, (24, 48, 96), block="vgg", norm=True, dropout=0.1)


@dataclass
class Softmax(Judged):
    """Softmax regression with the notes' three settings, and ours."""

    NETS: ClassVar[Mapping[str, Net]] = {
        "sgd": Net(
            "SGD .1, 15 epochs, N(0, 1)",
            softmax("normal"),
            Recipe(epochs=15, batch_size=100, optimizer="SGD", learning_rate=0.1),
            ".8951",
        ),
        "sgd-long": Net(
            "SGD .4, 100 epochs, N(0, 1)",
            softmax("normal"),
            Recipe(epochs=100, batch_size=100, optimizer="SGD", learning_rate=0.4),
            ".9225",
        ),
        "adam": Net("Adam, 15 epochs, N(0, 1)", softmax("normal"), ADAM, ".9035"),
        "best": Net(
            "from zeros, Adam with decaying rate, 30 epochs", softmax("zeros"), dataclasses.replace(FADING, epochs=30)
        ),
    }


@dataclass
class Perceptron(Judged):
    """MLPs with Xavier initialization: two hidden layers, one, and five layers in all."""

    NETS: ClassVar[Mapping[str, Net]] = {
        "lecture": Net("256-256, Xavier, Adam, 15 epochs", mlp(256, 256, init="xavier"), ADAM, ".9783"),
        "best": Net("the same, rate decaying to 0", mlp(256, 256, init="xavier"), FADING),
        "one-layer": Net("one hidden layer of 256", mlp(256, init="xavier"), FADING, "about .92"),
        "five-layer": Net("five layers, ReLU", mlp(256, 256, 256, 256, init="xavier"), FADING, "about .97"),
    }


@dataclass
class Deep(Judged):
    """Five layers of 512: plain, with dropout, with batch norm, and with dropout and augmented images."""

    NETS: ClassVar[Mapping[str, Net]] = {
        "plain": Net("5 layers of 512, Xavier", mlp(*[512] * 4, init="xavier"), ADAM, ".9742 (lecture's code)"),
        "dropout": Net("dropout .3", mlp(*[512] * 4, init="xavier", dropout=0.3), ADAM, ".9804"),
        "batch-norm": Net(
            "batch-norm", mlp(*[512] * 4, init="xavier", norm="batch"), ADAM, ".9826 (lecture's code, 10-7)"
        ),
        "best": Net(
            "dropout .3, augmented images, rate decaying to 0",
            mlp(*[512] * 4, init="xavier", dropout=0.3),
            dataclasses.replace(FADING, augment=(ALTERED,)),
            "about .99",
        ),
    }
    nets: tuple[Literal["plain", "dropout", "batch-norm", "best"], ...] = ("plain", "dropout", "batch-norm", "best")
    """Which networks to train."""

    def chosen(self) -> tuple[str, ...]:
        return self.nets


@dataclass
class Convolutional(Judged):
    """CNNs: the notes' simple one, their class model as written, and our best."""

    NETS: ClassVar[Mapping[str, Net]] = {
        "lecture": Net("3 convolutions as written, 15 epochs", lecture_cnn, ADAM, ".9938"),
        "simple": Net("2 convolutions, 15 epochs", lambda s: CNN((1, *s), 10, (32, 64), init="xavier"), ADAM, ".9885"),
        "best": Net("best single CNN, 10 epochs", best_cnn, BEST, "1.00"),
    }
    nets: tuple[Literal["lecture", "simple", "best"], ...] = ("lecture",)
    """Which networks to train; each takes some minutes per seed."""

    def chosen(self) -> tuple[str, ...]:
        return self.nets


@dataclass
class Ensemble(Judged):
    """An ensemble of the best CNN: several members with different seeds, whose probabilities are averaged."""

    NETS: ClassVar[Mapping[str, Net]] = {"ensemble": Net("best CNN, each alone", best_cnn, BEST, "1.00")}
    seeds: int = 5
    """Number of members."""


@dataclass
class Initializers(Judged):
    """The same MLP (256-256, ReLU, Adam) with different initializers: its cost in the first epochs and its accuracy."""

    NETS: ClassVar[Mapping[str, Net]] = {
        name: Net(title, mlp(256, 256, init=init), ADAM, note)
        for name, title, init, note in (
            ("normal", "N(0, 1)", "normal", ".9455"),
            ("xavier", "Xavier", "xavier", ".9783"),
            ("he", "He (MSRA)", "he", "named"),
            ("truncated", "truncated normal(.1)", "truncated_normal(0.1)", "named"),
            ("small", "normal(.001)", "normal(0.001)", "activations go to 0"),
            ("zeros", "zeros", "zeros", ""),
        )
    }

    def run(self, report: Report) -> None:
        found = self.digits(report)
        costs = {"normal": "141.2, 38.8, 24.0", "xavier": ".3015, .1073, .0649"}
        curves = {}
        for name, net in self.NETS.items():
            fitted = self.judge(report, name, found)
            curves[net.title] = [float(row["train/loss"].mean()) for row in fitted.history]
            first = ", ".join(f"{value:.3f}" for value in curves[net.title][:3])
            report.row(f"{net.title}: cost of the first epochs", first, self.note(report, costs.get(name, "")))
        report.picture("costs", draw(curves))


def draw(curves: Mapping[str, list[float]]) -> Any:
    """Plot training cost over epochs, one line per model."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 5), layout="constrained")
    axes = figure.subplots()
    for name, values in curves.items():
        axes.plot(range(1, len(values) + 1), values, label=name)
    axes.set(yscale="log", xlabel="epoch", ylabel="training cost (cross-entropy)", title="Where training starts")
    axes.legend()
    return figure
