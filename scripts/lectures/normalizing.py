"""SELU: networks whose activations converge to mean 0 and standard deviation 1 (Klambauer et al. 2017)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure

from lectures.experiment import OnDigits
from lectures.report import Report
from supervised import MLP, Data, Recipe
from supervised.fitting import inspect


class Net(NamedTuple):
    """An activation, the initializer of the weights, and the learning rate."""

    activation: str
    init: str
    rate: float


NETS = {  # rates: the best of 3e-4, 1e-3 and 3e-3 on a fifth of the training digits, with seeds 100 to 102
    "ReLU, He": Net("relu", "he", 3e-3),
    "ELU, He": Net("elu", "he", 3e-3),
    "ELU, LeCun": Net("elu", "lecun", 3e-3),
    "SELU, LeCun": Net("selu", "lecun", 1e-3),
}


@dataclass
class SelfNormalizing(OnDigits):
    """SELU compared with ReLU and ELU: activations of each layer before training, and accuracy of deep networks after."""

    seeds: int = 10
    """Number of seeds."""
    data: Literal["auto", "mnist", "digits"] = "digits"
    """digits: scikit-learn's 1 797 small images; mnist: MNIST; auto: MNIST if available, otherwise digits."""
    pictures: int = 10_000
    """Number of training images."""
    layers: int = 20
    """Number of hidden layers."""
    width: int = 64
    """Units of each hidden layer of the trained networks."""

    def run(self, report: Report) -> None:
        spreads: dict[tuple[float, str], np.ndarray] = {}
        for scale in (0.5, 1.0, 2.0):
            for name in NETS:
                found = np.array([self.spread(name, scale, seed) for seed in self.all_seeds])
                spreads[scale, name] = found.mean(0)
                what = f"{name}, inputs of std {scale:g}: std of layer {self.layers}"
                note = "goes to 1" if name.startswith("SELU") else ""
                report.seeds(what, found[:, -1], self.all_seeds, note, 3, low=0.0)
                report.curve(f"std_from_{scale:g}", found.mean(0), name.replace(", ", "_"))
        digits = self.digits(report, self.pictures)
        train, test = standardized(digits.train, digits.train), standardized(digits.train, digits.test)
        pixels = train.x.shape[1]
        for name, net in NETS.items():
            recipe = Recipe(epochs=10, batch_size=100, learning_rate=net.rate, schedule="LinearLR")
            fitted = self.fit(
                report,
                f"trained_{name.replace(', ', '_')}",
                lambda net=net: MLP(pixels, 10, [self.width] * self.layers, activation=net.activation, init=net.init),
                train,
                recipe,
            )
            right = fitted.evaluate(test)["accuracy"]
            report.shares(f"{name}, {self.layers} layers, rate {net.rate:g}: test accuracy", right, self.all_seeds)
        report.picture("activations", self.draw(spreads))

    def spread(self, name: str, scale: float, seed: int, units: int = 128) -> list[float]:
        """Return the standard deviation of each hidden layer's activations for normal inputs, before training."""
        torch.manual_seed(seed)
        activation, init, _ = NETS[name]
        net = MLP(units, 10, [units] * self.layers, activation=activation, init=init)
        answers = inspect.activations(net, scale * torch.randn(200, units))
        return [float(answer.std()) for layer, answer in answers.items() if layer.split(".")[-1].startswith(activation)]

    def draw(self, spreads: Mapping[tuple[float, str], np.ndarray]) -> Figure:
        figure = Figure(figsize=(11, 4.2), layout="constrained")
        scales = sorted({scale for scale, _ in spreads})
        plots = dict(zip(scales, figure.subplots(1, len(scales), sharey=True), strict=True))
        for (scale, name), values in spreads.items():
            plots[scale].plot(range(1, len(values) + 1), values, label=name if scale == scales[0] else None)
            plots[scale].set(yscale="log", xlabel="hidden layer", title=f"inputs of standard deviation {scale:g}")
        for axes in plots.values():
            axes.axhline(1, color="0.7", linewidth=0.8, zorder=0)
        plots[scales[0]].set_ylabel("standard deviation of activations")
        figure.legend(loc="outside lower center", ncols=len(NETS))
        figure.suptitle("Before training: SELU brings activations to standard deviation 1, from wherever they start")
        return figure


def standardized(train: Data, data: Data) -> Data:
    """Return images as rows [M, pixels], standardized with the mean and standard deviation of all training pixels."""
    pixels = train.x.float()
    return Data(((data.x.float() - pixels.mean()) / pixels.std()).flatten(1), data.y)
