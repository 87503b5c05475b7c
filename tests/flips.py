"""Damage to files of checkpoints: single bits flipped, arrays exchanged."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from supervised import checkpoint
from supervised.checkpoint import CheckpointError


def accepted(path: Path, damaged: Iterable[bytes]) -> list[int]:
    """Which of the damaged contents are read as if they were whole."""
    place = path.with_name("damaged.safetensors")
    found = []
    for i, content in enumerate(damaged):
        place.write_bytes(content)
        try:
            checkpoint.load(place)
        except CheckpointError:
            continue
        found.append(i)
    return found


def flipped(whole: bytes, bits: Iterable[int]) -> Iterator[bytes]:
    """The content with one bit flipped, for each of these."""
    for bit in bits:
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        yield bytes(damaged)


def marks(whole: bytes) -> list[int]:
    """Every bit of the two marks of format 2: the checksum with its name, the format with its name."""
    parts = [(whole.index(b'"checksum":'), len('"checksum":"00000000"')), (whole.index(b'\\"format\\": 2'), 13)]
    return [bit for begin, size in parts for bit in range(8 * begin, 8 * (begin + size))]


def swapped(whole: bytes) -> Iterator[bytes]:
    """The content with two arrays of one size exchanged: the numbers, or the places or the names in the header."""
    size = int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8 : 8 + size])
    arrays = {name: entry["data_offsets"] for name, entry in header.items() if name != "__metadata__"}
    for one, other in itertools.combinations(arrays, 2):
        (a, b), (c, d) = sorted((arrays[one], arrays[other]))
        data = whole[8 + size :]
        if b - a == d - c and data[a:b] != data[c:d]:
            yield whole[: 8 + size] + data[:a] + data[c:d] + data[b:c] + data[a:b] + data[d:]
            for key in ("data_offsets", None):
                changed = json.loads(whole[8 : 8 + size])
                if key:
                    changed[one][key], changed[other][key] = changed[other][key], changed[one][key]
                else:
                    changed[one], changed[other] = changed[other], changed[one]
                text = json.dumps(changed, separators=(",", ":")).encode()
                yield whole[:8] + text.ljust(size) + data
