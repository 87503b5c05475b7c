"""What every training loop needs around it: a folder to itself, Ctrl-C answered between two steps, a progress bar."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING

from supervised import checkpoint
from supervised.checkpoint import CheckpointError
from supervised.logger import EVENTS
from supervised.validate import path

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID


def check_free(folder: Path | None, file: str) -> None:
    """Refuse a folder that holds another run (its checkpoint is called `file`) or somebody's curves."""
    if folder is None or not folder.exists():
        return
    if not folder.is_dir():
        raise CheckpointError(f"logdir {folder} is a file; it must be a folder.")
    if (folder / file).exists() or checkpoint.previous(folder / file).exists():
        raise CheckpointError(
            f"{folder} already holds a run. Go on with it by resume=True (--resume), or take another logdir."
        )
    if any(folder.rglob(EVENTS)):
        raise CheckpointError(f"{folder} already holds TensorBoard curves of something else. Take another logdir.")


def newest_whole(folder: Path, file: str) -> Path | None:
    """The checkpoint in `folder` to go on from: the last, or the one before if that is damaged; None if there is none."""
    path = folder / file
    old = checkpoint.previous(path)
    if not path.exists() and not old.exists():
        return None
    if not checkpoint.is_whole(path):
        if not checkpoint.is_whole(old):
            checkpoint.load(path)  # says what is wrong with it
        return old
    return path


def folder_of(logdir: str | Path | None) -> Path | None:
    """The path of a run's folder. Raises ValueError for what is no path."""
    return None if logdir is None else path(logdir, "logdir", "a folder")


@contextlib.contextmanager
def interrupts() -> Iterator[list[int]]:
    """Collect Ctrl-C and SIGTERM, so that they are answered between two steps; a second one stops at once."""
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return

    def note(number: int, frame: FrameType | None) -> None:
        if received:
            raise KeyboardInterrupt("Stopped at once; the last checkpoint is whole.")
        received.append(number)
        os.write(2, b"\nStopping when what is under way is done; once more stops at once.\n")

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Progress:
    """A bar on the terminal; `shown` is false where nobody looks: no terminal, or not wanted."""

    def __init__(self, label: str, total: int, done: int, wanted: bool) -> None:
        self.label, self.total, self.done = label, total, done
        self.bar: RichProgress | None = None
        self.task: TaskID | None = None
        if wanted:
            from rich.console import Console
            from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as RichProgress

            console = Console(stderr=True)
            if console.is_terminal:
                text = TextColumn("{task.description}")
                self.bar = RichProgress(
                    text, BarColumn(20), TextColumn("{task.fields[text]}"), TimeRemainingColumn(), console=console
                )

    @property
    def shown(self) -> bool:
        return self.bar is not None

    def __enter__(self) -> Progress:
        if self.bar is not None:
            self.bar.start()
            self.task = self.bar.add_task(self.label, total=self.total, completed=self.done, text="")
        return self

    def show(self, done: int, text: str) -> None:
        """Move the bar to `done` and write `text` behind it."""
        if self.bar is not None and self.task is not None:
            self.bar.update(self.task, completed=min(done, self.total), text=f"{done / self.total:.0%}  {text}")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar is not None:
            self.bar.stop()
