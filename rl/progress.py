"""A progress bar that shows steps a second and how good the policy is so far."""

from __future__ import annotations

import math
from types import TracebackType
from typing import TYPE_CHECKING

from rl.run import Run

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID


class Progress:
    """`shown` is false where nobody looks: no terminal, or progress=False."""

    def __init__(self, run: Run, steps: int, wanted: bool) -> None:
        self.run, self.steps = run, steps
        self.result = math.nan
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
            n = len(self.run.seeds)
            self.bar.start()
            self.task = self.bar.add_task(
                f"{n} seed{'s' * (n > 1)}", total=self.steps, completed=self.run.step, text=""
            )
        return self

    def show(self) -> None:
        if self.bar is not None and self.task is not None:
            known = self.run.model is not None and self.run.model.success is not None
            result = "" if math.isnan(self.result) else f"  {'success' if known else 'return'} {self.result:.3f}"
            text = f"{self.run.step / self.steps:.0%}  {self.run.steps_per_second:,.0f} steps/s{result}"
            self.bar.update(self.task, completed=min(self.run.step, self.steps), text=text)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar is not None:
            self.bar.stop()
