"""What a training loop needs around it: a locked folder, the checkpoint to resume from, event files, a way to stop."""

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

RUN, FIT = "run.safetensors", "fit.safetensors"  # the checkpoint of a folder, by which a run or a fit is known


class Session:
    """One call of a training loop: `with Session(logdir, RUN) as session: ...`.

    The folder is created and locked against other processes until the block ends. Without a logdir nothing is written, and
    every method can still be called.
    """

    def __init__(self, logdir: str | Path | None, file: str) -> None:
        """Raises ValueError for a logdir that is no path."""
        self.folder = folder_of(logdir)
        self.path = None if self.folder is None else self.folder / file
        self.fell_back = False  # whether the run resumes from the checkpoint before the last
        self.interrupted: list[int] = []
        self.closing = contextlib.ExitStack()

    def __enter__(self) -> Session:
        """Raises CheckpointError for a folder that cannot be made, or that another process trains in."""
        if self.folder is not None and self.path is not None:
            with contextlib.ExitStack() as stack:
                stack.enter_context(checkpoint.alone_in(self.folder))
                files.remove_temporary(self.path)
                for other in neighbors(self.folder):
                    warnings.warn(
                        f"logdir {self.folder} and {other}, which holds another run, lie one in the other: TensorBoard will"
                        " show them as one. Each leaves the other's files alone.",
                        stacklevel=3,
                    )
                self.closing = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closing.__exit__(kind, error, trace)

    def newest(self, resume: bool) -> Saved | None:
        """The checkpoint to resume from; None: the run is new, and the folder free for it.

        Where the last checkpoint is damaged, the one before it is taken, with a UserWarning. Raises ValueError for `resume`
        without a folder, CheckpointError when no checkpoint is whole or the folder holds something else.
        """
        if self.path is None:
            if resume:
                raise ValueError("resume=True needs logdir=..., the folder of the run to go on with.")
            return None
        saved = checkpoint.newest(self.path) if resume else None
        if saved is None:
            check_free(self.path.parent)
        elif saved.path != self.path:
            self.fell_back = True
            state = "damaged" if self.path.exists() else "missing"
            warnings.warn(
                f"{self.path} is {state}: going on from the checkpoint before it, {saved.path}.", stacklevel=4
            )
        return saved

    def check_unchanged(self, curves: Mapping[str, Any], step: int) -> None:
        """Check that going on in place, after `step` and with `curves`, loses nothing that another process added.

        Raises CheckpointError when the folder holds another run by now, or a later state of this one.
        """
        if self.path is None or not self.path.exists():
            return
        try:
            header = checkpoint.read_header(self.path)
            same = header.get("curves", curves).get("id") == curves.get("id") and header.get("step", 0) <= step
        except (Damaged, AttributeError, TypeError):
            self.fell_back = True  # to what is in memory
            return
        if not same:
            raise CheckpointError(
                f"{self.folder} holds another run by now, or this one was resumed there and is further on. Go on with that one"
                " by resume=True (--resume), or take another logdir."
            )

    def log(
        self, curves: Mapping[str, Any], step: int, describe: Callable[[Logger], None], save: Callable[[Logger], None]
    ) -> Logger | None:
        """Open the event files of a run whose last checkpoint knew of `curves` at `step`; {}: it has none yet.

        describe: writes what is written once, at the beginning. It is called between two checkpoints: the first makes the
        run's id known before there is a file of it, the second what is in the files. A run that was killed between them
        begins again with its description.
        """
        if self.folder is None or self.path is None:
            return None
        if self.fell_back and self.path.exists():  # the next checkpoint must not put it where the whole one is
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
        """A context around the loop: Ctrl-C and SIGTERM are collected in `interrupted`, and a bar is shown if wanted."""
        with interrupts() as self.interrupted, Progress(label, total, done, progress) as bar:
            yield bar

    def stop(self, where: str) -> NoReturn:
        """Raise KeyboardInterrupt with a sentence on how to resume. where: such as "at step 5"."""
        saved = (
            "not saved, for want of a logdir"
            if self.folder is None
            else f"saved to {self.folder}; go on with resume=True (--resume)"
        )
        raise KeyboardInterrupt(f"Stopped {where}: {saved}.")


def say(sentence: str) -> None:
    """Print a sentence where progress is shown."""
    print(sentence, file=sys.stderr)


def check_free(folder: Path) -> None:
    """Refuse a folder that holds another run or fit, or somebody's curves where those of a run would be."""
    for path in (folder / name for name in (RUN, FIT)):
        if path.exists() or checkpoint.previous(path).exists():
            raise CheckpointError(
                f"{folder} already holds a run. Go on with it by resume=True (--resume), or take another logdir."
            )
    if any(folder.glob(EVENTS)) or any(folder.glob(f"{SUBRUN}*/{EVENTS}")):
        raise CheckpointError(f"{folder} already holds TensorBoard curves of something else. Take another logdir.")


def neighbors(folder: Path) -> list[Path]:
    """The nearest folder around this one that holds a run or a fit, and the first that is found in it."""
    whole = folder.resolve()
    around = (parent for parent in whole.parents if any((parent / name).is_file() for name in (RUN, FIT)))
    below = (Path(place) for place, _, names in os.walk(whole) if Path(place) != whole and {RUN, FIT} & set(names))
    return [found for found in (next(around, None), next(below, None)) if found is not None]


def folder_of(logdir: str | Path | None) -> Path | None:
    """The path of a run's folder. Raises ValueError for what is no path."""
    return None if logdir is None else validate.path(logdir, "logdir", "a folder")
