"""Exact planning in a finite model: what is best, and what a policy is worth, free of sampling noise.

A model has outcomes (probability, next state, reward, terminated) for each of S states and A actions, K at most; a
termination has no future. Where it forbids actions (model.mask), plans choose among the allowed ones. Policies are
deterministic, int [..., S], or random, float [..., S, A].
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from envs.tables import Model
from supervised.validate import ArgumentError, explained, integer, number, optional

MOST_SWEEPS = 1_000_000
TIED = 1e-9  # at gamma 1: actions whose values differ by less, as a share of the largest value, count as equally good
ALMOST_ONE = 1 - 1e-6  # the discount that chooses among them


class Solution(NamedTuple):
    """A solved model."""

    q: np.ndarray  # [S, A]
    v: np.ndarray  # [S]
    policy: np.ndarray  # int64 [S], of the best allowed actions the first, at gamma 1 one that attains v (`greedy`)
    sweeps: int


class FiniteSolution(NamedTuple):
    """A model solved for a finite horizon H; index h counts the steps left."""

    v: np.ndarray  # [H + 1, S]
    policy: np.ndarray  # int64 [H, S]; policy[h - 1] is best with h steps left


@explained("a model that envs.read returns, v [..., S], gamma in [0, 1] and reward [S, A, K] or None")
def backup(model: Model, v: np.ndarray, gamma: float, reward: np.ndarray | None = None) -> np.ndarray:
    """q(s, a) = sum_k p_k (r_k + gamma * (1 - terminated_k) * v(s'_k)): v [..., S] -> [..., S, A]."""
    gamma = _check_gamma(gamma)
    reward = model.reward if reward is None else reward
    future = gamma * np.where(model.terminated, 0.0, v[..., model.next_state])
    q: np.ndarray = (model.probability * (reward + future)).sum(-1)
    return q


def allowed_only(model: Model, q: np.ndarray) -> np.ndarray:
    """q [..., S, A] with -infinity in the place of actions that the model forbids."""
    return q if model.mask is None else np.where(model.mask, q, -np.inf)


@explained("a model that envs.read returns, q [S, A] and gamma in [0, 1]")
def greedy(model: Model, q: np.ndarray, gamma: float) -> np.ndarray:
    """A policy that takes a best allowed action in each state: q [S, A] -> int64 [S].

    Below gamma 1 the first of the best. At gamma 1 not every best action attains its value: a step against a wall is worth as
    much as the way to the goal, and a policy that takes it forever gets nothing (Puterman 1994, section 7.2.3). Among the best
    actions the policy is then the one that a discount just below 1 prefers: it gets there, and reward comes earliest.
    """
    gamma = _check_gamma(gamma)
    choices = allowed_only(model, q)
    if gamma < 1.0:
        first: np.ndarray = choices.argmax(-1)
        return first
    best = choices.max(-1, keepdims=True)
    among = dataclasses.replace(model, mask=choices >= best - TIED * np.abs(best).max())
    return policy_iteration(among, ALMOST_ONE).policy


@explained("a model that envs.read returns, gamma and epsilon in [0, 1] and a tolerance from 0 on")
def value_iteration(model: Model, gamma: float, tolerance: float = 1e-12, epsilon: float = 0.0) -> Solution:
    """Q* by repeated backups until no value moves by more than `tolerance`. Sutton and Barto (2018), equation 4.10.

    epsilon: the best that can be had while every step is taken at random with this probability, which is where SARSA and its kin
    lead; 0 for Q*. Raises ValueError for a gamma or epsilon outside [0, 1], or at gamma 1 where values grow without end.
    """
    gamma = _check_gamma(gamma)
    epsilon, tolerance = number(epsilon, "epsilon", 0.0, 1.0), number(tolerance, "tolerance", 0.0)
    v = np.zeros(model.states)
    allowed: Any = True if model.mask is None else model.mask
    # At gamma 1 nothing promises an end; what ends at all has ended long before.
    for sweep in range(1, (MOST_SWEEPS if gamma < 1 else MOST_SWEEPS // 10) + 1):
        q = backup(model, v, gamma)
        following = (1 - epsilon) * allowed_only(model, q).max(-1) + epsilon * q.mean(-1, where=allowed)
        change = float(np.abs(following - v).max())
        v = following
        if change <= tolerance:
            return Solution(q, v, greedy(model, q, gamma), sweep)
        if not np.isfinite(change) or change > 1e100:
            break
    raise ArgumentError(
        f"Value iteration does not settle at gamma {gamma}: some rewards never end. Take a gamma below 1."
    )


@explained("a model that envs.read returns and gamma in [0, 1]")
def policy_iteration(model: Model, gamma: float) -> Solution:
    """Q* by exact evaluation and greedy improvement in turn. Sutton and Barto (2018), section 4.3. gamma below 1.

    An action changes only where another is better by more than 1e-12, and only as long as the values grow, so that neither ties
    nor rounding can go round in circles.
    """
    gamma = _check_gamma(gamma)
    policy = np.zeros(model.states, np.int64) if model.mask is None else model.mask.argmax(-1)
    before = -np.inf
    for sweep in range(1, MOST_SWEEPS + 1):
        v = evaluate_policy(model, policy, gamma)
        q = backup(model, v, gamma)
        choices = allowed_only(model, q)
        kept = np.take_along_axis(q, policy[:, None], -1)[:, 0]
        better = choices.max(-1) > kept + 1e-12 * np.maximum(1.0, np.abs(kept))
        if not better.any() or v.sum() <= before:
            return Solution(q, v, policy, sweep)
        before = v.sum()
        policy = np.where(better, choices.argmax(-1), policy)
    raise ValueError(f"Policy iteration does not settle at gamma {gamma}.")


@explained("a model that envs.read returns, gamma in [0, 1] and a tolerance from 0 on")
def gauss_seidel(model: Model, gamma: float, tolerance: float = 1e-12) -> Solution:
    """Q* by sweeps that use each new value at once, state after state. Puterman (1994), section 6.3.3.

    Fewer sweeps than `value_iteration`, each slower, for states wait for one another. Raises ValueError as that does.
    """
    return _in_place(model, gamma, tolerance, lambda sweep: np.arange(model.states))


@explained("a model that envs.read returns, gamma in [0, 1], a seed and a tolerance from 0 on")
def asynchronous_value_iteration(model: Model, gamma: float, seed: int = 0, tolerance: float = 1e-12) -> Solution:
    """Q* by backups of states drawn at random, in place. Sutton and Barto (2018), section 4.5; Bertsekas (1982).

    A sweep is as many backups as there are states; states come in an order drawn anew each time, so that none is forgotten.
    """
    rng = np.random.default_rng(integer(seed, "seed", 0))
    return _in_place(model, gamma, tolerance, lambda sweep: rng.permutation(model.states))


@explained("a model that envs.read returns, gamma in [0, 1], a number of evaluations and a tolerance from 0 on")
def modified_policy_iteration(model: Model, gamma: float, evaluations: int = 20, tolerance: float = 1e-12) -> Solution:
    """Q* by greedy improvement and a few sweeps of evaluation in turn. Puterman and Shin (1978), algorithm 1.

    evaluations: sweeps under each policy; 0 is value iteration, without end it would be policy iteration. gamma below 1, or a
    process whose episodes surely end. Raises ValueError where values grow without end.
    """
    gamma = _check_gamma(gamma)
    evaluations = integer(evaluations, "evaluations", 0, MOST_SWEEPS // 10 - 1)
    tolerance = number(tolerance, "tolerance", 0.0)
    v = np.zeros(model.states)
    states = np.arange(model.states)
    for sweep in range(1, (MOST_SWEEPS if gamma < 1 else MOST_SWEEPS // 10) // (evaluations + 1) + 1):
        q = backup(model, v, gamma)
        choices = allowed_only(model, q)
        policy, following = choices.argmax(-1), choices.max(-1)
        change = float(np.abs(following - v).max())
        v = following
        if change <= tolerance:
            return Solution(q, v, greedy(model, q, gamma), sweep)
        if not np.isfinite(change) or change > 1e100:
            break
        moves, odds = model.next_state[states, policy], model.probability[states, policy]
        gain = (odds * model.reward[states, policy]).sum(-1)
        going_on = gamma * odds * ~model.terminated[states, policy]
        for _ in range(evaluations):
            v = gain + (going_on * v[moves]).sum(-1)
    raise ValueError(
        f"Policy iteration does not settle at gamma {gamma}: some rewards never end. Take a gamma below 1."
    )


def _in_place(model: Model, gamma: float, tolerance: float, order: Callable[[int], np.ndarray]) -> Solution:
    """Sweeps in which each state is backed up from the newest values of all."""
    gamma, tolerance = _check_gamma(gamma), number(tolerance, "tolerance", 0.0)
    v = np.zeros(model.states)
    gain = allowed_only(model, (model.probability * model.reward).sum(-1))
    going_on = gamma * model.probability * ~model.terminated
    for sweep in range(1, (MOST_SWEEPS if gamma < 1 else MOST_SWEEPS // 10) + 1):
        change = 0.0
        for s in order(sweep):
            best = float((gain[s] + (going_on[s] * v[model.next_state[s]]).sum(-1)).max())
            change = max(change, abs(best - v[s]))
            v[s] = best
        if change <= tolerance:
            q = backup(model, v, gamma)
            return Solution(q, allowed_only(model, q).max(-1), greedy(model, q, gamma), sweep)
        if not np.isfinite(change) or change > 1e100:
            break
    raise ArgumentError(
        f"Value iteration does not settle at gamma {gamma}: some rewards never end. Take a gamma below 1."
    )


@explained("a model that envs.read returns and a tolerance in [0, 1)")
def relative_value_iteration(model: Model, tolerance: float = 1e-12) -> tuple[float, Solution]:
    """The most that can be had per step where nothing ends, and Q* counted from it: (gain, solution).

    Puterman (1994), section 8.5.5, with a step that stays where it is every other time, so that no process goes in circles.
    Values are relative: q(s, a) = r - gain + max q(s', .), the best of state 0 being 0. tolerance: of the gain, as a share of the
    largest value. Raises ValueError for a model with endings, or with parts of different gain.
    """
    tolerance = number(tolerance, "tolerance", 0.0, 1.0, below=True)
    if model.ends:
        raise ValueError(f"{model.name} has endings: what is had per step is asked of processes without.")
    v = np.zeros(model.states)
    for sweep in range(1, MOST_SWEEPS // 10 + 1):
        moved = 0.5 * (allowed_only(model, backup(model, v, 1.0)).max(-1) - v)
        if moved.max() - moved.min() <= tolerance * max(1.0, np.abs(v).max()):
            gain = float(moved.max() + moved.min())
            q = backup(model, v - v[0], 1.0) - gain
            choices = allowed_only(model, q)
            return gain, Solution(q, choices.max(-1), choices.argmax(-1), sweep)
        v = v + moved
        v -= v[0]
    raise ValueError(f"Relative value iteration does not settle in {model.name}: its parts have gains of their own.")


@explained("a model that envs.read returns and policy int [S] or float [S, A]")
def gain(model: Model, policy: np.ndarray) -> float:
    """What a policy brings per step in the long run, from the start: int [S] or float [S, A]. Puterman (1994), section 8.2.

    Endings begin anew, as they do for an agent. One policy at a time.
    """
    policy = np.asarray(policy)
    if policy.ndim != (1 if policy.dtype.kind in "iu" else 2):
        raise ValueError(
            f"The gain is asked of one policy at a time, int [S] or float [S, A], not {list(policy.shape)}."
        )
    weights = _weights(model, policy)
    joint = weights[..., None] * model.probability
    stay = np.where(model.terminated, 0.0, joint)
    moves = np.zeros((model.states, model.states))
    np.add.at(moves, (np.arange(model.states)[:, None, None], model.next_state), stay)
    moves += (joint - stay).sum((1, 2))[:, None] * model.start
    # The chain after 2^40 steps, half of which stay where they are, so that one that goes in circles settles too.
    lazy = 0.5 * (moves + np.eye(model.states))
    for _ in range(40):
        lazy = lazy @ lazy
        lazy /= lazy.sum(1, keepdims=True)
    return float(model.start @ lazy @ (joint * model.reward).sum((1, 2)))


@explained(
    "a model that envs.read returns, policy int [..., S] or float [..., S, A], gamma in [0, 1], horizon from 0 on or None, and"
    " reward [S, A, K] or None"
)
def evaluate_policy(
    model: Model, policy: np.ndarray, gamma: float = 1.0, horizon: int | None = None, reward: np.ndarray | None = None
) -> np.ndarray:
    """What a policy is worth from each state: int [..., S] or float [..., S, A] -> [..., S].

    With a horizon: the expected (discounted) sum over that many steps. Without: over all time, by solving the linear
    system (gamma below 1, or a policy that surely ends; one policy at a time). reward [S, A, K] replaces the model's own,
    for instance by 1 where the goal is reached. Raises ValueError when the value has no end.
    """
    gamma = _check_gamma(gamma)
    reward, policy = model.reward if reward is None else reward, np.asarray(policy)
    horizon = optional(integer, horizon, "horizon", 0, MOST_SWEEPS)
    weights = _weights(model, policy)
    if horizon is None:
        return _solve(model, weights, gamma, reward)
    # [..., S, J]: what follows under the policy, once and for all steps.
    if policy.dtype.kind in "iu":
        pick = (np.arange(model.states), policy)
        p, r = model.probability[pick], (model.probability[pick] * reward[pick]).sum(-1)
        p, following = np.where(model.terminated[pick], 0.0, p), model.next_state[pick]
    else:
        joint = weights[..., None] * model.probability
        r = (joint * reward).sum((-1, -2))
        p = np.where(model.terminated, 0.0, joint).reshape(*weights.shape[:-1], -1)
        following = np.broadcast_to(model.next_state.reshape(model.states, -1), p.shape)
    v = np.zeros(weights.shape[:-1])
    flat = following.reshape(*following.shape[:-2], -1)
    for _ in range(horizon):
        v = r + gamma * (p * np.take_along_axis(v, flat, -1).reshape(p.shape)).sum(-1)
    return v


@explained("a model that envs.read returns, horizon from 0 on and gamma in [0, 1]")
def optimum_within(model: Model, horizon: int, gamma: float = 1.0) -> FiniteSolution:
    """The best that can be had in `horizon` steps by a policy that may look at the time left. Puterman (1994), 4.5."""
    gamma = _check_gamma(gamma)
    horizon = integer(horizon, "horizon", 0, MOST_SWEEPS)
    v = np.zeros((horizon + 1, model.states))
    policy = np.zeros((horizon, model.states), np.int64)
    for h in range(1, horizon + 1):
        choices = allowed_only(model, backup(model, v[h - 1], gamma))
        v[h], policy[h - 1] = choices.max(-1), choices.argmax(-1)
    return FiniteSolution(v, policy)


@explained("a model that envs.read returns and v [..., S]")
def at_start(model: Model, v: np.ndarray) -> np.ndarray:
    """The expected value of the first state: v [..., S] -> [...]."""
    return np.asarray(v @ model.start)


def _weights(model: Model, policy: np.ndarray) -> np.ndarray:
    if policy.dtype.kind in "iu":
        if policy.shape[-1:] != (model.states,) or policy.min() < 0 or policy.max() >= model.actions:
            raise ValueError(f"A policy names one of {model.actions} actions for each of {model.states} states.")
        return np.asarray(np.eye(model.actions)[policy])
    if policy.shape[-2:] != (model.states, model.actions) or not np.allclose(policy.sum(-1), 1) or (policy < 0).any():
        raise ValueError(f"A random policy is [{model.states}, {model.actions}], each row summing to 1.")
    return policy


def _solve(model: Model, weights: np.ndarray, gamma: float, reward: np.ndarray) -> np.ndarray:
    from scipy.sparse import coo_array, eye_array
    from scipy.sparse.linalg import spsolve

    if weights.ndim != 2:
        raise ValueError("Without a horizon one policy is evaluated at a time.")
    joint = weights[..., None] * model.probability
    going_on = np.where(model.terminated, 0.0, joint).reshape(model.states, -1)
    rows = np.repeat(np.arange(model.states), going_on.shape[1])
    columns = model.next_state.reshape(-1)
    moves = coo_array((going_on.reshape(-1), (rows, columns)), shape=(model.states, model.states))
    if gamma == 1.0 and not _ends(moves.tocsr(), going_on.sum(-1)):
        raise ValueError(
            "At gamma 1 this policy goes on for ever from some state, so its value has no end: give a horizon."
        )
    system = (eye_array(model.states) - gamma * moves).tocsc()
    return np.asarray(spsolve(system, (joint * reward).sum((-1, -2))))


def _ends(moves: Any, stay: np.ndarray) -> bool:
    """Whether from every state an ending can be reached."""
    reaches = stay < 1 - 1e-12
    while True:
        more = reaches | ((moves @ reaches.astype(float)) > 0)
        if (more == reaches).all():
            return bool(reaches.all())
        reaches = more


def _check_gamma(gamma: float) -> float:
    return number(gamma, "gamma", 0.0, 1.0)
