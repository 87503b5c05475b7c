"""Optimizers on surfaces that can be plotted: an ill-conditioned valley, a saddle, and Beale's function."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from lectures.datasets import rows_of
from lectures.experiment import Seeded
from lectures.report import Report, pixels

CLOSE = 1e-3  # within this distance of the minimum counts as reached


class Surface(NamedTuple):
    """A function of two numbers, with starting point, minimum, and the region to plot."""

    value: Callable[[Tensor, Tensor], Tensor]
    start: tuple[float, float]
    lowest: float
    window: tuple[float, float, float, float]


SURFACES = {
    "valley": Surface(lambda x, y: (x**2 + 100 * y**2) / 2, (-4.0, 0.5), 0.0, (-4.5, 1.5, -0.8, 0.8)),
    "saddle": Surface(lambda x, y: x**2 / 2 - y**2 / 2 + y**4 / 4, (-2.0, 1e-3), -0.25, (-2.3, 1.2, -1.7, 1.7)),
    "Beale": Surface(
        lambda x, y: (1.5 - x + x * y) ** 2 + (2.25 - x + x * y**2) ** 2 + (2.625 - x + x * y**3) ** 2,
        (1.0, 1.5),
        0.0,
        (-1.0, 4.5, -1.5, 2.0),
    ),
}
Make = Callable[[list[Tensor], float], torch.optim.Optimizer]
OPTIMISERS: dict[str, Make] = {
    "SGD": torch.optim.SGD,
    "momentum .9": lambda p, rate: torch.optim.SGD(p, rate, momentum=0.9),
    "Nesterov .9": lambda p, rate: torch.optim.SGD(p, rate, momentum=0.9, nesterov=True),
    "AdaGrad": torch.optim.Adagrad,
    "RMSProp": torch.optim.RMSprop,
    "Adam": torch.optim.Adam,
    "L-BFGS": lambda p, rate: torch.optim.LBFGS(p, rate, max_iter=1, line_search_fn="strong_wolfe"),
}
RATES = [round(10 ** (k / 3), 6) for k in range(-12, 4)]  # 1e-4 .. 10, three to a power of ten


def walk(surface: Surface, make: Make, rate: float, steps: int) -> np.ndarray:
    """Return the path of one optimizer, [steps + 1, 3]: x, y and the value; shorter if it diverges."""
    place = torch.tensor(surface.start, dtype=torch.float64, requires_grad=True)
    optimizer = make([place], rate)

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = surface.value(*place)
        value.backward()
        return value

    way = []
    for _ in range(steps + 1):
        here = place.detach()
        way.append([*here.tolist(), float(surface.value(*here))])
        if not np.isfinite(way[-1]).all() or abs(way[-1][2]) > 1e12:
            break
        optimizer.step(closure)
    return np.array(way)


def arrival(way: np.ndarray, lowest: float) -> int | None:
    """Return the number of steps after which the value stays near the minimum; None if it never does."""
    far = np.flatnonzero(~(way[:, 2] - lowest < CLOSE))
    first = int(far[-1]) + 1 if len(far) else 0
    return first if first < len(way) else None


@dataclass
class Optimizers(Seeded):
    """Seven optimizers, from SGD to Adam and L-BFGS, on three surfaces, animated; decaying learning rates; mini-batch noise."""

    steps: int = 500
    """Steps of each optimizer."""
    frames: int = 60
    """Frames of the animation."""

    def run(self, report: Report) -> None:
        ways: dict[str, dict[str, np.ndarray]] = {}
        for where, surface in SURFACES.items():
            ways[where] = {}
            for name, make in OPTIMISERS.items():
                tried = {}
                for rate in [1.0] if name == "L-BFGS" else RATES:
                    way = walk(surface, make, rate, self.steps)
                    steps = arrival(way, surface.lowest) if len(way) > self.steps else None
                    tried[rate] = (steps if steps is not None else math.inf, float(way[-1, 2] - surface.lowest), way)
                rate = min(tried, key=lambda r: tried[r][:2] if math.isfinite(tried[r][1]) else (math.inf, math.inf))
                took, left, ways[where][name] = tried[rate]
                text = f"{took} steps" if math.isfinite(took) else f"not reached, {left:.2g} above"
                note = (
                    {"Adam": "recommended", "L-BFGS": "where all data fit into a step"}.get(name, "")
                    if where == "Beale"
                    else ""
                )
                report.row(f"{where}, {name}: steps to the minimum", f"{text} (rate {rate:g})", note)
                report.curve(f"{where}_value", ways[where][name][:, 2], name.replace(" ", "_"), every=5)
        report.animation("animation", [pixels(self.draw(ways, n)) for n in self.shown()])
        report.picture("optimizers", self.draw(ways, self.steps))
        self.noise(report)

    def shown(self) -> list[int]:
        """Return the steps shown in the animation: dense at first."""
        return sorted({int(self.steps * (i / self.frames) ** 2.5) for i in range(self.frames + 1)})

    def draw(self, ways: dict[str, dict[str, np.ndarray]], steps: int) -> Figure:
        figure = Figure(figsize=(13, 5), dpi=70, layout="constrained")
        for axes, (where, found) in zip(figure.subplots(1, 3), ways.items(), strict=True):
            surface = SURFACES[where]
            x0, x1, y0, y1 = surface.window
            x, y = torch.meshgrid(torch.linspace(x0, x1, 120), torch.linspace(y0, y1, 120), indexing="xy")
            value = (surface.value(x, y) - surface.lowest).clamp(min=1e-6)
            axes.contour(x, y, value.log10(), levels=15, colors="0.8")
            for name, way in found.items():
                path = way[: steps + 1]
                (line,) = axes.plot(path[:, 0], path[:, 1], linewidth=1.3, label=name)
                axes.plot(*path[-1, :2], "o", color=line.get_color(), markersize=6)
            axes.set(xlim=(x0, x1), ylim=(y0, y1), title=f"{where}, step {steps}", xlabel="x", ylabel="y")
        handles, names = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=len(names))
        return figure

    def noise(self, report: Report) -> None:
        """Linear regression, one row at a time: the cost fluctuates at a constant rate and converges at a decaying one."""
        rows = np.array(rows_of("exam-scores"))
        x = (rows[:, :-1] - rows[:, :-1].mean(0)) / rows[:, :-1].std(0)
        x, y = (
            torch.from_numpy(np.column_stack([x, np.ones(len(x))])),
            torch.from_numpy(rows[:, -1] - rows[:, -1].mean()),
        )
        best = float(((x @ torch.linalg.lstsq(x, y[:, None]).solution[:, 0] - y) ** 2).mean())
        falls: dict[str, Callable[[torch.optim.Optimizer], torch.optim.lr_scheduler.LRScheduler | None]] = {
            "all rows, constant rate": lambda _o: None,
            "one row, constant rate": lambda _o: None,
            "one row, StepLR": lambda o: torch.optim.lr_scheduler.StepLR(o, max(1, self.steps // 4), 0.3),
            "one row, ExponentialLR": lambda o: torch.optim.lr_scheduler.ExponentialLR(o, 0.01 ** (1 / self.steps)),
            "one row, CosineAnnealingLR": lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, self.steps),
            "one row, OneCycleLR": lambda o: torch.optim.lr_scheduler.OneCycleLR(
                o, 0.1, self.steps + 1, cycle_momentum=False
            ),
        }
        figure = Figure(figsize=(8, 5), layout="constrained")
        axes = figure.subplots()
        for name, schedule in falls.items():
            ends = []
            for k, generator in enumerate(self.generators()):
                w = torch.zeros(4, dtype=torch.float64, requires_grad=True)
                optimizer = torch.optim.SGD([w], 0.1)
                fall, costs = schedule(optimizer), []
                for _ in range(self.steps):
                    i = slice(None) if name.startswith("all") else torch.randint(len(x), (1,), generator=generator)
                    optimizer.zero_grad()
                    ((x[i] @ w - y[i]) ** 2).mean().backward()
                    optimizer.step()
                    if fall is not None:
                        fall.step()
                    costs.append(float(((x @ w.detach() - y) ** 2).mean()) - best)
                ends.append(costs[-1])
                if k == 0:
                    axes.plot(costs, label=name, linewidth=1)
            report.seeds(
                f"{name}: cost above the minimum, step {self.steps}",
                ends,
                self.all_seeds,
                "noisy" if name == "one row, constant rate" else "",
                5,
                low=0.0,
            )
        axes.set(
            yscale="log",
            xlabel="step",
            ylabel="cost above the minimum (first seed)",
            title="Mini-batch noise, and rates that fall",
        )
        axes.legend()
        report.picture("noise", figure)
