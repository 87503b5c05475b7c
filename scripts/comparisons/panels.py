"""Comparisons of agents over the same seeds: train each agent, measure it during training, save and plot it."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from lectures.report import Report

import rl
from supervised import statistics
from supervised.checkpoint import CheckpointError
from supervised.session import results

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Measure = Callable[["rl.Run"], np.ndarray]


@dataclass(frozen=True)
class Panel:
    """One comparison: agents in an environment, and what is measured at `points` steps during training."""

    title: str
    env: str
    agents: Mapping[str, Any]
    notes: Mapping[str, str]
    measure: Measure
    unit: str
    steps: int
    points: int = 40
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    digits: int = 4
    scale: str = "linear"  # of the y axis, if values exceed 10
    seeds: int | None = None  # number of seeds, if not the default
    floor: float | None = None  # lower bound of values and intervals
    ceiling: float | None = None  # upper bound of values
    lines: Sequence[tuple[float, str]] = ()  # known best values and their names
    measures: Mapping[str, Measure] = field(default_factory=dict)  # for agents that are measured differently
    beside: Mapping[str, Measure] = field(default_factory=dict)  # further measures, plotted in separate axes
    beside_unit: str = ""

    @property
    def possible(self) -> statistics.Range:
        """Return the bounds of the values."""
        return self.floor, self.ceiling


def train(run: rl.Run, panel: Panel, agent: str, steps: int) -> dict[str, Any]:
    """Train and measure one agent. Return {"steps": [...], "values": [[of each seed] ...], "beside": {name: values}}."""
    grid = sorted({max(1, steps * (i + 1) // panel.points) for i in range(panel.points)})
    values: list[list[float | None]] = []
    beside: dict[str, list[list[float | None]]] = {name: [] for name in panel.beside}
    for until in grid:
        rl.train(run, steps=until, progress=False)
        own = panel.measures.get(agent, panel.measure)
        for measure, rows in ((own, values), *zip(panel.beside.values(), beside.values(), strict=True)):
            rows.append([results.number(x) for x in measure(run).tolist()])
    exact = run.exact
    known = (
        {} if exact is None else {name: results.number(getattr(exact, attribute)) for name, attribute in KNOWN.items()}
    )
    also = {"beside": beside} if beside else {}
    return {"steps": grid, "values": values, **also, "configuration": run.to_json(), **known}


# The names of the exact returns in a saved comparison.
KNOWN = {"best": "optimal_return", "stationary": "optimal_stationary_return", "promised": "target_return"}


def curve(report: Report, name: str, panel: Panel, agent: str, seeds: int, steps: int, resume: bool) -> dict[str, Any]:
    """Return one curve: a saved one with the same settings, or else train it and save it."""
    plain = f"{name}_{agent}".replace(" ", "_").replace(",", "").replace("/", "-").replace(":", "-")
    path = report.folder / "cells" / f"{plain}.json"
    run = rl.start(panel.env, panel.agents[agent], seeds, steps=steps, env_kwargs=panel.kwargs)
    if resume and path.is_file():
        try:
            found: dict[str, Any] = json.loads(path.read_text())
            same = found["steps"][-1] == steps and found["configuration"] == json.loads(json.dumps(run.to_json()))
            same = same and numbers(found).shape == (len(found["steps"]), seeds)
            same = same and found.get("beside", {}).keys() == panel.beside.keys()
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise CheckpointError(f"{path} is not a curve saved by this command; remove it to train again.") from error
        if same:
            report.print(f"{panel.title}, {agent}: already finished")
            return found
    began = time.perf_counter()
    found = train(run, panel, agent, steps)
    found["seconds"] = time.perf_counter() - began
    results.write(found, path)
    report.print(f"{panel.title}, {agent}: {steps:,} steps of {seeds} seeds in {found['seconds']:.1f} s")
    return found


def numbers(found: Mapping[str, Any], beside: str | None = None) -> np.ndarray:
    """Return a curve's values, or those of a further measure, [points, N]; NaN where there was nothing to measure yet."""
    return np.array(found["values"] if beside is None else found["beside"][beside], np.float64)


def log(report: Report, name: str, panel: Panel, agent: str, found: Mapping[str, Any]) -> None:
    """Write a curve and its interval to TensorBoard, in a sub-run named after the agent."""
    for step, row in zip(found["steps"], numbers(found), strict=True):
        _, tags = statistics.aggregate({name: row}, [name], {name: panel.possible})
        report.logger.scalars(step, tags, agent.replace(" ", "_"))


def draw(panels: Mapping[str, Panel], found: Mapping[str, Mapping[str, dict[str, Any]]]) -> Figure:
    """One set of axes for each comparison: means over seeds with their 95 % intervals."""
    draws = [functools.partial(draw_one, panel=panels[name], curves=curves) for name, curves in found.items()]
    draws += [
        functools.partial(draw_beside, panel=panels[name], curves=curves)
        for name, curves in found.items()
        if panels[name].beside
    ]
    columns = min(2, len(draws))
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.5 * columns, 4.9 * -(-len(draws) // 2)), layout="constrained")
    axes = figure.subplots(-(-len(draws) // 2), columns, squeeze=False).flat
    for one, draw_into in zip(axes, draws, strict=False):
        draw_into(one)
        one.legend(
            loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2, fontsize="small"
        )  # below, so that it covers no curve
    for one in figure.axes[len(draws) :]:
        one.axis("off")
    return figure


def draw_groups(
    panels: Mapping[str, Panel],
    found: Mapping[str, Mapping[str, dict[str, Any]]],
    groups: Mapping[str, Sequence[str]],
    beside: str,
) -> Figure:
    """A row of axes for each group of agents, a column for each comparison; the agent `beside` is in each, in black."""
    known = next(iter(found.values()))
    rows = {title: [n for n in names if n in known] for title, names in groups.items()}
    rows["others"] = [n for n in known if not any(n in names for names in rows.values())]
    rows = {title: names for title, names in rows.items() if names and (names != [beside] or len(known) == 1)}
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6 * len(found) + 2.4, 3.1 * len(rows)), layout="constrained")
    for row, (title, names) in zip(figure.subplots(len(rows), len(found), squeeze=False), rows.items(), strict=True):
        for axes, (name, curves) in zip(row, found.items(), strict=True):
            shown = {beside: curves[beside]} if beside in curves else {}
            draw_one(axes, panels[name], {n: curves[n] for n in names}, shown)
            axes.set_title(f"{panels[name].title}: {title}", fontsize=10)
        row[-1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def draw_one(
    axes: Axes, panel: Panel, curves: Mapping[str, dict[str, Any]], beside: Mapping[str, dict[str, Any]] | None = None
) -> None:
    """Plot curves with their bands, and those of `beside` in black."""
    everything = {**(beside or {}), **curves}
    for agent, one in everything.items():
        values = numbers(one)
        bands = np.array([statistics.interval(row, 0.95, *panel.possible) for row in values])
        color = {"color": "black", "linewidth": 1} if agent in (beside or {}) and agent not in curves else {}
        (line,) = axes.plot(one["steps"], values.mean(1), label=agent, **color)
        axes.fill_between(one["steps"], *bands.T, color=line.get_color(), alpha=0.2)
    for (value, name), style in zip(panel.lines, (":", "--"), strict=False):
        axes.axhline(value, color="black", linewidth=1, linestyle=style, label=f"{name}: {value:.{panel.digits}f}")
    wide = max(np.nanmax(np.abs(numbers(one)), initial=0) for one in everything.values()) > 10
    axes.set(title=panel.title, xlabel="environment steps per seed", ylabel=panel.unit)
    axes.set_yscale(panel.scale if wide else "linear")
    if panel.floor == 0:
        axes.set_ylim(bottom=0)


def draw_beside(axes: Axes, panel: Panel, curves: Mapping[str, dict[str, Any]]) -> None:
    """Plot the further measures, means over seeds: a color for each agent, a line style for each measure."""
    for i, (agent, one) in enumerate(curves.items()):
        for name, style in zip(panel.beside, ("-", "--", ":", "-."), strict=False):
            means = np.nanmean(numbers(one, name), 1)
            axes.plot(one["steps"], means, style, color=f"C{i}", label=f"{agent}: {name}")
    axes.set(
        title=f"{panel.title}: {', '.join(panel.beside)}", xlabel="environment steps per seed", ylabel=panel.beside_unit
    )
    axes.set_yscale("symlog")
