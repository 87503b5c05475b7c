"""The report of an experiment: rows with the notes' figures, curves and images."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.table import Table

from supervised import statistics
from supervised.logger import Logger
from supervised.session import results

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Ours = float | int | str | Mapping[str, Any]  # a number, words, or `results.summary` over seeds


class Report:
    """The results so far of one run of an experiment. Its folder contains result.json, images and TensorBoard's curves."""

    def __init__(self, folder: Path, console: Console) -> None:
        self.folder, self.console = folder, console
        self.rows: list[dict[str, Any]] = []
        self.pictures: list[str] = []
        self.fits: list[bool] = []  # whether each fit had epochs left
        self.facts: dict[str, Any] = {}  # further entries of result.json
        self._logger: Logger | None = None

    def print(self, text: str) -> None:
        """Print a line."""
        self.console.print(text, soft_wrap=True)

    def row(self, what: str, ours: Ours, note: str = "", digits: int = 4) -> None:
        """Add a row of the table: the quantity, its value here, and its value in the notes."""
        plain = ours if isinstance(ours, (str, Mapping)) else number(float(ours))
        self.rows.append({"what": what, "ours": plain, "note": note, "digits": digits})

    def seeds(
        self,
        what: str,
        values: Any,
        seeds: Sequence[int],
        note: str = "",
        digits: int = 4,
        low: float | None = None,
        high: float | None = None,
    ) -> None:
        """Add a row with one value per seed, [N]; the table shows their mean and its 95 % interval.

        low, high: the bounds of the values, if known.
        """
        array = np.asarray(values, np.float64)
        lost = int((~np.isfinite(array)).sum())
        self.row(
            what,
            f"nan in {lost} of {array.size} seeds" if lost else results.summary(array, seeds, low, high),
            note,
            digits,
        )

    def shares(self, what: str, values: Any, seeds: Sequence[int], note: str = "", digits: int = 4) -> None:
        """Add a row of shares or probabilities, one per seed."""
        self.seeds(what, values, seeds, note, digits, *statistics.SHARE)

    def picture(self, name: str, figure: Figure) -> None:
        """Save a figure as NAME.png, and in TensorBoard's Images tab."""
        from PIL import Image

        png = io.BytesIO()
        figure.savefig(png, format="png", dpi=100)
        self._keep(f"{name}.png", png.getvalue())
        self.logger.image(0, name, np.asarray(Image.open(png).convert("RGB")))

    def animation(self, name: str, frames: Sequence[np.ndarray], seconds: float = 0.08) -> None:
        """Save frames, each uint8 [height, width, 3], as NAME.gif, and in TensorBoard's Images tab."""
        from PIL import Image

        first, *others = [Image.fromarray(frame).quantize(64) for frame in frames]
        gif = io.BytesIO()
        first.save(gif, format="GIF", save_all=True, append_images=others, duration=int(1000 * seconds), loop=0)
        self._keep(f"{name}.gif", gif.getvalue())
        self.logger.gif(0, name, gif.getvalue(), first.size)

    def curve(self, tag: str, values: Any, run: str = "", every: int = 1) -> None:
        """Write a curve to TensorBoard: one value per step, of which every `every`-th is kept. run: name of a sub-run."""
        for step, value in enumerate(values):
            if step % every == 0:
                self.logger.scalars(step, {tag: float(value)}, run)

    @property
    def logger(self) -> Logger:
        """Return the logger of TensorBoard's event files in the folder."""
        if self._logger is None:
            self._logger = Logger(self.folder)
        return self._logger

    def close(self) -> None:
        """Close the event files."""
        if self._logger is not None:
            self._logger.close()

    def _keep(self, name: str, data: bytes) -> None:
        results.write_bytes(data, self.folder / name)
        if name not in self.pictures:
            self.pictures.append(name)

    def print_table(self) -> None:
        """Print the table."""
        table = Table(highlight=False)
        for column in ("what", "here", "the notes"):
            table.add_column(column, overflow="fold")
        for row in self.rows:
            table.add_row(row["what"], format_result(row["ours"], row["digits"]), row["note"])
        self.console.print(table)


def format_result(ours: Any, digits: int) -> str:
    """Format a row's value; a mean over seeds with its interval."""
    if ours is None or isinstance(ours, str):
        return ours or "not known"
    if not isinstance(ours, Mapping):
        return _figure(ours, digits)
    low, high = ours["interval_95"]
    mean = _figure(ours["mean"], digits)
    if low is None:
        return f"{mean} (one seed)"
    count = statistics.count(list(ours["per_seed"].values()), ours.get("possible", statistics.UNKNOWN))
    return f"{mean} [{_figure(low, digits)}, {_figure(high, digits)}]{count}"


def number(value: float) -> float | str:
    """Return a number for JSON, which has neither NaN nor infinity."""
    return value if math.isfinite(value) else str(value)


def pixels(figure: Figure) -> np.ndarray:
    """Return a figure as an image, uint8 [height, width, 3]."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _figure(value: float, digits: int) -> str:
    value = 0.0 if abs(value) < 1e-12 else value  # rounding errors
    if value and not 1e-4 <= abs(value) < 1e6 and digits:
        return f"{value:.{max(1, digits - 1)}g}"
    return f"{value:,.{digits}f}"
