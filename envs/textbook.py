"""Examples of Sutton and Barto (2018), each with its exact solution; the mazes are in `envs.mazes`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np

from envs.diagnostic import TableEnv, Transitions
from envs.mazes import (
    BOTH_WAYS,
    DYNA,
    ROUND_THE_LEFT,
    ROUND_THE_RIGHT,
    blocking_maze,
    dyna_maze,
    exact_maze_q,
    shortcut_maze,
)
from supervised.validate import choice, flag, number


def maximization_bias(**kwargs: Any) -> TableEnv:
    """Example 6.7, maximization bias: an agent that trusts the maximum of ten noisy estimates goes left too often.

    In state A, odd actions (right) terminate with reward 0, even actions (left) lead to B. In B each of ten actions terminates
    with reward 0.9 or -1.1 with probability 0.5 each, -0.1 on average.

    Deviations: the book's rewards are normal with this mean and variance; and since all states here have ten actions, five lead
    from A to the left and five to the right, where the book has one each.
    """
    away = {a: [(1.0, 1, 0.0, False)] if a % 2 == 0 else [(1.0, 0, 0.0, True)] for a in range(10)}
    gamble = {a: [(0.5, 1, 0.9, True), (0.5, 1, -1.1, True)] for a in range(10)}
    return TableEnv({0: away, 1: gamble}, [1.0, 0.0], **kwargs)


SERVERS, BUSY_FREES, PAYS = 10, 0.06, (1.0, 2.0, 4.0, 8.0)


def access_control(**kwargs: Any) -> TableEnv:
    """Example 10.2, access control: a continuing task in which customers of four priorities queue for ten servers.

    State: number of free servers * 4 + priority of the customer. Action 0 rejects, action 1 accepts if a server is free, for a
    reward of 1, 2, 4 or 8 by priority. Then each busy server becomes free with probability 0.06, and the next customer's
    priority is uniform.
    """
    P: Transitions = {}
    for s in range((SERVERS + 1) * 4):
        free, kind = divmod(s, 4)
        P[s] = {}
        for a in range(2):
            let_in = a == 1 and free > 0
            odds = freed(SERVERS - free + let_in)
            P[s][a] = [
                (float(p) / 4, (free - let_in + n) * 4 + following, PAYS[kind] * let_in, False)
                for n, p in enumerate(odds)
                for following in range(4)
            ]
    start = [0.25 * (s >= SERVERS * 4) for s in range((SERVERS + 1) * 4)]
    return TableEnv(P, start, **kwargs)


def freed(busy: int) -> np.ndarray:
    """Return the probabilities that 0, 1, ..., busy servers become free: a binomial distribution."""
    odds = np.array([math.comb(busy, n) * BUSY_FREES**n * (1 - BUSY_FREES) ** (busy - n) for n in range(busy + 1)])
    return np.asarray(odds / odds.sum())


def exact_access_control() -> tuple[float, np.ndarray]:
    """Return the optimal average reward and differential Q* [44, 2], with max Q*(0, .) = 0, by Howard's policy iteration."""
    env = access_control()
    moves, pay = np.zeros((44, 2, 44)), np.zeros((44, 2))
    for s, a in np.ndindex(44, 2):
        for p, s2, reward, _ in env.P[s][a]:
            moves[s, a, s2] += p
            pay[s, a] += p * reward
    policy, states = np.ones(44, np.int64), np.arange(44)
    while True:
        # v + gain = pay + moves v, with v[0] = 0; the gain takes the place of v[0] in the linear system.
        system = np.eye(44) - moves[states, policy]
        system[:, 0] = 1.0
        v = np.linalg.solve(system, pay[states, policy])
        gain, v[0] = float(v[0]), 0.0
        q = pay + moves @ v - gain
        better = q.max(1) > q[states, policy] + 1e-12
        if not better.any():
            return gain, q
        policy = np.where(better, q.argmax(1), policy)


def exact_textbook_q(name: str, gamma: float, changed: bool = False) -> np.ndarray:
    """Return Q* [S, A] of a textbook environment, derived by hand, for mazes from the distances to the goal.

    changed: whether to use the final maze of a changing one. For AccessControl, a continuing task, see `exact_access_control`.
    """
    gamma, changed = number(gamma, "gamma", 0.0, 1.0), flag(changed, "changed")
    name = FORMER.get(name, name) if isinstance(name, str) else name
    if isinstance(name, str) and name == "MaximizationBias":
        return np.array([[-0.1 * gamma, 0.0] * 5, [-0.1] * 10])
    known = {"DynaMaze": (DYNA, DYNA), "BlockingMaze": (ROUND_THE_RIGHT, ROUND_THE_LEFT)}
    known["ShortcutMaze"] = (ROUND_THE_LEFT, BOTH_WAYS)
    return exact_maze_q(known[choice(name, "textbook environment", ("MaximizationBias", *known))][changed], gamma)


TEXTBOOK: dict[str, tuple[Callable[..., gym.Env[Any, Any]], int | None]] = {
    "MaximizationBias": (maximization_bias, None),
    "DynaMaze": (dyna_maze, 2000),
    "BlockingMaze": (blocking_maze, None),
    "ShortcutMaze": (shortcut_maze, None),
    "AccessControl": (access_control, None),
}
FORMER = {"MaximisationBias": "MaximizationBias"}  # ids of earlier versions, which checkpoints may contain
maximisation_bias = maximization_bias  # its former name


def register() -> None:
    """Register the textbook's environments with Gymnasium, unless already done."""
    for name, (make, limit) in (TEXTBOOK | {old: TEXTBOOK[new] for old, new in FORMER.items()}).items():
        if f"envs/{name}-v0" not in gym.registry:
            gym.register(f"envs/{name}-v0", entry_point=make, max_episode_steps=limit)
