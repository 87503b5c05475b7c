#!/usr/bin/env python
"""Agents side by side: the same seeds, one curve each with its interval, one table, one figure.

python scripts/compare.py                                          the tabular family, judged by the exact optimum
python scripts/compare.py --envs FrozenLake-v1 --agents sarsa q-learning --seeds 10
python scripts/compare.py --resume                                 go on: what is done is not done again
python scripts/compare.py lectures                                 what the lecture notes tell in words
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import common
import numpy as np
import panels
import tyro
from lectures import agents
from lectures.desk import Desk, told
from panels import Panel
from rich.console import Console
from rich.table import Table

import rl
from rl.agents.table import Tabular
from rl.results import near
from supervised import results
from supervised.names import nearest

STEPS = {"FrozenLake-v1": 1_000_000, "CliffWalking-v1": 1_000_000, "Taxi-v4": 500_000}
DOCS = Path(__file__).parent.parent / "docs"
INTRODUCTION = """# The tabular family beside the exact optimum

`python scripts/compare.py --docs` wrote this page: every agent with its default settings, its greedy policy judged exactly, means
over seeds with their 95 % intervals. Near: within 99 % of what value iteration's policy is worth. On-policy agents (SARSA and its
kin, Monte-Carlo) learn what acting with exploration is worth: on CliffWalking that is the way round the cliff, -17, and not the
edge, -13. Monte-Carlo learns from whole episodes alone, and CliffWalking, which has no time limit, has few.

![Gap to the optimum over steps](pictures/tabular.png)
"""


@dataclass
class Settings:
    """Compare agents over the same seeds."""

    what: Annotated[Literal["tables", "lectures"], tyro.conf.Positional] = "tables"
    """tables: tabular agents, judged by the exact optimum. lectures: what the lecture notes tell in words."""
    envs: tuple[str, ...] = tuple(STEPS)
    """For tables: environments whose model is known."""
    agents: tuple[str, ...] = ("all",)
    """For tables: agents by name; all: the whole family."""
    panels: tuple[str, ...] = ("all",)
    """For lectures: which of exploration, discount, step-size and cartpole."""
    seeds: int | None = None
    """How many seeds; if not given 30 for tables, 10 for lectures."""
    steps: int | None = None
    """Environment steps a seed; as many as each comparison needs if not given."""
    docs: bool = False
    """For tables: also write docs/tabular.md and its picture."""
    logdir: Path | None = None
    """The folder of this comparison; a new one under runs/ if not given."""
    resume: bool = False
    """Go on with the comparison in logdir, or with the newest under runs/: agents that are done are not trained again."""


def gap(run: rl.Run) -> np.ndarray:
    """The best possible return minus the exact one of each seed's greedy policy, [N]."""
    if run.exact is None:
        raise ValueError(f"{run.where.name} cannot be judged exactly: {run.no_model}. Take scripts/train.py for it.")
    return run.exact.metrics(run.agent)["eval/optimality_gap"]


def tables(envs: tuple[str, ...], names: tuple[str, ...]) -> dict[str, Panel]:
    """A panel for each environment, with the agents of these names."""
    if not envs or not names:
        raise ValueError("--envs and --agents name at least one each.")
    family = {name: agent for name, agent in rl.presets().items() if isinstance(agent, Tabular)}
    ending = [name for name, agent in family.items() if not name.startswith("lecture") and not agent.continuing]
    chosen = ending if names == ("all",) else names
    for name in chosen:
        nearest(name, family, "tabular agent")
    return {
        env: Panel(
            env, env, {name: family[name] for name in chosen}, {}, gap, "gap to the optimum (exact)", STEPS.get(env, 500_000),
            scale="symlog",
        )
        for env in envs
    }  # fmt: skip


def reached(found: Mapping[str, Any]) -> tuple[int, int | None]:
    """How many seeds end within 99 % of the best stationary policy, and from which step on nine of ten do for good."""
    counts = [near(found["best"] - np.array(row), found["stationary"]) or 0 for row in found["values"]]
    enough = 0.9 * len(found["values"][0])
    since = None
    for step, count in zip(reversed(found["steps"]), reversed(counts), strict=True):
        if count < enough:
            break
        since = step
    return counts[-1], since


def report(console: Console, env: str, curves: Mapping[str, Mapping[str, Any]], desk: Desk) -> list[str]:
    """Print an environment's table -> the same in Markdown."""
    first = next(iter(curves.values()))
    seeds = len(first["values"][0])
    title = f"{env}: best possible {first['best']:.4f}, best stationary policy {first['stationary']:.4f}, {seeds} seeds"
    head = ("agent", "gap to the best possible", "seeds near the best stationary", "nine of ten from step")
    table = Table(*head, title=title)
    lines = [
        f"## {env}",
        "",
        title.split(": ")[1].capitalize() + ".",
        "",
        f"| {' | '.join(head)} |",
        "| --- " * 4 + "|",
    ]
    for agent, found in curves.items():
        count, since = reached(found)
        ours = told(results.summary(np.array(found["values"][-1]), range(seeds)), 4)
        row = (agent, ours, f"{count} of {seeds}", "never" if since is None else f"{since:,}")
        table.add_row(*row)
        lines.append(f"| {' | '.join(row)} |")
        desk.row(f"{env}, {agent}: seeds near the best stationary policy", row[2])
    console.print(table)
    return [*lines, ""]


def write_docs(lines: list[str], desk: Desk, picture: str) -> None:
    """docs/tabular.md and its picture."""
    about = results.about()
    machine = f"On {about['machine']['cores']} cores of an {about['machine']['processor']}, commit {str(about['commit'])[:10]}."
    (DOCS / "pictures" / "tabular.png").write_bytes((desk.folder / f"{picture}.png").read_bytes())
    (DOCS / "tabular.md").write_text("\n".join([INTRODUCTION, *lines, machine]) + "\n")


def main(settings: Settings, console: Console) -> None:
    for name, value in (("seeds", settings.seeds), ("steps", settings.steps)):
        if value is not None and value < 1:
            raise ValueError(f"--{name} is a whole number from 1 on, not {value}.")
    if settings.what == "tables":
        chosen = tables(settings.envs, settings.agents)
    else:
        chosen = agents.lectures()
        for name in settings.panels if settings.panels != ("all",) else ():
            nearest(name, chosen, "comparison")
        chosen = {
            name: panel for name, panel in chosen.items() if settings.panels == ("all",) or name in settings.panels
        }
    seeds = settings.seeds or (30 if settings.what == "tables" else 10)
    family = Path(f"runs/compare-{settings.what}")
    done = sorted({path.parent.parent for path in family.glob("*/cells/*.json")}) if settings.resume else []
    folder = done[-1] if done and settings.logdir is None else common.folder(settings.logdir, family, False)
    console.print(f"{settings.what}. The comparison lies in {folder}", soft_wrap=True)
    desk = Desk(folder, console)
    began = time.perf_counter()
    found: dict[str, dict[str, dict[str, Any]]] = {}
    try:
        for name, panel in chosen.items():
            found[name] = {}
            for agent in panel.agents:
                steps = settings.steps or panel.steps
                found[name][agent] = one = panels.curve(desk, name, panel, agent, seeds, steps, settings.resume)
                panels.log(desk, name, agent, one)
                what = f"{panel.title}{', ' if settings.what == 'tables' else ': '}{agent}"
                what += ": gap to the best possible" if settings.what == "tables" else ""
                desk.seeds(what, one["values"][-1], range(seeds), panel.notes.get(agent, ""), panel.digits)
        desk.picture(settings.what, panels.draw(chosen, found))
        if settings.what == "tables":
            lines = [line for env, curves in found.items() for line in report(console, env, curves, desk)]
            if settings.docs:
                write_docs(lines, desk, settings.what)
        else:
            desk.report()
        figures = {
            "experiment": f"compare-{settings.what}",
            "rows": desk.rows,
            "pictures": desk.pictures,
            "curves": found,
        }
        figures |= {"wall_seconds": time.perf_counter() - began, "command": " ".join(sys.argv), **results.about()}
        results.write(figures, folder / "result.json")
    finally:
        desk.close()
    console.print(f"wall time  {figures['wall_seconds']:.1f} s", highlight=False)
    pictures = ", ".join(desk.pictures)
    console.print(f"The comparison lies in {folder}: result.json, {pictures} and the curves.", soft_wrap=True)
    console.print(f"Look at it:  tensorboard --logdir {folder}", soft_wrap=True)


if __name__ == "__main__":
    sys.exit(common.command(Settings, main))
