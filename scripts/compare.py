#!/usr/bin/env python
"""Compare agents over the same seeds: one curve per agent with its interval, one table, one figure.

python scripts/compare.py                                          tabular agents against the exact optimum
python scripts/compare.py --envs FrozenLake-v1 --agents sarsa q-learning --seeds 10
python scripts/compare.py --resume                                 continue; finished agents are not trained again
python scripts/compare.py textbook                                 figures of Sutton and Barto (2018)
python scripts/compare.py lectures                                 claims of the lecture notes (docs/lectures.md) about agents
python scripts/compare.py memory                                   agents with and without memory, where the state is hidden
python scripts/compare.py deep --resume                            all deep agents, with their last parameters; start or continue
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from cli import common
from comparisons import deep, panels
from comparisons.memory import memory
from comparisons.panels import Panel
from comparisons.textbook import gap, textbook
from lectures import agents
from lectures.report import Report, format_result
from rich.console import Console
from rich.table import Table

from rl.core import registry
from rl.report.results import near
from supervised.session import results
from supervised.validate import choice, integer, optional

STEPS = {"FrozenLake-v1": 1_000_000, "CliffWalking-v1": 1_000_000, "Taxi-v4": 500_000}
DOCS = Path(__file__).parent.parent / "docs"
INTRODUCTION = """# Tabular agents compared with the exact optimum

`python scripts/compare.py --docs` generated this page: every agent with the settings of its preset, its greedy policy
evaluated exactly, means over seeds with their 95 % intervals. The gap is the optimal return minus the exact return of the
greedy policy.

**Targets.** Each algorithm is measured against the policy it should converge to. For off-policy algorithms this is value
iteration's policy, the best stationary one. On-policy algorithms (SARSA and its variants, Monte Carlo) learn the values of
their behavior policy; their target is the greedy policy of the best values under the final exploration (epsilon .2). On
CliffWalking that is the path around the cliff, 4 steps longer than the one along the edge. The target's exact gap is in
the column "target's gap". "Near" means within 99 %.

**What is proved**, for suitably decreasing step sizes: Q-learning (Watkins and Dayan 1992) and Double Q-learning (van
Hasselt 2010) converge to the optimal values, SARSA to the best values under its exploration (Singh et al. 2000); R-MAX is
near-optimal after a bounded number of steps, with high probability (Brafman and Tennenholtz 2002). The other algorithms
have proofs for related variants, or none: n-step SARSA, SARSA(lambda) and Monte Carlo for a fixed policy, Tree Backup and
Q(lambda) for other traces, speedy Q-learning for synchronous updates. They need not converge to their target, and the
table shows where they did not. R-learning has no proof; see [the textbook's figures](textbook.md). With step sizes that
stay above 0, some noise remains.

![Gap to the optimum over steps](pictures/tabular.png)
"""
TEXTBOOK = """# Figures of the textbook

`python scripts/compare.py textbook --docs` generated this page: figures of Sutton and Barto (2018) reproduced with this
package, means over seeds with their 95 % intervals. The environments are in `envs.textbook` and `envs.mazes`, each with
its exact solution. The last column states the book's claim in our words; no values were read off its curves.

![Figures of Sutton and Barto](pictures/textbook.png)
"""


@dataclass
class Settings:
    """Compare agents over the same seeds."""

    what: Annotated[Literal["tables", "textbook", "lectures", "memory", "deep"], tyro.conf.Positional] = "tables"
    """tables: tabular agents, compared with the exact optimum. textbook: figures of Sutton and Barto (2018). lectures: claims
    about agents from the lecture notes, two courses on deep learning (see docs/lectures.md). memory: environments that need
    memory, with the best returns with and without it. deep: Q-networks in classic control and LunarLander, evaluated with
    the last parameters; each trains in its own folder and resumes from its last checkpoint after an interruption."""
    envs: tuple[str, ...] = ("all",)
    """Environments. For tables: any with a known model (all: three of them). For deep: any (all: four of them)."""
    agents: tuple[str, ...] = ("all",)
    """Agents by name, for tables and deep; all: every tabular or every deep agent."""
    panels: tuple[str, ...] = ("all",)
    """Which comparisons to run. For lectures: exploration, discount, step-size, cartpole. For textbook: cliff, cliff-greedy,
    bias, planning, blocking, shortcut, queue, mountain-car. For memory: t-maze, memory-chain, repeat-previous, repeat-first,
    window."""
    seeds: int | None = None
    """Number of seeds. Default: 10 for lectures, memory and deep, otherwise 30 or as many as a figure needs."""
    first_seed: int = deep.SEEDS[0]
    """The first seed, for deep. 20 to 29 are reserved for reported results: tune on others, 100 and up."""
    workers: int = 2
    """Number of processes over which the seeds are distributed, for deep."""
    episodes: int = deep.EPISODES
    """Greedy episodes per seed at the end, for deep."""
    steps: int | None = None
    """Environment steps per seed. Default: as many as each comparison needs."""
    docs: bool = False
    """Also write the page. For tables and textbook: docs/tabular.md or docs/textbook.md, with its image. For deep: add the
    results to docs/results/deep.json and write docs/deep.md from all results in that file."""
    logdir: Path | None = None
    """Folder of this comparison. Default: a new one under runs/."""
    resume: bool = False
    """Continue the comparison in logdir, or the newest one under runs/; finished agents are not trained again."""


def tables(envs: tuple[str, ...], names: tuple[str, ...]) -> dict[str, Panel]:
    """Return a panel for each environment, with the named agents. Raise ValueError for an unknown agent."""
    if not envs or not names:
        raise ValueError("--envs and --agents need at least one name each.")
    family = registry.presets(registry.TABLES)
    ending = list(registry.presets(g for g in registry.TABLES if g not in (registry.LECTURES, registry.ENDLESS)))
    chosen = ending if names == ("all",) else names
    for name in chosen:
        choice(name, "tabular agent", family)
    return {
        env: Panel(
            env, env, {name: family[name] for name in chosen}, {}, gap, "gap to the optimum (exact)", STEPS.get(env, 500_000),
            scale="symlog", floor=0.0,
        )
        for env in (tuple(STEPS) if envs == ("all",) else envs)
    }  # fmt: skip


def reached(found: Mapping[str, Any], optimum: float | None) -> tuple[int | None, int | None]:
    """Return how many seeds end within 99 % of an optimum, and the step from which on nine of ten stay there."""
    if optimum is None:
        return None, None
    counts = [near(found["best"] - row, optimum) or 0 for row in panels.numbers(found)]
    enough = 0.9 * len(found["values"][0])
    since = None
    for step, count in zip(reversed(found["steps"]), reversed(counts), strict=True):
        if count < enough:
            break
        since = step
    return counts[-1], since


def of_all(count: int | None, seeds: int, since: int | None = None) -> tuple[str, str]:
    """Format the results of `reached`."""
    if count is None:
        return "not known", "not known"
    return f"{count} of {seeds}", "never" if since is None else f"{since:,}"


def table_lines(console: Console, env: str, curves: Mapping[str, Mapping[str, Any]], report: Report) -> list[str]:
    """Print an environment's table. Return it as lines of Markdown."""
    first = next(iter(curves.values()))
    seeds = len(first["values"][0])
    stationary = format_result(first["stationary"], 4)
    title = f"{env}: optimal return {first['best']:.4f}, best stationary policy {stationary}, {seeds} seeds"
    head = (
        "agent",
        "gap",
        "target's gap",
        "seeds near the target",
        "nine of ten from step",
        "near the best stationary policy",
    )
    table = Table(*head, title=title)
    lines = [
        f"## {env}",
        "",
        title.split(": ")[1].capitalize() + ".",
        "",
        f"| {' | '.join(head)} |",
        "| --- " * len(head) + "|",
    ]
    for agent, found in curves.items():
        count, since = reached(found, found["promised"])
        at_best, _ = reached(found, found["stationary"])
        gap_there = "not known" if found["promised"] is None else f"{found['best'] - found['promised']:.4f}"
        ours = format_result(results.summary(panels.numbers(found)[-1], range(seeds), 0.0), 4)
        row = (agent, ours, gap_there, *of_all(count, seeds, since), of_all(at_best, seeds)[0])
        table.add_row(*row)
        lines.append(f"| {' | '.join(row)} |")
        report.row(f"{env}, {agent}: seeds near its target", row[3])
    console.print(table)
    return [*lines, ""]


def figures(chosen: Mapping[str, Panel], found: Mapping[str, Mapping[str, Any]], report: Report) -> list[str]:
    """Print the table of the textbook's figures. Return it as lines of Markdown."""
    report.print_table()
    lines = ["| figure | agent | at the end, mean over seeds | the book's claim |", "| --- | --- | --- | --- |"]
    for name, panel in chosen.items():
        for agent, one in found[name].items():
            values = panels.numbers(one)[-1]
            ours = format_result(results.summary(values, range(len(values)), *panel.possible), panel.digits)
            known = "".join(f"; {what}: {value:.{panel.digits}f}" for value, what in panel.lines)
            title = f"{panel.title}: {panel.unit}{known}; {len(values):,} seeds, {one['steps'][-1]:,} steps"
            lines.append(f"| {title} | {agent} | {ours} | {panel.notes.get(agent, '')} |")
    return [*lines, ""]


def write_docs(page: str, introduction: str, lines: list[str], report: Report) -> None:
    """Write docs/PAGE.md and its image."""
    about = results.about()
    machine = f"On {about['machine']['cores']} cores of an {about['machine']['processor']}, commit {str(about['commit'])[:10]}."
    (picture,) = report.pictures
    results.write_bytes((report.folder / picture).read_bytes(), DOCS / "pictures" / f"{page}.png")
    results.write_bytes(("\n".join([introduction, *lines, machine]) + "\n").encode(), DOCS / f"{page}.md")


def choose(settings: Settings) -> dict[str, Panel]:
    """Return the panels to run. Raise ValueError for an unknown name."""
    if settings.what == "tables":
        return tables(settings.envs, settings.agents)
    if not settings.panels:
        raise ValueError("--panels needs at least one name.")
    known = {"textbook": textbook, "lectures": agents.lectures, "memory": memory}[settings.what]()
    for name in settings.panels if settings.panels != ("all",) else ():
        choice(name, "comparison", known)
    return {name: panel for name, panel in known.items() if settings.panels == ("all",) or name in settings.panels}


def deep_agents(settings: Settings, console: Console) -> None:
    """Run the comparison of deep agents, each in its own run folder."""
    for name, value, low in (
        ("first-seed", settings.first_seed, 0),
        ("workers", settings.workers, 1),
        ("episodes", settings.episodes, 1),
    ):
        integer(value, f"--{name}", low)
    cells = deep.cells(settings.envs, settings.agents, settings.steps)
    folder = common.folder(settings.logdir, Path("runs/compare-deep"), settings.resume)
    console.print(f"deep. Folder: {folder}", soft_wrap=True)
    seeds = range(settings.first_seed, settings.first_seed + (10 if settings.seeds is None else settings.seeds))
    found = deep.fill(cells, seeds, settings.workers, settings.episodes, folder, console)
    if not found:
        raise ValueError("No agent could be trained, for the reasons above.")
    deep.show(found, console)
    path = folder / "result.json"
    if results.finished(path, cells=found) is None:
        results.write({"experiment": "compare-deep", "cells": found, "command": " ".join(sys.argv)}, path)
    else:
        console.print("Already finished: result.json is unchanged.")
    if settings.docs:
        deep.write_docs(found, DOCS)
    console.print(f"Saved in {folder}: result.json, and each run.", soft_wrap=True)


def main(settings: Settings, console: Console) -> None:
    for name, value in (("seeds", settings.seeds), ("steps", settings.steps)):
        optional(integer, value, f"--{name}", 1)
    if settings.what == "deep":
        deep_agents(settings, console)
        return
    chosen = choose(settings)
    family = Path(f"runs/compare-{settings.what}")
    done = sorted({path.parent.parent for path in family.glob("*/cells/*.json")}) if settings.resume else []
    folder = done[-1] if done and settings.logdir is None else common.folder(settings.logdir, family, False)
    console.print(f"{settings.what}. Folder: {folder}", soft_wrap=True)
    report = Report(folder, console)
    began = time.perf_counter()
    found: dict[str, dict[str, dict[str, Any]]] = {}
    try:
        report.logger.bands({panel.title: name for name, panel in chosen.items()}, interval=settings.seeds != 1)
        for name, panel in chosen.items():
            found[name] = {}
            seeds = settings.seeds or panel.seeds or (10 if settings.what in {"lectures", "memory"} else 30)
            for agent in panel.agents:
                steps = settings.steps or panel.steps
                found[name][agent] = one = panels.curve(report, name, panel, agent, seeds, steps, settings.resume)
                panels.log(report, name, panel, agent, one)
                what = f"{panel.title}{', ' if settings.what == 'tables' else ': '}{agent}"
                what += ": gap" if settings.what == "tables" else ""
                values, note = panels.numbers(one)[-1], panel.notes.get(agent, "")
                report.seeds(what, values, range(seeds), note, panel.digits, *panel.possible)
                for beside in panel.beside:
                    report.seeds(f"{what}, {beside}", panels.numbers(one, beside)[-1], range(seeds), "", panel.digits)
        drawn = (
            panels.draw_groups(
                chosen, found, {group: list(names) for group, names in registry.PRESETS.items()}, "q-learning"
            )
            if settings.what == "tables"
            else panels.draw(chosen, found)
        )
        report.picture(settings.what, drawn)
        if settings.what == "tables":
            lines = [line for env, curves in found.items() for line in table_lines(console, env, curves, report)]
            if settings.docs:
                write_docs("tabular", INTRODUCTION, lines, report)
        elif settings.what == "textbook":
            lines = figures(chosen, found, report)
            if settings.docs:
                write_docs("textbook", TEXTBOOK, lines, report)
        else:
            report.print_table()
        result: dict[str, Any] = {
            "experiment": f"compare-{settings.what}",
            "rows": report.rows,
            "pictures": report.pictures,
            "curves": found,
        }
        result |= {"wall_seconds": time.perf_counter() - began, "command": " ".join(sys.argv), **results.about()}
        same = {name: result[name] for name in ("experiment", "rows", "curves")}
        before = results.finished(folder / "result.json", **same) if settings.resume else None
        if before is None:
            results.write(result, folder / "result.json")
        else:
            console.print("Already finished: result.json is unchanged.")
            result = before
    finally:
        report.close()
    console.print(f"wall time  {result['wall_seconds']:.1f} s", highlight=False)
    pictures = ", ".join(report.pictures)
    console.print(f"Saved in {folder}: result.json, {pictures} and the curves.", soft_wrap=True)
    console.print(f"View it:  tensorboard --logdir {folder}", soft_wrap=True)


if __name__ == "__main__":
    sys.exit(common.command(Settings, main))
