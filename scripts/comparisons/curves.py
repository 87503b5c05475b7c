"""Learning curves of the pages in docs/algorithms: tabular agents trained here, deep ones read from `compare.py deep`."""

from __future__ import annotations

import dataclasses
import io
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import envs
import rl
from comparisons import deep, panels
from comparisons.deep import Cell
from comparisons.memory import memory
from comparisons.panels import Panel
from comparisons.textbook import gain, lately, rewards
from envs import mazes
from rl.explore import EpsilonGreedy
from supervised import statistics
from supervised.session import results

TOOL = "python scripts/tools/algorithm_pages.py"
GREEDY = "exact return of the greedy policy"
DEEP_CELL = "CartPole-v1", 50_000
NATIVE_CELLS = {"pqn": ("envs/CartPole-v1", 500_000)}  # of pictures of agents that need many environments
MOST = 500.0  # what an episode of CartPole-v1 can return


class Drawn(NamedTuple):
    """A picture, with its alternative text and caption."""

    png: bytes
    alt: str
    caption: str


@dataclass(frozen=True)
class Curve:
    """Presets in an environment: what is measured, and from where on the axis is shown."""

    env: str
    steps: int
    agents: Mapping[str, Any]
    shows: str  # one sentence for the caption
    measure: Callable[[rl.Run], np.ndarray] | None = None  # None: the exact return of the greedy policy
    unit: str = GREEDY
    lines: tuple[tuple[float, str], ...] = ()
    optimum: Callable[[int], float] | None = None  # after so many steps, where it grows with them
    limits: tuple[float | None, float | None] = (None, None)  # of the axis
    beside: str = "q-learning"  # drawn in black
    digits: int = 2
    points: int = 40


def exact_return(run: rl.Run) -> np.ndarray:
    """The exact return of each seed's greedy policy, [N]."""
    return run.exact.metrics(run.agent)["eval/mean_reward"]


def believed(run: rl.Run) -> np.ndarray:
    """Return each seed's estimate of the value of the initial state of MaximizationBias, [N]."""
    return run.agent.state_values()[:, 0].max(-1)


def of(*names: str) -> dict[str, Any]:
    """Presets by name."""
    known = rl.presets()
    return {name: known[name] for name in names}


def arrivals(step: int) -> float:
    """Return how often an optimal agent has reached the goal of ShortcutMaze, where a shorter path opens after 3,000 steps."""
    before, after = min(step, 3_000), max(step - 3_000, 0)
    ways = ((mazes.ROUND_THE_LEFT, before), (mazes.BOTH_WAYS, after))
    return float(sum(count // mazes.distances(maze)[mazes.place(maze, "S")] for maze, count in ways))


def _tabular() -> dict[str, Curve]:
    tenth = EpsilonGreedy(0.1)
    best_gain, _ = envs.exact_access_control()
    lake, cliff, taxi, coin = "FrozenLake-v1", "CliffWalking-v1", "Taxi-v4", "envs/MaximizationBias-v0"
    bias = {
        "measure": believed,
        "unit": "value of the start, as believed",
        "lines": ((0.0, "true value"),),
        "digits": 3,
    }
    return {
        "q-learning": Curve(lake, 200_000, of("q-learning"), "The policy is optimal within the first half of the run.", digits=4),
        "exploration": Curve(
            taxi, 200_000, of("ucb", "count-bonus", "optimistic", "q-learning"),
            "Exploration directed at novelty reaches the optimum in at most half of the steps that epsilon-greedy takes.",
        ),
        "double-q": Curve(
            coin, 2_000, of("double-q", "q-learning"),
            "The maximum of ten noisy estimates is biased upwards; Double Q-learning removes this bias.", **bias,
        ),
        "weighted-q": Curve(
            coin, 2_000, of("weighted-q", "double-q", "q-learning"),
            "Weighting actions by the probability that they are the best removes half of the overestimation immediately.", **bias,
        ),
        "speedy-q": Curve(
            lake, 400_000, of("speedy-q", "q-learning"),
            "Each round waits for the least visited pair, so on FrozenLake it is slower than Q-learning.", digits=4,
        ),
        "sarsa": Curve(
            cliff, 100_000, of("sarsa", "expected-sarsa", "q-learning"),
            "SARSA learns the path that is best while exploring, 4 steps longer than the one along the edge."
            " Returns below -60 are not shown.",
            limits=(-60.0, -8.0),
        ),
        "n-step": Curve(
            taxi, 300_000, of("n-step-sarsa", "tree-backup", "sarsa", "q-learning"),
            "Three-step returns propagate rewards faster: compare each with its one-step version, SARSA or Q-learning.",
        ),
        "traces": Curve(
            taxi, 300_000, of("sarsa-lambda", "true-online-sarsa-lambda", "q-lambda", "sarsa", "q-learning"),
            "Traces propagate each reward back along the path that led to it.",
        ),
        "monte-carlo": Curve(
            lake, 400_000, of("monte-carlo", "sarsa", "q-learning"),
            "Without bootstrapping each target contains the noise of a whole episode: learning is slow, and seeds differ.",
            digits=4,
        ),
        "dyna-q": Curve(
            "envs/DynaMaze-v0", 3_000, of("dyna-q", "q-learning"),
            "Ten simulated steps after each real one: few real steps are enough.",
            unit="probability that the greedy policy arrives (exact)",
        ),
        "dyna-q-plus": Curve(
            "envs/ShortcutMaze-v0", 6_000,
            {
                "dyna-q": rl.DynaQ(gamma=0.95, step_size=0.5, explore=tenth, outcomes=1),
                "dyna-q-plus": rl.DynaQ(gamma=0.95, step_size=0.5, explore=tenth, outcomes=1, bonus=1e-3),
            },
            "A shorter path opens after 3,000 steps; the bonus for pairs that have not been tried for a long time finds it."
            " Settings of the book's example 8.3: gamma .95, step size .5, epsilon .1, one outcome, kappa .001.",
            measure=rewards, unit="arrivals so far", optimum=arrivals, digits=0, beside="dyna-q",
        ),
        "prioritized-sweeping": Curve(
            taxi, 100_000, of("prioritized-sweeping", "dyna-q", "q-learning"),
            "Backups are concentrated where values change most.",
        ),
        "r-max": Curve(
            taxi, 100_000, of("r-max", "prioritized-sweeping", "q-learning"),
            "As long as pairs are unknown it explores them, and its greedy policy never reaches the goal; then it is optimal"
            " at once.",
        ),
        "r-learning": Curve(
            "envs/AccessControl-v0", 200_000,
            {
                "r-learning": rl.RLearning(explore=tenth),
                "q-learning, gamma .99": rl.QLearning(explore=tenth),
                "q-learning, gamma .9": rl.QLearning(gamma=0.9, explore=tenth),
            },
            "A continuing queueing task, all agents with epsilon .1: the objective is the reward per step.",
            measure=gain, unit="reward per step of the greedy policy (exact)", lines=((best_gain, "optimum"),), beside="",
        ),
        "linear-sarsa": Curve(
            "MountainCar-v0", 60_000,
            {
                "replacing (the preset)": rl.LinearSARSA(),
                "accumulating": rl.LinearSARSA(traces="accumulating"),
                "dutch (true online)": rl.LinearSARSA(traces="dutch"),
            },
            "Episodes are cut after 200 steps. No exact optimum is known: the state is continuous.",
            measure=lately, unit="mean return of the last 100 episodes", beside="", digits=1, points=20,
        ),
    }  # fmt: skip


TABULAR: dict[str, Curve] = _tabular()
# The agents of each picture of deep agents; "dqn" is drawn in black beside them.
DEEP: dict[str, tuple[str, ...]] = {
    "dqn": ("q-network", "dqn-2013", "dqn-2015", "best"),
    "double-dqn": ("double-dqn",),
    "dueling-dqn": ("dueling-dqn",),
    "prioritized-dqn": ("prioritized-dqn",),
    "n-step-dqn": ("n-step-dqn",),
    "c51": ("c51", "hl-gauss", "best-c51"),
    "qr-dqn": ("qr-dqn",),
    "iqn": ("iqn",),
    "munchausen-dqn": ("munchausen-dqn",),
    "noisy-dqn": ("noisy-dqn",),
    "rainbow": ("rainbow", "rainbow-without-noise"),
    "pqn": ("pqn",),
}


MEMORY = "drqn", "t-maze"  # the picture, and the panel of `compare.py memory` that it is drawn from


def command(name: str) -> str:
    """The command that draws a curve."""
    return f"{TOOL} --curves {name}" if name in TABULAR else f"{TOOL} --folder FOLDER"


def comparison(name: str) -> str:
    """The command that fills the folder a curve is drawn from."""
    return (
        f"python scripts/compare.py memory --panels {MEMORY[1]}"
        if name == MEMORY[0]
        else "python scripts/compare.py deep"
    )


def drawn_from(folder: Path, console: Console) -> dict[str, Drawn]:
    """Draw what the folder of a comparison has: deep agents side by side, or agents with memory and without."""
    return remembered(folder) if (folder / "cells").is_dir() else compared(folder, console)


def remembered(folder: Path) -> dict[str, Drawn]:
    """Draw agents with memory and without from a folder of `compare.py memory`. Raises ValueError where it lacks the panel."""
    picture, name = MEMORY
    panel = memory()[name]
    paths = sorted((folder / "cells").glob(f"{name}_*.json"))
    found = {path.stem.removeprefix(f"{name}_").replace("_", " "): json.loads(path.read_text()) for path in paths}
    if not found:
        raise ValueError(f"{folder} has no curves of {name}: `{comparison(picture)}` creates them.")
    ends = [f"{agent} {_end(panels.numbers(one)[-1], panel.digits, panel.possible)}" for agent, one in found.items()]
    seeds = len(next(iter(found.values()))["values"][0])
    caption = (
        f"A cue at the start says which way to turn at the end. Mean over {seeds} seeds and its 95 % interval; at the end:"
        f" {'; '.join(ends)}. The settings of DRQN are those of `scripts/comparisons/memory.py`."
        f" Drawn by `{command(picture)}` from the folder of `{comparison(picture)}`."
    )
    return {picture: Drawn(_picture(panel, found, {}), f"{', '.join(found)} in {panel.env}: {panel.unit}", caption)}


def trained(name: str, seeds: int, console: Console) -> Drawn:
    """Train the agents of a curve and draw them."""
    curve, began = TABULAR[name], time.perf_counter()
    panel = Panel(
        curve.env, curve.env, curve.agents, {}, curve.measure or exact_return, curve.unit, curve.steps,
        points=curve.points, digits=curve.digits, lines=curve.lines,
    )  # fmt: skip
    found = {}
    for agent, description in curve.agents.items():
        run = rl.start(curve.env, description, seeds, steps=curve.steps)
        found[agent] = panels.train(run, panel, agent, curve.steps)
    if curve.measure is None:
        panel = dataclasses.replace(panel, lines=_optima(found), ceiling=next(iter(found.values()))["best"])
    console.print(f"{name}: {time.perf_counter() - began:.1f} s", soft_wrap=True)
    black = {agent: one for agent, one in found.items() if agent == curve.beside and len(found) > 1}
    colored = {agent: one for agent, one in found.items() if agent not in black}
    png = _picture(panel, colored, black, curve.limits, curve.optimum)
    ends = [f"{agent} {_end(panels.numbers(one)[-1], curve.digits, panel.possible)}" for agent, one in found.items()]
    caption = (
        f"{curve.shows} Mean over {seeds} seeds and its 95 % interval, {curve.steps:,} steps per seed; at the end:"
        f" {'; '.join(ends)}. Drawn by `{command(name)}`."
    )
    return Drawn(png, f"{', '.join(curve.agents)} in {curve.env}: {curve.unit}", caption)


def _optima(found: Mapping[str, Mapping[str, Any]]) -> tuple[tuple[float, str], ...]:
    """The exact optimum, and where SARSA and its kin should arrive if that is elsewhere."""
    first = next(iter(found.values()))
    lines = [(first["stationary"], "optimum")]
    targets = {one["promised"] for one in found.values()} - {first["stationary"], None}
    return (*lines, *((value, "best while exploring") for value in sorted(targets)))


def _end(values: np.ndarray, digits: int, possible: statistics.Range) -> str:
    low, high = statistics.interval(values, 0.95, *possible)
    return f"{values.mean():.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def _picture(
    panel: Panel,
    colored: Mapping[str, dict[str, Any]],
    black: Mapping[str, dict[str, Any]],
    limits: tuple[float | None, float | None] = (None, None),
    optimum: Callable[[int], float] | None = None,
) -> bytes:
    """One set of axes as a PNG."""
    figure = Figure(figsize=(7.2, 3.9), layout="constrained")
    axes = figure.subplots()
    panels.draw_one(axes, panel, colored, black)
    if optimum is not None:
        steps = next(iter(colored.values()))["steps"]
        axes.plot(steps, [optimum(step) for step in steps], ":", color="black", linewidth=1, label="optimum")
    axes.set_ylim(*limits)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.xaxis.set_major_formatter(lambda x, _: f"{x:,.0f}")
    axes.grid(alpha=0.25)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize="small", frameon=False)
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=110)
    return png.getvalue()


def compared(folder: Path, console: Console) -> dict[str, Drawn]:
    """Draw deep agents from the folder of a comparison. Missing cells are named, and pictures without any are left out."""
    drawn = {}
    for picture, names in DEEP.items():
        env, steps = NATIVE_CELLS.get(picture, DEEP_CELL)
        beside = () if picture in NATIVE_CELLS or "dqn" in names else ("dqn",)
        found = {}
        for name in (*beside, *names):
            cell = Cell(env, steps, name)
            curve = read(folder / cell.place, cell)
            if curve is None:
                console.print(f"{env}, {steps:,} steps, {name}: missing in {folder / cell.place}", soft_wrap=True)
            else:
                found[name] = curve
        black = {name: found.pop(name) for name in beside if name in found}
        if found:
            drawn[picture] = _drawn((env, steps), found, black)
    return drawn


def read(place: Path, cell: Cell) -> dict[str, Any] | None:
    """Return a finished cell's evaluations during training, in the form of `panels.train`; None if missing or outdated."""
    result = results.finished(place / "result.json", env=cell.env, steps=cell.steps, agent=cell.agent)
    if result is None or "diverged" in result or not cell.is_of(result) or deep.seeds_of(result) != list(deep.SEEDS):
        return None
    rows = []
    for seed in deep.seeds_of(result):
        events = EventAccumulator(str(place / f"seed_{seed}"), size_guidance={"scalars": 0})
        events.Reload()
        rows.append([(event.step, event.value) for event in events.Scalars("eval/mean_reward")])
    steps = [step for step, _ in rows[0]]
    values = [[row[i][1] for row in rows] for i in range(len(steps))]
    return {"steps": steps, "values": values, "told": deep.cell_text(result)}


def _drawn(place: tuple[str, int], found: Mapping[str, dict[str, Any]], beside: Mapping[str, dict[str, Any]]) -> Drawn:
    env, steps = place
    panel = Panel(
        env, env, {}, {}, exact_return, "return of the greedy policy", steps, digits=0, floor=0.0, ceiling=MOST,
        lines=((MOST, "optimum"),),
    )  # fmt: skip
    png = _picture(panel, found, beside, (0.0, 1.03 * MOST))
    ends = "; ".join(f"{name} {one['told']}" for name, one in {**beside, **found}.items())
    caption = (
        f"Greedy episodes at {deep.LOOKS} points during training, mean over seeds {deep.SEEDS[0]} to {deep.SEEDS[-1]} and its"
        f" 95 % interval, with the settings of [Deep agents compared](../deep.md). With the last parameters, {deep.EPISODES}"
        f" episodes per seed: {ends}. Drawn by `{TOOL} --folder FOLDER` from the folder of `python scripts/compare.py deep`."
    )
    return Drawn(png, f"{', '.join(found)} in {env}: return of the greedy policy", caption)
