"""Checkpoints: named arrays and a JSON header in one safetensors file. Data only: no pickle, no code.

A file is written beside its target, synced to the disk, and renamed over it; the one before is kept as `NAME.previous`.
Whatever goes wrong, a whole file stays.

Format 2 has a checksum of the whole file; format 1, which is still read, has none. The format number and the presence of
the checksum must agree, so that no single flipped bit makes a file of format 2 pass for one without a checksum.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from supervised import files, tensors

FORMAT = 2
DEEPEST = 64  # levels of dicts and lists; a header nested deeper is damaged
ARRAY = "$array"  # the key that stands for an array, whose name in the file is the value


class CheckpointError(ValueError):
    """A checkpoint could not be written, read or used; the message says why and what to do."""


class Damaged(CheckpointError):
    """What is in the file is no whole checkpoint, or it is missing: the one before it may be of use."""


class Saved(NamedTuple):
    """A checkpoint that was read, and where."""

    path: Path
    state: dict[str, Any]
    meta: dict[str, Any]


def previous(path: str | Path) -> Path:
    """Where `save` keeps the checkpoint that it replaced."""
    path = Path(path)
    return path.with_name(path.name + ".previous")


def save(path: str | Path, state: Mapping[str, Any], meta: Mapping[str, Any], *, keep: bool = True) -> None:
    """Write a state (dicts and lists of arrays and JSON values) and a header; keep the file before as `NAME.previous`.

    Raises CheckpointError when the disk is full, the folder cannot be written or a value is neither array nor JSON; what
    was there is still there then.
    """
    arrays: dict[str, np.ndarray] = {}
    path = Path(path)
    if path.is_dir():
        raise CheckpointError(f"The checkpoint {path} could not be written: that is a folder. Name a file in it.")
    try:
        header = {**_pack(meta, "", None), "format": FORMAT, "state": _pack(state, "", arrays)}
        text = json.dumps(header, allow_nan=False)
        with files.replacing(path, previous(path) if keep else None) as file:
            tensors.write(file, arrays, text)
    except (TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(f"The checkpoint {path} could not be written: {error}.") from error
    except OSError as error:
        raise CheckpointError(
            f"The checkpoint {path} could not be written: {error.strerror or error}. What was saved before is untouched."
        ) from error


def load(path: str | Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read the state and the header of a checkpoint. Nothing in the file is run or imported.

    Raises CheckpointError for a file that is missing, cut short, altered, foreign, or of a newer format; when a good previous
    one lies beside it, the message names it.
    """
    path = Path(path)
    try:
        return _read(path)
    except Damaged as error:
        raise Damaged(f"{error}{hint(path)}") from error


def newest(path: Path) -> Saved | None:
    """The checkpoint at `path`, or the previous one if that is damaged or missing; None if there is neither.

    Raises CheckpointError when neither is whole.
    """
    old = previous(path)
    try:
        return Saved(path, *_read(path))
    except Damaged:
        if not path.exists() and not old.exists():
            return None
        try:
            return Saved(old, *_read(old))
        except CheckpointError:
            if not path.exists():
                raise
        raise


def read_header(path: str | Path) -> dict[str, Any]:
    """The header of a checkpoint without its state, in the time that takes; the checksum is not looked at.

    Raises CheckpointError as `load` does.
    """
    return _header(Path(path))[1]


def is_whole(path: str | Path) -> bool:
    """Whether a checkpoint can be read at `path`."""
    try:
        _read(Path(path))
    except CheckpointError:
        return False
    return True


def hint(path: str | Path) -> str:
    """A sentence that names the previous checkpoint, where that is whole."""
    old = previous(path)
    return f" The one before it is whole: {old}" if is_whole(old) else ""


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Make a folder, if need be, and hold it against other processes. Raises CheckpointError when that is impossible."""
    with contextlib.ExitStack() as stack:
        try:
            if folder.exists() and not folder.is_dir():
                raise CheckpointError(f"logdir {folder} is a file; it must be a folder.")
            stack.enter_context(files.exclusive(folder))
        except files.FolderInUse as error:
            raise CheckpointError(
                f"Another process is training in {folder} now. Wait for it, or take another one."
            ) from error
        except OSError as error:
            raise CheckpointError(f"logdir {folder} cannot be made or opened: {error.strerror or error}.") from error
        yield


def differences(old: Any, new: Any, place: str = "") -> list[tuple[str, Any, Any]]:
    """Where two JSON values differ: (field, old, new)."""
    if isinstance(old, dict) and isinstance(new, dict) and old.get("type") == new.get("type"):
        found = []
        for key in {**old, **new}:
            found += differences(old.get(key), new.get(key), f"{place}.{key}" if place else key)
        return found
    return [] if old == new else [(place, old, new)]


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    content, meta = _header(path, tensors.read)
    try:
        return _unpack(meta.pop("state"), content.arrays), _unpack(meta, {})
    except (KeyError, TypeError, RecursionError) as error:
        raise Damaged(f"{path} is damaged: it lacks {error}.") from error
    except ValueError as error:
        raise Damaged(f"{path} is not a whole checkpoint: {error}.") from error


def _header(
    path: Path, read: Callable[[Path], tensors.Content] = tensors.read_header
) -> tuple[tensors.Content, dict[str, Any]]:
    """What a file holds, and its header, if they are of this package and of a format that is known here."""
    try:
        content = read(path)
        header = content.metadata.get("header")
        meta = None if header is None else json.loads(header)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise Damaged(f"There is no checkpoint at {path}.") from error
    except PermissionError as error:
        raise CheckpointError(f"The checkpoint {path} could not be read: {error.strerror}.") from error
    except RecursionError as error:
        raise Damaged(f"{path} is not a whole checkpoint: its header is nested more than {DEEPEST} deep.") from error
    except (*tensors.DAMAGE, OSError) as error:
        raise Damaged(
            f"{path} is not a whole checkpoint: it was cut short, damaged or is another kind of file."
        ) from error
    if content.intact is False:
        raise Damaged(f"{path} is not a whole checkpoint: its checksum is wrong, so it was damaged.")
    if meta is None:
        raise Damaged(f"{path} is a safetensors file, but not one of this package: it has no header.")
    if not isinstance(meta, dict) or type(meta.get("format")) is not int:
        raise Damaged(f"{path} is a safetensors file, but not one of this package: its header is foreign.")
    if meta["format"] > FORMAT:
        raise CheckpointError(
            f"{path} was written by a newer version of this package (format {meta['format']}, this one reads up to"
            f" {FORMAT}): upgrade to load it."
        )
    if (meta["format"] > 1) != ("checksum" in content.metadata):
        raise Damaged(f"{path} is damaged: its format is {meta['format']}, and it does not have what belongs to that.")
    return content, meta


def _pack(value: Any, name: str, arrays: dict[str, np.ndarray] | None, depth: int = 0) -> Any:
    """The same tree with each array moved into `arrays` and its place named; None: there may be none."""
    if depth > DEEPEST:
        raise ValueError(f"{name[:40]}... is nested more than {DEEPEST} deep")
    if isinstance(value, np.ndarray) and arrays is not None:
        while name in arrays or name == tensors.RESERVED:  # keys may have slashes in them
            name += "'"
        arrays[name] = value
        return {ARRAY: name}
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str) or key == ARRAY:
                raise TypeError(f"{key!r} is no key that can be saved")
        return {k: _pack(part, f"{name}/{k}" if name else k, arrays, depth + 1) for k, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_pack(part, f"{name}/{i}", arrays, depth + 1) for i, part in enumerate(value)]
    return value


def _unpack(tree: Any, arrays: Mapping[str, np.ndarray], depth: int = 0) -> Any:
    if depth > DEEPEST:
        raise ValueError(f"its header is nested more than {DEEPEST} deep")
    if isinstance(tree, dict):
        if ARRAY in tree:
            return arrays[tree[ARRAY]]
        return {key: _unpack(part, arrays, depth + 1) for key, part in tree.items()}
    return [_unpack(part, arrays, depth + 1) for part in tree] if isinstance(tree, list) else tree
