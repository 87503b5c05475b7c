"""Tile coding: represents a few real numbers by the tiles they fall into in several overlapping grids (tilings).

Albus (1975); Sutton and Barto (2018), section 9.5.4. Tiling i is offset along axis d by (2 d + 1) i / T of a tile, so that
generalization is uniform in all directions (Miller and Glanz 1996). A tiling is one tile wider than the range because of its
offset.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np

from rl.core.spaces import SpaceError
from supervised.validate import shown

UNBOUNDED = 1e10  # Gymnasium represents missing bounds by infinity or by the largest float32
NARROWEST = 1e-10
MOST_FEATURES = 50_000_000

Bounds = tuple[Sequence[float], Sequence[float]]


class Coding(NamedTuple):
    """T tilings over D numbers, with F tiles in total."""

    low: Any  # float64 [D]
    scale: Any  # float64 [D], tiles per unit
    shift: Any  # float64 [T, D], offsets in tiles
    tiles: int  # per axis

    @property
    def features(self) -> int:
        """F, the total number of tiles."""
        grids, axes = self.shift.shape
        return int(grids * (self.tiles + 1) ** axes)


def coding_of(space: gym.Space[Any], tilings: int, tiles: int, bounds: Bounds | None = None) -> Coding:
    """Return the tilings over a Box of numbers, within its bounds or those given. Raises SpaceError if it cannot be tiled."""
    if not isinstance(space, gym.spaces.Box) or space.dtype.kind != "f" or len(space.shape) != 1:
        raise SpaceError(
            f"The environment has the observation space {shown(space)}; tile coding needs a Box of a few real numbers. Use a"
            " tabular agent for finite spaces and an agent with a network for images."
        )
    low, high = (np.asarray(part, np.float64) for part in (bounds or (space.low, space.high)))
    axes = space.shape[0]
    if low.shape != (axes,) or high.shape != (axes,):
        raise SpaceError(f"bounds must be (lowest, highest), each with {axes} numbers, not {bounds!r}.")
    missing = np.flatnonzero(~(np.abs(low) < UNBOUNDED) | ~(np.abs(high) < UNBOUNDED)).tolist()
    if missing or not (high - low > NARROWEST).all():
        which = (
            f"no bounds in the dimensions {missing}"
            if missing
            else f"bounds that are not in ascending order, or no more than {NARROWEST:g} apart"
        )
        raise SpaceError(
            f"The environment's observation space has {which}: set the range of the tiles with bounds=(lowest, highest), each"
            f" with {axes} numbers; values outside are clipped to it."
        )
    uneven = [d for d in range(axes) if math.gcd(tilings, 2 * d + 1) > 1]
    if uneven:
        raise SpaceError(
            f"{tilings} tilings would not be offset evenly along axis {uneven[0]}, where offsets are multiples of"
            f" {2 * uneven[0] + 1}/{tilings} of a tile: use a power of 2."
        )
    digits = math.log10(tilings) + axes * math.log10(tiles + 1)
    if digits > math.log10(MOST_FEATURES):
        raise SpaceError(
            f"{tilings} tilings of {tiles + 1} tiles along each of {axes} axes are more than 10^{int(digits)} tiles; at most"
            f" {MOST_FEATURES:,} are allowed. Use fewer tiles, or an agent with a network."
        )
    grids, along = np.arange(tilings)[:, None], 2 * np.arange(axes) + 1
    return Coding(low, tiles / (high - low), (along * grids % tilings) / tilings, tiles)


def code(coding: Coding, obs: Any, found: Any) -> None:
    """Write the active tiles of observations obs float64 [R, D] into found int64 [R, T]; values outside the range are clipped."""
    for r in range(obs.shape[0]):
        for i in range(coding.shift.shape[0]):
            place = i
            for d in range(obs.shape[1]):
                x = (obs[r, d] - coding.low[d]) * coding.scale[d]
                x = min(max(x, 0.0), float(coding.tiles))
                place = place * (coding.tiles + 1) + math.floor(x + coding.shift[i, d])
            found[r, i] = place


def values(weights: Any, tiles: Any, q: Any) -> None:
    """Write the Q-values of active tiles int64 [R, T], R / N rows of each seed, into q [R, A]. weights: float64 [N, F, A]."""
    rows = tiles.shape[0] // weights.shape[0]
    for r in range(tiles.shape[0]):
        for a in range(weights.shape[2]):
            total = 0.0
            for i in range(tiles.shape[1]):
                total += weights[r // rows, tiles[r, i], a]
            q[r, a] = total
