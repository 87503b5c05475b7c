#!/usr/bin/env python
"""Run a supervised experiment of the lecture notes: the notes' figures next to ours, curves, images.

The lecture notes are two courses on deep learning, Sung Kim's "Deep Learning Zero to All" and Stanford's CS231n; see
docs/lectures.md.

python scripts/train_supervised.py --help                          list all experiments
python scripts/train_supervised.py xor                             needs no data
python scripts/train_supervised.py mnist-mlp                       MNIST from the cache, downloaded if necessary
python scripts/train_supervised.py mnist-cnn --nets best --data-dir DIR
tensorboard --logdir runs                                          view the results
"""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Union

import tyro
from cli import common, flags
from lectures import EXPERIMENTS, find, name_of, summary
from lectures.report import Report
from rich.console import Console

from supervised.session import results

if TYPE_CHECKING:
    from lectures.experiment import Experiment


def kind_of(name: str, words: Sequence[str]) -> type[Any]:
    """An experiment's class if the command line names it, else a class of its name and docstring alone.

    Most experiments need torch, which takes longer to import than the list of them to be read.
    """
    if name in words or any(word.startswith("--tyro-") for word in words):  # a completion script has every flag
        return find(name)
    kind = dataclasses.make_dataclass(EXPERIMENTS[name].partition(".")[2], [])
    kind.__doc__ = summary(name)
    return kind


def chosen_from(words: Sequence[str]) -> Any:
    """The experiments by name, one of which a command line chooses."""
    kinds = {name: kind_of(name, words) for name in EXPERIMENTS}
    return Union[  # noqa: UP007  (made of a table)
        tuple(Annotated[kind, tyro.conf.subcommand(name, prefix_name=False)] for name, kind in kinds.items())
    ]


def main(chosen: Experiment, console: Console) -> None:
    name = name_of(chosen)
    chosen.check()
    folder = common.folder(chosen.logdir, Path("runs") / name, getattr(chosen, "resume", False))
    console.print(f"{name}. Folder: {folder}", soft_wrap=True)
    report = Report(folder, console)
    began = time.perf_counter()
    try:
        chosen.run(report)
        figures = {"experiment": name, "rows": report.rows, "pictures": report.pictures, **report.facts}
        figures |= {"wall_seconds": time.perf_counter() - began, "command": " ".join(sys.argv), **results.about()}
        nothing_new = bool(report.fits) and not any(report.fits)
        before = results.finished(folder / "result.json", experiment=name) if nothing_new else None
        if before is None:
            results.write(figures, folder / "result.json")
        else:
            console.print("Already finished: result.json is unchanged.")
            figures = before
    finally:
        report.close()
    report.print_table()
    console.print(f"wall time  {figures['wall_seconds']:.1f} s", highlight=False)
    console.print(f"Saved in {folder}: {', '.join(['result.json', *report.pictures])} and the curves.", soft_wrap=True)
    console.print(f"View it:  tensorboard --logdir {folder}", soft_wrap=True)


if __name__ == "__main__":
    sys.argv[1:2] = [common.current_name(word) for word in sys.argv[1:2]]
    sys.exit(common.command(chosen_from(flags.words()), main))
