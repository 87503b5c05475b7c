"""TensorBoard curves that survive a `kill -9`: after a resume there is no gap and no doubled point.

The sizes of the event files are saved with each checkpoint. A resumed run cuts every file back to its saved size,
removes files that are younger than the checkpoint, and writes on in a new file.
"""

from __future__ import annotations

import contextlib
import math
import os
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from supervised.statistics import band

EVENTS = "events.out.tfevents.*"
MOST_SUBRUNS = 16  # with more seeds than this, TensorBoard shows the aggregate alone
MOST_VALUES = 20_000  # of which a histogram is drawn; of more, evenly spaced ones are taken


class LoggingError(RuntimeError):
    """The curves could not be written, for instance because the disk is full."""


class EventFile:
    """One event file, written as it comes: what was flushed is on the disk, and an error comes from the call it befell."""

    count = 0

    def __init__(self, folder: Path, purge_step: int | None) -> None:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.summary.writer.record_writer import RecordWriter

        folder.mkdir(parents=True, exist_ok=True)
        EventFile.count += 1
        name = f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}.{EventFile.count:06d}"
        self.file = open(folder / name, "xb")  # noqa: SIM115  (open as long as the run)
        self.records = RecordWriter(self.file)
        self.event = Event
        self._write(Event(wall_time=time.time(), file_version="brain.Event:2"))
        if purge_step is not None:  # tells a TensorBoard that is open to forget the points that were cut off
            start = SessionLog(status=SessionLog.START)
            self._write(Event(wall_time=time.time(), step=purge_step, session_log=start))

    def _write(self, event: Any) -> None:
        self.records.write(event.SerializeToString())

    def add(self, summary: Any, step: int = 0) -> None:
        self._write(self.event(wall_time=time.time(), step=step, summary=summary))

    def add_graph(self, graph: bytes) -> None:
        self._write(self.event(wall_time=time.time(), graph_def=graph))

    def flush(self) -> None:
        self.file.flush()

    def close(self) -> None:
        self.file.close()


class Logger:
    """Event files under `folder`: one for the aggregate, and one in each sub-run `folder/NAME` that is written to."""

    def __init__(self, folder: str | Path, sizes: Mapping[str, int] | None = None, step: int = 0) -> None:
        """`sizes` is the `state_dict` of the logger that is gone on from, and `step` where it was; None starts anew."""
        self.folder = Path(folder)
        self.files: dict[str, EventFile] = {}
        self.purge_step = None if sizes is None else step + 1
        if sizes is not None:
            with self._sentences():
                self._cut_back(sizes)

    def _cut_back(self, sizes: Mapping[str, int]) -> None:
        for path in self.folder.rglob(EVENTS):
            name = path.relative_to(self.folder).as_posix()
            if name not in sizes:
                path.unlink()
            elif path.stat().st_size > sizes[name]:
                with open(path, "r+b") as file:
                    file.truncate(sizes[name])

    def _file(self, run: str = "") -> EventFile:
        if run not in self.files:
            self.files[run] = EventFile(self.folder / run, self.purge_step)
        return self.files[run]

    def scalars(self, step: int, values: Mapping[str, float], run: str = "") -> None:
        """Write one point for each tag. A value that is NaN (nothing happened yet) is left out."""
        from torch.utils.tensorboard.summary import scalar

        with self._sentences():
            for tag, value in values.items():
                if not math.isnan(value):
                    self._file(run).add(scalar(tag, value), step)
            self._file(run).flush()

    def seeds(self, step: int, metrics: Mapping[str, np.ndarray], seeds: Sequence[int]) -> None:
        """Write each seed's part of metrics [N] into a sub-run of its own, unless there are too many to look at."""
        if len(seeds) <= MOST_SUBRUNS:
            for k, seed in enumerate(seeds):
                self.scalars(step, {tag: float(values[k]) for tag, values in metrics.items()}, f"seed_{seed}")

    def histogram(self, step: int, tag: str, values: np.ndarray) -> None:
        """Write how values are spread. Those that are no finite numbers are left out."""
        from torch.utils.tensorboard.summary import histogram

        values = values.ravel()[:: max(1, values.size // MOST_VALUES)]
        values = values[np.isfinite(values)]
        if values.size:
            with self._sentences():
                self._file().add(histogram(tag, values, bins="auto" if values.size < 100 else 60), step)

    def graph(self, model: Any, example: Any) -> None:
        """Write what a model does with an example, for the Graphs tab."""
        from torch.utils.tensorboard._pytorch_graph import graph

        drawn, _ = graph(model, example)
        with self._sentences():
            self._file().add_graph(drawn.SerializeToString())

    def image(self, step: int, tag: str, picture: np.ndarray) -> None:
        """Write one picture, uint8 [height, width, 3]."""
        from torch.utils.tensorboard.summary import image

        with self._sentences():
            self._file().add(image(tag, picture, dataformats="HWC"), step)

    def gif(self, step: int, tag: str, data: bytes, size: tuple[int, int]) -> None:
        """Write an animated GIF (width, height), which TensorBoard plays in its Images tab."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        image = Summary.Image(width=size[0], height=size[1], colorspace=3, encoded_image_string=data)
        with self._sentences():
            self._file().add(Summary(value=[Summary.Value(tag=tag, image=image)]), step)

    def text(self, tag: str, markdown: str) -> None:
        """Write a text for the Text tab."""
        from torch.utils.tensorboard.summary import text

        with self._sentences():
            self._file().add(text(tag, markdown))

    def bands(
        self, charts: Mapping[str, str], together: Mapping[str, Sequence[str]] | None = None, interval: bool = True
    ) -> None:
        """Draw each tag with its interval (`statistics.band`) as a band in the Custom Scalars tab: {title: tag}.

        together: {title: tags} to be drawn into one chart each, without bands. interval: whether there are any, which one seed
        does not have; without them the tags are drawn alone.
        """
        from torch.utils.tensorboard.summary import custom_scalars

        if interval:
            layout = {"Interval over seeds": {title: ["Margin", list(band(tag))] for title, tag in charts.items()}}
        else:
            layout = {"One seed: no interval": {title: ["Multiline", [tag]] for title, tag in charts.items()}}
        if together:
            layout["Side by side"] = {title: ["Multiline", list(tags)] for title, tags in together.items()}
        with self._sentences():
            self._file().add(custom_scalars(layout))

    def hparams(self, values: Mapping[str, Any], metrics: list[str]) -> None:
        """Describe the run in the HParams tab; `metrics` are tags of its curves, shown with their last value."""
        from torch.utils.tensorboard.summary import hparams

        plain = {k: v if isinstance(v, (bool, int, float, str)) else str(v) for k, v in values.items()}
        with self._sentences():
            for summary in hparams(plain, dict.fromkeys(metrics, 0.0)):
                self._file().add(summary)

    def state_dict(self) -> dict[str, int]:
        """The size of every event file, once all that was logged is in it."""
        with self._sentences():
            for file in self.files.values():
                file.flush()
        return {p.relative_to(self.folder).as_posix(): p.stat().st_size for p in sorted(self.folder.rglob(EVENTS))}

    def close(self) -> None:
        """Let go of the files. What could not be written has been told of before, by the call that wrote it."""
        for file in self.files.values():
            with contextlib.suppress(OSError):
                file.close()
        self.files.clear()

    @contextlib.contextmanager
    def _sentences(self) -> Any:
        try:
            yield
        except OSError as error:
            raise LoggingError(
                f"The curves in {self.folder} could not be written: {error.strerror or error}. The last checkpoint is whole."
            ) from error
