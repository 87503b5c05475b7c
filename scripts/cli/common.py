"""What the training scripts share: seeds from words, a folder for the run, errors as sentences."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import tyro
from rich.console import Console

from rl.training import Training
from supervised.logger import LoggingError
from supervised.renamed import RENAMED
from supervised.session import results

S = TypeVar("S")


def parse_seeds(words: tuple[str, ...]) -> int | list[int]:
    """("10",) is a count; ("3", "5"), ("3,5",) and ("7,",) are lists."""
    parts = ",".join(words).split(",")
    try:
        numbers = [int(part) for part in parts if part.strip()]
    except ValueError:
        raise ValueError(f"--seeds takes whole numbers, not {' '.join(words)!r}.") from None
    return numbers[0] if len(parts) == 1 and numbers else numbers


def current_name(word: str) -> str:
    """Return the current name of an experiment that had another one, with a note on stderr; any other word as it is."""
    new = RENAMED.get(word)
    if new is None:
        return word
    print(f"{word} is deprecated and goes with the next version: use {new}.", file=sys.stderr)
    return new


def folder(logdir: Path | None, family: Path, resume: bool) -> Path:
    """The run's folder: the one that was named, with `resume` the newest of its family, else a new one."""
    if logdir is not None:
        if logdir.exists() and not logdir.is_dir():
            raise ValueError(f"--logdir {logdir} is a file; it must be a folder, or not be there yet.")
        return logdir
    # A run of several models keeps them in sub-folders.
    runs = {family / path.relative_to(family).parts[0] for path in family.rglob("*.safetensors*")} if resume else set()
    stamp = f"{datetime.now():%Y-%m-%d_%H-%M-%S}_{random.SystemRandom().randrange(16**4):04x}"
    return max(runs, key=lambda run: run.name, default=family / stamp)


def finished(console: Console, path: Path, steps: int) -> dict[str, Any] | None:
    """The figures in a result.json of so many steps, which is left as it is then; None: there are none yet."""
    figures = results.finished(path, steps=steps)
    if figures is not None:
        console.print(f"The run was finished before: {path} is left as it is.", soft_wrap=True)
    return figures


def trained(training: Training, console: Console, announced: str) -> Any:
    """Say what is trained, now that all is checked, and train it -> the run."""
    console.print(announced, soft_wrap=True)
    for _ in training:
        pass
    return training.run


def speed(figures: dict[str, Any]) -> str:
    """A run's time and speed in words."""
    seeds = len(figures["seeds"])
    rate = f"{figures['steps_per_second']:,.0f} steps/s" + f", the sum of {seeds} seeds" * (seeds > 1)
    compiling = figures.get("compile_seconds", 0.0)
    apart = f"; {compiling:.1f} s of compiling (once) not counted" * (compiling >= 0.1)
    return f"{figures['wall_seconds']:.1f} s, {rate}{apart}"


def command(settings: type[S], main: Callable[[S, Console], None]) -> int:
    """Run a script -> its exit code; whatever is wrong is said in one sentence."""
    chosen = tyro.cli(settings)
    return run(lambda console: main(chosen, console))


def run(main: Callable[[Console], None]) -> int:
    """Run what a script does -> its exit code; whatever is wrong is said in one sentence."""
    try:
        main(Console(highlight=False))
    except KeyboardInterrupt as stop:
        print(f"\n{stop}" if str(stop) else "\nStopped.", file=sys.stderr)
        return 130
    except (ValueError, TypeError, LoggingError, FloatingPointError, OSError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    return 0
