"""What MinAtar's games share: a board of 10 x 10 cells with four channels, six actions, and sticky actions."""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium as gym
import numpy as np

from envs.native.arrays import Arrays
from envs.native.draws import Counted
from envs.native.game import State
from supervised.validate import flag, number

NOOP, LEFT, UP, RIGHT, DOWN, FIRE = range(6)
SIDE = 10  # cells in a row and in a column
CELLS = SIDE * SIDE
PIXELS = 8  # of a cell's side in a picture


class MinAtar:
    """A game whose state has the board, bool [R, 10, 10, 4], and int64 [R] each the player's cell and the last action.

    A cell is a number, 10 * row + column; what moves is looked up in tables, which takes fewer calls than computing it.

    sticky: the probability that the last action is repeated in place of the new one. minimal: whether the actions are those that
    do something in the game, or all six: no operation, left, up, right, down, fire. Raises ArgumentError for other values.

    As in the original, the last action survives the end of an episode: only a reset with a seed makes it "no operation" again.
    Column 0 of a step's random numbers decides whether the action sticks.
    """

    minimal_actions: ClassVar[tuple[int, ...]]
    player_rows: ClassVar[tuple[int, int]]  # the first and the last row that the player reaches
    colors: ClassVar[tuple[tuple[int, int, int], ...]]  # of the channels; the first channel is drawn on top
    step_draws: int
    reset_draws: int
    draws = Counted
    limit: int | None = None
    persistent: tuple[str, ...] = ("last",)

    def __init__(self, arrays: Arrays, sticky: float, minimal: bool) -> None:
        self.arrays = arrays
        self.sticky = number(sticky, "sticky", 0.0, 1.0)
        actions = self.minimal_actions if flag(minimal, "minimal") else range(6)
        self.actions = arrays.array(tuple(actions), "int64")
        self.steps = arrays.array(_steps(*self.player_rows), "int64")
        self.observation_space: gym.Space[Any] = gym.spaces.Box(0, 1, (SIDE, SIDE, len(self.colors)), np.bool_)
        self.action_space = gym.spaces.Discrete(len(actions))

    def play(self, state: State, action: Any, draws: Any) -> tuple[Any, Any]:
        """Return the executed actions, of all six, and the player's next cells. action: of `action_space`, int64 [R]."""
        done = self.arrays.xp.where(draws[:, 0] < self.sticky, state["last"], self.actions.take(action))
        return done, self.steps.take(6 * state["player"] + done)

    def move(self, channel: Any, was: Any, now: Any) -> None:
        """Move the one cell of each copy that is set in a channel, bool [R * 100]."""
        channel[was] = False
        channel[now] = True

    def observe(self, state: State) -> Any:
        """Return the boards, bool [R, 10, 10, 4]."""
        return state["board"] | state["board"]  # as fast as a copy, and numpy and torch spell it alike

    def mask(self, state: State) -> None:
        """Return None: all actions are allowed."""

    def picture(self, state: State) -> np.ndarray:
        """Return the board of one copy, uint8 [80, 80, 3], each channel in its own color on black."""
        board = state["board"][0]
        cells = np.zeros((SIDE, SIDE, 3), np.uint8)
        for channel in reversed(range(len(self.colors))):
            cells[board[..., channel]] = self.colors[channel]
        return cells.repeat(PIXELS, 0).repeat(PIXELS, 1)


def _steps(top: int, bottom: int) -> np.ndarray:
    """Return the cell after each action in each cell, [600], for a player that stays between two rows."""
    y, x = np.divmod(np.arange(CELLS), SIDE)
    dx, dy = np.array((0, -1, 0, 1, 0, 0)), np.array((0, 0, -1, 0, 1, 0))
    cells: np.ndarray = np.clip(y[:, None] + dy, top, bottom) * SIDE + np.clip(x[:, None] + dx, 0, SIDE - 1)
    return cells.reshape(-1)
