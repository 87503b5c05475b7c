#!/usr/bin/env python
"""Agents side by side: the same seeds, one curve each with its interval, one figure.

python scripts/compare.py lectures                  what the lecture notes tell in words, 10 seeds
python scripts/compare.py lectures --resume         go on: what is done is not done again
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import common
import numpy as np
import tyro
from lectures.desk import Desk
from matplotlib.figure import Figure
from rich.console import Console

import rl
from rl.explore import EpsilonGreedy, Greedy
from supervised import results, statistics

Measure = Callable[[rl.Run], np.ndarray]


def success(run: rl.Run) -> np.ndarray:
    """The exact probability that each seed's greedy policy reaches the goal, [N]."""
    assert run.exact is not None
    return run.exact.metrics(run.agent)["eval/success_rate"]


def length(run: rl.Run) -> np.ndarray:
    """Steps that each seed's greedy policy takes to the goal, [N]; the time limit where it does not get there."""
    found = run.evaluate(1)
    return np.where(found.returns[:, 0] > 0, found.lengths[:, 0], found.step_limit).astype(np.float64)


def reward(run: rl.Run) -> np.ndarray:
    """The mean return of ten greedy episodes of each seed, [N]."""
    return run.evaluate(10).per_seed


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


def lectures() -> dict[str, Panel]:
    """What the lecture notes compare."""
    lake, cart = rl.presets("FrozenLake-v1"), rl.presets("CartPole-v1")
    noise = lake["lecture-noise"]
    slippery = lake["lecture-slippery"]
    exploring = dataclasses.replace(noise, explore=EpsilonGreedy(0.3))
    certain = {"is_slippery": False}
    return {
        "exploration": Panel(
            "Exploring, on ice that is not slippery",
            "FrozenLake-v1",
            {
                "none, the first of equals": dataclasses.replace(noise, explore=Greedy("first")),
                "none, any of equals": dataclasses.replace(noise, explore=Greedy()),
                "epsilon-greedy, falling": lake["lecture-epsilon"],
                "noise, falling": noise,
            },
            {"none, the first of equals": "stays where it is", "noise, falling": "works"},
            success,
            "success probability (exact)",
            20_000,
            kwargs=certain,
        ),
        "discount": Panel(
            "Discounting, on ice that is not slippery, exploring all the time",
            "FrozenLake-v1",
            {
                name: dataclasses.replace(exploring, gamma=gamma)
                for name, gamma in (("discount .99", 0.99), ("discount .9", 0.9), ("none", 1.0))
            },
            {"discount .99": "finds the shortest way", "none": "every safe step seems as good"},
            length,
            "steps to the goal (100: never)",
            20_000,
            kwargs=certain,
        ),
        "step-size": Panel(
            "Step size, on slippery ice",
            "FrozenLake-v1",
            {
                "step size 1": dataclasses.replace(slippery, step_size=1.0),
                "step size .85": slippery,
                "visits^-.6 (q-learning)": lake["q-learning"],
            },
            {"step size 1": "does not learn", "step size .85": "learns"},
            success,
            "success probability (exact)",
            400_000,
        ),
        "cartpole": Panel(
            "CartPole",
            "CartPole-v1",
            {
                "Q-network": cart["q-network"],
                "DQN 2013": cart["dqn-2013"],
                "DQN 2015": cart["dqn-2015"],
                "best here": cart["best"],
            },
            {"Q-network": "fails", "DQN 2015": "solves it"},
            reward,
            "mean return of ten greedy episodes",
            50_000,
            points=10,
        ),
    }


@dataclass
class Settings:
    """Compare agents over the same seeds."""

    what: Annotated[Literal["lectures"], tyro.conf.Positional]
    """lectures: what the lecture notes tell in words."""
    panels: tuple[Literal["exploration", "discount", "step-size", "cartpole"], ...] = (
        "exploration",
        "discount",
        "step-size",
        "cartpole",
    )
    """Which comparisons."""
    seeds: int = 10
    """How many seeds."""
    steps: int | None = None
    """Environment steps a seed; as many as each comparison needs if not given."""
    logdir: Path | None = None
    """The folder of this comparison; a new one under runs/ if not given."""
    resume: bool = False
    """Go on with the comparison in logdir, or with the newest under runs/: agents that are done are not trained again."""


def train(panel: Panel, agent: Any, steps: int, seeds: int) -> dict[str, Any]:
    """Train one agent, measured on the way -> {"steps": [...], "values": [[of each seed] ...]}."""
    run = rl.start(panel.env, agent, seeds, steps=steps, env_kwargs=panel.kwargs)
    grid = sorted({max(1, steps * (i + 1) // panel.points) for i in range(panel.points)})
    values = []
    for until in grid:
        rl.train(run, steps=until, progress=False)
        values.append(panel.measure(run).tolist())
    return {"steps": grid, "values": values, "configuration": run.config()}


def cell(settings: Settings, desk: Desk, name: str, panel: Panel, agent: str) -> dict[str, Any]:
    """One curve: read, where it was done before, or trained and kept."""
    steps = settings.steps or panel.steps
    path = desk.folder / "cells" / f"{name}_{agent.replace(' ', '_').replace(',', '')}.json"
    if settings.resume and path.is_file():
        found: dict[str, Any] = json.loads(path.read_text())
        if found["steps"][-1] == steps and len(found["values"][0]) == settings.seeds:
            desk.say(f"{panel.title}, {agent}: done before")
            return found
    began = time.perf_counter()
    found = train(panel, panel.agents[agent], steps, settings.seeds)
    path.parent.mkdir(parents=True, exist_ok=True)
    results.write(found, path.with_suffix(".part"))
    path.with_suffix(".part").replace(path)
    desk.say(
        f"{panel.title}, {agent}: {steps:,} steps of {settings.seeds} seeds in {time.perf_counter() - began:.1f} s"
    )
    return found


def draw(panels: Mapping[str, Panel], found: Mapping[str, Mapping[str, dict[str, Any]]]) -> Figure:
    """One set of axes for each comparison: means over seeds with their 95 % intervals."""
    figure = Figure(figsize=(13, 8.5) if len(found) > 2 else (13, 4.5), layout="constrained")
    shape = (2, 2) if len(found) > 2 else (1, len(found))
    for axes, (name, curves) in zip(figure.subplots(*shape, squeeze=False).flat, found.items(), strict=False):
        panel = panels[name]
        for agent, curve in curves.items():
            values = np.array(curve["values"])
            bands = np.array([statistics.interval(row) for row in values])
            (line,) = axes.plot(curve["steps"], values.mean(1), label=agent)
            axes.fill_between(curve["steps"], *bands.T, color=line.get_color(), alpha=0.2)
        axes.set(title=panel.title, xlabel="environment steps a seed", ylabel=panel.unit)
        axes.legend()
    return figure


def main(settings: Settings, console: Console) -> None:
    if settings.seeds < 1 or (settings.steps is not None and settings.steps < 1):
        raise ValueError(f"--seeds and --steps are whole numbers from 1 on, not {settings.seeds} and {settings.steps}.")
    family = Path("runs/compare-lectures")
    done = sorted({path.parent.parent for path in family.glob("*/cells/*.json")}) if settings.resume else []
    folder = done[-1] if done and settings.logdir is None else common.folder(settings.logdir, family, False)
    console.print(f"{settings.what}. The comparison lies in {folder}", soft_wrap=True)
    desk, panels = Desk(folder, console), lectures()
    began = time.perf_counter()
    found: dict[str, dict[str, dict[str, Any]]] = {}
    try:
        for name in settings.panels:
            panel = panels[name]
            found[name] = {}
            for agent in panel.agents:
                found[name][agent] = curve = cell(settings, desk, name, panel, agent)
                for step, row in zip(curve["steps"], curve["values"], strict=True):
                    low, high = statistics.interval(row)
                    tags = {name: float(np.mean(row)), f"{name}_low": low, f"{name}_high": high}
                    desk.logger.scalars(step, tags, agent.replace(" ", "_"))
                last = curve["values"][-1]
                digits = 1 if panel.measure is not success else 4
                desk.seeds(f"{panel.title}: {agent}", last, range(len(last)), panel.notes.get(agent, ""), digits)
        desk.picture("lectures", draw(panels, found))
        figures = {"experiment": "compare-lectures", "rows": desk.rows, "pictures": desk.pictures, "curves": found}
        figures |= {"wall_seconds": time.perf_counter() - began, "command": " ".join(sys.argv), **results.about()}
        results.write(figures, folder / "result.json")
    finally:
        desk.close()
    desk.report()
    console.print(f"wall time  {figures['wall_seconds']:.1f} s", highlight=False)
    console.print(
        f"The comparison lies in {folder}: result.json, {', '.join(desk.pictures)} and the curves.", soft_wrap=True
    )
    console.print(f"Look at it:  tensorboard --logdir {folder}", soft_wrap=True)


if __name__ == "__main__":
    sys.exit(common.command(Settings, main))
