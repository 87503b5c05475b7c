"""TensorBoard curves that survive a `kill -9`: after a resume there is no gap and no doubled point.

The sizes of the event files are saved with each checkpoint. A resumed run cuts every file back to its saved size,
removes files that are younger than the checkpoint, and writes on in a new file.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

EVENTS = "events.out.tfevents.*"


class LoggingError(RuntimeError):
    """The curves could not be written, for instance because the disk is full."""


class Logger:
    """Event files under `folder`: one for the aggregate, and one in each sub-run `folder/NAME` that is written to."""

    def __init__(self, folder: str | Path, sizes: Mapping[str, int] | None = None, step: int = 0) -> None:
        """`sizes` is the `state_dict` of the logger that is gone on from, and `step` where it was; None starts anew."""
        self.folder = Path(folder)
        self.writers: dict[str, SummaryWriter] = {}
        self.purge_step = None if sizes is None else step + 1
        if sizes is not None:
            self._cut_back(sizes)

    def _cut_back(self, sizes: Mapping[str, int]) -> None:
        for path in self.folder.rglob(EVENTS):
            name = path.relative_to(self.folder).as_posix()
            if name not in sizes:
                path.unlink()
            elif path.stat().st_size > sizes[name]:
                with open(path, "r+b") as file:
                    file.truncate(sizes[name])

    def writer(self, run: str = "") -> SummaryWriter:
        """The writer of a sub-run; "" is the aggregate."""
        if run not in self.writers:
            from torch.utils.tensorboard import SummaryWriter

            # purge_step tells a TensorBoard that is already open to forget the points that were cut off.
            with self._sentences():
                self.writers[run] = SummaryWriter(str(self.folder / run), purge_step=self.purge_step)
        return self.writers[run]

    def scalars(self, step: int, values: Mapping[str, float], run: str = "") -> None:
        """Write one point for each tag. A value that is NaN (nothing happened yet) is left out."""
        with self._sentences():
            for tag, value in values.items():
                if not math.isnan(value):
                    self.writer(run).add_scalar(tag, value, step)

    def image(self, step: int, tag: str, picture: np.ndarray, run: str = "") -> None:
        """Write one picture, uint8 [height, width, 3]."""
        with self._sentences():
            self.writer(run).add_image(tag, picture, step, dataformats="HWC")

    def gif(self, step: int, tag: str, data: bytes, size: tuple[int, int], run: str = "") -> None:
        """Write an animated GIF (width, height), which TensorBoard plays in its Images tab."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        image = Summary.Image(width=size[0], height=size[1], colorspace=3, encoded_image_string=data)
        with self._sentences():
            writer = self.writer(run)._get_file_writer()  # type: ignore[no-untyped-call]
            writer.add_summary(Summary(value=[Summary.Value(tag=tag, image=image)]), step)

    def text(self, tag: str, markdown: str) -> None:
        with self._sentences():
            self.writer().add_text(tag, markdown, 0)

    def bands(self, charts: Mapping[str, str]) -> None:
        """Draw each tag with its `_low` and `_high` as a band in the Custom Scalars tab: {title: tag}."""
        layout = {
            "Interval over seeds": {title: ["Margin", [t, f"{t}_low", f"{t}_high"]] for title, t in charts.items()}
        }
        with self._sentences():
            self.writer().add_custom_scalars(layout)

    def hparams(self, values: Mapping[str, Any], metrics: list[str]) -> None:
        """Describe the run in the HParams tab; `metrics` are tags of its curves, shown with their last value."""
        from torch.utils.tensorboard.summary import hparams

        plain = {k: v if isinstance(v, (bool, int, float, str)) else str(v) for k, v in values.items()}
        with self._sentences():
            writer = self.writer()._get_file_writer()  # type: ignore[no-untyped-call]
            for summary in hparams(plain, dict.fromkeys(metrics, 0.0)):  # type: ignore[no-untyped-call]
                writer.add_summary(summary)

    def state_dict(self) -> dict[str, int]:
        """The size of every event file, once all that was logged is in it."""
        with self._sentences():
            for writer in self.writers.values():
                writer.flush()
        return {p.relative_to(self.folder).as_posix(): p.stat().st_size for p in sorted(self.folder.rglob(EVENTS))}

    def close(self) -> None:
        with self._sentences():
            for writer in self.writers.values():
                writer.close()
            self.writers.clear()

    @contextlib.contextmanager
    def _sentences(self) -> Any:
        try:
            yield
        except OSError as error:
            raise LoggingError(
                f"The curves in {self.folder} could not be written: {error.strerror or error}. The last checkpoint is whole."
            ) from error
