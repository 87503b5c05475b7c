"""The scalar exploration rules for environments that forbid some actions.

In a loop that `rl.core.jit` specializes with `RULES`, each replaces its namesake of `rl.explore.scalar`. mask is float64 [S, A]
and is added to the values: 0 for allowed actions and -infinity for forbidden ones, as the environment most recently reported for
each state. None, from a rule that does not support masks, means 0 everywhere. If all actions are allowed, these rules select the
same actions as their namesakes from the same random numbers.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from rl.explore.configs import EPSILON_GREEDY, HELD
from rl.explore.scalar import upper_bound


def forbidden(mask: Any, s: int, a: int) -> Any:
    """Return whether action a is forbidden in state s."""
    found = False
    if mask is not None:
        found = mask[s, a] < 0.0
    return found


def highest(q: Any, s: int, mask: Any = None) -> Any:
    """Return max_b q(s, b) over the allowed actions."""
    best = -math.inf
    for b in range(q.shape[1]):
        value = q[s, b]
        if mask is not None:
            value += mask[s, b]
        best = value if value > best else best
    return best


def expected(q: Any, s: int, kind: int, level: float, mask: Any = None) -> Any:
    """Return sum_b pi(b | s) q(s, b) over the allowed actions, for an epsilon-greedy, Boltzmann or held policy pi."""
    if kind == EPSILON_GREEDY:
        best, total, count = -math.inf, 0.0, 0
        for b in range(q.shape[1]):
            value = q[s, b]
            free = not forbidden(mask, s, b)
            total += value if free else 0.0
            count += free
            best = value if free & (value > best) else best
        found = (1.0 - level) * best + level * (total / count)
    elif kind == HELD:
        found = q[s, int(level)]
    else:
        best, total, found = highest(q, s, mask), 0.0, 0.0
        for b in range(q.shape[1]):
            weight = 0.0 if forbidden(mask, s, b) else math.exp((q[s, b] - best) / level)
            total += weight
            found += weight * q[s, b]
        found /= total
    return found


def greedy_action(q: Any, s: int, u: float, random_ties: bool, mask: Any = None) -> Any:
    """Return the best allowed action in state s; ties go to the one that u in [0, 1) selects, or to the first."""
    best, arg, ties = -math.inf, 0, 0
    for a in range(q.shape[1]):
        value = q[s, a]
        if mask is not None:
            value += mask[s, a]
        better = value > best
        ties = 1 if better else ties + (value == best)
        arg = a if better else arg
        best = value if better else best
    if random_ties and ties > 1:
        rank = min(int(u * ties), ties - 1)  # u may be 1.0 by rounding
        for a in range(q.shape[1]):
            if q[s, a] == best and not forbidden(mask, s, a):
                if rank == 0:
                    arg = a
                    break
                rank -= 1
    return arg


def random_action(q: Any, s: int, u: float, mask: Any = None) -> Any:
    """Return the allowed action that u in [0, 1] selects."""
    if mask is None:
        return min(int(u * q.shape[1]), q.shape[1] - 1)  # u may be 1.0 by rounding
    # Branch-free, to avoid branch mispredictions.
    count = 0
    for a in range(q.shape[1]):
        count += mask[s, a] == 0.0
    rank = min(int(u * count), count - 1)
    chosen = 0
    for a in range(q.shape[1]):
        free = mask[s, a] == 0.0
        chosen = a if free & (rank == 0) else chosen
        rank -= free
    return chosen


def boltzmann_action(q: Any, s: int, temperature: float, u: float, mask: Any = None) -> Any:
    """Select an allowed action a with probability proportional to exp(Q(s, a) / temperature), using u in [0, 1)."""
    best = highest(q, s, mask)
    total = 0.0
    chosen = 0
    for a in range(q.shape[1]):
        if not forbidden(mask, s, a):
            total += math.exp((q[s, a] - best) / temperature)
            chosen = a
    reached = 0.0
    for a in range(q.shape[1]):
        if not forbidden(mask, s, a):
            reached += math.exp((q[s, a] - best) / temperature)
            if u * total < reached:
                chosen = a
                break
    return chosen


def noisy_action(q: Any, s: int, scale: float, rng: Any, mask: Any = None) -> Any:
    """Return the argmax over allowed actions of Q(s, a) + scale * n_a, n_a standard normal; all actions draw a number."""
    chosen = 0
    best = -math.inf
    for a in range(q.shape[1]):
        value = q[s, a] + scale * rng.standard_normal()
        if value > best and not forbidden(mask, s, a):
            best, chosen = value, a
    return chosen


def upper_bound_action(q: Any, visits: Any, s: int, scale: float, u: float, mask: Any = None) -> Any:
    """Return the allowed action with the highest upper confidence bound; ties go to the one that u in [0, 1) selects."""
    total = 0
    for a in range(q.shape[1]):
        total += visits[s, a]
    log = math.log(max(total, 1))
    best, arg, ties = -math.inf, 0, 0
    for a in range(q.shape[1]):
        if not forbidden(mask, s, a):
            bound = upper_bound(q, visits, s, a, scale, log)
            better = bound > best
            ties = 1 if better else ties + (bound == best)
            arg = a if better else arg
            best = bound if better else best
    if ties > 1:
        rank = min(int(u * ties), ties - 1)
        for a in range(q.shape[1]):
            if not forbidden(mask, s, a) and upper_bound(q, visits, s, a, scale, log) == best:
                if rank == 0:
                    arg = a
                    break
                rank -= 1
    return arg


RULES: dict[str, Any] = {
    rule.__name__: rule
    for rule in (
        *(forbidden, highest, expected),
        *(greedy_action, random_action, boltzmann_action, noisy_action, upper_bound_action),
    )
}


def best_allowed(q: np.ndarray, allowed: np.ndarray | None) -> np.ndarray:
    """Return the first of the best allowed actions: q [..., A], allowed bool [..., A] (None: all) -> int64 [...]."""
    best: np.ndarray = (q if allowed is None else np.where(allowed, q, -np.inf)).argmax(-1)
    return best


def as_mask(allowed: Any) -> np.ndarray:
    """Return the additive mask of allowed actions bool [...]: float64 [...], 0 if allowed, -infinity if forbidden."""
    return np.where(np.asarray(allowed) != 0, 0.0, -np.inf)


def check_allowed(saved: Any, shape: tuple[int, ...]) -> None:
    """Raise ValueError for saved masks that are not uint8 0 or 1 of this shape, or that allow no action in some state."""
    if saved.shape != shape or saved.dtype != np.uint8 or saved.max() > 1 or not saved.any(-1).all():
        raise ValueError(
            f"The saved 'allowed' must be uint8 {list(shape)} of 0 and 1, with at least one action allowed in every state."
        )
