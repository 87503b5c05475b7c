"""Exploration rules over arrays: q [N, E, A] -> actions int64 [N, E], on the CPU, where the environments run.

One random number is drawn for each of the N * E environments, never one for a whole batch. Given the same generator, the scalar
rule selects the same action.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from rl.core import jit
from rl.explore.configs import BOLTZMANN, EPSILON_GREEDY, GAUSSIAN_NOISE
from rl.explore.masked import RULES
from rl.explore.scalar import boltzmann_action, epsilon_greedy_action
from supervised.streams import Streams
from supervised.validate import ArgumentError, explained, flag, integer, kind_of, number


@explained("tensors q [N, E, A], streams of N seeds or None and mask bool [N, E, A] or None")
def greedy(q: Tensor, streams: Streams | None = None, mask: Tensor | None = None) -> Tensor:
    """Return the best allowed actions; ties are broken at random if `streams` is given, else in favor of the first action."""
    values, _ = _allowed(q, mask)
    if streams is None:
        return torch.from_numpy(values.argmax(-1))
    return _pick(values == values.max(-1, keepdims=True), _uniform(values, streams))


@explained("tensors q [N, E, A], epsilon in [0, 1] or [N, E], streams of N seeds and mask bool [N, E, A] or None")
def epsilon_greedy(
    q: Tensor, epsilon: float | Tensor, streams: Streams, mask: Tensor | None = None, random_ties: bool = True
) -> Tensor:
    """Return a random allowed action with probability epsilon, else the best one, independently for each environment.

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
    """Sample action a with probability proportional to exp(q_a / temperature). Sutton and Barto (2018), section 13.1.

    q [N, E, A]; temperature a number or [N, E]; mask bool [N, E, A] -> int64 [N, E].
    """
    several = np.ndim(temperature) > 0
    level: Any = _each(temperature)[..., None] if several else number(temperature, "temperature", 0.0, above=True)
    values, _ = _allowed(q, mask)
    weight = np.exp((values - values.max(-1, keepdims=True)).astype(np.float64) / level)
    reached = weight.cumsum(-1)
    u = _uniform(values, streams)[..., None] * reached[..., -1:]
    # By rounding, the last element of reached may be slightly below u: then take the last action with any weight.
    last = values.shape[-1] - 1 - (weight > 0)[..., ::-1].argmax(-1)
    return torch.from_numpy(np.minimum((reached <= u).sum(-1), last))


@explained("tensors q [N, E, A], scale or [N, E], streams of N seeds and mask bool [N, E, A] or None")
def noisy_greedy(q: Tensor, scale: float | Tensor, streams: Streams, mask: Tensor | None = None) -> Tensor:
    """Return argmax_a q_a + scale * n_a, n_a standard normal: the lectures' decaying noise. q [N, E, A] -> int64 [N, E]."""
    factor = _each(scale)[..., None] if np.ndim(scale) else number(scale, "scale", 0.0)
    values, _ = _allowed(q, mask)
    return torch.from_numpy((values + factor * streams.normal(*values.shape[1:]).numpy()).argmax(-1))


def choose_each(q: Any, kind: int, level: Any, random_ties: bool, u: Any, actions: Any, mask: Any = None) -> None:
    """Apply a scalar rule to each row of q and mask [R, A], with level and u [R], and write into actions int64 [R]."""
    for r in range(q.shape[0]):
        if kind == BOLTZMANN:
            actions[r] = boltzmann_action(q, r, level[r], u[r], mask)
        else:
            actions[r] = epsilon_greedy_action(q, r, level[r], u[r], random_ties, mask)


@explained(
    "a kind of rule, tensors q [N, E, A], level float64 [N, E], streams of N seeds and mask bool [N, E, A] or None"
)
def select_actions(
    kind: int, q: Tensor, level: Tensor, streams: Streams, mask: Tensor | None, random_ties: bool
) -> Tensor:
    """Select actions by the rule `kind`, whose epsilon, temperature or scale is `level` float64 [N, E]; compiled if possible.

    Raises ArgumentError if a shape differs, since compiled code would read out of bounds.
    """
    kind, random_ties = integer(kind, "kind", 0, GAUSSIAN_NOISE), flag(random_ties, "random_ties")
    seeds, same = len(streams.seeds), mask is None or mask.shape == q.shape
    if q.ndim != 3 or len(q) != seeds or level.shape != q.shape[:2] or not same:
        raise ArgumentError(
            f"With streams of {seeds} seeds q must be [{seeds}, E, A], level [{seeds}, E] and mask [{seeds}, E, A] or None, not"
            f" {list(q.shape)}, {list(level.shape)} and {kind_of(mask)}."
        )
    _, allowed = _allowed(q, mask)
    values, levels = q.detach().cpu().numpy(), level.numpy()
    return torch.from_numpy(select_on_host(kind, values, levels, streams, allowed, random_ties))


def select_on_host(
    kind: int, q: np.ndarray, level: np.ndarray, streams: Streams, allowed: np.ndarray | None, random_ties: bool
) -> np.ndarray:
    """`select_actions` with arrays: q [N, E, A], level float64 [N, E], allowed bool [N, E, A] or None -> int64 [N, E]."""
    # The masked rules use the same arithmetic, so one seed's forbidden actions do not change the numbers of another seed.
    parts = {} if allowed is None else RULES
    fast = jit.compiled(choose_each, **parts) if kind != GAUSSIAN_NOISE else None
    if fast is None:
        rule: Any = {EPSILON_GREEDY: epsilon_greedy, BOLTZMANN: boltzmann, GAUSSIAN_NOISE: noisy_greedy}[kind]
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


def _each(level: Any) -> np.ndarray:
    """Return epsilons, temperatures or scales [N, E] as float64."""
    return np.asarray(level.detach().cpu() if isinstance(level, Tensor) else level, np.float64)


def _uniform(values: np.ndarray, streams: Streams) -> np.ndarray:
    numbers: np.ndarray = streams.uniform(*values.shape[1:-1]).numpy()
    return numbers


def _allowed(q: Tensor, mask: Tensor | None) -> tuple[np.ndarray, np.ndarray | None]:
    """Return q with forbidden actions at -infinity, and the mask as an array (None: all actions are allowed)."""
    values: np.ndarray = q.detach().cpu().numpy()
    if mask is None:
        return values, None
    allowed: np.ndarray = mask.cpu().numpy()
    check_some(allowed)
    return np.where(allowed, values, -np.inf), allowed


def check_some(allowed: np.ndarray | None) -> None:
    """Raise ValueError, naming the index, if a mask [..., A] allows no action somewhere; None allows all."""
    if allowed is not None and not allowed.any(-1).all():
        place = np.argwhere(~allowed.any(-1))[0].tolist()
        raise ValueError(f"The action mask at {place} allows no action; at least one must be allowed.")


def _pick(candidates: np.ndarray, u: np.ndarray) -> Tensor:
    """Return the index of the candidate, among those true in [..., A], that u [...] in [0, 1) selects."""
    reached = candidates.cumsum(-1)
    count = reached[..., -1]
    rank = np.minimum((u * count).astype(np.int64), count - 1)
    return torch.from_numpy((reached > rank[..., None]).argmax(-1))
