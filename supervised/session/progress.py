"""A progress bar on the terminal, and interrupts that a training loop handles between two steps."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID


@contextlib.contextmanager
def interrupts() -> Iterator[list[int]]:
    """Collect Ctrl-C and SIGTERM, to be handled between two steps; a second signal stops immediately."""
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return

    def note(number: int, _frame: FrameType | None) -> None:
        if received:
            raise KeyboardInterrupt("Stopped immediately; the last checkpoint is intact.")
        received.append(number)
        os.write(2, b"\nStopping at the next opportunity; a second signal stops immediately.\n")

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Progress:
    """A progress bar; `shown` is False without a terminal, or if no bar is wanted."""

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
        """Move the bar to `done` and show `text` beside it."""
        if self.bar is not None and self.task is not None:
            self.bar.update(self.task, completed=min(done, self.total), text=f"{done / self.total:.0%}  {text}")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar is not None:
            self.bar.stop()
