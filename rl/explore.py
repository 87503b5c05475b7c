"""Ways to choose actions, in three layers: scalar rules, the same over arrays, and descriptions of them.

The scalar rules (`choose` and what it calls) run in the tabular loops, plain or compiled. The functions over arrays take
q [N, E, A] and a `Streams`, and draw one number for each of the N * E environments: never one for a whole batch. Given
the same generator, both make the same choice.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from rl.core import jit
from supervised.schedules import Inverse, Linear, Schedule, as_schedule, setting
from supervised.streams import Streams
from supervised.validate import choice, explained, flag, integer, number, store

EPSILON_GREEDY, BOLTZMANN, NOISE, UPPER_BOUND = 0, 1, 2, 3
TIES = ("random", "first")


# --- scalar rules: q [S, A], s a state, rng the seed's generator --------------------------------------------------------
# mask says which actions are allowed. The rules of this file do not read it: where an environment forbids actions, those of
# `rl.masked` take their place.


def forbidden(mask: Any, s: int, a: int) -> Any:
    """Whether action a may not be taken in state s."""
    return False


def highest(q: Any, s: int, mask: Any = None) -> Any:
    """max_b q(s, b)."""
    best = q[s, 0]
    for b in range(1, q.shape[1]):
        value = q[s, b]
        best = value if value > best else best
    return best


def expected(q: Any, s: int, kind: int, level: float, mask: Any = None) -> Any:
    """sum_b pi(b | s) q(s, b) for an epsilon-greedy or a Boltzmann policy pi; how ties are broken makes no difference."""
    best = highest(q, s, mask)
    total = 0.0
    if kind == EPSILON_GREEDY:
        for b in range(q.shape[1]):
            total += q[s, b]
        value = (1.0 - level) * best + level * (total / q.shape[1])
    else:
        value = 0.0
        for b in range(q.shape[1]):
            weight = math.exp((q[s, b] - best) / level)
            total += weight
            value += weight * q[s, b]
        value /= total
    return value


def greedy_action(q: Any, s: int, u: float, random_ties: bool, mask: Any = None) -> Any:
    """The best action in state s; of several, the one that u in [0, 1) names, or the first."""
    # Without branches, which a processor would often guess wrong.
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
    """The action that u in [0, 1] names."""
    return min(int(u * q.shape[1]), q.shape[1] - 1)  # u may be 1.0 by rounding


def epsilon_greedy_action(q: Any, s: int, epsilon: float, u: float, random_ties: bool, mask: Any = None) -> Any:
    """One uniform number u decides all: below epsilon it explores, and where it lies on its side names the action."""
    if u < epsilon:
        a = random_action(q, s, u / epsilon, mask)
    else:
        a = greedy_action(q, s, (u - epsilon) / (1.0 - epsilon), random_ties, mask)
    return a


def boltzmann_action(q: Any, s: int, temperature: float, u: float, mask: Any = None) -> Any:
    """Action a with probability proportional to exp(Q(s, a) / temperature)."""
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
    """argmax_a Q(s, a) + scale * n_a with standard normal n_a."""
    chosen = 0
    best = -math.inf
    for a in range(q.shape[1]):
        value = q[s, a] + scale * rng.standard_normal()
        if value > best:
            best, chosen = value, a
    return chosen


def upper_bound(q: Any, visits: Any, s: int, a: int, scale: float, log: float) -> Any:
    """Q(s, a) + scale * sqrt(ln N(s) / N(s, a)), and infinity for what was never tried."""
    bound = math.inf
    if visits[s, a] > 0:
        bound = q[s, a] + scale * math.sqrt(log / visits[s, a])
    return bound


def upper_bound_action(q: Any, visits: Any, s: int, scale: float, u: float, mask: Any = None) -> Any:
    """The action with the highest upper bound; of several, the one that u in [0, 1) names."""
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
    """An action in state s by the rule `kind`, whose epsilon, temperature or scale is `level`; visits [S, A]."""
    if kind == EPSILON_GREEDY:
        a = epsilon_greedy_action(q, s, level, rng.random(), random_ties, mask)
    elif kind == BOLTZMANN:
        a = boltzmann_action(q, s, level, rng.random(), mask)
    elif kind == UPPER_BOUND:
        a = upper_bound_action(q, visits, s, level, rng.random(), mask)
    else:
        a = noisy_action(q, s, level, rng, mask)
    return a


# --- over arrays: q [N, E, A] -> actions int64 [N, E], on the CPU, where environments are --------------------------------


@explained("tensors q [N, E, A], streams of N seeds or None and mask bool [N, E, A] or None")
def greedy(q: Tensor, streams: Streams | None = None, mask: Tensor | None = None) -> Tensor:
    """The best allowed action; ties are broken at random with `streams`, else the first is taken."""
    values, _ = _allowed(q, mask)
    if streams is None:
        return torch.from_numpy(values.argmax(-1))
    return _pick(values == values.max(-1, keepdims=True), _uniform(values, streams))


@explained("tensors q [N, E, A], epsilon in [0, 1] or [N, E], streams of N seeds and mask bool [N, E, A] or None")
def epsilon_greedy(
    q: Tensor, epsilon: float | Tensor, streams: Streams, mask: Tensor | None = None, random_ties: bool = True
) -> Tensor:
    """A random allowed action with probability epsilon, else the best; drawn for each environment by itself.

    q [N, E, A]; epsilon a number or [N, E]; mask bool [N, E, A] -> int64 [N, E].
    """
    level: Any = _each(epsilon) if np.ndim(epsilon) else number(epsilon, "epsilon", 0.0, 1.0)
    random_ties = flag(random_ties, "random_ties")
    values, allowed = _allowed(q, mask)
    u = _uniform(values, streams)
    explore = u < level
    if random_ties:
        candidates = values == values.max(-1, keepdims=True)
    else:
        candidates = np.arange(values.shape[-1]) == values.argmax(-1)[..., None]
    rank = np.empty_like(u)
    np.divide(u, level, out=rank, where=explore)
    np.divide(u - level, 1.0 - np.asarray(level), out=rank, where=~explore)
    if explore.any():
        anything = np.ones_like(candidates) if allowed is None else allowed
        candidates[explore] = anything[explore]
    return _pick(candidates, rank)


@explained("tensors q [N, E, A], temperature above 0 or [N, E], streams of N seeds and mask bool [N, E, A] or None")
def boltzmann(q: Tensor, temperature: float | Tensor, streams: Streams, mask: Tensor | None = None) -> Tensor:
    """Action a with probability proportional to exp(q_a / temperature). Sutton and Barto (2018), section 13.1.

    q [N, E, A]; temperature a number or [N, E]; mask bool [N, E, A] -> int64 [N, E].
    """
    several = np.ndim(temperature) > 0
    level: Any = _each(temperature)[..., None] if several else number(temperature, "temperature", 0.0, above=True)
    values, _ = _allowed(q, mask)
    weight = np.exp((values - values.max(-1, keepdims=True)).astype(np.float64) / level)
    reached = weight.cumsum(-1)
    u = _uniform(values, streams)[..., None] * reached[..., -1:]
    # reached may end a rounding error below u: then the last action that has any weight is meant.
    last = values.shape[-1] - 1 - (weight > 0)[..., ::-1].argmax(-1)
    return torch.from_numpy(np.minimum((reached <= u).sum(-1), last))


@explained("tensors q [N, E, A], scale or [N, E], streams of N seeds and mask bool [N, E, A] or None")
def noisy_greedy(q: Tensor, scale: float | Tensor, streams: Streams, mask: Tensor | None = None) -> Tensor:
    """argmax_a q_a + scale * n_a with standard normal n_a: the lectures' decaying noise. q [N, E, A] -> int64 [N, E]."""
    factor = _each(scale)[..., None] if np.ndim(scale) else number(scale, "scale", 0.0)
    values, _ = _allowed(q, mask)
    return torch.from_numpy((values + factor * streams.normal(*values.shape[1:]).numpy()).argmax(-1))


def choose_each(q: Any, kind: int, level: Any, random_ties: bool, u: Any, actions: Any, mask: Any = None) -> None:
    """The scalar rules in each row of q and mask [R, A], with level and u [R] -> actions int64 [R]."""
    for r in range(q.shape[0]):
        if kind == BOLTZMANN:
            actions[r] = boltzmann_action(q, r, level[r], u[r], mask)
        else:
            actions[r] = epsilon_greedy_action(q, r, level[r], u[r], random_ties, mask)


@explained(
    "a kind of rule, tensors q [N, E, A], level float64 [N, E], streams of N seeds and mask bool [N, E, A] or None"
)
def by_rule(kind: int, q: Tensor, level: Tensor, streams: Streams, mask: Tensor | None, random_ties: bool) -> Tensor:
    """An action by the rule `kind`, whose epsilon, temperature or scale is `level` float64 [N, E]; compiled where it can be."""
    kind, random_ties = integer(kind, "kind", 0, NOISE), flag(random_ties, "random_ties")
    _, allowed = _allowed(q, mask)
    values, levels = q.detach().cpu().numpy(), level.numpy()
    return torch.from_numpy(chosen(kind, values, levels, streams, allowed, random_ties))


def chosen(
    kind: int, q: np.ndarray, level: np.ndarray, streams: Streams, allowed: np.ndarray | None, random_ties: bool
) -> np.ndarray:
    """`by_rule` over arrays: q [N, E, A], level float64 [N, E], allowed bool [N, E, A] or None -> int64 [N, E]."""
    # With masks the same arithmetic, so that a seed without forbidden actions is not changed by one beside it that has some.
    parts = {} if allowed is None else _masked_rules()
    fast = jit.compiled(choose_each, **parts) if kind != NOISE else None
    if fast is None:
        rule: Any = {EPSILON_GREEDY: epsilon_greedy, BOLTZMANN: boltzmann, NOISE: noisy_greedy}[kind]
        mask = None if allowed is None else torch.from_numpy(allowed)
        ties = {"random_ties": random_ties} if kind == EPSILON_GREEDY else {}
        found: np.ndarray = rule(torch.from_numpy(q), torch.from_numpy(level), streams, mask, **ties).numpy()
        return found
    n, e, a = q.shape
    barred: tuple[np.ndarray, ...] = ()
    if allowed is not None:
        check_some(allowed)
        barred = (np.where(allowed, 0.0, -np.inf).astype(q.dtype).reshape(-1, a),)
    actions = np.empty((n, e), np.int64)
    u = streams.random((e,)).reshape(-1)
    fast(q.reshape(-1, a), kind, level.reshape(-1), random_ties, u, actions.reshape(-1), *barred)
    return actions


def _masked_rules() -> dict[str, Any]:
    from rl import masked  # which is made of this module

    return masked.RULES


def _each(level: Any) -> np.ndarray:
    """Epsilons, temperatures or scales [N, E] as float64."""
    return np.asarray(level.detach().cpu() if isinstance(level, Tensor) else level, np.float64)


def _uniform(values: np.ndarray, streams: Streams) -> np.ndarray:
    numbers: np.ndarray = streams.uniform(*values.shape[1:-1]).numpy()
    return numbers


def _allowed(q: Tensor, mask: Tensor | None) -> tuple[np.ndarray, np.ndarray | None]:
    """q with -infinity where an action is not allowed, and which are (None: all)."""
    values: np.ndarray = q.detach().cpu().numpy()
    if mask is None:
        return values, None
    allowed: np.ndarray = mask.cpu().numpy()
    check_some(allowed)
    return np.where(allowed, values, -np.inf), allowed


def check_some(allowed: np.ndarray | None) -> None:
    """Raise ValueError, naming the place, where a mask [..., A] allows no action; None allows all."""
    if allowed is not None and not allowed.any(-1).all():
        place = np.argwhere(~allowed.any(-1))[0].tolist()
        raise ValueError(f"The action mask at {place} allows no action; at least one must be allowed.")


def _pick(candidates: np.ndarray, u: np.ndarray) -> Tensor:
    """The candidate [..., A] whose rank among the true ones u [...] in [0, 1) names."""
    reached = candidates.cumsum(-1)
    count = reached[..., -1]
    rank = np.minimum((u * count).astype(np.int64), count - 1)
    return torch.from_numpy((reached > rank[..., None]).argmax(-1))


# --- descriptions -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class EpsilonGreedy:
    """A random action with probability epsilon, else the best one. ties: "random" or "first"."""

    epsilon: float | Schedule = field(default_factory=lambda: Linear(1.0, 0.05))
    ties: str = "random"
    kind: ClassVar[int] = EPSILON_GREEDY

    def __post_init__(self) -> None:
        store(self, setting, "epsilon", low=0.0, high=1.0, units=("steps", "episodes"))
        store(self, choice, "ties", known=TIES)

    @property
    def level(self) -> Schedule:
        return as_schedule(self.epsilon)


@dataclass(frozen=True)
class Greedy:
    """Always the best action. ties: "random" or "first"."""

    ties: str = "random"
    kind: ClassVar[int] = EPSILON_GREEDY

    def __post_init__(self) -> None:
        store(self, choice, "ties", known=TIES)

    @property
    def level(self) -> Schedule:
        return as_schedule(0.0)


@dataclass(frozen=True)
class Boltzmann:
    """Action a with probability proportional to exp(Q(s, a) / temperature)."""

    temperature: float | Schedule = 1.0
    ties: ClassVar[str] = "random"
    kind: ClassVar[int] = BOLTZMANN

    def __post_init__(self) -> None:
        store(self, setting, "temperature", low=1e-12, units=("steps", "episodes"))

    @property
    def level(self) -> Schedule:
        return as_schedule(self.temperature)


@dataclass(frozen=True)
class DecayingNoise:
    """The best action after adding scale * standard normal noise to Q: the lectures' randn / (episode + 1)."""

    scale: float | Schedule = field(default_factory=lambda: Inverse(1.0, unit="episodes"))
    ties: ClassVar[str] = "first"
    kind: ClassVar[int] = NOISE

    def __post_init__(self) -> None:
        store(self, setting, "scale", low=0.0, units=("steps", "episodes"))

    @property
    def level(self) -> Schedule:
        return as_schedule(self.scale)


@dataclass(frozen=True)
class UCB:
    """The highest Q(s, a) + scale * sqrt(ln N(s) / N(s, a)), N being how often a pair was tried; what never was comes first.

    Auer, Cesa-Bianchi and Fischer (2002), UCB1; Sutton and Barto (2018), equation 2.10. For tables alone, which count visits.
    """

    scale: float | Schedule = 1.0
    ties: ClassVar[str] = "random"
    kind: ClassVar[int] = UPPER_BOUND

    def __post_init__(self) -> None:
        store(self, setting, "scale", low=0.0, units=("steps", "episodes"))

    @property
    def level(self) -> Schedule:
        return as_schedule(self.scale)


Explore = EpsilonGreedy | Greedy | Boltzmann | DecayingNoise
TableExplore = Explore | UCB
RULES: tuple[type, ...] = (EpsilonGreedy, Greedy, Boltzmann, DecayingNoise, UCB)
