"""The surroundings of a training loop: a locked folder, the checkpoint to resume from, event files, interrupts."""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

from supervised import checkpoint, files, validate
from supervised.checkpoint import CheckpointError, Damaged, Saved
from supervised.events import EVENTS, SUBRUN
from supervised.logger import Logger
from supervised.session.progress import Progress, interrupts

RUN, FIT = "run.safetensors", "fit.safetensors"  # checkpoint names, which tell a run's folder from a fit's


class Session:
    """One call of a training loop: `with Session(logdir, RUN) as session: ...`.

    The folder is created, and locked against other processes until the block ends. Without a logdir nothing is written, but
    every method can still be called.
    """

    def __init__(self, logdir: str | Path | None, file: str) -> None:
        """Raises ValueError if logdir is not a path."""
        self.folder = folder_of(logdir)
        self.path = None if self.folder is None else self.folder / file
        self.fell_back = False  # whether the run resumes from the checkpoint before the last
        self.interrupted: list[int] = []
        self.closing = contextlib.ExitStack()

    def __enter__(self) -> Session:
        """Raises CheckpointError if the folder cannot be created, or if another process is training in it."""
        if self.folder is not None and self.path is not None:
            with contextlib.ExitStack() as stack:
                stack.enter_context(checkpoint.alone_in(self.folder))
                files.remove_temporary(self.path)
                for other in neighbors(self.folder):
                    warnings.warn(
                        f"logdir {self.folder} and {other}, which contains another run, are nested: TensorBoard will show"
                        " them as one. Neither run touches the other's files.",
                        stacklevel=3,
                    )
                self.closing = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closing.__exit__(kind, error, trace)

    def newest(self, resume: bool) -> Saved | None:
        """Return the checkpoint to resume from, or None for a new run in an unused folder.

        If the last checkpoint is damaged, the previous one is used, with a UserWarning. Raises ValueError for `resume` without a
        folder, CheckpointError if no checkpoint is intact or the folder contains something else.
        """
        if self.path is None:
            if resume:
                raise ValueError("resume=True needs logdir=..., the folder of the run to resume.")
            return None
        saved = checkpoint.newest(self.path) if resume else None
        if saved is None:
            check_free(self.path.parent)
        elif saved.path != self.path:
            self.fell_back = True
            state = "damaged" if self.path.exists() else "missing"
            warnings.warn(f"{self.path} is {state}: resuming from the previous checkpoint, {saved.path}.", stacklevel=4)
        return saved

    def check_unchanged(self, curves: Mapping[str, Any], step: int) -> None:
        """Check that continuing a run in memory, after `step` and with `curves`, overwrites nothing of another process.

        Raises CheckpointError if the folder now contains another run, or a later state of this one.
        """
        if self.path is None or not self.path.exists():
            return
        try:
            header = checkpoint.read_header(self.path)
            same = header.get("curves", curves).get("id") == curves.get("id") and header.get("step", 0) <= step
        except (Damaged, AttributeError, TypeError):
            self.fell_back = True  # the state in memory replaces it
            return
        if not same:
            raise CheckpointError(
                f"{self.folder} now contains another run, or a later state of this one, resumed by another process. Continue that"
                " run with resume=True (--resume), or choose another logdir."
            )

    def log(
        self, curves: Mapping[str, Any], step: int, describe: Callable[[Logger], None], save: Callable[[Logger], None]
    ) -> Logger | None:
        """Open the event files of a run whose last checkpoint lists `curves` at `step`; {}: it has none yet.

        describe: a function that writes the one-time description of a new run. It is called between two checkpoints: the first
        stores the run's id before any of its files exist, the second the files' sizes. A run killed between them writes its
        description again.
        """
        if self.folder is None or self.path is None:
            return None
        if self.fell_back and self.path.exists():  # or else saving would move it over the intact previous one
            try:
                os.replace(self.path, self.path.with_name(self.path.name + ".damaged"))
            except OSError as error:
                raise CheckpointError(f"{self.path} is damaged and cannot be moved aside: {error.strerror}.") from error
        logger = Logger(self.folder, curves, step)
        self.closing.callback(logger.close)
        new = logger.empty
        if new:
            save(logger)
            describe(logger)
        if new or self.fell_back:
            save(logger)
        return logger

    @contextlib.contextmanager
    def running(self, label: str, total: int, done: int, progress: bool) -> Iterator[Progress]:
        """Context manager for the loop: collects Ctrl-C and SIGTERM in `interrupted`, and shows a bar if wanted."""
        with interrupts() as self.interrupted, Progress(label, total, done, progress) as bar:
            yield bar

    def stop(self, where: str) -> NoReturn:
        """Raise KeyboardInterrupt with a message on how to resume. where: for example "at step 5"."""
        saved = (
            "not saved, since there is no logdir"
            if self.folder is None
            else f"saved to {self.folder}; continue with resume=True (--resume)"
        )
        raise KeyboardInterrupt(f"Stopped {where}: {saved}.")


def say(sentence: str) -> None:
    """Print a sentence to stderr, where progress is shown."""
    print(sentence, file=sys.stderr)


def check_free(folder: Path) -> None:
    """Raise CheckpointError if a folder contains another run or fit, or event files where those of a run would be."""
    for path in (folder / name for name in (RUN, FIT)):
        if path.exists() or checkpoint.previous(path).exists():
            raise CheckpointError(
                f"{folder} already contains a run. Continue it with resume=True (--resume), or choose another logdir."
            )
    if any(folder.glob(EVENTS)) or any(folder.glob(f"{SUBRUN}*/{EVENTS}")):
        raise CheckpointError(f"{folder} already contains other TensorBoard curves. Choose another logdir.")


def neighbors(folder: Path) -> list[Path]:
    """Return the nearest parent folder that contains a run or a fit, and the first such subfolder, if any."""
    whole = folder.resolve()
    around = (parent for parent in whole.parents if any((parent / name).is_file() for name in (RUN, FIT)))
    below = (Path(place) for place, _, names in os.walk(whole) if Path(place) != whole and {RUN, FIT} & set(names))
    return [found for found in (next(around, None), next(below, None)) if found is not None]


def folder_of(logdir: str | Path | None) -> Path | None:
    """Return the path of a run's folder. Raises ValueError if it is not a path."""
    return None if logdir is None else validate.path(logdir, "logdir", "a folder")
