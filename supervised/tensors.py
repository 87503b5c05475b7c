"""Named arrays and a header in one safetensors file, with a checksum of all its other bytes.

The layout is that of safetensors: the length of a JSON header (8 bytes), the header, the arrays one after another. The
checksum (CRC-32, as eight hexadecimal digits) is the first entry of the header's `__metadata__`; it is computed with zeros in
its place. Arrays are written and read in place, piece by piece: there is no second copy in memory, and every byte is read
once.
"""

from __future__ import annotations

import json
import math
import os
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

KINDS = {"F16": "<f2", "F32": "<f4", "F64": "<f8", "BOOL": "?"}
KINDS |= {f"{name}{8 * size}": f"<{code}{size}" for name, code in (("I", "i"), ("U", "u")) for size in (1, 2, 4, 8)}
DTYPES = {name: np.dtype(code) for name, code in KINDS.items()}
NAMES = {dtype: name for name, dtype in DTYPES.items()}
RESERVED = "__metadata__"  # the one entry of a safetensors header that is not an array
START = b'{"__metadata__":{"checksum":"'
ZEROS = b"00000000"
DAMAGE = (ValueError, KeyError, TypeError, AttributeError, RecursionError)  # raised in reading other kinds of files
PIECE = 1 << 20  # bytes; small enough to be in the processor's cache for the checksum


class Content(NamedTuple):
    """The content of a file. intact: whether the checksum matches; None: it has none."""

    metadata: dict[str, Any]
    arrays: dict[str, np.ndarray]
    intact: bool | None


def write(file: BinaryIO, arrays: Mapping[str, np.ndarray], header: str) -> None:
    """Write arrays and a header to an empty file. Raises TypeError for a dtype that safetensors does not support."""
    plain = {name: _plain(array) for name, array in arrays.items()}
    order = sorted(plain, key=lambda name: (-plain[name].itemsize, name))  # keeps every array aligned
    entries: dict[str, Any] = {RESERVED: {"checksum": ZEROS.decode(), "header": header}}
    end = 0
    for name in order:
        array, begin = plain[name], end
        end += array.nbytes
        entries[name] = {"dtype": NAMES[array.dtype], "shape": list(array.shape), "data_offsets": [begin, end]}
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    pieces: list[bytes | memoryview] = [len(text).to_bytes(8, "little"), text]
    pieces += [piece for name in order for piece in _pieces(plain[name])]
    checksum = 0
    for piece in pieces:
        checksum = zlib.crc32(piece, checksum)
        file.write(piece)
    file.seek(8 + len(START))
    file.write(f"{checksum:08x}".encode())


def read(path: Path) -> Content:
    """Read a file. Raises one of DAMAGE if it is truncated or a different kind of file, OSError if it cannot be read."""
    with open(path, "rb") as file:
        length, text = _head(file)
        entries = json.loads(text)
        metadata = dict(entries.pop(RESERVED, {}))
        marked = text.startswith(START)
        found = text[len(START) : len(START) + len(ZEROS)]
        checksum = zlib.crc32(length + (START + ZEROS + text[len(START) + len(ZEROS) :] if marked else text))
        arrays, end = {}, 0
        room = os.fstat(file.fileno()).st_size - 8 - len(text)
        for name, entry in sorted(entries.items(), key=lambda item: tuple(item[1]["data_offsets"])):
            begin, array = end, _empty(entry, room - end)
            end += array.nbytes
            if entry["data_offsets"] != [begin, end]:
                raise ValueError(f"{name} does not follow what comes before it")
            for piece in _pieces(array):
                if file.readinto(piece) != piece.nbytes:
                    raise ValueError("it is truncated")
                checksum = zlib.crc32(piece, checksum)
            arrays[name] = array
        if end != room:
            raise ValueError("extra bytes at the end")
    return Content(metadata, arrays, found == f"{checksum:08x}".encode() if "checksum" in metadata else None)


def read_header(path: Path) -> Content:
    """Read only the header; the checksum, which covers the whole file, is not verified."""
    with open(path, "rb") as file:
        return Content(dict(json.loads(_head(file)[1]).get(RESERVED, {})), {}, None)


def _head(file: BinaryIO) -> tuple[bytes, bytes]:
    length = file.read(8)
    size = int.from_bytes(length, "little")
    if len(length) < 8 or size > os.fstat(file.fileno()).st_size - 8:
        raise ValueError("it is truncated")
    return length, file.read(size)


def _empty(entry: Mapping[str, Any], room: int) -> np.ndarray:
    """Allocate the array for an entry of the header. Raises ValueError if it is larger than the rest of the file."""
    shape, dtype = entry["shape"], DTYPES[entry["dtype"]]
    if not isinstance(shape, list) or not all(type(size) is int and 0 <= size < 2**62 for size in shape):
        raise ValueError(f"{shape!r} is not a shape")
    if math.prod(shape) * dtype.itemsize > room:
        raise ValueError("it is truncated")
    return np.empty(shape, dtype)


def _plain(array: np.ndarray) -> np.ndarray:
    """Return the array contiguous and little-endian."""
    array = np.asarray(array, array.dtype.newbyteorder("<"), order="C")
    if array.dtype not in NAMES:
        raise TypeError(f"an array of {array.dtype} cannot be saved")
    return array


def _pieces(array: np.ndarray) -> Iterator[memoryview]:
    flat = array.reshape(-1).view(np.uint8)
    return (flat[begin : begin + PIECE].data for begin in range(0, flat.size, PIECE))
