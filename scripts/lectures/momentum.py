"""Momentum 0, .9 and .99 in a valley and in training a network, where higher momentum needs a lower learning rate."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import torch
from matplotlib.figure import Figure

from lectures.descent import RATES, SURFACES, arrival, walk
from lectures.experiment import OnDigits
from lectures.report import Report
from supervised import MLP, Fit, Recipe, mnist

MOMENTA = (0.0, 0.9, 0.99)
TUNING = 3  # seeds for each rate tried, from 100 on; those reported begin at 0


@dataclass
class Momentum(OnDigits):
    """SGD with momentum 0, .9 and .99: steps in a valley, and a network's cost at the same learning rate and at the best one."""

    seeds: int = 10
    """Number of seeds."""
    data: Literal["auto", "mnist", "digits"] = "digits"
    """digits: scikit-learn's 1 797 small images; mnist: MNIST; auto: MNIST if available, otherwise digits."""
    pictures: int = 10_000
    """Number of training images."""
    rates: tuple[float, ...] = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
    """Learning rates to try; the best is chosen by the training cost on seeds other than those reported."""
    steps: int = 1500
    """Maximum number of steps in the valley."""

    def run(self, report: Report) -> None:
        ways = {momentum: self.valley(report, momentum) for momentum in MOMENTA}
        found = self.digits(report, self.pictures)
        tried = {momentum: self.tune(report, found, momentum) for momentum in MOMENTA}
        best = {momentum: self.rates[int(costs.argmin())] for momentum, costs in tried.items()}
        curves = {}
        for how, chosen in (("same rate", dict.fromkeys(MOMENTA, best[0.9])), ("best rate", best)):
            for momentum, rate in chosen.items():
                name = f"momentum {momentum:g}, {how} {rate:g}"
                fitted = self.train(report, found, momentum, rate, self.all_seeds, how)
                report.seeds(f"{name}: training cost at the end", self.cost(fitted), self.all_seeds, "", 4, low=0.0)
                right = fitted.evaluate(found.test)["accuracy"]
                report.shares(f"{name}: test accuracy", right, self.all_seeds)
                curves[how, name.replace(f", {how}", ", rate")] = np.array(
                    [r["train/loss"].mean() for r in fitted.history]
                )
        report.picture("momentum", self.draw(ways, tried, curves))

    def valley(self, report: Report, momentum: float) -> np.ndarray:
        """Return the excess over the minimum at each step in the valley, at the learning rate that is fastest there."""
        surface, make = SURFACES["valley"], partial(torch.optim.SGD, momentum=momentum)
        ways = {rate: walk(surface, make, rate, self.steps) for rate in RATES if 1e-3 <= rate <= 0.1}
        took = {rate: arrival(way, surface.lowest) for rate, way in ways.items() if len(way) > self.steps}
        rate = min(took, key=lambda r: math.inf if took[r] is None else took[r])
        text = "not reached" if took[rate] is None else f"{took[rate]} steps"
        report.row(f"valley, momentum {momentum:g}: steps to the minimum", f"{text} (rate {rate:g})")
        report.curve("valley_value", ways[rate][:, 2], f"momentum_{momentum:g}", every=5)
        return ways[rate][:, 2] - surface.lowest

    def tune(self, report: Report, found: mnist.Digits, momentum: float) -> np.ndarray:
        """Return the final training cost of each learning rate, [rates], averaged over the seeds for tuning."""
        seeds, rates = range(100, 100 + TUNING * len(self.rates)), self.rates * TUNING
        fitted = self.train(report, found, momentum, rates, seeds, "tuning")
        return self.cost(fitted).reshape(TUNING, -1).mean(0)

    def train(
        self,
        report: Report,
        found: mnist.Digits,
        momentum: float,
        rate: float | tuple[float, ...],
        seeds: Sequence[int],
        how: str,
    ) -> Fit:
        """Fit the network with one momentum, and one learning rate or one per seed."""
        recipe = Recipe(
            epochs=6,
            batch_size=50,
            optimizer="SGD",
            learning_rate=rate,
            optimizer_options={"momentum": momentum},
            stop_if_diverging=False,
        )
        pixels = math.prod(found.train.x.shape[1:])
        return self.fit(
            report,
            f"{how}_momentum_{momentum:g}".replace(" ", "_"),
            lambda: MLP(pixels, 10, (64,), init="he"),
            found.train,
            recipe,
            seeds=seeds,
        )

    def cost(self, fitted: Fit) -> np.ndarray:
        """Return the training cost of each seed in the last epoch, [N]; infinity instead of NaN."""
        return np.nan_to_num(fitted.history[-1]["train/loss"].astype(np.float64), nan=np.inf)

    def draw(
        self,
        ways: Mapping[float, np.ndarray],
        tried: Mapping[float, np.ndarray],
        curves: Mapping[tuple[str, str], np.ndarray],
    ) -> Figure:
        figure = Figure(figsize=(15, 4.6), layout="constrained")
        valley, rates, same, best = figure.subplots(1, 4)
        for momentum, values in ways.items():
            valley.plot(values.clip(1e-12), label=f"momentum {momentum:g}", linewidth=1)
        valley.set(
            yscale="log", xlabel="step", ylabel="value above the lowest", title="In the valley, best rates", ylim=1e-10
        )
        for costs in tried.values():
            rates.plot(self.rates, costs, "o-")
        rates.set(
            xscale="log",
            yscale="log",
            xlabel="learning rate",
            ylabel="cost after training (tuning seeds)",
            title="Which rate for which momentum",
        )
        for (how, _), values in curves.items():
            axes = same if how == "same rate" else best
            axes.plot(range(1, len(values) + 1), values)
            axes.set(yscale="log", xlabel="epoch", ylabel="training cost", title=f"The network, {how}")
        figure.legend(loc="outside lower center", ncols=3)
        return figure
