"""The scalar exploration rules: q [S, A], s a state, rng the seed's generator. They run in the tabular loops, plain or compiled.

The rules of this file ignore `mask`: if an environment forbids actions, those of `rl.explore.masked` replace them.
"""

from __future__ import annotations

import math
from typing import Any

from rl.explore.configs import BOLTZMANN, EPSILON_GREEDY, HELD, UPPER_BOUND


def forbidden(mask: Any, s: int, a: int) -> Any:
    """Return whether action a is forbidden in state s."""
    return False


def highest(q: Any, s: int, mask: Any = None) -> Any:
    """Return max_b q(s, b)."""
    best = q[s, 0]
    for b in range(1, q.shape[1]):
        value = q[s, b]
        best = value if value > best else best
    return best


def expected(q: Any, s: int, kind: int, level: float, mask: Any = None) -> Any:
    """Return sum_b pi(b | s) q(s, b) for an epsilon-greedy, Boltzmann or held policy pi; tie-breaking makes no difference."""
    best = highest(q, s, mask)
    total = 0.0
    if kind == EPSILON_GREEDY:
        for b in range(q.shape[1]):
            total += q[s, b]
        value = (1.0 - level) * best + level * (total / q.shape[1])
    elif kind == HELD:
        value = q[s, int(level)]
    else:
        value = 0.0
        for b in range(q.shape[1]):
            weight = math.exp((q[s, b] - best) / level)
            total += weight
            value += weight * q[s, b]
        value /= total
    return value


def greedy_action(q: Any, s: int, u: float, random_ties: bool, mask: Any = None) -> Any:
    """Return the best action in state s; ties go to the one that u in [0, 1) selects, or to the first."""
    # Branch-free, to avoid branch mispredictions.
    best, arg, ties = q[s, 0], 0, 1
    for a in range(1, q.shape[1]):
        value = q[s, a]
        better = value > best
        ties = 1 if better else ties + (value == best)
        arg = a if better else arg
        best = value if better else best
    if random_ties and ties > 1:
        rank = min(int(u * ties), ties - 1)  # u may be 1.0 by rounding
        for a in range(q.shape[1]):
            if q[s, a] == best:
                if rank == 0:
                    arg = a
                    break
                rank -= 1
    return arg


def random_action(q: Any, s: int, u: float, mask: Any = None) -> Any:
    """Return the action that u in [0, 1] selects."""
    return min(int(u * q.shape[1]), q.shape[1] - 1)  # u may be 1.0 by rounding


def epsilon_greedy_action(q: Any, s: int, epsilon: float, u: float, random_ties: bool, mask: Any = None) -> Any:
    """Select an action with a single uniform number u: explore if u < epsilon; u, rescaled, also selects the action."""
    if u < epsilon:
        a = random_action(q, s, u / epsilon, mask)
    else:
        a = greedy_action(q, s, (u - epsilon) / (1.0 - epsilon), random_ties, mask)
    return a


def held_action(
    q: Any,
    s: int,
    epsilon: float,
    random_ties: bool,
    last: int,
    steps: int,
    durations: Any,
    rng: Any,
    mask: Any = None,
) -> Any:
    """Select an action by temporally extended epsilon-greedy; return it and the number of further steps for which it is held.

    last, steps: the previous action and the further steps for which it was held. It is taken again without a random number; one
    that is forbidden is released. Otherwise the first random number selects an action as in `epsilon_greedy_action`, and only if
    that explores, a second one selects the duration. durations: see `rl.explore.held`.
    """
    if steps > 0 and not forbidden(mask, s, last):
        a, steps = last, steps - 1
    else:
        u = rng.random()
        a, steps = epsilon_greedy_action(q, s, epsilon, u, random_ties, mask), 0
        if u < epsilon:
            v = rng.random()
            while steps < durations.shape[0] and durations[steps] <= v:
                steps += 1
    return a, steps


def boltzmann_action(q: Any, s: int, temperature: float, u: float, mask: Any = None) -> Any:
    """Select action a with probability proportional to exp(Q(s, a) / temperature), using u in [0, 1)."""
    best = q[s, 0]
    for a in range(1, q.shape[1]):
        best = q[s, a] if q[s, a] > best else best
    total = 0.0
    for a in range(q.shape[1]):
        total += math.exp((q[s, a] - best) / temperature)
    chosen = q.shape[1] - 1
    reached = 0.0
    for a in range(q.shape[1]):
        reached += math.exp((q[s, a] - best) / temperature)
        if u * total < reached:
            chosen = a
            break
    return chosen


def noisy_action(q: Any, s: int, scale: float, rng: Any, mask: Any = None) -> int:
    """Return argmax_a Q(s, a) + scale * n_a with standard normal n_a."""
    chosen = 0
    best = -math.inf
    for a in range(q.shape[1]):
        value = q[s, a] + scale * rng.standard_normal()
        if value > best:
            best, chosen = value, a
    return chosen


def upper_bound(q: Any, visits: Any, s: int, a: int, scale: float, log: float) -> Any:
    """Return Q(s, a) + scale * sqrt(ln N(s) / N(s, a)), or infinity if the action was never tried. log: ln N(s)."""
    bound = math.inf
    if visits[s, a] > 0:
        bound = q[s, a] + scale * math.sqrt(log / visits[s, a])
    return bound


def upper_bound_action(q: Any, visits: Any, s: int, scale: float, u: float, mask: Any = None) -> Any:
    """Return the action with the highest upper confidence bound; ties go to the one that u in [0, 1) selects."""
    total = 0
    for a in range(q.shape[1]):
        total += visits[s, a]
    log = math.log(max(total, 1))
    best, arg, ties = -math.inf, 0, 0
    for a in range(q.shape[1]):
        bound = upper_bound(q, visits, s, a, scale, log)
        better = bound > best
        ties = 1 if better else ties + (bound == best)
        arg = a if better else arg
        best = bound if better else best
    if ties > 1:
        rank = min(int(u * ties), ties - 1)
        for a in range(q.shape[1]):
            if upper_bound(q, visits, s, a, scale, log) == best:
                if rank == 0:
                    arg = a
                    break
                rank -= 1
    return arg


def choose(q: Any, visits: Any, s: int, kind: int, level: float, random_ties: bool, rng: Any, mask: Any = None) -> Any:
    """Select an action in state s by the rule `kind`, whose epsilon, temperature or scale is `level`; visits [S, A]."""
    if kind == EPSILON_GREEDY:
        a = epsilon_greedy_action(q, s, level, rng.random(), random_ties, mask)
    elif kind == BOLTZMANN:
        a = boltzmann_action(q, s, level, rng.random(), mask)
    elif kind == UPPER_BOUND:
        a = upper_bound_action(q, visits, s, level, rng.random(), mask)
    else:
        a = noisy_action(q, s, level, rng, mask)
    return a
