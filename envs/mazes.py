"""The mazes of Sutton and Barto (2018), chapter 8: a static one, and two that change during learning."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

from envs.diagnostic import TableEnv, Transitions
from supervised.validate import integer

Maze = tuple[str, ...]

DYNA: Maze = (
    ".......#G",
    "..#....#.",
    "S.#....#.",
    "..#......",
    ".....#...",
    ".........",
)
ROUND_THE_RIGHT: Maze = (
    "........G",
    ".........",
    ".........",
    "########.",
    ".........",
    "...S.....",
)
ROUND_THE_LEFT: Maze = (*ROUND_THE_RIGHT[:3], ".########", *ROUND_THE_RIGHT[4:])
BOTH_WAYS: Maze = (*ROUND_THE_RIGHT[:3], ".#######.", *ROUND_THE_RIGHT[4:])
MOVES = ((0, -1), (1, 0), (0, 1), (-1, 0))  # left, down, right, up, as on FrozenLake


def step(maze: Maze, s: int, a: int) -> int:
    """Return the state after a move, unchanged at a wall or the edge. State: row * 9 + column."""
    row, column = s // 9 + MOVES[a][0], s % 9 + MOVES[a][1]
    inside = 0 <= row < len(maze) and 0 <= column < 9 and maze[row][column] != "#"
    return row * 9 + column if inside else s


def place(maze: Maze, letter: str) -> int:
    """Return the state of S or G."""
    return "".join(maze).index(letter)


def distances(maze: Maze) -> np.ndarray:
    """Return the distance of each square to the goal in steps, [54]; infinite for walls."""
    found = np.full(54, np.inf)
    found[place(maze, "G")] = 0
    for _ in range(54):
        for s in range(54):
            if "".join(maze)[s] != "#":
                found[s] = min(found[s], 1 + min(found[step(maze, s, a)] for a in range(4)))
    return found


def exact_maze_q(maze: Maze, gamma: float) -> np.ndarray:
    """Return Q* [54, 4], from the distances to the goal."""
    away = distances(maze)
    q = np.zeros((54, 4))
    for s in np.flatnonzero(np.isfinite(away) & (away > 0)):
        q[s] = [gamma ** away[step(maze, int(s), a)] for a in range(4)]
    return q


def dyna_maze(**kwargs: Any) -> TableEnv:
    """Example 8.1: from S to G around three walls, 14 steps at best; reward 1 at the goal."""
    P: Transitions = {}
    for s, letter in enumerate("".join(DYNA)):
        P[s] = {}
        for a in range(4):
            there = step(DYNA, s, a)
            arrived = there == place(DYNA, "G")
            P[s][a] = [(1.0, s, 0.0, True)] if letter in "#G" else [(1.0, there, float(arrived), arrived)]
    return TableEnv(P, [float(letter == "S") for letter in "".join(DYNA)], **kwargs)


class ChangingMaze(gym.Env[Any, Any]):
    """A maze that changes after a total of `change_after` steps over all episodes; reward 1 at the goal.

    The change persists across episodes, so no finite model describes it. A resumed run restores it by `persistent_state` (see
    `envs.ReplayableEnv`). A run's `evaluate` counts its own steps and starts in the initial maze; to evaluate a policy in the
    changed maze, create the environment with change_after=0.
    """

    def __init__(self, before: Maze, after: Maze, change_after: int, render_mode: str | None = None) -> None:
        change_after = integer(change_after, "change_after", 0)
        for maze in (before, after):
            letters = "".join(maze)
            if [len(row) for row in maze] != [9] * 6 or letters.count("S") != 1 or letters.count("G") != 1:
                raise ValueError(f"A maze must be six rows of nine letters with one S and one G, not {maze!r}.")
        self.before, self.after, self.change_after = before, after, change_after
        self.observation_space = gym.spaces.Discrete(54)
        self.action_space = gym.spaces.Discrete(4)
        self.render_mode = render_mode
        self.metadata = {"render_modes": []}
        self.steps = 0
        self.s = place(before, "S")

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        super().reset(seed=seed)
        self.s = place(self.before, "S")
        return self.s, {}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
        if not self.action_space.contains(int(action)):
            raise ValueError(f"An action must be in 0..3, not {action!r}.")
        maze = self.before if self.steps < self.change_after else self.after
        self.steps += 1
        self.s = step(maze, self.s, int(action))
        arrived = self.s == place(maze, "G")
        return self.s, float(arrived), arrived, False, {}

    def persistent_state(self) -> int:
        """Return the state that persists across episodes: the number of steps so far."""
        return self.steps

    def set_persistent_state(self, state: int) -> None:
        """Restore a `persistent_state`."""
        self.steps = int(state)


def blocking_maze(change_after: int = 1000, **kwargs: Any) -> ChangingMaze:
    """Example 8.2: the short path around the wall (10 steps) closes, and a longer one (16) opens at the other end."""
    return ChangingMaze(ROUND_THE_RIGHT, ROUND_THE_LEFT, change_after, **kwargs)


def shortcut_maze(change_after: int = 3000, **kwargs: Any) -> ChangingMaze:
    """Example 8.3: besides the long path around the wall (16 steps) a shorter one (10) opens, which agents may never notice."""
    return ChangingMaze(ROUND_THE_LEFT, BOTH_WAYS, change_after, **kwargs)
