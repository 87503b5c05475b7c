"""Sum trees: draw with a probability proportional to priority, in the time of a tree's height.

Schaul et al. (2016), "Prioritized Experience Replay", appendix B.2.1. N trees lie in two arrays float64 [N, 2 P] with P
leaves each, a power of two: node i has the children 2 i and 2 i + 1, node 1 is the root, the leaves begin at P. Beside
the sums stands the least of the priorities above 0. Scalar functions, which `rl.core.jit` compiles.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

NOTHING = math.inf  # the least priority where there is none


def trees(n: int, leaves: int) -> tuple[np.ndarray, np.ndarray]:
    """N empty trees -> sums and least priorities, float64 [N, 2 P]."""
    size = 1 << max(leaves - 1, 1).bit_length()
    return np.zeros((n, 2 * size)), np.full((n, 2 * size), NOTHING)


def set_priority(total: Any, least: Any, k: int, leaf: int, priority: float) -> None:
    """Give a leaf of tree k its priority; 0 takes it out."""
    i = total.shape[1] // 2 + leaf
    total[k, i] = priority
    least[k, i] = priority if priority > 0.0 else NOTHING
    i //= 2
    while i > 0:
        total[k, i] = total[k, 2 * i] + total[k, 2 * i + 1]
        least[k, i] = min(least[k, 2 * i], least[k, 2 * i + 1])
        i //= 2


def find(total: Any, k: int, mass: float) -> int:
    """The leaf of tree k at which the sum of the priorities, from the first leaf on, passes `mass` in [0, total)."""
    i = 1
    size = total.shape[1] // 2
    while i < size:
        i *= 2
        # Where rounding has used up the mass, or the right side is empty, stay on the side that has something.
        if mass >= total[k, i] and total[k, i + 1] > 0.0:
            mass -= total[k, i]
            i += 1
    leaf: int = i - size
    return leaf


def draw(total: Any, least: Any, u: Any, count: Any, exponent: float, leaf: Any, weight: Any) -> None:
    """Stratified draws: u [N, B] in [0, 1) -> leaf int64 [N, B] and importance weights [N, B].

    weight = (count * P(leaf))**-exponent over the largest that any leaf could get (section 3.4), so the scale is the same
    for every batch, and with exponent 1 the weighted mean is, but for that scale, without bias.
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
    """Give drawn leaves [N, B] the priority (|error| + smallest)**alpha (section 3.3, proportional)."""
    for k in range(leaf.shape[0]):
        for b in range(leaf.shape[1]):
            priority = math.pow(abs(error[k, b]) + smallest, alpha)
            highest[k] = max(highest[k], priority)
            set_priority(total, least, k, leaf[k, b], priority)


def fill(total: Any, least: Any, values: Any) -> None:
    """Put values [N, leaves] that are above 0 into empty trees."""
    for k in range(values.shape[0]):
        for leaf in range(values.shape[1]):
            if values[k, leaf] > 0.0:
                set_priority(total, least, k, leaf, values[k, leaf])
