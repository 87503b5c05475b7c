"""Atomic file replacement, and folder locks.

A file is written under a temporary name in the same folder, synced to disk and renamed over its target. Temporary files are
opened exclusively, so a link of the same name is never followed.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import secrets
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

ABANDONED_SECONDS = 3600.0  # age after which a temporary file must belong to a killed process
LOCK = ".lock"  # the file to lock where folders cannot be locked (Windows)


class FolderInUse(OSError):
    """Raised when another process, or another thread of this one, has locked the folder."""


@contextlib.contextmanager
def replacing(path: Path, previous: Path | None = None) -> Iterator[BinaryIO]:
    """Open a new file that replaces `path` when the block ends; after an error `path` is unchanged.

    previous: where to keep the replaced file. Raises OSError if the file cannot be written.
    """
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "it exists but is not a regular file")
    remove_temporary(path, ABANDONED_SECONDS)
    temporary = _temporary(path)
    file = open(temporary, "xb")  # noqa: SIM115  (closed before it is renamed)
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if previous is not None and path.exists():
            _keep(path, previous)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    _sync_folder(path.parent)


def write(path: Path, data: bytes) -> None:
    """Replace the content of `path`. Raises OSError, and leaves it unchanged, if it cannot be written."""
    with replacing(path) as file:
        file.write(data)


def remove_temporary(path: Path, seconds: float = 0.0) -> None:
    """Remove temporary files of `path` that have not been modified for `seconds`."""
    for name in glob.glob(f".{glob.escape(_stem(path))}.{'?' * 8}.writing", root_dir=path.parent):
        left = path.parent / name
        with contextlib.suppress(OSError):
            if time.time() - left.lstat().st_mtime >= seconds:
                left.unlink()


@contextlib.contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Create a folder if needed and lock it against other processes until the block ends.

    If the block fails before writing a file, the folder it created is removed again. Raises FolderInUse if the folder is
    locked already, OSError if it cannot be created.
    """
    made: list[Path] = []
    descriptor = _made_and_locked(folder, made)
    try:
        yield
    except BaseException:
        for part in made:  # still locked, so no other process can be using it
            with contextlib.suppress(OSError):  # not empty
                part.rmdir()
        raise
    finally:
        os.close(descriptor)


def _made_and_locked(folder: Path, made: list[Path]) -> int:
    """Create and lock a folder -> the descriptor holding the lock; `made` receives the folders created, innermost first."""
    while True:
        made[:] = [part for part in (folder, *folder.parents) if not part.exists()] or made
        folder.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = _lock(folder)
        except FileNotFoundError:  # another process created it, failed, and has just removed it
            continue
        with contextlib.suppress(OSError):
            if sys.platform == "win32" or os.path.samestat(os.fstat(descriptor), os.stat(folder)):
                return descriptor
        os.close(descriptor)


def _lock(folder: Path) -> int:
    if sys.platform == "win32":
        import msvcrt

        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError as error:
            os.close(descriptor)
            raise FolderInUse(str(folder)) from error
        return descriptor
    import fcntl

    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise FolderInUse(str(folder)) from error
    except OSError as error:
        warnings.warn(
            f"{folder} cannot be locked ({error.strerror}): make sure that no other process uses it.",
            stacklevel=6,
        )
    return descriptor


def _stem(path: Path) -> str:
    return path.name[:50]  # file names are limited in length


def _temporary(path: Path) -> Path:
    return path.with_name(f".{_stem(path)}.{secrets.token_hex(4)}.writing")


def _keep(path: Path, previous: Path) -> None:
    """Make `previous` the current file at `path`, by a hard link rather than a move, so that neither is ever missing."""
    link = _temporary(path)
    try:
        os.link(path, link)
    except OSError:  # a file system without links
        os.replace(path, previous)
        return
    try:
        os.replace(link, previous)
    finally:
        link.unlink(missing_ok=True)  # os.replace keeps it if both already were links to the same file


def _sync_folder(folder: Path) -> None:
    with contextlib.suppress(OSError):  # not every system can open folders
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
