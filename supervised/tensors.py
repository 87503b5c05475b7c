"""Named arrays and a header in one safetensors file, with a checksum of all its other bytes.

The layout is safetensors': the length of a JSON header (8 bytes), the header, the arrays one after another. The checksum
(CRC-32, as eight hexadecimal digits) is the first entry of the header's `__metadata__`, and is computed with zeros in its
place. Arrays are written from where they are and read to where they stay, a piece at a time: no second copy in memory, and
every byte is read once.
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
RESERVED = "__metadata__"  # the entry of a safetensors header that is no array
START = b'{"__metadata__":{"checksum":"'
ZEROS = b"00000000"
DAMAGE = (ValueError, KeyError, TypeError, AttributeError, RecursionError)  # what reading a file of another kind raises
PIECE = 1 << 20  # bytes; what is in the processor's cache when its checksum is taken


class Content(NamedTuple):
    """What a file holds. `intact`: whether its checksum is right; None: it has none."""

    metadata: dict[str, Any]
    arrays: dict[str, np.ndarray]
    intact: bool | None


def write(file: BinaryIO, arrays: Mapping[str, np.ndarray], header: str) -> None:
    """Write arrays and a header to an empty file. Raises TypeError for an array of a type that safetensors does not have."""
    plain = {name: _plain(array) for name, array in arrays.items()}
    order = sorted(
        plain, key=lambda name: (-plain[name].itemsize, name)
    )  # so that each lies at a multiple of its width
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
    """Read a file. Raises one of DAMAGE where it is cut short or of another kind, OSError where it cannot be read."""
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
                    raise ValueError("cut short")
                checksum = zlib.crc32(piece, checksum)
            arrays[name] = array
        if end != room:
            raise ValueError("bytes that belong to nothing")
    return Content(metadata, arrays, found == f"{checksum:08x}".encode() if "checksum" in metadata else None)


def read_header(path: Path) -> Content:
    """As `read`, without the arrays; the checksum, which is of all bytes, is not looked at."""
    with open(path, "rb") as file:
        return Content(dict(json.loads(_head(file)[1]).get(RESERVED, {})), {}, None)


def _head(file: BinaryIO) -> tuple[bytes, bytes]:
    length = file.read(8)
    size = int.from_bytes(length, "little")
    if len(length) < 8 or size > os.fstat(file.fileno()).st_size - 8:
        raise ValueError("cut short")
    return length, file.read(size)


def _empty(entry: Mapping[str, Any], room: int) -> np.ndarray:
    """An array for an entry of the header to be read into. Raises ValueError for one larger than the rest of the file."""
    shape, dtype = entry["shape"], DTYPES[entry["dtype"]]
    if not isinstance(shape, list) or not all(type(size) is int and 0 <= size < 2**62 for size in shape):
        raise ValueError(f"{shape!r} is not a shape")
    if math.prod(shape) * dtype.itemsize > room:
        raise ValueError("cut short")
    return np.empty(shape, dtype)


def _plain(array: np.ndarray) -> np.ndarray:
    """The same numbers side by side, little end first."""
    array = np.asarray(array, array.dtype.newbyteorder("<"), order="C")
    if array.dtype not in NAMES:
        raise TypeError(f"an array of {array.dtype} cannot be saved")
    return array


def _pieces(array: np.ndarray) -> Iterator[memoryview]:
    flat = array.reshape(-1).view(np.uint8)
    return (flat[begin : begin + PIECE].data for begin in range(0, flat.size, PIECE))
