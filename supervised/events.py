"""TensorBoard's event files: written record by record, and cut back to what a checkpoint knows of them.

The name of an event file ends with the id of the run that wrote it, and the folder's name in that of a sub-run. The id is in
the run's checkpoints: a resumed run knows its own files, copies of them included, and touches no others. Files of format 1
have no id; see `_proved`.
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
SUBRUN = "seed_"  # how the folders of seeds begin, each a run of its own in TensorBoard
NAME = re.compile(r"events\.out\.tfevents\.\d+\.(?P<process>.+?\.\d+)\.\d{6}(\.(?P<owner>[0-9a-f]{12}(\..+)?))?")


class Curves(NamedTuple):
    """What a checkpoint knows of a run's event files: the run's id (None in format 1), and their sizes by name."""

    id: str | None
    sizes: dict[str, int]

    @staticmethod
    def of(saved: Mapping[str, Any]) -> Curves:
        """From a checkpoint of either format. Raises ValueError when it is damaged."""
        run, sizes = (saved["id"], saved["files"]) if "files" in saved else (None, saved)
        if run is not None and not re.fullmatch("[0-9a-f]{12}", run):
            raise ValueError(f"{run!r} is no id of a run")
        for name, size in sizes.items():
            path = PurePosixPath(name)
            inside = len(path.parts) <= 2 and ".." not in path.parts and not path.is_absolute()
            if not inside or not NAME.fullmatch(path.name) or type(size) is not int or size < 0:
                raise ValueError(f"{name!r} of {size!r} bytes is no event file of a run")
        return Curves(run, dict(sizes))


class EventFile:
    """One event file, written as it comes: what was flushed is on the disk, and an error comes from the call it befell."""

    count = 0

    def __init__(self, folder: Path, owner: str, purge_step: int | None) -> None:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.summary.writer.record_writer import RecordWriter

        folder.mkdir(parents=True, exist_ok=True)
        EventFile.count += 1
        process = f"{socket.gethostname()}.{os.getpid()}"
        self.name = f"events.out.tfevents.{int(time.time()):010d}.{process}.{EventFile.count:06d}.{owner}"
        self.file = open(folder / self.name, "xb")  # noqa: SIM115  (open as long as the run)
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

    @property
    def size(self) -> int:
        """Bytes on the disk so far."""
        return os.fstat(self.file.fileno()).st_size

    def close(self) -> None:
        self.file.close()


def owner(run: str, subrun: str) -> str:
    """How the names of event files end that a run writes into its folder ("") or into that of a sub-run."""
    return f"{run}.{PurePosixPath(subrun).name[:40]}" if subrun else run


def cut_back(folder: Path, curves: Curves, step: int) -> tuple[dict[str, int], list[str]]:
    """Make a run's event files what they were at the checkpoint of `step` -> their sizes now, and what is amiss, in words.

    Longer files are cut, younger ones removed. Files that the run did not write, or that cannot be proved to be its own, are
    left as they are.
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
            f"{p.relative_to(folder)} may or may not be of this run, and is left as it is" for p in sorted(others)
        ]
    for path in own:
        path.unlink()
    return present, amiss


def _event_files(folder: Path) -> dict[Path, re.Match[str]]:
    """The event files that lie in a folder itself."""
    paths = (path for path in folder.glob(EVENTS) if path.is_file() and not path.is_symlink())
    return {path: match for path in paths if (match := NAME.fullmatch(path.name))}


def _shorten(path: Path, size: int) -> None:
    """By a new file: another name of the old one, such as a backup made of hard links, keeps all of it."""
    with open(path, "rb") as old, files.replacing(path) as new:
        new.write(old.read(size))


# -- format 1, whose files do not say which run wrote them --------------------------------------------------------------


def _proved(folder: Path, curves: Curves, step: int) -> tuple[set[Path], set[Path]]:
    """Files of format 1 that a checkpoint does not name: those that its run wrote after it, and those that it may have.

    A process that went on from the checkpoint says so at the beginning of its files: START at the step after it. The
    process that wrote the checkpoint is in the names of the files that it names; one that was killed before it could name
    any began with the text "configuration". Of these processes, what has points after the checkpoint is the run's.
    """
    seeds = (place for place in folder.glob(f"{SUBRUN}*/") if place.name.removeprefix(SUBRUN).isdecimal())
    places = [folder, *(place for place in seeds if not any(place.glob("*.safetensors*")))]  # those hold other runs
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
    """The events in a file, up to a torn one."""
    from tensorboard.compat.proto.event_pb2 import Event

    with open(path, "rb") as file, contextlib.suppress(Exception):  # whatever protobuf raises where it finds no event
        while len(head := file.read(12)) == 12:
            (size,) = struct.unpack("<Q4x", head)
            data = file.read(size)
            if len(data) < size:
                return
            file.read(4)
            yield Event.FromString(data)
