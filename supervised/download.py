"""Downloading files once, verifying them and keeping them in the user's cache."""

from __future__ import annotations

import os
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path

from supervised.sources import DataError

SECONDS = 30  # timeout of a mirror


def cache() -> Path:
    """Return the cache folder for downloads: $XDG_CACHE_HOME/valuebased, by default ~/.cache/valuebased."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "valuebased"


def download(path: Path, addresses: Sequence[str], check: Callable[[Path], object], otherwise: str) -> None:
    """Download a file from the first address that provides it intact; `path` is created only after `check` has passed.

    check: a function that takes a path and raises DataError if the file is not the expected one. otherwise: a sentence on what
    to do instead. If no address provides the file, raises DataError with the error of each address and `otherwise`.
    """
    said = []
    for address in addresses:
        try:
            with urllib.request.urlopen(address, timeout=SECONDS) as answer:
                data = answer.read()
        except (urllib.error.URLError, OSError, ValueError) as error:
            said.append(f"{address}: {error}")
            continue
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f"{path.name}.", delete=False) as file:
                file.write(data)
        except OSError as error:
            raise DataError(f"{path.name} cannot be written to {path.parent}: {error.strerror or error}.") from error
        temporary = Path(file.name)
        try:
            check(temporary)
            os.replace(temporary, path)
            return
        except DataError as error:
            said.append(f"{address}: {str(error).replace(str(temporary), path.name)}")
        finally:
            temporary.unlink(missing_ok=True)
    raise DataError(
        f"{path.name} could not be downloaded. {'; '.join(said) or 'No mirror was given.'} {otherwise}".strip()
    )
