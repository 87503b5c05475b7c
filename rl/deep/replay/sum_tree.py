"""Sum trees, which sample in proportion to priorities in logarithmic time.

Schaul et al. (2016), "Prioritized Experience Replay", appendix B.2.1. N trees with P leaves each, a power of two, are stored in
two arrays float64 [N, 2 P]: node 1 is the root, node i has the children 2 i and 2 i + 1, and the leaves start at P. One array
has the sums, the other the minimum of the positive priorities. Scalar functions, compiled by `rl.core.jit`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

NOTHING = math.inf  # the minimum priority of an empty node


def make_trees(n: int, leaves: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the sums and minimum priorities of n empty trees, float64 [N, 2 P] each."""
    size = 1 << max(leaves - 1, 1).bit_length()
    return np.zeros((n, 2 * size)), np.full((n, 2 * size), NOTHING)


def set_priority(total: Any, least: Any, k: int, leaf: int, priority: float) -> None:
    """Set the priority of a leaf of tree k; 0 removes the leaf."""
    i = total.shape[1] // 2 + leaf
    total[k, i] = priority
    least[k, i] = priority if priority > 0.0 else NOTHING
    i //= 2
    while i > 0:
        total[k, i] = total[k, 2 * i] + total[k, 2 * i + 1]
        least[k, i] = min(least[k, 2 * i], least[k, 2 * i + 1])
        i //= 2


def find(total: Any, k: int, mass: float) -> int:
    """Return the leaf of tree k at which the cumulative sum of priorities exceeds `mass` in [0, total)."""
    i = 1
    size = total.shape[1] // 2
    while i < size:
        i *= 2
        # Go left if the right subtree is empty, even if, by rounding, the mass exceeds that of the left one.
        if mass >= total[k, i] and total[k, i + 1] > 0.0:
            mass -= total[k, i]
            i += 1
    leaf: int = i - size
    return leaf


def draw(total: Any, least: Any, u: Any, count: Any, exponent: float, leaf: Any, weight: Any) -> None:
    """Sample stratified with u [N, B] in [0, 1), and write leaf, int64 [N, B], and importance weights [N, B].

    weight = (count * P(leaf))**-exponent, divided by its maximum over all leaves (section 3.4): the scale is the same for every
    batch, and with exponent 1 the weighted mean is unbiased up to this scale.
    """
    for k in range(u.shape[0]):
        whole = total[k, 1]
        largest = math.pow(count[k] * least[k, 1] / whole, -exponent)
        for b in range(u.shape[1]):
            leaf[k, b] = find(total, k, (b + u[k, b]) / u.shape[1] * whole)
            share = total[k, total.shape[1] // 2 + leaf[k, b]] / whole
            weight[k, b] = math.pow(count[k] * share, -exponent) / largest


def update_priorities(
    total: Any, least: Any, highest: Any, leaf: Any, error: Any, alpha: float, smallest: float
) -> None:
    """Set the priorities of sampled leaves [N, B] to (|error| + smallest)**alpha (section 3.3, proportional)."""
    for k in range(leaf.shape[0]):
        for b in range(leaf.shape[1]):
            priority = math.pow(abs(error[k, b]) + smallest, alpha)
            highest[k] = max(highest[k], priority)
            set_priority(total, least, k, leaf[k, b], priority)


def fill(total: Any, least: Any, values: Any) -> None:
    """Fill empty trees with those of the values [N, leaves] that are positive."""
    for k in range(values.shape[0]):
        for leaf in range(values.shape[1]):
            if values[k, leaf] > 0.0:
                set_priority(total, least, k, leaf, values[k, leaf])
