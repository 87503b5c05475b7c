#!/usr/bin/env python
"""Generate the tables of settings and the learning curves in docs/algorithms.

python scripts/tools/algorithm_pages.py                                rewrite the tables and the pictures' captions
python scripts/tools/algorithm_pages.py --curves                       first train the tabular agents and draw them (minutes)
python scripts/tools/algorithm_pages.py --curves q-learning dyna-q     only these curves
python scripts/tools/algorithm_pages.py --folder runs/compare-deep/RUN first draw agents from a folder of `compare.py deep`,
                                                                       or of `compare.py memory`

Comments in a page mark the places: `<!-- settings: PRESET -->` for all settings of a preset, `<!-- changes: PRESET ... -->` for
those in which presets differ from their class, `<!-- part: NAME -->` for a part such as rl.Atoms, `<!-- curve: NAME -->`. This
command writes the text between such a comment and `<!-- end -->`. What a setting does is documented below its field; the reason
for its default is in defaults.toml in this folder.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import sys
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1]))  # where the packages of the scripts are

from cli import common
from comparisons import curves
from rich.console import Console
from tools.running_text import separated

import rl
from rl.core import registry, text
from supervised.session.results import write_bytes
from supervised.validate import choice

DOCS = Path(__file__).parents[2] / "docs"
REASONS = Path(__file__).parent / "defaults.toml"
BLOCK = re.compile(r"<!-- (settings|changes|part|curve): ([^>]*?) -->\n.*?<!-- end -->", re.DOTALL)
RECORD = "algorithms/curves.json"
HEAD = ("setting", "default", "what it is", "why this default")


@dataclass
class Settings:
    """Write the generated parts of docs/algorithms."""

    curves: tuple[str, ...] | None = None
    """Curves to train and draw first, by name; without a name all tabular ones."""
    folder: Path | None = None
    """The folder of a `compare.py deep` or `compare.py memory` to draw agents from first. Cells that it lacks are named."""
    seeds: int = 10
    """Seeds of each trained curve."""


def plain(words: str) -> str:
    """A text for a cell of a table: what Markdown would read as markup is escaped, except in `code`."""
    words = words.replace("As in `TabularConfig`", "As in [Q-learning](q-learning.md#settings)")
    parts = re.split(r"(`[^`]*`)", words)
    return "".join(part if part.startswith("`") else re.sub(r"([*|<])", r"\\\1", part) for part in parts)


def owner(kind: type, name: str) -> str:
    """The class that a field's default comes from."""
    return next(one.__name__ for one in kind.__mro__ if name in inspect.get_annotations(one))


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table in Markdown."""
    lines = [list(head), *map(list, rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join(f"| {' | '.join(row)} |" for row in lines)


def reasons() -> dict[str, dict[str, str]]:
    """Return the reasons for defaults: {class or preset: {setting: reason}}."""
    return tomllib.loads(REASONS.read_text())


def settings(preset: str) -> str:
    """All settings of a preset: what each is, its default, and why."""
    agent = registry.presets()[preset]
    kind, why, own = type(agent), reasons(), changed(preset)
    meaning, rows = text.documentation(kind), []
    for field in dataclasses.fields(kind):
        place = (preset, field.name) if field.name in own else (owner(kind, field.name), field.name)
        rows.append(
            [
                f"`{field.name}`",
                f"`{value(agent, field.name)}`",
                plain(meaning[field.name]),
                plain(why[place[0]][place[1]]),
            ]
        )
    return table(HEAD, rows)


def changed(preset: str) -> list[str]:
    """The settings in which a preset differs from its class."""
    agent = registry.presets()[preset]
    usual = type(agent)()
    names = [field.name for field in dataclasses.fields(agent)]
    return [name for name in names if getattr(agent, name) != getattr(usual, name)]


def value(agent: Any, name: str) -> str:
    """A setting as the command line writes it."""
    own = getattr(agent, name)
    return own if isinstance(own, str) else text.written(own)


def changes(presets: str) -> str:
    """The settings in which presets differ from their class, and why."""
    why, rows, said = reasons(), [], set[str]()
    for preset in presets.split():
        agent = registry.presets()[preset]
        meaning = text.documentation(type(agent))
        for name in changed(preset):
            what = "" if name in said else plain(meaning[name])
            rows.append([f"`{preset}`", f"`{name}`", f"`{value(agent, name)}`", what, plain(why[preset][name])])
            said.add(name)
    return table(("preset", "setting", "value", "what it is", "why"), rows)


def part(name: str) -> str:
    """A part such as rl.Atoms: what it is, and its settings, what each is, its default, and why."""
    kind, why = getattr(rl, name), reasons()[name]
    names = [field.name for field in dataclasses.fields(kind)]
    said, meaning = separated(inspect.cleandoc(kind.__doc__ or ""), {*names})
    rows = [
        [f"`{one}`", f"`{value(kind(), one)}`", plain(meaning.get(one, "See above.")), plain(why[one])] for one in names
    ]
    about = " ".join(said.split("\n\n")[0].split())
    return f"`rl.{name}`: {plain(about)}\n\n" + table(HEAD, rows)


def curve(name: str) -> str:
    """Return a picture and its caption, or, if it has not been drawn yet, how to draw it."""
    record = recorded().get(name)
    picture = DOCS / "pictures" / "algorithms" / f"{name}.png"
    if record is None or not picture.is_file():
        whence = "" if name in curves.TABULAR else f", from the folder of `{curves.comparison(name)}`"
        return f"*The curve has not been drawn yet: `{curves.command(name)}` draws it{whence}.*"
    lines = [f"![{record['alt']}](../pictures/algorithms/{name}.png)", "", record["caption"]]
    return "\n".join(lines)


def recorded() -> dict[str, dict[str, str]]:
    """Return the alternative texts and captions of the pictures: {name: {"alt": ..., "caption": ...}}."""
    path = DOCS / RECORD
    found: dict[str, dict[str, str]] = json.loads(path.read_text()) if path.is_file() else {}
    return found


KINDS: dict[str, Callable[[str], str]] = {"settings": settings, "changes": changes, "part": part, "curve": curve}


def filled(page: str) -> str:
    """Return a page with its blocks filled in."""
    return BLOCK.sub(lambda m: f"<!-- {m[1]}: {m[2]} -->\n{KINDS[m[1]](m[2])}\n<!-- end -->", page)


def pages() -> list[Path]:
    """The pages of the algorithms."""
    return sorted((DOCS / "algorithms").glob("*.md"))


def keep(drawn: Mapping[str, curves.Drawn]) -> None:
    """Write pictures, and record their alternative texts and captions."""
    record = recorded()
    for name, one in drawn.items():
        write_bytes(one.png, DOCS / "pictures" / "algorithms" / f"{name}.png")
        record[name] = {"alt": one.alt, "caption": one.caption}
    write_bytes((json.dumps(dict(sorted(record.items())), indent=1) + "\n").encode(), DOCS / RECORD)


def main(settings: Settings, console: Console) -> None:
    if settings.curves is not None:
        for name in settings.curves:
            choice(name, "curve", curves.TABULAR)
        for name in settings.curves or curves.TABULAR:
            keep({name: curves.trained(name, settings.seeds, console)})
    if settings.folder is not None:
        if not settings.folder.is_dir():
            raise ValueError(f"--folder {settings.folder} is not a folder.")
        keep(curves.drawn_from(settings.folder, console))
    for path in pages():
        write_bytes(filled(path.read_text()).encode(), path)
    console.print(f"The pages in {DOCS / 'algorithms'} have been written.", soft_wrap=True)


if __name__ == "__main__":
    sys.exit(common.command(Settings, main))
