"""Handwritten digits: MNIST from its idx files, and scikit-learn's small digits, which need no download."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from supervised import validate
from supervised.download import cache, download
from supervised.sources import Data, DataError

MIRRORS = (
    "https://storage.googleapis.com/cvdf-datasets/mnist",
    "https://ossci-datasets.s3.amazonaws.com/mnist",
)
# SHA-256 of the unpacked files, since compressed files differ between packers.
FILES = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}


class Digits(NamedTuple):
    """Training and test set of digit images, uint8 [M, height, width], with labels int64 [M]."""

    name: str
    train: Data
    test: Data


def mnist(directory: str | Path | None = None, mirrors: Sequence[str] = MIRRORS) -> Digits:
    """Load MNIST: 60 000 training and 10 000 test images, uint8 [M, 28, 28].

    directory: the folder of its four idx files, compressed (.gz) or not; None: the user's cache, into which they are downloaded
    from the first mirror that has them. Raises DataError if a file is missing, truncated or not MNIST's.
    """
    folder = cache() if directory is None else validate.path(directory, "directory", "a folder")
    if directory is None:
        for name in FILES:
            _download(folder, name, mirrors)
    parts = [read_idx(_find(folder, name), FILES[name]) for name in FILES]
    x, y, test_x, test_y = (torch.from_numpy(part) for part in parts)
    return Digits("MNIST", Data(x, y.long()), Data(test_x, test_y.long()))


def digits() -> Digits:
    """Load scikit-learn's 1 797 digits of 8x8 pixels, uint8 in 0..255; every fifth is in the test set. Needs no download."""
    from sklearn.datasets import load_digits

    found = load_digits()
    x = torch.from_numpy((found.images * (255 / 16)).round().astype(np.uint8))
    y = torch.from_numpy(found.target.astype(np.int64))
    test = torch.arange(len(x)) % 5 == 4
    return Digits("digits", Data(x[~test], y[~test]), Data(x[test], y[test]))


def read_idx(path: Path, checksum: str | None = None) -> np.ndarray:
    """Read an idx file of bytes, compressed or not. Raises DataError if it is damaged or its SHA-256 is not `checksum`."""
    path = validate.path(path, "path")
    try:
        raw = path.read_bytes()
        raw = gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}. It is truncated or damaged; download it again.") from error
    if len(raw) < 4 or raw[:3] != b"\x00\x00\x08":
        raise DataError(f"{path} is not an idx file of bytes: it begins with {raw[:4].hex() or 'nothing'}.")
    axes = raw[3]
    begin = 4 + 4 * axes
    shape = struct.unpack(f">{axes}I", raw[4:begin]) if len(raw) >= begin else ()
    if len(raw) < begin or len(raw) != begin + int(np.prod(shape, dtype=np.int64)):
        raise DataError(
            f"{path} is truncated or has extra bytes: its header announces {' x '.join(map(str, shape)) or 'more axes'}"
            f" bytes, but {max(len(raw) - begin, 0)} follow."
        )
    if checksum is not None and hashlib.sha256(raw).hexdigest() != checksum:
        raise DataError(f"{path} is a valid idx file, but not MNIST's: its SHA-256 differs.")
    return np.frombuffer(raw, np.uint8, offset=begin).reshape(shape).copy()


def _find(folder: Path, name: str) -> Path:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    said = "is not a folder" if not folder.is_dir() else f"contains neither {name} nor {name}.gz"
    raise DataError(f"MNIST was not found: {folder} {said}.")


def _download(folder: Path, name: str, mirrors: Sequence[str]) -> None:
    with contextlib.suppress(DataError):
        read_idx(_find(folder, name), FILES[name])
        return
    download(
        folder / f"{name}.gz",
        [f"{mirror}/{name}.gz" for mirror in mirrors],
        lambda path: read_idx(path, FILES[name]),
        "Pass the directory of the four idx files, or use the built-in digits.",
    )
