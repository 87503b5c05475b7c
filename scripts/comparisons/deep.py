"""Compare all deep agents, for `compare.py deep`: environments, agents and seeds, evaluated with the last parameters.

Each pair of an environment and an agent is a cell with its own run folder, ENVIRONMENT-STEPS/AGENT. Finished cells are not run
again; interrupted ones resume from their last checkpoint.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

import envs
import rl
from rl import settings as tuned
from rl.core import registry
from supervised import statistics
from supervised.session import results
from supervised.validate import choice

ENVS = ("CartPole-v1", "Acrobot-v1", "MountainCar-v0", "LunarLander-v3")
SEEDS = range(20, 30)  # for the page; no setting is tuned on them
EPISODES = 100  # greedy episodes per seed, at the end
LOOKS = 5  # evaluations during training, for the curves
PAGE = """# Deep agents compared

`python scripts/compare.py deep --docs` generated this page: every deep agent with `rl.presets(ENVIRONMENT)[AGENT]` in four
environments, seeds {first} to {last}. Each cell has the mean return of the greedy policy with the last parameters over {episodes}
episodes per seed, the 95 % interval of the mean over seeds, and the lowest seed. All agents with a target network use the
settings that rl-zoo published for DQN in that environment, but a tenth of the computation, so that two cores finish the table
in three hours: a network of 64-64 instead of 256-256, batches of 64, and half as many updates. `best` and names that start with
it use settings tuned here, on other seeds. "Diverged" means that a gradient became NaN or infinite. An empty cell has not been
run.

"""


@dataclass(frozen=True)
class Cell:
    """An agent in an environment, with the number of steps per seed."""

    env: str
    steps: int
    agent: str

    @property
    def config(self) -> Any:
        """Return the agent with its settings for the environment; those of rl-zoo with a tenth of the computation."""
        config: Any = rl.presets(self.env)[self.agent]
        if config.network != "mlp(256,256)":
            return config
        every = config.target_every_updates // 2
        return dataclasses.replace(
            config, network="mlp(64,64)", batch_size=64, updates=config.updates // 2, target_every_updates=every
        )

    @property
    def place(self) -> Path:
        """Return its run folder, relative to the comparison's folder."""
        return Path(f"{self.env.replace(':', '-').replace('/', '-')}-{self.steps}", self.agent)

    def is_of(self, found: Mapping[str, Any]) -> bool:
        """Return whether a result belongs to this cell with its current settings."""
        same = (found["env"], found["steps"], found["agent"]) == (self.env, self.steps, self.agent)
        return same and registry.current(found["settings"]) == registry.to_json(self.config)


@dataclass(frozen=True)
class Bar:
    """The target of a cell for the mean over seeds and the lowest seed, with published results to compare.

    tried: what else was tried on other seeds, for the page.
    """

    cell: Cell
    published: str
    mean: float
    lowest: float | None = None
    tried: str = ""

    def verdict(self, values: Sequence[float]) -> str:
        """Return, as text, whether the values of the seeds reach the target."""
        mean, lowest = sum(values) / len(values), min(values)
        missed = [f"mean by {self.mean - mean:.1f}"] if mean < self.mean else []
        if self.lowest is not None and lowest < self.lowest:
            missed.append(f"lowest by {self.lowest - lowest:.1f}")
        return f"missed: {', '.join(missed)}" if missed else "reached"

    @property
    def asked(self) -> str:
        """Return the target as text."""
        return f"mean {self.mean:g}" + ("" if self.lowest is None else f", lowest {self.lowest:g}")


CARTPOLE, ACROBOT, CAR, LANDER = ((env, tuned.steps_for(env)) for env in ENVS)
LONG = "MountainCar-v0", tuned.steps_for("MountainCar-v0", "best-c51-long")
PQN = [
    Cell(env, tuned.steps_for(env, "pqn"), "pqn")
    for env in ("envs/CartPole-v1", "envs/Acrobot-v1", "envs/MountainCar-v0")
]
BARS = (
    Bar(Cell(*CARTPOLE, "best"), "rl-zoo's QR-DQN: 500", 490.0, 450.0),
    Bar(
        Cell(*CARTPOLE, "best-c51"), "rl-zoo's QR-DQN: 500", 490.0, 450.0,
        "`best` with 51 atoms 500.0 (500.0), with 51 quantiles 468.1 (435.0); rl-zoo's settings with 51 quantiles 427.3 (136.6)",
    ),
    Bar(
        Cell(*ACROBOT, "best"), "rl-zoo's DQN: -76.6, QR-DQN: -69.1", -80.0, None,
        "`best` with 51 atoms -84.3 (-87.8), with normalized observations -91.7 (-102.2)",
    ),
    Bar(
        Cell(*ACROBOT, "best-c51"), "rl-zoo's DQN: -76.6, QR-DQN: -69.1", -80.0, None,
        "these settings -70.7 (-73.2); with a network of 64-64, batches of 64 and half as many updates -84.3 (-87.8)",
    ),
    Bar(Cell(*CAR, "best"), "rl-zoo's DQN: -100.8, QR-DQN: -106.0", -103.0, -115.0),
    Bar(
        Cell(*CAR, "best-c51"), "rl-zoo's DQN: -100.8, QR-DQN: -106.0", -103.0, -115.0,
        "`best` with 51 atoms -99.8 (-101.2), with a network of 64-64 and batches of 64 too -101.1 (-106.7)",
    ),
    Bar(Cell(*LANDER, "best"), "rl-zoo's DQN: 154 (v2), QR-DQN: 70", 225.0, 170.0),
    Bar(
        Cell(*LANDER, "best-c51"), "rl-zoo's DQN: 154 (v2), QR-DQN: 70", 225.0, 170.0,
        "`best` with 56 atoms from -250 to 300 236.9 (183.7)",
    ),
    Bar(
        Cell(*LONG, "best-c51-long"), "CleanRL's C51: -166.4 ± 27.9", -110.0, None,
        "64-64, 2 updates of 64 every 16 steps -103.4 (-106.3); with a replay of 100 000 steps -123.1 (-161.1)",
    ),
    Bar(PQN[0], "CleanRL's PQN: 495.1 ± 6.9", 495.0, None, "these settings 500.0 (500.0)"),
    Bar(
        PQN[1], "CleanRL's PQN: -95.6", -86.0, None,
        "these settings -81.5 (-83.7); a learning rate of 3e-4 and epsilon to .05 in three tenths -83.5 (-85.2)",
    ),
    Bar(PQN[2], "CleanRL's PQN: -200.0 ± 0.0", -110.0, None, "these settings -100.4 (-104.6)"),
)  # fmt: skip


def agents_of(env: str) -> list[str]:
    """Return the names of the deep agents for an environment: the feed-forward networks and the tuned agents."""
    return [name for name in rl.presets(env) if name in registry.PRESETS["networks"] or name.startswith("best")]


def cells(worlds: Sequence[str], names: Sequence[str], steps: int | None) -> list[Cell]:
    """Return the cells of these environments and agents; an agent that is tuned for some of them only has cells there.

    ("all",) stands for every one; steps=None: as many as the settings were tuned for. Raise ValueError for an unknown agent.
    """
    if not worlds or not names:
        raise ValueError("--envs and --agents need at least one name each.")
    known = {env: agents_of(env) for env in (ENVS if tuple(worlds) == ("all",) else worlds)}
    for name in names if tuple(names) != ("all",) else ():
        choice(name, "deep agent", dict.fromkeys(name for some in known.values() for name in some))
    return [
        Cell(env, tuned.steps_for(env, name) if steps is None else steps, name)
        for env, some in known.items()
        for name in some
        if tuple(names) == ("all",) or name in names
    ]


def missing(worlds: Iterable[str], console: Console) -> set[str]:
    """Return those of the environments that cannot be created here, and print the reason for each."""
    lacking = set()
    for env in worlds:
        try:
            envs.make(env, seeds=1).close()
        except envs.EnvError as error:
            console.print(f"{env} is skipped: {error}", soft_wrap=True)
            lacking.add(env)
    return lacking


def measure(cell: Cell, seeds: range, workers: int, episodes: int, folder: Path) -> dict[str, Any]:
    """Train a cell in its folder, from its last checkpoint if there is one, and evaluate it. Return the result.

    If a gradient becomes NaN or infinite, the result contains the error message instead of returns.
    """
    from rl.deep.agent import NotFinite

    began = time.perf_counter()
    found: dict[str, Any] = {"env": cell.env, "steps": cell.steps, "agent": cell.agent, "episodes": episodes}
    try:
        run = rl.train(
            cell.env, cell.config, steps=cell.steps, seeds=seeds, workers=min(workers, len(seeds)), logdir=folder,
            resume=True, progress=sys.stderr.isatty(), evaluate_every_steps=max(cell.steps // LOOKS, 1),
        )  # fmt: skip
    except NotFinite as error:
        sentence = f"{str(error).partition(' is NaN or infinite')[0]} is NaN or infinite."
        found |= {"settings": registry.to_json(cell.config), "seeds": list(seeds), "diverged": sentence}
    else:
        evaluation = run.evaluate(episodes)
        returns = results.summary(evaluation.per_seed, run.seeds, *evaluation.possible)
        found |= {"settings": run.to_json()["agent"], "return": returns}
    return {**found, "wall_seconds": time.perf_counter() - began, **results.about()}


def done_before(cell: Cell, seeds: range, episodes: int, folder: Path) -> dict[str, Any] | None:
    """Return the result in a cell's folder; None if there is none, or one with other settings, seeds or episodes."""
    path = folder / "result.json"
    found = results.finished(path, env=cell.env, steps=cell.steps, agent=cell.agent, episodes=episodes)
    if found is None or not cell.is_of(found) or seeds_of(found) != list(seeds):
        return None
    return found


def seeds_of(found: Mapping[str, Any]) -> list[int]:
    """Return the seeds of a result."""
    return found["seeds"] if "diverged" in found else [int(seed) for seed in found["return"]["per_seed"]]


def fill(
    chosen: Sequence[Cell], seeds: range, workers: int, episodes: int, folder: Path, console: Console
) -> list[dict[str, Any]]:
    """Return the results of cells; train those that are not finished. Print and skip environments that cannot be created."""
    found = []
    lacking = missing(dict.fromkeys(cell.env for cell in chosen), console)
    for cell in chosen:
        if cell.env in lacking:
            continue
        where = folder / cell.place
        result = done_before(cell, seeds, episodes, where)
        said = "already finished"
        if result is None:
            result = measure(cell, seeds, workers, episodes, where)
            results.write(result, where / "result.json")
            said = f"{result['wall_seconds']:.0f} s"
        text = result.get("diverged") or cell_text(result)
        console.print(f"{cell.env}, {cell.steps:,} steps, {cell.agent}: {text} ({said})", soft_wrap=True)
        found.append(result)
    return found


def cell_text(found: Mapping[str, Any]) -> str:
    """Format a result: mean, interval and lowest seed, or "diverged"."""
    if "diverged" in found:
        return "diverged"
    values, (low, high) = list(found["return"]["per_seed"].values()), found["return"]["possible"]
    if len(values) == 1:
        return f"{values[0]:.1f} (one seed)"
    return f"{statistics.describe(values, digits=1, low=low, high=high)}, lowest {min(values):.1f}"


def merged(before: Iterable[Mapping[str, Any]], now: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Merge results, newer ones taking precedence. Return those whose agent still has the same settings."""
    last = {Cell(one["env"], one["steps"], one["agent"]): one for one in (*before, *now)}
    return [one for cell, one in last.items() if cell.agent in rl.presets(cell.env) and cell.is_of(one)]


def page(found: Iterable[Mapping[str, Any]], bars: Sequence[Bar] = BARS) -> str:
    """Return docs/deep.md: the table of all cells, and the bars. Skip results of other seeds or numbers of episodes."""
    known = {
        Cell(one["env"], one["steps"], one["agent"]): one
        for one in found
        if seeds_of(one) == list(SEEDS) and one["episodes"] == EPISODES
    }
    own = {name for env in ENVS for name in agents_of(env) if tuned.steps_for(env, name) != tuned.steps_for(env)}
    names = [name for name in dict.fromkeys(name for env in ENVS for name in agents_of(env)) if name not in own]
    head = ["agent", *(f"{env}, {tuned.steps_for(env):,} steps" for env in ENVS)]
    lines = [f"| {' | '.join(head)} |", "| --- " * len(head) + "|"]
    for name in names:
        row = [known.get(Cell(env, tuned.steps_for(env), name)) for env in ENVS]
        lines.append(f"| `{name}` | {' | '.join('' if one is None else cell_text(one) for one in row)} |")
    text = PAGE.format(first=SEEDS[0], last=SEEDS[-1], episodes=EPISODES) + "\n".join(lines) + "\n"
    return text + (_bars(known, bars) if bars else "")


def _bars(known: Mapping[Cell, Mapping[str, Any]], bars: Sequence[Bar]) -> str:
    lines = [
        "\n## Compared with published results\n",
        f"The settings were frozen before seeds {SEEDS[0]} to {SEEDS[-1]} were run, once. rl-zoo published one run each. The"
        " last column gives the mean, and in parentheses the lowest of five seeds (of three with 500,000 steps); unless stated"
        " otherwise, these settings are those of `best`.\n",
        "| environment, steps | agent | published | target | here | | tried on seeds 100 and up |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for bar in bars:
        cell, found = bar.cell, known.get(bar.cell)
        if found is None:
            here = "not run", ""
        elif "diverged" in found:
            here = "diverged", "missed"
        else:
            here = cell_text(found), bar.verdict(list(found["return"]["per_seed"].values()))
        lines.append(
            f"| {cell.env}, {cell.steps:,} | `{cell.agent}` | {bar.published} | {bar.asked} | {' | '.join(here)} | {bar.tried} |"
        )
    return "\n".join(lines) + "\n"


def show(found: Sequence[Mapping[str, Any]], console: Console) -> None:
    """Print the table: a row for each agent, a column for each environment."""
    columns = list(dict.fromkeys((one["env"], one["steps"]) for one in found))
    table = Table("agent", *(f"{env}, {steps:,}" for env, steps in columns))
    for name in dict.fromkeys(one["agent"] for one in found):
        row = {(one["env"], one["steps"]): cell_text(one) for one in found if one["agent"] == name}
        table.add_row(name, *(row.get(column, "") for column in columns))
    console.print(table)


def write_docs(found: Sequence[Mapping[str, Any]], docs: Path) -> None:
    """Add results to docs/results/deep.json, and write docs/deep.md from all results in that file."""
    path = docs / "results" / "deep.json"
    before = json.loads(path.read_text())["cells"] if path.is_file() else []
    every = merged(before, found)
    results.write({"experiment": "compare-deep", "cells": every}, path)
    results.write_bytes(page(every).encode(), docs / "deep.md")
