"""Examples of Sutton and Barto (2018), each a finite model with its exact solution."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

from envs.diagnostic import TableEnv, Transitions

MAZE = (
    ".......#G",
    "..#....#.",
    "S.#....#.",
    "..#......",
    ".....#...",
    ".........",
)
MOVES = ((0, -1), (1, 0), (0, 1), (-1, 0))  # left, down, right, up, as on FrozenLake


def maximisation_bias(**kwargs: Any) -> TableEnv:
    """Example 6.7: from A every other action ends the episode for nothing, the others lead to B, where each of ten actions pays
    -0.1 on average, 0.9 or -1.1 by a fair coin. Who believes the luckiest of ten estimates goes left too often.

    Deviation: the book's rewards are normal, with this mean and this variance.
    """
    away = {a: [(1.0, 1, 0.0, False)] if a % 2 == 0 else [(1.0, 0, 0.0, True)] for a in range(10)}
    gamble = {a: [(0.5, 1, 0.9, True), (0.5, 1, -1.1, True)] for a in range(10)}
    return TableEnv({0: away, 1: gamble}, [1.0, 0.0], **kwargs)


def dyna_maze(**kwargs: Any) -> TableEnv:
    """Example 8.1: from S to G around three walls, 14 steps at best; one point for arriving."""
    P: Transitions = {}
    for s, letter in enumerate("".join(MAZE)):
        P[s] = {}
        for a in range(4):
            there = step(s, a)
            arrived = there == goal()
            P[s][a] = [(1.0, s, 0.0, True)] if letter in "#G" else [(1.0, there, float(arrived), arrived)]
    start = [float(letter == "S") for letter in "".join(MAZE)]
    return TableEnv(P, start, **kwargs)


def step(s: int, a: int) -> int:
    """Where a move leads in the maze; a wall or the edge leads back."""
    row, column = s // 9 + MOVES[a][0], s % 9 + MOVES[a][1]
    inside = 0 <= row < len(MAZE) and 0 <= column < 9 and MAZE[row][column] != "#"
    return row * 9 + column if inside else s


def goal() -> int:
    """The state of G."""
    return "".join(MAZE).index("G")


def distances() -> np.ndarray:
    """How many steps the goal is away from each square, [54]; infinite for walls."""
    found = np.full(54, np.inf)
    found[goal()] = 0
    for _ in range(54):
        for s in range(54):
            if "".join(MAZE)[s] != "#":
                found[s] = min(found[s], 1 + min(found[step(s, a)] for a in range(4)))
    return found


def exact_textbook_q(name: str, gamma: float) -> np.ndarray:
    """Q* [S, A] of a textbook environment: worked out by hand, in the maze by the distances to the goal."""
    if name == "MaximisationBias":
        return np.array([[-0.1 * gamma, 0.0] * 5, [-0.1] * 10])
    away = distances()
    q = np.zeros((54, 4))
    for s in np.flatnonzero(np.isfinite(away) & (away > 0)):
        q[s] = [gamma ** away[step(int(s), a)] for a in range(4)]
    return q


TEXTBOOK = {"MaximisationBias": (maximisation_bias, None), "DynaMaze": (dyna_maze, 2000)}


def register() -> None:
    """Enter the textbook's environments in Gymnasium's registry, once."""
    for name, (make, limit) in TEXTBOOK.items():
        if f"envs/{name}-v0" not in gym.registry:
            gym.register(f"envs/{name}-v0", entry_point=make, max_episode_steps=limit)
