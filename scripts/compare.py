#!/usr/bin/env python
"""Agents side by side: the same seeds, one curve each with its interval, one table, one figure.

python scripts/compare.py                                          the tabular family, judged by the exact optimum
python scripts/compare.py --envs FrozenLake-v1 --agents sarsa q-learning --seeds 10
python scripts/compare.py --resume                                 go on: what is done is not done again
python scripts/compare.py textbook                                 what Sutton and Barto show in figures
python scripts/compare.py lectures                                 what the lecture notes tell in words
python scripts/compare.py memory                                   what memory is worth, where the state is hidden
python scripts/compare.py deep --resume                            all deep agents by their last parameters: begin, or go on
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
INTRODUCTION = """# The tabular family beside the exact optimum

`python scripts/compare.py --docs` wrote this page: every agent with the settings of its preset, its greedy policy judged
exactly, means over seeds with their 95 % intervals. Near: within 99 %.

What theory promises. Agents that learn what acting best is worth are held to value iteration's policy, the stationary best.
SARSA and its kin, and Monte-Carlo, learn what acting as they do is worth: they are held to the best way to act while
exploring as much as they do at the end (epsilon .2). On CliffWalking that is the way round the cliff, 4 steps longer than the
edge. What the greedy policy that they are held to is worth was computed exactly: that is the theory's gap.

What is proved, for step sizes that fall in the right way: Q-learning (Watkins and Dayan 1992) and Double Q-learning (van
Hasselt 2010) reach the best values, SARSA the best that its way of exploring leaves (Singh et al. 2000); R-MAX is near the
best after a bounded number of steps, with high probability (Brafman and Tennenholtz 2002). The others here have proofs for
something near what runs here, or none: n-step SARSA, SARSA(lambda) and Monte-Carlo for a policy that stays as it is, Tree
Backup and Q(lambda) for other traces, speedy Q-learning for rounds in which each pair is drawn by itself. They need not
arrive, and where they did not the table says so. R-learning, which has none, is among [the textbook's figures](textbook.md).
Where step sizes stay above 0 a little noise stays with them.

![Gap to the optimum over steps](pictures/tabular.png)
"""
TEXTBOOK = """# Figures of the textbook

`python scripts/compare.py textbook --docs` wrote this page: figures of Sutton and Barto (2018) as this package draws them,
means over seeds with their 95 % intervals. The environments are in `envs.textbook` and `envs.mazes`, each with its exact
solution. What the book's column says is the book's claim in our words; its curves were not measured off the page.

![Figures of Sutton and Barto](pictures/textbook.png)
"""


@dataclass
class Settings:
    """Compare agents over the same seeds."""

    what: Annotated[Literal["tables", "textbook", "lectures", "memory", "deep"], tyro.conf.Positional] = "tables"
    """tables: tabular agents, judged by the exact optimum. textbook: figures of Sutton and Barto. lectures: what the lecture
    notes tell in words. memory: worlds that need memory, beside the best return with it and without. deep: Q-networks in
    classic control and LunarLander, judged by the last parameters; each trains in a folder of its own, from its last
    checkpoint where it was interrupted."""
    envs: tuple[str, ...] = ("all",)
    """For tables: environments whose model is known; all: three of them. For deep: any; all: four of them."""
    agents: tuple[str, ...] = ("all",)
    """For tables and deep: agents by name; all: the whole family."""
    panels: tuple[str, ...] = ("all",)
    """For lectures: which of exploration, discount, step-size and cartpole. For textbook: which of cliff, cliff-greedy, bias,
    planning, blocking, shortcut, queue and mountain-car. For memory: which of t-maze, memory-chain, repeat-previous,
    repeat-first and window."""
    seeds: int | None = None
    """How many seeds; if not given 10 for lectures, memory and deep, else 30 or as many as a figure needs."""
    first_seed: int = deep.SEEDS[0]
    """For deep: the first of them. 20 to 29 are for what is reported: tune on others, 100 and up."""
    workers: int = 2
    """For deep: how many processes share out the seeds."""
    episodes: int = deep.EPISODES
    """For deep: greedy episodes a seed at the end."""
    steps: int | None = None
    """Environment steps a seed; as many as each comparison needs if not given."""
    docs: bool = False
    """For tables and textbook: also write docs/tabular.md or docs/textbook.md, and its picture. For deep: also take the
    results into docs/results/deep.json, and write docs/deep.md from all that it has."""
    logdir: Path | None = None
    """The folder of this comparison; a new one under runs/ if not given."""
    resume: bool = False
    """Go on with the comparison in logdir, or with the newest under runs/: agents that are done are not trained again."""


def tables(envs: tuple[str, ...], names: tuple[str, ...]) -> dict[str, Panel]:
    """A panel for each environment, with the agents of these names."""
    if not envs or not names:
        raise ValueError("--envs and --agents name at least one each.")
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
    """How many seeds end within 99 % of an optimum, and from which step on nine of ten do for good."""
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
    """How many seeds, and from when on, in words."""
    if count is None:
        return "not known", "not known"
    return f"{count} of {seeds}", "never" if since is None else f"{since:,}"


def table_lines(console: Console, env: str, curves: Mapping[str, Mapping[str, Any]], report: Report) -> list[str]:
    """Print an environment's table -> the same in Markdown."""
    first = next(iter(curves.values()))
    seeds = len(first["values"][0])
    stationary = format_result(first["stationary"], 4)
    title = f"{env}: best possible {first['best']:.4f}, best stationary policy {stationary}, {seeds} seeds"
    head = (
        "agent",
        "gap to the best",
        "theory's gap",
        "near theory",
        "nine of ten from step",
        "near the stationary best",
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
        report.row(f"{env}, {agent}: seeds near what its theory promises", row[3])
    console.print(table)
    return [*lines, ""]


def figures(chosen: Mapping[str, Panel], found: Mapping[str, Mapping[str, Any]], report: Report) -> list[str]:
    """The textbook's table in Markdown."""
    report.print_table()
    lines = ["| figure | agent | in the end, mean over seeds | the book, in words |", "| --- | --- | --- | --- |"]
    for name, panel in chosen.items():
        for agent, one in found[name].items():
            values = panels.numbers(one)[-1]
            ours = format_result(results.summary(values, range(len(values)), *panel.possible), panel.digits)
            known = "".join(f"; {what}: {value:.{panel.digits}f}" for value, what in panel.lines)
            title = f"{panel.title}: {panel.unit}{known}; {len(values):,} seeds, {one['steps'][-1]:,} steps"
            lines.append(f"| {title} | {agent} | {ours} | {panel.notes.get(agent, '')} |")
    return [*lines, ""]


def write_docs(page: str, introduction: str, lines: list[str], report: Report) -> None:
    """docs/PAGE.md and its picture."""
    about = results.about()
    machine = f"On {about['machine']['cores']} cores of an {about['machine']['processor']}, commit {str(about['commit'])[:10]}."
    (picture,) = report.pictures
    results.write_bytes((report.folder / picture).read_bytes(), DOCS / "pictures" / f"{page}.png")
    results.write_bytes(("\n".join([introduction, *lines, machine]) + "\n").encode(), DOCS / f"{page}.md")


def choose(settings: Settings) -> dict[str, Panel]:
    """The panels that are asked for."""
    if settings.what == "tables":
        return tables(settings.envs, settings.agents)
    if not settings.panels:
        raise ValueError("--panels names at least one.")
    known = {"textbook": textbook, "lectures": agents.lectures, "memory": memory}[settings.what]()
    for name in settings.panels if settings.panels != ("all",) else ():
        choice(name, "comparison", known)
    return {name: panel for name, panel in known.items() if settings.panels == ("all",) or name in settings.panels}


def deep_agents(settings: Settings, console: Console) -> None:
    """The table of deep agents, whose cells keep themselves."""
    for name, value, low in (
        ("first-seed", settings.first_seed, 0),
        ("workers", settings.workers, 1),
        ("episodes", settings.episodes, 1),
    ):
        integer(value, f"--{name}", low)
    cells = deep.cells(settings.envs, settings.agents, settings.steps)
    folder = common.folder(settings.logdir, Path("runs/compare-deep"), settings.resume)
    console.print(f"deep. The comparison lies in {folder}", soft_wrap=True)
    seeds = range(settings.first_seed, settings.first_seed + (10 if settings.seeds is None else settings.seeds))
    found = deep.fill(cells, seeds, settings.workers, settings.episodes, folder, console)
    if not found:
        raise ValueError("Nothing could be trained, for the reasons above.")
    deep.show(found, console)
    path = folder / "result.json"
    if results.finished(path, cells=found) is None:
        results.write({"experiment": "compare-deep", "cells": found, "command": " ".join(sys.argv)}, path)
    else:
        console.print("Everything was finished before: result.json is left as it is.")
    if settings.docs:
        deep.write_docs(found, DOCS)
    console.print(f"The comparison lies in {folder}: result.json, and each run.", soft_wrap=True)


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
    console.print(f"{settings.what}. The comparison lies in {folder}", soft_wrap=True)
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
                what += ": gap to the best possible" if settings.what == "tables" else ""
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
            console.print("Everything was finished before: result.json is left as it is.")
            result = before
    finally:
        report.close()
    console.print(f"wall time  {result['wall_seconds']:.1f} s", highlight=False)
    pictures = ", ".join(report.pictures)
    console.print(f"The comparison lies in {folder}: result.json, {pictures} and the curves.", soft_wrap=True)
    console.print(f"Look at it:  tensorboard --logdir {folder}", soft_wrap=True)


if __name__ == "__main__":
    sys.exit(common.command(Settings, main))
