"""MinAtar's Breakout: a paddle keeps a ball in play that breaks three rows of bricks."""

from __future__ import annotations

from typing import Any

import numpy as np

from envs.native.arrays import Arrays
from envs.native.game import State
from envs.native.minatar.base import CELLS, LEFT, NOOP, RIGHT, SIDE, MinAtar

PADDLE, BALL, TRAIL, BRICK = range(4)  # channels
BRICK_ROWS = slice(1, 4)
BRICKS = 3 * SIDE
BOTTOM = SIDE - 1


class Breakout(MinAtar):
    """Breakout, with the rewards, rules and channels of `MinAtar/Breakout-v1` (`-v0` with minimal=False).

    The ball moves diagonally by one cell a step and bounces off the walls, the paddle and the bricks. A brick that it hits breaks,
    for a reward of 1, unless it touched a brick in the step before. If none is left when the ball reaches the bottom, new ones come.
    The episode terminates when the ball passes the paddle. The difficulty does not change.

    Random numbers: a step has one (see `MinAtar`), a reset one, which chooses the side of the ball, left below 0.5.
    """

    minimal_actions = (NOOP, LEFT, RIGHT)
    colors = ((74, 144, 226), (255, 255, 255), (120, 120, 120), (208, 72, 72))
    step_draws = 1
    reset_draws = 1

    def __init__(self, arrays: Arrays, sticky: float = 0.1, minimal: bool = True) -> None:
        super().__init__(arrays, sticky, minimal)
        self.moves = arrays.array((0, -1, 0, 1, 0, 0), "int64")  # of the paddle, for each action
        boards = np.zeros((2, SIDE, SIDE, 4), np.bool_)  # at the start, with the ball at the left and at the right
        boards[:, BRICK_ROWS, :, BRICK] = True
        boards[:, BOTTOM, 4, PADDLE] = True
        for side, x in enumerate((0, SIDE - 1)):
            boards[side, 3, x, [BALL, TRAIL]] = True
        self.boards = arrays.array(boards, "bool")

    def reset(self, draws: Any) -> State:
        side = self.arrays.cast(draws[:, 0] * 2, "int64")
        x, y = side * (SIDE - 1), 0 * side + 3
        return {
            "board": self.arrays.rows(self.boards, side), "x": x, "y": y, "dx": 1 - 2 * side, "dy": 0 * side + 1, "trail": y * SIDE + x,
            "paddle": 0 * side + 4, "bricks": 0 * side + BRICKS, "touched": side < 0, "last": 0 * side,
        }  # fmt: skip

    def transition(self, state: State, action: Any, draws: Any) -> tuple[State, Any, Any]:
        xp, where = self.arrays.xp, self.arrays.where
        board, x, y, dx, dy, bricks = (state[name] for name in ("board", "x", "y", "dx", "dy", "bricks"))
        channels = board.reshape(-1, 4)
        first = self.arrays.numbers(len(x)) * CELLS  # each copy's first cell

        action = self.executed(state, action, draws)
        paddle = self.stay(state["paddle"] + self.moves.take(action))
        new_x = self.stay(x + dx)
        dx = xp.where(new_x == x, -dx, dx)  # off the side walls
        new_y = self.stay(y + dy)
        turns = new_y == y  # off the upper wall
        at = first + (new_y * SIDE + new_x)
        touches = channels[:, BRICK][at]
        breaks = touches & ~state["touched"]
        turns |= breaks
        new_y = xp.where(breaks, y, new_y)
        broken = where(breaks)
        channels[:, BRICK][at[broken]] = False
        bricks[broken] -= 1

        terminated = new_y == BOTTOM
        low = where(terminated)
        cleared = low[bricks[low] == 0]
        board[cleared, BRICK_ROWS, :, BRICK] = True
        bricks[cleared] = BRICKS
        center = x[low] == paddle[low]  # the paddle is below the ball
        edge = (new_x[low] == paddle[low]) & ~center  # the paddle is where the ball goes, which returns the way it came
        back, caught = low[edge], low[center | edge]
        dx[back] = -dx[back]
        turns[caught], terminated[caught] = True, False
        new_y[caught] = y[caught]

        was, trail = first + (y * SIDE + x), y * SIDE + x
        self._move(channels[:, TRAIL], first + state["trail"], was)
        self._move(channels[:, BALL], was, first + (new_y * SIDE + new_x))
        self._move(channels[:, PADDLE], first + (state["paddle"] + BOTTOM * SIDE), first + (paddle + BOTTOM * SIDE))
        found = {
            "board": board, "x": new_x, "y": new_y, "dx": dx, "dy": xp.where(turns, -dy, dy), "trail": trail, "paddle": paddle,
            "bricks": bricks, "touched": touches, "last": action,
        }  # fmt: skip
        return found, self.arrays.cast(breaks, "float32"), terminated

    def _move(self, channel: Any, was: Any, now: Any) -> None:
        """Move the one cell of each copy that is set in a channel, bool [R * 100]."""
        channel[was] = False
        channel[now] = True
