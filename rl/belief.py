"""The value of memory: exact planning in partially observable Markov decision processes (POMDPs).

With memory an agent can act on its belief, the distribution of the hidden state given its past observations and actions; beliefs
are the states of another Markov decision process, the belief MDP (Kaelbling, Littman and Cassandra 1998, section 3.3). Without
memory it acts by a map from observations to actions; finding the best one is NP-hard (Littman 1994), so it is searched by branch
and bound. Returns are undiscounted sums over `horizon` steps: the model's time limit, or `HORIZON` if it has none.
"""

from __future__ import annotations

import dataclasses
import heapq
import itertools
import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from envs.model.model import Model
from envs.model.partial import PartialModel
from rl import planning
from supervised.validate import explained, integer, number, optional

MOST_BELIEFS = 100_000
HORIZON = 1_000
DIGITS = 12  # beliefs whose probabilities agree to this many significant digits are identical
CLOSE = 1e-9  # returns that differ by less count as equal

Belief = tuple[tuple[int, float], ...]  # (hidden state, probability), by state


class TooManyBeliefs(ValueError):
    """More beliefs are reachable than planning can handle."""


class Memoryless(NamedTuple):
    """A memoryless policy: a map from observations to actions."""

    policy: np.ndarray  # int64 [O]
    value: float  # its expected return
    proven: bool  # whether it is provably optimal; False: it is the best one found in the time given


class Worth(NamedTuple):
    """The value of memory: the best expected return with and without it."""

    best: float | None  # with memory; None: more than 100,000 beliefs are reachable
    memoryless: Memoryless


@explained("a model that envs.read_partial returns, a positive horizon or None, and a positive number of beliefs")
def belief_model(partial: PartialModel, horizon: int | None = None, most: int = MOST_BELIEFS) -> Model:
    """Return the belief MDP over the beliefs reachable in `horizon` steps, with expected rewards.

    An agent knows its observations and actions, and that the episode has not ended; rewards are not observed. Beliefs reached at
    the last step are absorbing, with reward 0. Raises TooManyBeliefs if there are more than `most`.
    """
    horizon, most = _horizon(partial, horizon), integer(most, "most", 1)
    model = partial.model
    if model.mask is not None:
        raise ValueError(
            f"{model.name} forbids actions; this may reveal the hidden state, which beliefs do not take into account."
        )
    after = [[_outcomes(model, s, a) for a in range(model.actions)] for s in range(model.states)]
    beliefs: dict[Belief, int] = {}
    start: list[float] = []
    for mass, belief in _seen(partial, {int(s): float(model.start[s]) for s in np.flatnonzero(model.start)}).values():
        beliefs[belief] = len(start)
        start.append(mass)
    todo, depth, rows = list(beliefs), [0] * len(beliefs), []
    for b, belief in enumerate(todo):  # todo grows during the loop
        if depth[b] == horizon:
            rows.append([[(1.0, b, 0.0, False)]] * model.actions)
            continue
        row = []
        for a in range(model.actions):
            ended, last, going_on = _following(partial, belief, [after[s][a] for s, _ in belief])
            found = [(ended, b, last / ended, True)] if ended > 0 else []
            for mass, reward, following in going_on:
                if following not in beliefs:
                    beliefs[following] = len(todo)
                    todo.append(following)
                    depth.append(depth[b] + 1)
                found.append((mass, beliefs[following], reward / mass, False))
            row.append(found)
        rows.append(row)
        if len(todo) > most:
            raise TooManyBeliefs(f"{model.name} has more than {most:,} reachable beliefs.")
    return Model.of(f"beliefs of {model.name}", rows, np.pad(start, (0, len(todo) - len(start))), model.limit)


@explained("a model that envs.read_partial returns, a positive horizon or None, and a positive number of beliefs")
def best_return(partial: PartialModel, horizon: int | None = None, most: int = MOST_BELIEFS) -> float:
    """Return the best expected return of an agent with perfect memory that also knows the time left.

    Raises TooManyBeliefs if more than `most` beliefs are reachable.
    """
    model = belief_model(partial, horizon, most)
    steps = _backward(model, None, _horizon(partial, horizon))
    return float(planning.at_start(model, steps[-1].max(-1)))


@explained("a model that envs.read_partial returns, policies int [..., O], and a positive horizon or None")
def memoryless_returns(partial: PartialModel, policies: np.ndarray, horizon: int | None = None) -> np.ndarray:
    """Return the expected returns of maps from observations to actions: int [..., O] -> [...]."""
    policies = np.asarray(policies)
    if policies.dtype.kind not in "iu" or policies.shape[-1:] != (partial.observations,):
        raise ValueError(
            f"A map must give one of {partial.model.actions} actions for each of {partial.observations} observations."
        )
    by_state = policies[..., partial.observation]
    values = planning.evaluate_policy(partial.model, by_state, 1.0, _horizon(partial, horizon))
    return planning.at_start(partial.model, values)


@explained("a model that envs.read_partial returns, a positive horizon or None, and a nonnegative number of seconds")
def best_memoryless(partial: PartialModel, horizon: int | None = None, seconds: float = 60.0) -> Memoryless:
    """Find the best deterministic map from observations to actions by branch and bound.

    A node fixes the actions of some observations. Its bound is the best return if the actions for the others may depend on state
    and time; its candidate map takes for each of them the action with the least loss. The search expands the node with the
    highest bound, at the observation whose best single action has the largest loss, until no bound exceeds the best candidate, or
    until `seconds` have passed, in which case `proven` is False.
    """
    horizon, seconds = _horizon(partial, horizon), number(seconds, "seconds", 0.0)
    deadline = time.perf_counter() + seconds
    count = itertools.count()  # breaks ties between equal bounds: the oldest node first
    free = np.ones((partial.observations, partial.model.actions), np.bool_)
    bound, loss = _relaxed(partial, free, horizon)
    policy, value = _improved(partial, loss.argmin(-1), horizon)
    todo = [(-bound, next(count), free, loss)]
    while todo and -todo[0][0] > value + CLOSE:
        if time.perf_counter() > deadline:
            return Memoryless(policy, value, False)
        _, _, allowed, loss = heapq.heappop(todo)
        still_free = allowed.sum(-1) > 1
        branch = int(
            np.where(still_free, loss.min(-1) + CLOSE * loss.max(-1, where=allowed, initial=0.0), -1.0).argmax()
        )
        if not still_free[branch]:
            continue
        for a in range(partial.model.actions):
            fixed = allowed.copy()
            fixed[branch] = False
            fixed[branch, a] = True
            bound, loss = _relaxed(partial, fixed, horizon)
            if bound <= value + CLOSE:
                continue
            candidate = loss.argmin(-1)
            found = float(memoryless_returns(partial, candidate, horizon))
            if found > value:
                policy, value = candidate, found
            heapq.heappush(todo, (-bound, next(count), fixed, loss))
    return Memoryless(policy, value, True)


@explained("a model that envs.read_partial returns, a positive horizon or None, and a nonnegative number of seconds")
def worth_of_memory(partial: PartialModel, horizon: int | None = None, seconds: float = 60.0) -> Worth:
    """Return the best expected return with and without memory, as far as they can be computed."""
    try:
        best = best_return(partial, horizon)
    except TooManyBeliefs:
        best = None
    return Worth(best, best_memoryless(partial, horizon, seconds))


def _horizon(partial: PartialModel, horizon: int | None) -> int:
    return optional(integer, horizon, "horizon", 1, planning.MOST_SWEEPS) or partial.model.limit or HORIZON


def _outcomes(model: Model, s: int, a: int) -> list[tuple[float, int, float, bool]]:
    """Return the outcomes with nonzero probability."""
    columns = (model.probability, model.next_state, model.reward, model.terminated)
    return [o for o in zip(*(column[s, a].tolist() for column in columns), strict=True) if o[0] > 0]


def _following(
    partial: PartialModel, belief: Belief, outcomes: Sequence[Sequence[tuple[float, int, float, bool]]]
) -> tuple[float, float, list[tuple[float, float, Belief]]]:
    """Return the successors of a belief, given the outcomes of an action in each of its states.

    -> (probability of termination, its expected reward, [(probability, expected reward, next belief) for each observation]);
    expected rewards are weighted by these probabilities.
    """
    states: dict[int, float] = {}
    rewards: dict[int, float] = {}  # by observation
    ended, last = 0.0, 0.0
    for (_, share), found in zip(belief, outcomes, strict=True):
        for p, following, reward, terminated in found:
            if terminated:
                ended, last = ended + share * p, last + share * p * reward
            else:
                seen = int(partial.observation[following])
                states[following] = states.get(following, 0.0) + share * p
                rewards[seen] = rewards.get(seen, 0.0) + share * p * reward
    going_on = [(mass, rewards[seen], reached) for seen, (mass, reached) in _seen(partial, states).items()]
    return ended, last, going_on


def _seen(partial: PartialModel, states: dict[int, float]) -> dict[int, tuple[float, Belief]]:
    """Return the probability of each observation and the belief that it leads to, from the probabilities of the states."""
    groups: dict[int, list[tuple[int, float]]] = {}
    for s, share in sorted(states.items()):
        groups.setdefault(int(partial.observation[s]), []).append((s, share))
    found = {}
    for seen, group in groups.items():
        mass = sum(share for _, share in group)
        found[seen] = mass, tuple((s, float(f"{share / mass:.{DIGITS}g}")) for s, share in group)
    return found


def _backward(model: Model, allowed: np.ndarray | None, horizon: int) -> list[np.ndarray]:
    """Return q [S, A] with 1, 2, ... steps left, forbidden actions at -infinity; stops early once the values converge."""
    masked = dataclasses.replace(model, mask=allowed)
    v, found = np.zeros(model.states), []
    for _ in range(horizon):
        q = planning.allowed_only(masked, planning.backup(model, v, 1.0))
        found.append(q)
        before, v = v, q.max(-1)
        if np.array_equal(before, v):
            break
    return found


def _relaxed(partial: PartialModel, allowed: np.ndarray, horizon: int) -> tuple[float, np.ndarray]:
    """Return the best return if each choice among an observation's allowed actions [O, A] may depend on state and time, and
    the loss [O, A].

    loss: the expected decrease of the optimal value, summed over the steps of an episode, if the action is taken whenever the
    observation is seen; infinite for actions that are not allowed.
    """
    model = partial.model
    by_state, states = allowed[partial.observation], np.arange(model.states)  # [S, A], [S]
    steps = _backward(model, by_state, horizon)
    loss = np.zeros((model.states, model.actions))
    here = model.start.copy()
    for left in range(horizon, 0, -1):
        q = steps[min(left, len(steps)) - 1]
        choice = q.argmax(-1)
        loss += here[:, None] * np.where(by_state, q.max(-1, keepdims=True) - q, 0.0)
        moved = here[:, None] * np.where(model.terminated[states, choice], 0.0, model.probability[states, choice])
        here = np.bincount(model.next_state[states, choice].ravel(), moved.ravel(), model.states)
        if here.sum() < CLOSE:
            break
    by_observation = np.zeros((partial.observations, model.actions))
    np.add.at(by_observation, partial.observation, loss)
    bound = float(planning.at_start(model, steps[-1].max(-1)))
    return bound, np.where(allowed, by_observation, np.inf)


def _improved(partial: PartialModel, policy: np.ndarray, horizon: int) -> tuple[np.ndarray, float]:
    """Return the map after hill climbing: repeatedly apply the best change of a single observation's action."""
    value = float(memoryless_returns(partial, policy, horizon))
    while True:
        others = np.array([_with(policy, o, a) for o, a in np.ndindex(partial.observations, partial.model.actions)])
        values = memoryless_returns(partial, others, horizon)
        best = int(values.argmax())
        if values[best] <= value + CLOSE:
            return policy, value
        policy, value = others[best], float(values[best])


def _with(policy: np.ndarray, o: int, a: int) -> np.ndarray:
    changed = policy.copy()
    changed[o] = a
    return changed
