"""Code shared by the scripts: parsing seeds, choosing the run's folder, printing errors."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import tyro
from rich.console import Console

from supervised.logger import LoggingError
from supervised.renamed import RENAMED
from supervised.session import results

if TYPE_CHECKING:
    from rl.training import Training

S = TypeVar("S")


def parse_seeds(words: tuple[str, ...]) -> int | list[int]:
    """Parse --seeds: ("10",) is a count; ("3", "5"), ("3,5",) and ("7,",) are lists. Raise ValueError for anything else."""
    parts = ",".join(words).split(",")
    try:
        numbers = [int(part) for part in parts if part.strip()]
    except ValueError:
        raise ValueError(f"--seeds takes integers, not {' '.join(words)!r}.") from None
    return numbers[0] if len(parts) == 1 and numbers else numbers


def current_name(word: str) -> str:
    """Return the current name for a former name of an experiment, with a note on stderr; any other word unchanged."""
    new = RENAMED.get(word)
    if new is None:
        return word
    print(f"{word} is deprecated and will be removed in the next version: use {new}.", file=sys.stderr)
    return new


def folder(logdir: Path | None, family: Path, resume: bool) -> Path:
    """Return the run's folder: logdir if given, with `resume` the newest one in `family`, otherwise a new one.

    Prints to stderr that there is nothing to resume, if so.
    """
    if logdir is not None:
        if logdir.exists() and not logdir.is_dir():
            raise ValueError(f"--logdir {logdir} is a file; it must be a folder or not exist yet.")
        if resume and not any(logdir.rglob("*.safetensors*")):
            print(f"There is nothing to resume in {logdir}: a new run starts.", file=sys.stderr)
        return logdir
    # A run with several models saves them in subfolders.
    runs = {family / path.relative_to(family).parts[0] for path in family.rglob("*.safetensors*")} if resume else set()
    if resume and not runs:
        print(f"There is nothing to resume in {family}: a new run starts.", file=sys.stderr)
    stamp = f"{datetime.now():%Y-%m-%d_%H-%M-%S}_{random.SystemRandom().randrange(16**4):04x}"
    return max(runs, key=lambda run: run.name, default=family / stamp)


def finished(console: Console, path: Path, steps: int) -> dict[str, Any] | None:
    """Return the figures of a result.json for so many steps, and print that it is unchanged; None if there is none."""
    figures = results.finished(path, steps=steps)
    if figures is not None:
        console.print(f"Already finished: {path} is unchanged.", soft_wrap=True)
    return figures


def trained(training: Training, console: Console, announced: str) -> Any:
    """Print the announcement, now that everything is checked, and train. Return the run."""
    console.print(announced, soft_wrap=True)
    for _ in training:
        pass
    return training.run


def speed(figures: dict[str, Any]) -> str:
    """Format a run's wall time and speed."""
    seeds = len(figures["seeds"])
    rate = f"{figures['steps_per_second']:,.0f} steps/s" + f", the sum of {seeds} seeds" * (seeds > 1)
    compiling = figures.get("compile_seconds", 0.0)
    apart = f"; {compiling:.1f} s of compiling (once) not counted" * (compiling >= 0.1)
    return f"{figures['wall_seconds']:.1f} s, {rate}{apart}"


def command(settings: type[S], main: Callable[[S, Console], None]) -> int:
    """Parse the flags and run a script. Return its exit code; print an error as one sentence."""
    chosen = tyro.cli(settings)
    return run(lambda console: main(chosen, console))


def run(main: Callable[[Console], None]) -> int:
    """Run a script. Return its exit code; print an error as one sentence."""
    try:
        main(Console(highlight=False))
    except KeyboardInterrupt as stop:
        print(f"\n{stop}" if str(stop) else "\nStopped.", file=sys.stderr)
        return 130
    except (ValueError, TypeError, LoggingError, FloatingPointError, OSError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    return 0
