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


def maximisation_bias(**kwargs: Any) -> TableEnv:
    """Example 6.7: from A every other action ends the episode for nothing, the others lead to B, where each of ten actions pays
    -0.1 on average, 0.9 or -1.1 by a fair coin. Who believes the luckiest of ten estimates goes left too often.

    Deviations: the book's rewards are normal, with this mean and this variance; and as all states here have ten actions, five
    lead from A to the left and five to the right, where the book has one each.
    """
    away = {a: [(1.0, 1, 0.0, False)] if a % 2 == 0 else [(1.0, 0, 0.0, True)] for a in range(10)}
    gamble = {a: [(0.5, 1, 0.9, True), (0.5, 1, -1.1, True)] for a in range(10)}
    return TableEnv({0: away, 1: gamble}, [1.0, 0.0], **kwargs)


SERVERS, BUSY_FREES, PAYS = 10, 0.06, (1.0, 2.0, 4.0, 8.0)


def access_control(**kwargs: Any) -> TableEnv:
    """Example 10.2: customers of four kinds, who pay 1, 2, 4 or 8, come one after another for ten servers, without an end.

    State: free servers * 4 + kind of the customer. Action 0 turns away, 1 lets in, for the pay, if a server is free. Then each
    busy server becomes free with probability .06, and the next customer is of any kind.
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
    """How likely 0, 1, ..., busy servers become free: the binomial distribution."""
    odds = np.array([math.comb(busy, n) * BUSY_FREES**n * (1 - BUSY_FREES) ** (busy - n) for n in range(busy + 1)])
    return np.asarray(odds / odds.sum())


def exact_access_control() -> tuple[float, np.ndarray]:
    """What the best policy earns per step, and Q* [44, 2] counted from it, the best of state 0 being 0: by Howard's iteration."""
    env = access_control()
    moves, pay = np.zeros((44, 2, 44)), np.zeros((44, 2))
    for s, a in np.ndindex(44, 2):
        for p, s2, reward, _ in env.P[s][a]:
            moves[s, a, s2] += p
            pay[s, a] += p * reward
    policy, states = np.ones(44, np.int64), np.arange(44)
    while True:
        # v + gain = pay + moves v, with v[0] = 0, whose place in the system is the gain's.
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
    """Q* [S, A] of a textbook environment: worked out by hand, in the mazes by the distances to the goal.

    changed: of a maze that changes, as it is afterwards. For AccessControl, which has no end, see `exact_access_control`.
    """
    gamma, changed = number(gamma, "gamma", 0.0, 1.0), flag(changed, "changed")
    if isinstance(name, str) and name == "MaximisationBias":
        return np.array([[-0.1 * gamma, 0.0] * 5, [-0.1] * 10])
    known = {"DynaMaze": (DYNA, DYNA), "BlockingMaze": (ROUND_THE_RIGHT, ROUND_THE_LEFT)}
    known["ShortcutMaze"] = (ROUND_THE_LEFT, BOTH_WAYS)
    return exact_maze_q(known[choice(name, "textbook environment", ("MaximisationBias", *known))][changed], gamma)


TEXTBOOK: dict[str, tuple[Callable[..., gym.Env[Any, Any]], int | None]] = {
    "MaximisationBias": (maximisation_bias, None),
    "DynaMaze": (dyna_maze, 2000),
    "BlockingMaze": (blocking_maze, None),
    "ShortcutMaze": (shortcut_maze, None),
    "AccessControl": (access_control, None),
}


def register() -> None:
    """Enter the textbook's environments in Gymnasium's registry, once."""
    for name, (make, limit) in TEXTBOOK.items():
        if f"envs/{name}-v0" not in gym.registry:
            gym.register(f"envs/{name}-v0", entry_point=make, max_episode_steps=limit)
