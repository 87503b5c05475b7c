"""Counter-based random numbers: Threefry 2x32 with 20 rounds (Salmon et al. 2011, "Parallel Random Numbers: As Easy as 1, 2, 3").

A word is a pure function of a key (the seed of a copy) and a counter, so a copy's numbers depend neither on how many copies
there are nor on the device. The host computes in uint32, which wraps around; a device computes the same words in int64 with
masks.
"""

from __future__ import annotations

from typing import Any

import numpy as np

ROTATIONS = (13, 15, 26, 6, 17, 29, 16, 24)
PARITY = 0x1BD11BDA
WORD = 0xFFFFFFFF


def threefry(key: tuple[Any, Any], counter: tuple[Any, Any]) -> tuple[Any, Any]:
    """Return two words of 32 bits for each key and counter, pairs of broadcastable arrays.

    Arrays are uint32 (numpy) or int64 with values below 2**32 (torch); the words have the same type.
    """
    keys = (*key, key[0] ^ key[1] ^ PARITY)
    x0, x1 = counter[0] + key[0] & WORD, counter[1] + key[1] & WORD
    for i in range(5):
        for rotation in ROTATIONS[i % 2 * 4 : i % 2 * 4 + 4]:
            x0 += x1
            x0 &= WORD
            low = x1 >> 32 - rotation
            x1 <<= rotation
            x1 &= WORD
            x1 |= low
            x1 ^= x0
        x0 += keys[(i + 1) % 3]
        x0 &= WORD
        x1 += keys[(i + 2) % 3] + (i + 1)
        x1 &= WORD
    return x0, x1


def host_threefry(key: tuple[np.ndarray, np.ndarray], counter: tuple[np.ndarray, np.ndarray]) -> tuple[Any, Any]:
    """`threefry` in uint32, which needs no masks and works in place: three times as fast on the host."""
    keys = (*key, key[0] ^ key[1] ^ np.uint32(PARITY))
    x0, x1 = counter[0] + key[0], counter[1] + key[1]
    low = np.empty_like(x1)
    for i in range(5):
        for rotation in ROTATIONS[i % 2 * 4 : i % 2 * 4 + 4]:
            x0 += x1
            np.right_shift(x1, np.uint32(32 - rotation), low)
            np.left_shift(x1, np.uint32(rotation), x1)
            x1 |= low
            x1 ^= x0
        x0 += keys[(i + 1) % 3]
        x1 += keys[(i + 2) % 3] + np.uint32(i + 1)
    return x0, x1


def keys_of(seeds: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the keys of seeds, nonnegative integers below 2**64: their low and high words, uint32 [R, 1, 1]."""
    numbers = np.array(seeds, np.uint64)[:, None, None]
    return (numbers & np.uint64(WORD)).astype(np.uint32), (numbers >> np.uint64(32)).astype(np.uint32)
