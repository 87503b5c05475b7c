"""TensorBoard curves that survive a `kill -9`: after a resume there are no gaps and no duplicate points.

The sizes of the event files are saved with each checkpoint. A resumed run truncates its files to the saved sizes, removes
those newer than the checkpoint, and continues in new files.
"""

from __future__ import annotations

import contextlib
import math
import secrets
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from supervised.events import EVENTS, SUBRUN, Curves, EventFile, cut_back, owner
from supervised.statistics import band

__all__ = ["EVENTS", "Logger", "LoggingError"]
MOST_SUBRUNS = 16  # with more seeds than this, TensorBoard shows the aggregate alone
MOST_VALUES = 20_000  # of a histogram; larger arrays are subsampled evenly


class LoggingError(RuntimeError):
    """Raised when curves cannot be written, for instance because the disk is full."""


class Logger:
    """Event files in `folder`: one for the aggregate and one for each sub-run, in `folder/NAME`."""

    def __init__(self, folder: str | Path, saved: Mapping[str, Any] | None = None, step: int = 0) -> None:
        """Start or resume logging.

        saved: the `state_dict` of the run to resume, at `step`; None or {}: a new run. Points after `step` are removed from the
        run's own files. A missing or truncated file causes a UserWarning.
        """
        self.folder = Path(folder)
        self.files: dict[str, EventFile] = {}
        self.sizes: dict[str, int] = {}  # of the files written before the resume
        self.purge_step = step + 1 if saved else None
        curves = Curves.of(saved or {})
        self.run = curves.id or secrets.token_hex(6)
        if saved is not None:
            with self._sentences():
                self.sizes, amiss = cut_back(self.folder, curves, step)
            if amiss:
                said = "; ".join(amiss)
                warnings.warn(f"The curves in {self.folder} do not match the checkpoint: {said}.", stacklevel=3)

    @property
    def empty(self) -> bool:
        """Whether the run has no event file yet."""
        return not self.sizes and not self.files

    def _file(self, run: str = "") -> EventFile:
        if run not in self.files:
            self.files[run] = EventFile(self.folder / run, owner(self.run, run), self.purge_step)
        return self.files[run]

    def scalars(self, step: int, values: Mapping[str, float], run: str = "") -> None:
        """Write one point per tag. NaN values (nothing to report yet) are skipped."""
        from torch.utils.tensorboard.summary import scalar

        with self._sentences():
            for tag, value in values.items():
                if not math.isnan(value):
                    self._file(run).add(scalar(tag, value), step)
            self._file(run).flush()

    def seeds(self, step: int, metrics: Mapping[str, np.ndarray], seeds: Sequence[int]) -> None:
        """Write metrics [N] to one sub-run per seed, unless there are more than MOST_SUBRUNS seeds."""
        if len(seeds) <= MOST_SUBRUNS:
            for k, seed in enumerate(seeds):
                self.scalars(step, {tag: float(values[k]) for tag, values in metrics.items()}, f"{SUBRUN}{seed}")

    def histogram(self, step: int, tag: str, values: np.ndarray) -> None:
        """Write a histogram. Values that are not finite are skipped."""
        from torch.utils.tensorboard.summary import histogram

        values = values.ravel()[:: max(1, values.size // MOST_VALUES)]
        values = values[np.isfinite(values)]
        if values.size:
            with self._sentences():
                self._file().add(histogram(tag, values, bins="auto" if values.size < 100 else 60), step)

    def graph(self, model: Any, example: Any) -> None:
        """Write a model's graph, traced with an example, to the Graphs tab."""
        from torch.utils.tensorboard._pytorch_graph import graph

        drawn, _ = graph(model, example)
        with self._sentences():
            self._file().add_graph(drawn.SerializeToString())

    def image(self, step: int, tag: str, picture: np.ndarray) -> None:
        """Write one image, uint8 [height, width, 3]."""
        from torch.utils.tensorboard.summary import image

        with self._sentences():
            self._file().add(image(tag, picture, dataformats="HWC"), step)

    def gif(self, step: int, tag: str, data: bytes, size: tuple[int, int]) -> None:
        """Write an animated GIF of size (width, height), which TensorBoard plays in its Images tab."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        image = Summary.Image(width=size[0], height=size[1], colorspace=3, encoded_image_string=data)
        with self._sentences():
            self._file().add(Summary(value=[Summary.Value(tag=tag, image=image)]), step)

    def text(self, tag: str, markdown: str) -> None:
        """Write a text to the Text tab."""
        from torch.utils.tensorboard.summary import text

        with self._sentences():
            self._file().add(text(tag, markdown))

    def bands(
        self, charts: Mapping[str, str], together: Mapping[str, Sequence[str]] | None = None, interval: bool = True
    ) -> None:
        """Define charts in the Custom Scalars tab, {title: tag}: each tag with its interval (`statistics.band`) as a band.

        together: {title: tags}: charts of several tags, without bands. interval: whether intervals exist (with one seed they do
        not); without them the tags are drawn alone.
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
        """Write the run's hyperparameters to the HParams tab, beside the last value of each tag in `metrics`."""
        from torch.utils.tensorboard.summary import hparams

        plain = {k: v if isinstance(v, (bool, int, float, str)) else str(v) for k, v in values.items()}
        with self._sentences():
            for summary in hparams(plain, dict.fromkeys(metrics, 0.0)):
                self._file().add(summary)

    def state_dict(self) -> dict[str, Any]:
        """Flush all event files and return the run's id and the files' sizes."""
        with self._sentences():
            for file in self.files.values():
                file.flush()
        now = {(PurePosixPath(run) / file.name).as_posix(): file.size for run, file in self.files.items()}
        return {"id": self.run, "files": {**self.sizes, **now}}

    def close(self) -> None:
        """Close the files. Errors in writing have already been raised by the calls that wrote."""
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
                f"The curves in {self.folder} could not be written: {error.strerror or error}. The last checkpoint is intact."
            ) from error
