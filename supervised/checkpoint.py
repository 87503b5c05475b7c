"""Checkpoints: named arrays and a JSON header in one safetensors file. Data only: no pickle, no code.

A file is written beside its target, synced to the disk, and renamed over it; the one before is kept as `NAME.previous`.
Whatever goes wrong, a whole file stays.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

FORMAT = 1


class CheckpointError(ValueError):
    """A checkpoint could not be written, read or used; the message says why and what to do."""


def previous(path: str | Path) -> Path:
    """Where `save` keeps the checkpoint that it replaced."""
    path = Path(path)
    return path.with_name(path.name + ".previous")


def save(path: str | Path, state: Mapping[str, Any], meta: Mapping[str, Any], *, keep: bool = True) -> None:
    """Write a state (dicts and lists of arrays and JSON values) and a header; keep the file before as `NAME.previous`.

    Raises CheckpointError when the disk is full, the folder cannot be written or a value is neither array nor JSON; what
    was there is still there then.
    """
    from safetensors.numpy import save as to_bytes

    arrays: dict[str, np.ndarray] = {}
    tree = _pack(state, "", arrays)
    path = Path(path)
    if path.is_dir():
        raise CheckpointError(f"The checkpoint {path} could not be written: that is a folder. Name a file in it.")
    try:
        header = json.dumps({"format": FORMAT, **meta, "state": tree}, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"The checkpoint {path} could not be written: {error}.") from error
    data = to_bytes({name: np.asarray(array, order="C") for name, array in arrays.items()}, {"header": header})
    temporary = path.with_name(path.name + ".writing")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if keep and path.exists():
            # A link, not a move: at no moment is there no file under the name itself.
            old = previous(path)
            old.unlink(missing_ok=True)
            try:
                os.link(path, old)
            except OSError:  # a file system without links
                os.replace(path, old)
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise CheckpointError(
            f"The checkpoint {path} could not be written: {error.strerror or error}. What was saved before is untouched."
        ) from error


def load(path: str | Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read the state and the header of a checkpoint. Nothing in the file is run or imported.

    Raises CheckpointError for a file that is missing, cut short, foreign, or of a newer format; when a good previous one
    lies beside it, the message names it.
    """
    path = Path(path)
    try:
        return _read(path)
    except CheckpointError as error:
        old = previous(path)
        if is_whole(old):
            raise CheckpointError(f"{error} The one before it is whole: {old}") from error
        raise


def is_whole(path: str | Path) -> bool:
    """Whether a checkpoint can be read at `path`."""
    try:
        _read(Path(path))
    except CheckpointError:
        return False
    return True


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Hold a folder against other processes, as long as this one lives. Raises CheckpointError when it is held already."""
    try:
        import fcntl
    except ImportError:  # Windows has other locks; there nobody is held off
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise CheckpointError(
            f"Another process is training in {folder} now. Wait for it, or take another one."
        ) from error
    finally:
        os.close(descriptor)


def differences(old: Any, new: Any, place: str = "") -> list[tuple[str, Any, Any]]:
    """Where two JSON values differ: (field, old, new)."""
    if isinstance(old, dict) and isinstance(new, dict) and old.get("type") == new.get("type"):
        found = []
        for key in {**old, **new}:
            found += differences(old.get(key), new.get(key), f"{place}.{key}" if place else key)
        return found
    return [] if old == new else [(place, old, new)]


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            header = (file.metadata() or {}).get("header")
            if header is None:
                raise CheckpointError(f"{path} is a safetensors file, but not one of this package: it has no header.")
            meta = json.loads(header)
            if not isinstance(meta, dict) or not isinstance(meta.get("format"), int):
                raise CheckpointError(
                    f"{path} is a safetensors file, but not one of this package: its header is foreign."
                )
            if meta["format"] > FORMAT:
                raise CheckpointError(
                    f"{path} was written by a newer version of this package (format {meta['format']}, this one reads up to"
                    f" {FORMAT}): upgrade to load it."
                )
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (safe_open is no mapping)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise CheckpointError(f"There is no checkpoint at {path}.") from error
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(
            f"{path} is not a whole checkpoint: it was cut short, damaged or is another kind of file."
        ) from error
    try:
        return _unpack(meta.pop("state"), arrays), meta
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is damaged: it lacks {error}.") from error


def _pack(value: Any, name: str, arrays: dict[str, np.ndarray]) -> Any:
    """The same tree with each array moved into `arrays` and its place named."""
    if isinstance(value, np.ndarray):
        arrays[name] = value
        return {"$array": name}
    if isinstance(value, Mapping):
        return {key: _pack(part, f"{name}/{key}" if name else key, arrays) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_pack(part, f"{name}/{i}", arrays) for i, part in enumerate(value)]
    return value


def _unpack(tree: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    if isinstance(tree, dict):
        if "$array" in tree:
            return arrays[tree["$array"]]
        return {key: _unpack(part, arrays) for key, part in tree.items()}
    return [_unpack(part, arrays) for part in tree] if isinstance(tree, list) else tree


def _sync_folder(folder: Path) -> None:
    with contextlib.suppress(OSError):  # not every system lets a folder be opened
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
