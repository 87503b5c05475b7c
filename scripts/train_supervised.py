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
from lectures.desk import Desk
from lectures.experiment import Experiment
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
    desk = Desk(folder, console)
    began = time.perf_counter()
    try:
        experiment.run(desk)
        figures = {"experiment": name, "rows": desk.rows, "pictures": desk.pictures, **desk.facts}
        figures |= {"wall_seconds": time.perf_counter() - began, "command": " ".join(sys.argv), **results.about()}
        nothing_new = bool(desk.fits) and not any(desk.fits)
        before = results.finished(folder / "result.json", experiment=name) if nothing_new else None
        if before is None:
            results.write(figures, folder / "result.json")
        else:
            console.print("Everything was finished before: result.json is left as it is.")
            figures = before
    finally:
        desk.close()
    desk.report()
    console.print(f"wall time  {figures['wall_seconds']:.1f} s", highlight=False)
    console.print(
        f"The run lies in {folder}: {', '.join(['result.json', *desk.pictures])} and the curves.", soft_wrap=True
    )
    console.print(f"Look at it:  tensorboard --logdir {folder}", soft_wrap=True)


if __name__ == "__main__":
    sys.exit(common.command(Chosen, main))
