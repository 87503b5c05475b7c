"""Files that are replaced as a whole, and folders that one process uses at a time.

A file is written under a temporary name beside its target, synced to the disk and renamed over it. Temporary files are
opened exclusively, so that a link of the same name is never followed.
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

ABANDONED_SECONDS = 3600.0  # a temporary file that nobody has written to for so long belongs to a killed process
LOCK = ".lock"  # the file that is locked where folders cannot be (Windows)


class FolderInUse(OSError):
    """Another process, or another thread of this one, holds the folder."""


@contextlib.contextmanager
def replacing(path: Path, previous: Path | None = None) -> Iterator[BinaryIO]:
    """Open a new file that replaces `path` when the block ends; after an error `path` is what it was.

    previous: where the replaced file is kept. Raises OSError when the file cannot be written.
    """
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "it exists and is not a regular file")
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
    """Replace the content of `path`. Raises OSError when it cannot be written; what was there is still there then."""
    with replacing(path) as file:
        file.write(data)


def remove_temporary(path: Path, seconds: float = 0.0) -> None:
    """Remove the temporary files of `path` that have not been written to for `seconds`."""
    for name in glob.glob(f".{glob.escape(_stem(path))}.{'?' * 8}.writing", root_dir=path.parent):
        left = path.parent / name
        with contextlib.suppress(OSError):
            if time.time() - left.lstat().st_mtime >= seconds:
                left.unlink()


@contextlib.contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Make a folder, if need be, and hold it against other processes until the block ends.

    A folder that was made for nothing, because the block failed before it wrote a file, is removed again. Raises FolderInUse
    when it is held already, OSError when it cannot be made.
    """
    made: list[Path] = []
    descriptor = _made_and_locked(folder, made)
    try:
        yield
    except BaseException:
        for part in made:  # while the lock is held: nobody else can have begun to use it
            with contextlib.suppress(OSError):  # it is not empty
                part.rmdir()
        raise
    finally:
        os.close(descriptor)


def _made_and_locked(folder: Path, made: list[Path]) -> int:
    """The descriptor that holds the folder's lock; `made` collects the folders that had to be made, innermost first."""
    while True:
        made[:] = [part for part in (folder, *folder.parents) if not part.exists()] or made
        folder.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = _lock(folder)
        except FileNotFoundError:  # another process, which had made it for nothing, removed it just now
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
            f"{folder} cannot be locked ({error.strerror}): see to it that no other process uses it meanwhile.",
            stacklevel=6,
        )
    return descriptor


def _stem(path: Path) -> str:
    return path.name[:50]  # a longer name would leave no room for the rest


def _temporary(path: Path) -> Path:
    return path.with_name(f".{_stem(path)}.{secrets.token_hex(4)}.writing")


def _keep(path: Path, previous: Path) -> None:
    """Let `previous` be what `path` is now. By a link, not a move: at no moment is either of them missing."""
    link = _temporary(path)
    try:
        os.link(path, link)
    except OSError:  # a file system without links
        os.replace(path, previous)
        return
    try:
        os.replace(link, previous)
    finally:
        link.unlink(missing_ok=True)  # it is still there if both were links of one file already


def _sync_folder(folder: Path) -> None:
    with contextlib.suppress(OSError):  # not every system lets a folder be opened
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
