"""Checkpoints: named arrays and a JSON header in one safetensors file. Data only: no pickle, no code.

A checkpoint is written to a temporary file, synced to disk and renamed over its target; the one it replaces is kept as
`NAME.previous`. An intact file therefore survives any failure.

Format 2 has a checksum of the whole file; format 1, which can still be read, has none. The format number and the presence
of the checksum must agree, so no single flipped bit can make a format-2 file pass as one without a checksum.
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
DEEPEST = 64  # maximum nesting of dicts and lists; a header nested more deeply is damaged
ARRAY = "$array"  # {ARRAY: name} in the header refers to the array of that name in the file


class CheckpointError(ValueError):
    """Raised when a checkpoint cannot be written, read or used; the message says why and what to do."""


class Damaged(CheckpointError):
    """Raised when a checkpoint is missing or damaged, so that the previous one may help."""


class Saved(NamedTuple):
    """A loaded checkpoint and its path."""

    path: Path
    state: dict[str, Any]
    meta: dict[str, Any]


def previous(path: str | Path) -> Path:
    """Return the path at which `save` keeps the checkpoint it replaces."""
    path = Path(path)
    return path.with_name(path.name + ".previous")


def save(path: str | Path, state: Mapping[str, Any], meta: Mapping[str, Any], *, keep: bool = True) -> None:
    """Write a state (dicts and lists of arrays and JSON values) and a header.

    keep: whether to keep the replaced file as `NAME.previous`. Raises CheckpointError, and leaves existing files untouched, if
    the disk is full, the folder is not writable, or a value is neither an array nor JSON.
    """
    arrays: dict[str, np.ndarray] = {}
    path = Path(path)
    if path.is_dir():
        raise CheckpointError(f"The checkpoint {path} could not be written: it is a folder. Pass the path of a file.")
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
    """Read the state and the header of a checkpoint. Nothing in the file is executed or imported.

    Raises CheckpointError if the file is missing, truncated, altered, not a checkpoint, or of a newer format. The message
    names the previous checkpoint if that one is intact.
    """
    path = Path(path)
    try:
        return _read(path)
    except Damaged as error:
        raise Damaged(f"{error}{hint(path)}") from error


def newest(path: Path) -> Saved | None:
    """Load the checkpoint at `path`, or the previous one if that is damaged or missing. Return None if neither exists.

    Raises CheckpointError if neither is intact.
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
    """Read only the header of a checkpoint, without verifying the checksum. Raises CheckpointError as `load` does."""
    return _header(Path(path))[1]


def is_whole(path: str | Path) -> bool:
    """Return whether there is an intact checkpoint at `path`."""
    try:
        _read(Path(path))
    except CheckpointError:
        return False
    return True


def hint(path: str | Path) -> str:
    """Return a sentence naming the previous checkpoint, or an empty string if that one is not intact."""
    old = previous(path)
    return f" The previous one is intact: {old}" if is_whole(old) else ""


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Create a folder if needed and lock it against other processes. Raises CheckpointError if that fails."""
    with contextlib.ExitStack() as stack:
        try:
            if folder.exists() and not folder.is_dir():
                raise CheckpointError(f"logdir {folder} is a file; it must be a folder.")
            stack.enter_context(files.exclusive(folder))
        except files.FolderInUse as error:
            raise CheckpointError(
                f"Another process is training in {folder} now. Wait for it to end, or choose another folder."
            ) from error
        except OSError as error:
            raise CheckpointError(f"logdir {folder} cannot be created or opened: {error.strerror or error}.") from error
        yield


def differences(old: Any, new: Any, place: str = "") -> list[tuple[str, Any, Any]]:
    """Return (field, old, new) for each difference between two JSON values."""
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
        raise Damaged(f"{path} is not an intact checkpoint: {error}.") from error


def _header(
    path: Path, read: Callable[[Path], tensors.Content] = tensors.read_header
) -> tuple[tensors.Content, dict[str, Any]]:
    """Read a file's content and its header. Raises CheckpointError unless this package wrote it in a supported format."""
    try:
        content = read(path)
        header = content.metadata.get("header")
        meta = None if header is None else json.loads(header)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise Damaged(f"There is no checkpoint at {path}.") from error
    except PermissionError as error:
        raise CheckpointError(f"The checkpoint {path} could not be read: {error.strerror}.") from error
    except RecursionError as error:
        raise Damaged(f"{path} is not an intact checkpoint: its header is nested more than {DEEPEST} deep.") from error
    except (*tensors.DAMAGE, OSError) as error:
        raise Damaged(
            f"{path} is not an intact checkpoint: it is truncated, damaged or another kind of file."
        ) from error
    if content.intact is False:
        raise Damaged(f"{path} is not an intact checkpoint: its checksum is wrong, so it is damaged.")
    if meta is None:
        raise Damaged(f"{path} is a safetensors file, but not one of this package: it has no header.")
    if not isinstance(meta, dict) or type(meta.get("format")) is not int:
        raise Damaged(f"{path} is a safetensors file, but not one of this package: its header has no format number.")
    if meta["format"] > FORMAT:
        raise CheckpointError(
            f"{path} was written by a newer version of this package (format {meta['format']}, this one reads up to"
            f" {FORMAT}): upgrade to load it."
        )
    if (meta["format"] > 1) != ("checksum" in content.metadata):
        raise Damaged(
            f"{path} is damaged: format {meta['format']} and the presence of a checksum contradict each other."
        )
    return content, meta


def _pack(value: Any, name: str, arrays: dict[str, np.ndarray] | None, depth: int = 0) -> Any:
    """Return the tree with each array moved into `arrays` and replaced by a reference; arrays None: allow no arrays."""
    if depth > DEEPEST:
        raise ValueError(f"{name[:40]}... is nested more than {DEEPEST} deep")
    if isinstance(value, np.ndarray) and arrays is not None:
        while name in arrays or name == tensors.RESERVED:  # keys may contain slashes
            name += "'"
        arrays[name] = value
        return {ARRAY: name}
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str) or key == ARRAY:
                raise TypeError(f"{key!r} cannot be saved as a key")
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
