"""Tile coding: a few real numbers as the places that they take in several grids, each shifted against the others.

Albus (1975); Sutton and Barto (2018), section 9.5.4. Grid i is shifted along axis d by (2 d + 1) i / T of a tile, so that
neighbors are shared evenly in all directions (Miller and Glanz 1996). A grid is one tile wider than the range, for its shift.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np

from rl.core.spaces import SpaceError
from supervised.validate import shown

UNBOUNDED = 1e10  # Gymnasium writes "no bound" as infinity, or as the largest float32
NARROWEST = 1e-10
MOST_FEATURES = 50_000_000

Bounds = tuple[Sequence[float], Sequence[float]]


class Coding(NamedTuple):
    """T grids over D numbers, F tiles in all."""

    low: Any  # float64 [D]
    scale: Any  # float64 [D], tiles per unit
    shift: Any  # float64 [T, D], in tiles
    tiles: int  # along each axis

    @property
    def features(self) -> int:
        """F, how many tiles there are."""
        grids, axes = self.shift.shape
        return int(grids * (self.tiles + 1) ** axes)


def coding_of(space: gym.Space[Any], tilings: int, tiles: int, bounds: Bounds | None = None) -> Coding:
    """The grids over a Box of numbers, between its bounds or those given. Raises SpaceError for what cannot be tiled."""
    if not isinstance(space, gym.spaces.Box) or space.dtype.kind != "f" or len(space.shape) != 1:
        raise SpaceError(
            f"The environment has the observation space {shown(space)}; tile coding takes a Box of a few real numbers. Use a"
            " table for states that are counted, an agent with a network for pictures."
        )
    low, high = (np.asarray(part, np.float64) for part in (bounds or (space.low, space.high)))
    axes = space.shape[0]
    if low.shape != (axes,) or high.shape != (axes,):
        raise SpaceError(f"bounds are (lowest, highest), each with {axes} numbers, not {bounds!r}.")
    missing = np.flatnonzero(~(np.abs(low) < UNBOUNDED) | ~(np.abs(high) < UNBOUNDED)).tolist()
    if missing or not (high - low > NARROWEST).all():
        which = (
            f"no bounds in {missing}"
            if missing
            else f"bounds that are not in order, or no more than {NARROWEST:g} apart"
        )
        raise SpaceError(
            f"The environment's observation space has {which}: say between which numbers the tiles shall lie, by bounds=(lowest,"
            f" highest), each with {axes} numbers; what lies beyond counts as on the edge."
        )
    uneven = [d for d in range(axes) if math.gcd(tilings, 2 * d + 1) > 1]
    if uneven:
        raise SpaceError(
            f"{tilings} tilings would not be spread evenly along axis {uneven[0]}, whose shifts are in steps of"
            f" {2 * uneven[0] + 1}/{tilings} of a tile: take a power of 2."
        )
    digits = math.log10(tilings) + axes * math.log10(tiles + 1)
    if digits > math.log10(MOST_FEATURES):
        raise SpaceError(
            f"{tilings} tilings of {tiles + 1} tiles along each of {axes} axes are more than 10^{int(digits)} tiles;"
            f" {MOST_FEATURES:,} are allowed: take fewer, or an agent with a network."
        )
    grids, along = np.arange(tilings)[:, None], 2 * np.arange(axes) + 1
    return Coding(low, tiles / (high - low), (along * grids % tilings) / tilings, tiles)


def code(coding: Coding, obs: Any, found: Any) -> None:
    """The tiles in which observations obs float64 [R, D] lie -> found int64 [R, T]. What lies beyond the edge counts as on it."""
    for r in range(obs.shape[0]):
        for i in range(coding.shift.shape[0]):
            place = i
            for d in range(obs.shape[1]):
                x = (obs[r, d] - coding.low[d]) * coding.scale[d]
                x = min(max(x, 0.0), float(coding.tiles))
                place = place * (coding.tiles + 1) + math.floor(x + coding.shift[i, d])
            found[r, i] = place


def values(weights: Any, tiles: Any, q: Any) -> None:
    """What observations are worth: weights float64 [N, F, A], tiles int64 [R, T], R / N rows of each seed -> q [R, A]."""
    rows = tiles.shape[0] // weights.shape[0]
    for r in range(tiles.shape[0]):
        for a in range(weights.shape[2]):
            total = 0.0
            for i in range(tiles.shape[1]):
                total += weights[r // rows, tiles[r, i], a]
            q[r, a] = total
