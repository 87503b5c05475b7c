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
RIGHTWARD, DOWNWARD = 1, 2  # a ball is a number: 4 * cell + these two, if it moves to the right, and down


class Breakout(MinAtar):
    """Breakout, with the rewards, rules and channels of `MinAtar/Breakout-v1` (`-v0` with minimal=False).

    The ball moves diagonally by one cell per step and bounces off the walls, the paddle and the bricks. A brick that it hits
    breaks for a reward of 1, unless the ball touched a brick in the previous step. If no brick is left when the ball reaches the
    bottom, new ones appear. The episode terminates when the ball passes the paddle. The difficulty does not change.

    Random numbers: a step has one (see `MinAtar`), a reset one, which chooses the side of the ball, left below 0.5.
    """

    minimal_actions = (NOOP, LEFT, RIGHT)
    player_rows = (BOTTOM, BOTTOM)
    colors = ((74, 144, 226), (255, 255, 255), (120, 120, 120), (208, 72, 72))
    step_draws = 1
    reset_draws = 1

    def __init__(self, arrays: Arrays, sticky: float = 0.1, minimal: bool = True) -> None:
        super().__init__(arrays, sticky, minimal)
        boards = np.zeros((2, SIDE, SIDE, 4), np.bool_)
        boards[:, BRICK_ROWS, :, BRICK] = True
        boards[:, BOTTOM, 4, PADDLE] = True
        for side, x in enumerate((0, SIDE - 1)):
            boards[side, 3, x, [BALL, TRAIL]] = True
        self.boards = arrays.array(boards, "bool")  # at the start, with the ball at the left and at the right
        self.balls = arrays.array((4 * 30 + DOWNWARD + RIGHTWARD, 4 * 39 + DOWNWARD), "int64")
        flights, bounces = _flights()
        self.flights, self.bounces = arrays.array(flights, "int64"), arrays.array(bounces, "int64")

    def reset(self, draws: Any) -> State:
        side = self.arrays.cast(draws[:, 0] * 2, "int64")
        ball, zero = self.balls.take(side), 0 * side
        return {
            "board": self.arrays.rows(self.boards, side), "ball": ball, "trail": ball >> 2, "player": zero + 94,
            "bricks": zero + BRICKS, "touched": side < 0, "last": zero,
        }  # fmt: skip

    def transition(self, state: State, action: Any, draws: Any) -> tuple[State, Any, Any]:
        where, board, bricks, old = self.arrays.where, state["board"], state["bricks"], state["ball"] >> 2
        channels = board.reshape(-1, 4)
        first = self.arrays.numbers(len(old)) * CELLS  # each copy's first cell
        action, player = self.play(state, action, draws)

        ball = self.flights.take(state["ball"])
        at = first + (ball >> 2)
        touches = channels[:, BRICK][at]
        breaks = touches & ~state["touched"]
        broken = where(breaks)
        channels[:, BRICK][at[broken]] = False
        bricks[broken] -= 1
        ball[broken] = self.bounces.take(ball[broken])

        terminated = ball >= 4 * SIDE * BOTTOM
        low = where(terminated)
        cleared = low[bricks[low] == 0]
        board[cleared, BRICK_ROWS, :, BRICK] = True
        bricks[cleared] = BRICKS
        center = old[low] + SIDE == player[low]  # the paddle is below the ball
        edge = ball[low] >> 2 == player[low]  # or where it goes: then it returns the way that it came
        back, caught = low[edge & ~center], low[edge | center]
        ball[caught] = self.bounces.take(ball[caught])
        ball[back] ^= RIGHTWARD
        terminated[caught] = False

        was = first + old
        self.move(channels[:, TRAIL], first + state["trail"], was)
        self.move(channels[:, BALL], was, first + (ball >> 2))
        self.move(channels[:, PADDLE], first + state["player"], first + player)
        after = {
            "board": board, "ball": ball, "trail": old, "player": player, "bricks": bricks, "touched": touches, "last": action,
        }  # fmt: skip
        return after, self.arrays.cast(breaks, "float32"), terminated


def _flights() -> tuple[np.ndarray, np.ndarray]:
    """Return what a ball becomes, int64 [400] each: one step later, off the walls; thrown back to its former row."""
    flights, bounces = np.zeros(4 * CELLS, np.int64), np.zeros(4 * CELLS, np.int64)
    for ball in range(4 * CELLS):
        cell, direction = divmod(ball, 4)
        y, x = divmod(cell, SIDE)
        dx, dy = (1 if direction & RIGHTWARD else -1), (1 if direction & DOWNWARD else -1)
        next_x, next_y = min(max(x + dx, 0), SIDE - 1), min(max(y + dy, 0), SIDE - 1)
        turned = RIGHTWARD * (next_x == x) + DOWNWARD * (next_y == y)
        flights[ball] = 4 * (next_y * SIDE + next_x) + (direction ^ turned)
        bounces[ball] = 4 * (min(max(y - dy, 0), SIDE - 1) * SIDE + x) + (direction ^ DOWNWARD)
    return flights, bounces
