"""Residual networks compared with plain ones of equal depth (He et al. 2016)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from matplotlib.figure import Figure

from lectures.experiment import OnDigits
from lectures.report import Report
from supervised import CNN, Recipe

BLOCKS = {"plain": "vgg", "residual": "residual"}
RECIPE = Recipe(epochs=8, batch_size=100, learning_rate=1e-2, schedule="LinearLR")  # chosen on seeds 100 to 102


@dataclass
class ResidualNetworks(OnDigits):
    """Blocks of two convolutions with and without a skip connection: a shallow and a deep network of each kind."""

    seeds: int = 10
    """Number of seeds."""
    data: Literal["auto", "mnist", "digits"] = "digits"
    """digits: scikit-learn's 1 797 small images; mnist: MNIST; auto: MNIST if available, otherwise digits."""
    pictures: int = 10_000
    """Number of training images."""
    blocks: tuple[int, ...] = (2, 8)
    """Number of blocks of two convolutions in each network."""
    channels: int = 16
    """Channels of each convolution."""

    def run(self, report: Report) -> None:
        found = self.digits(report, self.pictures)
        shape = tuple(found.train.x.shape[1:])
        curves: dict[tuple[int, str], np.ndarray] = {}
        for blocks in self.blocks:
            for name in BLOCKS:
                fitted = self.fit(
                    report,
                    f"{name}_{blocks}",
                    lambda name=name, blocks=blocks: network(shape, name, blocks, self.channels),
                    found.train,
                    RECIPE,
                )
                curves[blocks, name] = np.stack([row["train/loss"] for row in fitted.history])
                what = f"{name}, {2 * blocks} convolutions"
                report.seeds(f"{what}: training cost at the end", curves[blocks, name][-1], self.all_seeds, low=0.0)
                right = fitted.evaluate(found.test)["accuracy"]
                report.shares(f"{what}: test accuracy", right, self.all_seeds)
        report.picture("costs", self.draw(curves))

    def draw(self, curves: Mapping[tuple[int, str], np.ndarray]) -> Figure:
        figure = Figure(figsize=(10, 4.2), layout="constrained")
        plots = dict(zip(self.blocks, figure.subplots(1, len(self.blocks), sharey=True, squeeze=False)[0], strict=True))
        for (blocks, name), costs in curves.items():
            color, epochs = f"C{list(BLOCKS).index(name)}", range(1, len(costs) + 1)
            plots[blocks].plot(epochs, costs, color=color, linewidth=0.5, alpha=0.5)
            plots[blocks].plot(epochs, costs.mean(1), color=color, linewidth=2.5, label=name)
            plots[blocks].set(yscale="log", xlabel="epoch", title=f"{2 * blocks} convolutions")
        plots[self.blocks[0]].set_ylabel("training cost, each seed and their mean")
        handles, names = plots[self.blocks[0]].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=2)
        return figure


def network(shape: tuple[int, ...], name: str, blocks: int, channels: int) -> CNN:
    """Build blocks of 3x3 convolutions with batch norm, the first at half the resolution, and global average pooling."""
    return CNN(
        (1, *shape),
        10,
        [channels] * blocks,
        block=BLOCKS[name],
        stride=[2] + [1] * (blocks - 1),
        pool=None,
        global_pool="average",
        norm=True,
        init="he",
    )
