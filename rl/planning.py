"""Exact planning in a finite model: optimal values and policy evaluation, free of sampling noise.

A model has up to K outcomes (probability, next state, reward, terminated) for each of S states and A actions; a termination has
no future. If the model forbids actions (model.mask), planning chooses among the allowed ones. Policies are deterministic,
int [..., S], or stochastic, float [..., S, A].
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from envs.tables import Model
from supervised.validate import ArgumentError, explained, integer, number, optional

MOST_SWEEPS = 1_000_000
TIED = 1e-9  # at gamma 1, actions whose values differ by less than this fraction of the largest value count as tied
ALMOST_ONE = 1 - 1e-6  # the discount that breaks these ties


class Solution(NamedTuple):
    """The solution of a model."""

    q: np.ndarray  # [S, A]
    v: np.ndarray  # [S]
    policy: np.ndarray  # int64 [S], the first best allowed action; at gamma 1 one that attains v (see `greedy`)
    sweeps: int


class FiniteSolution(NamedTuple):
    """The solution of a model for a finite horizon H; h counts the steps left."""

    v: np.ndarray  # [H + 1, S], indexed by h
    policy: np.ndarray  # int64 [H, S]; policy[h - 1] is optimal with h steps left


@explained("a model that envs.read returns, v [..., S], gamma in [0, 1] and reward [S, A, K] or None")
def backup(model: Model, v: np.ndarray, gamma: float, reward: np.ndarray | None = None) -> np.ndarray:
    """Return q(s, a) = sum_k p_k (r_k + gamma * (1 - terminated_k) * v(s'_k)): v [..., S] -> [..., S, A].

    reward [S, A, K] replaces the model's own.
    """
    gamma = _check_gamma(gamma)
    reward = model.reward if reward is None else reward
    future = gamma * np.where(model.terminated, 0.0, v[..., model.next_state])
    q: np.ndarray = (model.probability * (reward + future)).sum(-1)
    return q


def allowed_only(model: Model, q: np.ndarray) -> np.ndarray:
    """Return q [..., S, A] with -infinity for actions that the model forbids."""
    return q if model.mask is None else np.where(model.mask, q, -np.inf)


@explained("a model that envs.read returns, q [S, A] and gamma in [0, 1]")
def greedy(model: Model, q: np.ndarray, gamma: float) -> np.ndarray:
    """Return a policy that takes a best allowed action in each state: q [S, A] -> int64 [S].

    Below gamma 1 it takes the first of them. At gamma 1 not every greedy policy attains the optimal value: bumping into a wall
    has the same value as moving towards the goal, but a policy that does so forever gets nothing (Puterman 1994, section 7.2.3).
    Ties are then broken by a discount just below 1, so that the policy reaches the reward, and as early as possible.
    """
    gamma = _check_gamma(gamma)
    choices = allowed_only(model, q)
    if gamma < 1.0:
        first: np.ndarray = choices.argmax(-1)
        return first
    best = choices.max(-1, keepdims=True)
    among = dataclasses.replace(model, mask=choices >= best - TIED * np.abs(best).max())
    return policy_iteration(among, ALMOST_ONE).policy


@explained("a model that envs.read returns, gamma and epsilon in [0, 1] and a nonnegative tolerance")
def value_iteration(model: Model, gamma: float, tolerance: float = 1e-12, epsilon: float = 0.0) -> Solution:
    """Compute Q* by backups until no value changes by more than `tolerance`. Sutton and Barto (2018), equation 4.10.

    epsilon: compute the optimum among epsilon-greedy policies instead, to which SARSA and other on-policy methods converge; 0 for
    Q*. Raises ValueError for a gamma or epsilon outside [0, 1], and at gamma 1 if values grow without bound.
    """
    gamma = _check_gamma(gamma)
    epsilon, tolerance = number(epsilon, "epsilon", 0.0, 1.0), number(tolerance, "tolerance", 0.0)
    v = np.zeros(model.states)
    allowed: Any = True if model.mask is None else model.mask
    # At gamma 1 convergence is not guaranteed; if it converges at all, it does so well within the smaller limit.
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
        f"Value iteration does not converge at gamma {gamma}: some rewards never end. Use a gamma below 1."
    )


@explained("a model that envs.read returns and gamma in [0, 1]")
def policy_iteration(model: Model, gamma: float) -> Solution:
    """Compute Q* by alternating exact evaluation and greedy improvement. Sutton and Barto (2018), section 4.3. gamma below 1.

    An action changes only if another is better by more than 1e-12, and only as long as the values increase, so that neither ties
    nor rounding can cause cycles.
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
    raise ValueError(f"Policy iteration does not converge at gamma {gamma}.")


@explained("a model that envs.read returns, gamma in [0, 1] and a nonnegative tolerance")
def gauss_seidel(model: Model, gamma: float, tolerance: float = 1e-12) -> Solution:
    """Compute Q* by in-place sweeps, in which each new value is used immediately. Puterman (1994), section 6.3.3.

    It needs fewer sweeps than `value_iteration`, but each is slower, since states are updated sequentially. Raises ValueError in
    the same cases.
    """
    return _in_place(model, gamma, tolerance, lambda _sweep: np.arange(model.states))


@explained("a model that envs.read returns, gamma in [0, 1], a seed and a nonnegative tolerance")
def asynchronous_value_iteration(model: Model, gamma: float, seed: int = 0, tolerance: float = 1e-12) -> Solution:
    """Compute Q* by in-place backups of states in random order. Sutton and Barto (2018), section 4.5; Bertsekas (1982).

    A sweep backs up every state once, in a new random order, so that no state is left out.
    """
    rng = np.random.default_rng(integer(seed, "seed", 0))
    return _in_place(model, gamma, tolerance, lambda _sweep: rng.permutation(model.states))


@explained("a model that envs.read returns, gamma in [0, 1], a number of evaluations and a nonnegative tolerance")
def modified_policy_iteration(model: Model, gamma: float, evaluations: int = 20, tolerance: float = 1e-12) -> Solution:
    """Compute Q* by alternating greedy improvement and a few evaluation sweeps. Puterman and Shin (1978), algorithm 1.

    evaluations: number of evaluation sweeps per policy; 0 is value iteration, and the limit of infinitely many is policy
    iteration. gamma must be below 1, or episodes must terminate with probability 1. Raises ValueError if values grow without
    bound.
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
        f"Policy iteration does not converge at gamma {gamma}: some rewards never end. Use a gamma below 1."
    )


def _in_place(model: Model, gamma: float, tolerance: float, order: Callable[[int], np.ndarray]) -> Solution:
    """Sweep over the states in the given order, updating values in place."""
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
        f"Value iteration does not converge at gamma {gamma}: some rewards never end. Use a gamma below 1."
    )


@explained("a model that envs.read returns and a tolerance in [0, 1)")
def relative_value_iteration(model: Model, tolerance: float = 1e-12) -> tuple[float, Solution]:
    """Return (gain, solution) of a continuing task: the optimal average reward per step, and Q* relative to it.

    Puterman (1994), section 8.5.5, with the aperiodicity transformation: with probability 1/2 a step stays in its state. Values
    are relative: q(s, a) = r - gain + max q(s', .), with max q(0, .) = 0. tolerance: error of the gain as a fraction of the
    largest value. Raises ValueError for a model whose episodes can terminate, or whose optimal gain differs between states.
    """
    tolerance = number(tolerance, "tolerance", 0.0, 1.0, below=True)
    if model.ends:
        raise ValueError(
            f"Episodes of {model.name} can terminate, but relative value iteration is only for continuing tasks."
        )
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
    raise ValueError(
        f"Relative value iteration does not converge in {model.name}: the optimal gain differs between its states."
    )


@explained("a model that envs.read returns and policy int [S] or float [S, A]")
def gain(model: Model, policy: np.ndarray) -> float:
    """Return a policy's long-run average reward per step from the start: int [S] or float [S, A]. Puterman (1994), section 8.2.

    After a termination the next episode starts, as for an agent. Only one policy at a time.
    """
    policy = np.asarray(policy)
    if policy.ndim != (1 if policy.dtype.kind in "iu" else 2):
        raise ValueError(
            f"The gain is computed for one policy at a time, int [S] or float [S, A], not {list(policy.shape)}."
        )
    weights = _weights(model, policy)
    joint = weights[..., None] * model.probability
    stay = np.where(model.terminated, 0.0, joint)
    moves = np.zeros((model.states, model.states))
    np.add.at(moves, (np.arange(model.states)[:, None, None], model.next_state), stay)
    moves += (joint - stay).sum((1, 2))[:, None] * model.start
    # The lazy chain after 2^40 steps, which converges even if the chain is periodic.
    lazy = 0.5 * (moves + np.eye(model.states))
    for _ in range(40):
        lazy = lazy @ lazy
        lazy /= lazy.sum(1, keepdims=True)
    return float(model.start @ lazy @ (joint * model.reward).sum((1, 2)))


@explained(
    "a model that envs.read returns, policy int [..., S] or float [..., S, A], gamma in [0, 1], a nonnegative horizon or"
    " None, and reward [S, A, K] or None"
)
def evaluate_policy(
    model: Model, policy: np.ndarray, gamma: float = 1.0, horizon: int | None = None, reward: np.ndarray | None = None
) -> np.ndarray:
    """Return the value of a policy from each state: int [..., S] or float [..., S, A] -> [..., S].

    With a horizon, this is the expected (discounted) return over that many steps. Without one, it is the infinite-horizon value,
    from the linear system (gamma below 1, or a policy that terminates with probability 1; one policy at a time). reward [S, A, K]
    replaces the model's own, for example by 1 where the goal is reached. Raises ValueError if the value is infinite.
    """
    gamma = _check_gamma(gamma)
    reward, policy = model.reward if reward is None else reward, np.asarray(policy)
    horizon = optional(integer, horizon, "horizon", 0, MOST_SWEEPS)
    weights = _weights(model, policy)
    if horizon is None:
        return _solve(model, weights, gamma, reward)
    # [..., S, J]: transitions and rewards under the policy, computed once for all steps.
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


@explained("a model that envs.read returns, a nonnegative horizon and gamma in [0, 1]")
def optimum_within(model: Model, horizon: int, gamma: float = 1.0) -> FiniteSolution:
    """Solve the model for `horizon` steps; the policy may depend on the time left. Puterman (1994), section 4.5."""
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
    """Return the expected value of the initial state: v [..., S] -> [...]."""
    return np.asarray(v @ model.start)


def _weights(model: Model, policy: np.ndarray) -> np.ndarray:
    if policy.dtype.kind in "iu":
        if policy.shape[-1:] != (model.states,) or policy.min() < 0 or policy.max() >= model.actions:
            raise ValueError(f"A policy must give one of {model.actions} actions for each of {model.states} states.")
        return np.asarray(np.eye(model.actions)[policy])
    if policy.shape[-2:] != (model.states, model.actions) or not np.allclose(policy.sum(-1), 1) or (policy < 0).any():
        raise ValueError(f"A stochastic policy must be [{model.states}, {model.actions}] with rows that sum to 1.")
    return policy


def _solve(model: Model, weights: np.ndarray, gamma: float, reward: np.ndarray) -> np.ndarray:
    from scipy.sparse import coo_array, eye_array
    from scipy.sparse.linalg import spsolve

    if weights.ndim != 2:
        raise ValueError("Without a horizon only one policy can be evaluated at a time.")
    joint = weights[..., None] * model.probability
    going_on = np.where(model.terminated, 0.0, joint).reshape(model.states, -1)
    rows = np.repeat(np.arange(model.states), going_on.shape[1])
    columns = model.next_state.reshape(-1)
    moves = coo_array((going_on.reshape(-1), (rows, columns)), shape=(model.states, model.states))
    if gamma == 1.0 and not _ends(moves.tocsr(), going_on.sum(-1)):
        raise ValueError(
            "At gamma 1 this policy never terminates from some state, so its value may be infinite: give a horizon."
        )
    system = (eye_array(model.states) - gamma * moves).tocsc()
    return np.asarray(spsolve(system, (joint * reward).sum((-1, -2))))


def _ends(moves: Any, stay: np.ndarray) -> bool:
    """Return whether a termination can be reached from every state."""
    reaches = stay < 1 - 1e-12
    while True:
        more = reaches | ((moves @ reaches.astype(float)) > 0)
        if (more == reaches).all():
            return bool(reaches.all())
        reaches = more


def _check_gamma(gamma: float) -> float:
    return number(gamma, "gamma", 0.0, 1.0)
