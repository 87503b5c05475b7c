#!/usr/bin/env python
"""The lecture notes' supervised experiments, each by name: the notes' figure beside ours, curves, a picture.

python scripts/train_supervised.py --help                          all of them
python scripts/train_supervised.py xor                             needs no data
python scripts/train_supervised.py mnist-mlp                       MNIST from the cache, downloaded if need be
python scripts/train_supervised.py mnist-cnn --nets best --data-dir DIR
tensorboard --logdir runs                                          look at it
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated, Any, Union

import tyro
from cli import common
from lectures import EXPERIMENTS
from lectures.experiment import Experiment
from lectures.report import Report
from rich.console import Console

from supervised.session import results

Chosen: Any = Union[  # noqa: UP007  (made of a table)
    tuple(Annotated[kind, tyro.conf.subcommand(name, prefix_name=False)] for name, kind in EXPERIMENTS.items())
]
NAMES = {kind: name for name, kind in EXPERIMENTS.items()}


def main(experiment: Experiment, console: Console) -> None:
    name = NAMES[type(experiment)]
    experiment.check()
    folder = common.folder(experiment.logdir, Path("runs") / name, getattr(experiment, "resume", False))
    console.print(f"{name}. The run lies in {folder}", soft_wrap=True)
    report = Report(folder, console)
    began = time.perf_counter()
    try:
        experiment.run(report)
        figures = {"experiment": name, "rows": report.rows, "pictures": report.pictures, **report.facts}
        figures |= {"wall_seconds": time.perf_counter() - began, "command": " ".join(sys.argv), **results.about()}
        nothing_new = bool(report.fits) and not any(report.fits)
        before = results.finished(folder / "result.json", experiment=name) if nothing_new else None
        if before is None:
            results.write(figures, folder / "result.json")
        else:
            console.print("Everything was finished before: result.json is left as it is.")
            figures = before
    finally:
        report.close()
    report.print_table()
    console.print(f"wall time  {figures['wall_seconds']:.1f} s", highlight=False)
    console.print(
        f"The run lies in {folder}: {', '.join(['result.json', *report.pictures])} and the curves.", soft_wrap=True
    )
    console.print(f"Look at it:  tensorboard --logdir {folder}", soft_wrap=True)


if __name__ == "__main__":
    sys.argv[1:2] = [common.current_name(word) for word in sys.argv[1:2]]
    sys.exit(common.command(Chosen, main))
