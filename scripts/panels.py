"""One comparison of agents over the same seeds: each is trained, measured on the way, kept, and drawn."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from lectures.desk import Desk
from matplotlib.figure import Figure

import rl
from supervised import results, statistics

Measure = Callable[[rl.Run], np.ndarray]


@dataclass(frozen=True)
class Panel:
    """One comparison: agents in an environment, and what is measured at `points` steps on the way."""

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
    scale: str = "linear"  # of the axis, where values go beyond 10
    seeds: int | None = None  # how many it needs, if not as many as the others
    line: tuple[float, str] | None = None  # what is known exactly, and its name


def train(run: rl.Run, panel: Panel, steps: int) -> dict[str, Any]:
    """Train one agent, measured on the way -> {"steps": [...], "values": [[of each seed] ...]}."""
    grid = sorted({max(1, steps * (i + 1) // panel.points) for i in range(panel.points)})
    values = []
    for until in grid:
        rl.train(run, steps=until, progress=False)
        values.append(panel.measure(run).tolist())
    exact = run.exact
    known = {} if exact is None else {"best": exact.best, "stationary": exact.stationary}
    return {"steps": grid, "values": values, "configuration": run.config(), **known}


def curve(desk: Desk, name: str, panel: Panel, agent: str, seeds: int, steps: int, resume: bool) -> dict[str, Any]:
    """One curve: read, where the same was done before, or trained and kept."""
    path = desk.folder / "cells" / f"{name}_{agent.replace(' ', '_').replace(',', '')}.json"
    run = rl.start(panel.env, panel.agents[agent], seeds, steps=steps, env_kwargs=panel.kwargs)
    if resume and path.is_file():
        found: dict[str, Any] = json.loads(path.read_text())
        if found["steps"][-1] == steps and found["configuration"] == json.loads(json.dumps(run.config())):
            desk.say(f"{panel.title}, {agent}: done before")
            return found
    began = time.perf_counter()
    found = train(run, panel, steps)
    found["seconds"] = time.perf_counter() - began
    path.parent.mkdir(parents=True, exist_ok=True)
    results.write(found, path.with_suffix(".part"))
    path.with_suffix(".part").replace(path)
    desk.say(f"{panel.title}, {agent}: {steps:,} steps of {seeds} seeds in {found['seconds']:.1f} s")
    return found


def log(desk: Desk, name: str, agent: str, found: Mapping[str, Any]) -> None:
    """A curve and its interval for TensorBoard, in a sub-run of the agent's name."""
    for step, row in zip(found["steps"], found["values"], strict=True):
        low, high = statistics.interval(row)
        tags = {name: float(np.mean(row)), f"{name}_low": low, f"{name}_high": high}
        desk.logger.scalars(step, tags, agent.replace(" ", "_"))


def draw(panels: Mapping[str, Panel], found: Mapping[str, Mapping[str, dict[str, Any]]]) -> Figure:
    """One set of axes for each comparison: means over seeds with their 95 % intervals."""
    rows, columns = -(-len(found) // 2), min(2, len(found))
    shared = len({tuple(curves) for curves in found.values()}) == 1 and len(next(iter(found.values()))) > 5
    figure = Figure(figsize=(6.5 * columns + 2 * shared, 4.3 * rows), layout="constrained")
    for axes, (name, curves) in zip(figure.subplots(rows, columns, squeeze=False).flat, found.items(), strict=False):
        panel = panels[name]
        for i, (agent, one) in enumerate(curves.items()):
            values = np.array(one["values"])
            bands = np.array([statistics.interval(row) for row in values])
            (line,) = axes.plot(one["steps"], values.mean(1), "-" if i < 10 else "--", label=agent)
            axes.fill_between(one["steps"], *bands.T, color=line.get_color(), alpha=0.2)
        if panel.line is not None:
            axes.axhline(panel.line[0], color="black", linewidth=1, linestyle=":", label=panel.line[1])
        wide = max(np.abs(one["values"]).max() for one in curves.values()) > 10
        scale = panel.scale if wide else "linear"
        axes.set(title=panel.title, xlabel="environment steps a seed", ylabel=panel.unit, yscale=scale)
        if not shared:
            axes.legend()
    if shared:
        figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside right upper")
    for axes in figure.axes[len(found) :]:
        axes.axis("off")
    return figure
