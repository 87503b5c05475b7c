#!/usr/bin/env python
"""Write docs/lectures.md from the index of the lecture notes and the results of real runs.

python scripts/tools/lectures_page.py                      rewrite the page from docs/results
python scripts/tools/lectures_page.py --collect runs       first copy each experiment's newest run
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1]))  # where the packages of the scripts are

from cli import common
from lectures.history import HISTORY, HUMAN
from lectures.lecture_index import COMMANDS, ITEMS, SECTIONS, Item
from lectures.report import format_result
from rich.console import Console

from supervised.session.results import write_bytes

INTRODUCTION = """# The lecture notes, row by row

The lecture notes are two courses on deep learning, Sung Kim's "Deep Learning Zero to All" and Stanford's CS231n. Each row below
has a statement or experiment from the notes, the command that reproduces it, the notes' figure and ours: a mean over seeds with
its 95 % interval, unless stated otherwise. Commands that need MNIST or the lecture's CSV files read them from `--data-dir DIR`,
or download them. `python scripts/tools/lectures_page.py` generates this page from the runs' own `result.json` (in
`docs/results`), which contain commit, versions and machine.
"""
DOCS = Path(__file__).parents[2] / "docs"


@dataclass
class Settings:
    """Write docs/lectures.md."""

    collect: Path | None = None
    """Folder of runs; each experiment's newest result.json and images are first copied into docs."""


def command(name: str) -> str:
    """Return the command that produces a result."""
    words = COMMANDS[name][0] if name in COMMANDS else f"train_supervised.py {name}"
    return f"python scripts/{words}"


def rows_of(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of a result; an agent's result is converted into rows."""
    if "rows" in result:
        found: list[dict[str, Any]] = result["rows"]
        return found
    seeds = len(result["seeds"])
    many = f"{seeds} seed{'s' * (seeds > 1)}"
    rows = [{"what": f"return ({many})", "ours": result["return"], "digits": 2}]
    if "success" in result:
        rows.append({"what": f"success ({many}, exact)", "ours": result["success"], "digits": 4})
    if result.get("best_stationary") is not None:
        rows.append({"what": "best stationary policy", "ours": result["best_stationary"], "digits": 4})
        near = f"{result['seeds_near_best_stationary']} of {seeds}"
        rows.append({"what": "seeds near it", "ours": near, "digits": 0})
    return rows


def shown(item: Item, result: dict[str, Any] | None) -> str:
    """Format the figures of an item."""
    if result is None or not item.shows:
        return ""
    rows = [row for row in rows_of(result) if row["what"].startswith(item.shows)]
    return "<br>".join(f"{row['what']}: **{format_result(row['ours'], row['digits'])}**" for row in rows)


def page(results: dict[str, dict[str, Any]], pictures: Path) -> str:
    """Return the page as Markdown."""
    lines = [*INTRODUCTION.splitlines(), ""]
    for section, title in SECTIONS.items():
        lines += [
            f"## {title}",
            "",
            "| topic and command | the notes | here | remark |",
            "| --- | --- | --- | --- |",
        ]
        items = [item for item in ITEMS if item.section == section]
        for item in items:
            what = f"{item.what}<br>`{command(item.result).removeprefix('python scripts/')}`"
            cells = (what, item.note, shown(item, results.get(item.result)), item.remark)
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
        lines.append("")
        if section == "1d":
            lines += [*table(results.get("shapes")), *history()]
        for name in dict.fromkeys(item.result for item in items):
            for path in sorted(pictures.glob(f"{name}__*")):
                lines += [f"`{command(name)}`:", "", f"![{name}](pictures/lectures/{path.name})", ""]
    lines += ["## Run times", "", "| command | wall time | commit |", "| --- | --- | --- |"]
    for name, result in sorted(results.items()):
        commit = (result.get("commit") or "unknown")[:10]
        lines.append(f"| `{command(name)}` | {result['wall_seconds']:,.0f} s | {commit} |")
    machines = [result["machine"] for result in results.values()]
    kinds = sorted({f"{machine['cores']} cores of an {machine['processor']}" for machine in machines})
    lines += ["", f"On {' or '.join(kinds)}, shared with other runs, so these are upper bounds.", ""]
    return "\n".join(lines)


def table(result: dict[str, Any] | None) -> list[str]:
    """Return the notes' table of the CNN's parameters, with corrections, as lines of Markdown."""
    if result is None:
        return []
    lines = ["The notes' table of parameters, with corrections:", ""]
    lines += ["| layer (output) | the notes | weights, with biases |", "| --- | --- | --- |"]
    for row in result["rows"]:
        found = re.fullmatch(r"3 convolutions and 625 units, (.*): weights, with biases", row["what"])
        if found:
            lines.append(f"| {found[1]} | {row['note']} | {row['ours']} |")
    total = next(row for row in result["rows"] if row["what"] == "3 convolutions and 625 units: parameters")
    return [*lines, f"| all | {total['note']} | {format_result(total['ours'], 0)} |", ""]


def history() -> list[str]:
    """Return ImageNet's contest, year by year, as lines of Markdown."""
    lines = ["ImageNet's contest (ILSVRC, classification; top-5 error):", ""]
    lines += [
        "| year | entry | place | layers | error | source | the notes |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for entry in HISTORY:
        cells = (
            entry.year,
            entry.who,
            entry.place,
            entry.layers or "several nets",
            f"{entry.error:g} %",
            entry.source,
            entry.notes,
        )
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return [*lines, f"| | a trained human | | | {HUMAN:g} % | Russakovsky et al. (2015), section 6.4 | |", ""]


def collect(runs: Path, console: Console) -> None:
    """Copy the newest result.json of each result, and its images, without paths of the machine."""
    wanted = dict.fromkeys(item.result for item in ITEMS)
    (DOCS / "results").mkdir(parents=True, exist_ok=True)
    (DOCS / "pictures" / "lectures").mkdir(parents=True, exist_ok=True)
    for name in wanted:
        found = [*runs.glob(f"{name}/result.json"), *runs.glob(f"{name}/*/result.json")]
        if not found:
            continue
        found.sort(key=lambda path: path.stat().st_mtime)
        result = json.loads(found[-1].read_text())
        words = str(result.get("command", command(name))).split()
        result["command"] = " ".join(plain(word) for word in words)
        write_bytes((json.dumps(result, indent=1) + "\n").encode(), DOCS / "results" / f"{name}.json")
        for picture in result.get("pictures", ()):
            data = (found[-1].parent / picture).read_bytes()
            write_bytes(data, DOCS / "pictures" / "lectures" / f"{name}__{picture}")
        console.print(f"{name}: {found[-1]}", soft_wrap=True)


def plain(word: str) -> str:
    """Return a word of a command without paths of the machine it ran on."""
    return word.rsplit("/", 1)[-1] if word.endswith(".py") else "DIR" if "/" in word else word


def written() -> str:
    """Return the page built from docs/results."""
    paths = [
        path for path in sorted((DOCS / "results").glob("*.json")) if path.stem != "deep"
    ]  # `compare.py deep`'s own
    results = {path.stem: json.loads(path.read_text()) for path in paths}
    return page(results, DOCS / "pictures" / "lectures")


def main(settings: Settings, console: Console) -> None:
    if settings.collect is not None:
        if not settings.collect.is_dir():
            raise ValueError(f"--collect {settings.collect} is not a folder.")
        collect(settings.collect, console)
    write_bytes(written().encode(), DOCS / "lectures.md")
    console.print(f"{DOCS / 'lectures.md'} has been written.", soft_wrap=True)


if __name__ == "__main__":
    sys.exit(common.command(Settings, main))
