"""TensorBoard event files, written record by record and truncated on resume to the sizes stored in a checkpoint.

The name of an event file ends with the id of the run that wrote it, followed, in a sub-run, by the folder's name. The id is
stored in the run's checkpoints, so a resumed run recognizes its own files, even when copied, and touches no others. Files of
format 1 have no id; see `_proved`.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import struct
import time
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from supervised import files

EVENTS = "events.out.tfevents.*"
SUBRUN = "seed_"  # prefix of the seeds' folders; TensorBoard shows each as a run
NAME = re.compile(r"events\.out\.tfevents\.\d+\.(?P<process>.+?\.\d+)\.\d{6}(\.(?P<owner>[0-9a-f]{12}(\..+)?))?")


class Curves(NamedTuple):
    """What a checkpoint stores about a run's event files: the run's id (None in format 1), and the files' sizes by name."""

    id: str | None
    sizes: dict[str, int]

    @staticmethod
    def of(saved: Mapping[str, Any]) -> Curves:
        """Read from a checkpoint of either format. Raises ValueError if it is damaged."""
        run, sizes = (saved["id"], saved["files"]) if "files" in saved else (None, saved)
        if run is not None and not re.fullmatch("[0-9a-f]{12}", run):
            raise ValueError(f"{run!r} is not a run id")
        for name, size in sizes.items():
            path = PurePosixPath(name)
            inside = len(path.parts) <= 2 and ".." not in path.parts and not path.is_absolute()
            if not inside or not NAME.fullmatch(path.name) or type(size) is not int or size < 0:
                raise ValueError(f"{name!r} of {size!r} bytes is not an event file of a run")
        return Curves(run, dict(sizes))


class EventFile:
    """One event file, written synchronously: flushed events are on disk, and errors are raised by the call that failed."""

    count = 0

    def __init__(self, folder: Path, owner: str, purge_step: int | None) -> None:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.summary.writer.record_writer import RecordWriter

        folder.mkdir(parents=True, exist_ok=True)
        EventFile.count += 1
        process = f"{socket.gethostname()}.{os.getpid()}"
        self.name = f"events.out.tfevents.{int(time.time()):010d}.{process}.{EventFile.count:06d}.{owner}"
        self.file = open(folder / self.name, "xb")  # noqa: SIM115  (open for the whole run)
        self.records = RecordWriter(self.file)
        self.event = Event
        self._write(Event(wall_time=time.time(), file_version="brain.Event:2"))
        if purge_step is not None:  # makes an open TensorBoard discard the points that were cut off
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

    @property
    def size(self) -> int:
        """The number of bytes on disk so far."""
        return os.fstat(self.file.fileno()).st_size

    def close(self) -> None:
        self.file.close()


def owner(run: str, subrun: str) -> str:
    """Return the suffix of the names of a run's event files, in its own folder ("") or in that of a sub-run."""
    return f"{run}.{PurePosixPath(subrun).name[:40]}" if subrun else run


def cut_back(folder: Path, curves: Curves, step: int) -> tuple[dict[str, int], list[str]]:
    """Restore a run's event files to their state at the checkpoint of `step` -> their new sizes, and a list of problems.

    Longer files are truncated, newer ones removed. Files that the run did not write, or that cannot be proved to be its own,
    are left unchanged.
    """
    present: dict[str, int] = {}
    amiss: list[str] = []
    for name, size in curves.sizes.items():
        path = folder / name
        found = path.stat().st_size if path.is_file() and not path.is_symlink() else None
        if found is None:
            amiss.append(f"{name} ({size:,} bytes) is missing")
            continue
        present[name] = min(size, found)
        if found < size:
            amiss.append(f"{name} lacks its last {size - found:,} of {size:,} bytes")
        elif found > size:
            _shorten(path, size)
    if curves.id is not None:
        places = {folder: owner(curves.id, "")} | {place: owner(curves.id, place.name) for place in folder.glob("*/")}
        found_in = {place: _event_files(place) for place in places}
        own = {path for place, paths in found_in.items() for path, m in paths.items() if m["owner"] == places[place]}
        own -= {folder / name for name in curves.sizes}
    else:
        own, others = _proved(folder, curves, step)
        amiss += [
            f"{p.relative_to(folder)} may belong to this run or another one and is left unchanged"
            for p in sorted(others)
        ]
    for path in own:
        path.unlink()
    return present, amiss


def _event_files(folder: Path) -> dict[Path, re.Match[str]]:
    """Return the event files directly in a folder."""
    paths = (path for path in folder.glob(EVENTS) if path.is_file() and not path.is_symlink())
    return {path: match for path in paths if (match := NAME.fullmatch(path.name))}


def _shorten(path: Path, size: int) -> None:
    """Truncate by writing a new file, so that other hard links to the old one, such as backups, stay complete."""
    with open(path, "rb") as old, files.replacing(path) as new:
        new.write(old.read(size))


# -- format 1, whose files do not say which run wrote them --------------------------------------------------------------


def _proved(folder: Path, curves: Curves, step: int) -> tuple[set[Path], set[Path]]:
    """Find the format-1 files that a checkpoint does not list -> (those its run wrote after it, those it may have written).

    A process that resumed from the checkpoint starts its files with a START event at the step after it. The process that wrote
    the checkpoint is part of the names of the files listed in it; if none are listed, its first file starts with the text
    "configuration". Files of these processes with points after the checkpoint belong to the run.
    """
    seeds = (place for place in folder.glob(f"{SUBRUN}*/") if place.name.removeprefix(SUBRUN).isdecimal())
    places = [folder, *(place for place in seeds if not any(place.glob("*.safetensors*")))]  # others hold runs
    unnamed = {path: match for place in places for path, match in _event_files(place).items() if match["owner"] is None}
    for name in curves.sizes:
        unnamed.pop(folder / name, None)
    events = {path: list(records(path)) for path in unnamed}
    starts = {path: [e.step for e in found if e.session_log.status == 1] for path, found in events.items()}
    went_on = {path for path, steps in starts.items() if step + 1 in steps}
    processes = {match["process"] for name in curves.sizes if (match := NAME.fullmatch(PurePosixPath(name).name))}
    first = set()
    if not curves.sizes:
        tag = "configuration/text_summary"
        first = {
            path for path, found in events.items() if any(v.tag == tag for e in found[:2] for v in e.summary.value)
        }
        processes = {unnamed[path]["process"] for path in first}
    after = {path for path, found in events.items() if any(e.step > step for e in found)}
    own = went_on | first | {path for path in after if unnamed[path]["process"] in processes}
    return own, unnamed.keys() - own


def records(path: Path) -> Iterator[Any]:
    """Yield the events in a file, up to an incomplete one."""
    from tensorboard.compat.proto.event_pb2 import Event

    with open(path, "rb") as file, contextlib.suppress(Exception):  # whatever protobuf raises for invalid data
        while len(head := file.read(12)) == 12:
            (size,) = struct.unpack("<Q4x", head)
            data = file.read(size)
            if len(data) < size:
                return
            file.read(4)
            yield Event.FromString(data)
