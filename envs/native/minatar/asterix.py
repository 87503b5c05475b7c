"""MinAtar's Asterix: a player collects gold and avoids the enemies that cross the board."""

from __future__ import annotations

from typing import Any

import numpy as np

from envs.native.arrays import Arrays
from envs.native.game import State
from envs.native.minatar.base import CELLS, DOWN, LEFT, NOOP, RIGHT, SIDE, UP, MinAtar
from supervised.validate import flag

PLAYER, ENEMY, TRAIL, GOLD = range(4)  # channels
LANES = 8  # rows 1 to 8 of the board; each has one entity at most
SPAWN_STEPS, MOVE_STEPS = 10, 5  # between two entities, and between two moves of the entities, at the first level
LEVEL_STEPS, LEVELS = 102, 10
# An entity is a number: 0 is none, others are 1 + column + 10 for one that moves to the right + 20 for gold.
ENTITIES, FIRST_GOLD = 41, 21


class Asterix(MinAtar):
    """Asterix, with the rewards, rules and channels of `MinAtar/Asterix-v1` (`-v0` with minimal=False).

    The player moves freely in rows 1 to 8. Every few steps an entity appears at the left or right end of an empty one of these
    rows: gold with probability 1/3, else an enemy. All entities move together, every few steps. Gold that the player meets gives a
    reward of 1, an enemy terminates the episode.

    ramping: every 102 steps of an episode, nine times, entities appear faster, and every second time they also move faster.

    Random numbers: a step has two, a reset none. Column 0 is as in `MinAtar`. Column 1, u, is for the entity that may appear: at the
    left end if u < 1/2; gold if v < 1/3, with v = 2u mod 1; in the empty row number floor(w * n) of n, with w = 3v mod 1.
    """

    minimal_actions = (NOOP, LEFT, UP, RIGHT, DOWN)
    colors = ((74, 144, 226), (208, 72, 72), (120, 120, 120), (245, 200, 60))
    step_draws = 2
    reset_draws = 0

    def __init__(self, arrays: Arrays, sticky: float = 0.1, ramping: bool = True, minimal: bool = True) -> None:
        super().__init__(arrays, sticky, minimal)
        self.last_level = LEVELS - 1 if flag(ramping, "ramping") else 0
        self.moves_x = arrays.array((0, -1, 0, 1, 0, 0), "int64")  # of the player, for each action
        self.reachable = arrays.array((1, *range(1, LANES + 1), LANES), "int64")  # the row after a move to this row
        self.moves_y = arrays.array((0, 0, -1, 0, 1, 0), "int64")
        columns, moved, lanes = _entities()
        self.columns = arrays.array(columns, "int64")  # of an entity; -1 for none
        self.moved = arrays.array(moved, "int64")  # the entity after a move; 0 once it has left the board
        self.lanes = arrays.array(lanes, "bool")  # [41, 10, 4], the row of the board with an entity
        boards = np.zeros((1, SIDE, SIDE, 4), np.bool_)
        boards[0, 5, 5, PLAYER] = True
        self.boards = arrays.array(boards, "bool")  # at the start
        self.none = arrays.array(np.zeros((1, LANES)), "int64")

    def reset(self, draws: Any) -> State:
        rows, zero = self.arrays.rows, 0 * self.arrays.numbers(len(draws))
        return {
            "board": rows(self.boards, zero), "x": zero + 5, "y": zero + 5, "entities": rows(self.none, zero), "age": zero + 0,
            "spawn": zero + SPAWN_STEPS, "move": zero + MOVE_STEPS, "last": zero,
        }  # fmt: skip

    def transition(self, state: State, action: Any, draws: Any) -> tuple[State, Any, Any]:
        where, rows = self.arrays.where, self.arrays.rows
        board, entities, age, spawn, move = (state[name] for name in ("board", "entities", "age", "spawn", "move"))
        copies = self.arrays.numbers(len(age))

        due = where(spawn == age)
        self._spawn(board, entities, due, draws[due, 1])
        spawn[due] += SPAWN_STEPS - self._level(age[due])

        action = self.executed(state, action, draws)
        x = self.stay(state["x"] + self.moves_x.take(action))
        y = self.reachable.take(state["y"] + self.moves_y.take(action))

        each = entities.reshape(-1)
        lane = copies * LANES + (y - 1)
        gold, terminated = self._meet(each.take(lane), x)
        taken = where(gold)
        each[lane[taken]] = 0
        board[taken, y[taken]] = False

        due = where(move == age)
        moved = self.moved.take(rows(entities, due))
        each, lane = moved.reshape(-1), self.arrays.numbers(len(due)) * LANES + (y[due] - 1)
        found, caught = self._meet(each.take(lane), x[due])
        each[lane[where(found)]] = 0
        gold[due] |= found
        terminated[due] |= caught
        entities[due] = moved
        board[due, 1 : LANES + 1] = rows(self.lanes, moved)
        move[due] += MOVE_STEPS - self._level(age[due]) // 2

        player = board.reshape(-1, 4)[:, PLAYER]
        player[copies * CELLS + (state["y"] * SIDE + state["x"])] = False
        player[copies * CELLS + (y * SIDE + x)] = True
        after = {
            "board": board, "x": x, "y": y, "entities": entities, "age": age + 1, "spawn": spawn, "move": move, "last": action,
        }  # fmt: skip
        return after, self.arrays.cast(gold, "float32"), terminated

    def _meet(self, entity: Any, x: Any) -> tuple[Any, Any]:
        """Return whether the entity in the player's lane is gold, or an enemy, where the player is. entity, x: int64 [R]."""
        meets = self.columns.take(entity) == x
        gold = meets & (entity >= FIRST_GOLD)
        return gold, meets ^ gold

    def _level(self, age: Any) -> Any:
        return self.arrays.xp.where(age < LEVEL_STEPS * self.last_level, age // LEVEL_STEPS, self.last_level)

    def _spawn(self, board: Any, entities: Any, rows: Any, u: Any) -> None:
        """Let an entity appear in these rows of the arrays, where a lane is empty. u: column 1 of the random numbers."""
        cast = self.arrays.cast
        right = u < 0.5  # it appears at the left end, and moves to the right
        v = 2 * u - cast(cast(2 * u, "int64"), "float64")
        third = cast(3 * v, "int64")
        gold = third == 0
        w = 3 * v - cast(third, "float64")
        empty = self.arrays.rows(entities, rows) == 0
        count = empty.sum(-1)
        # The number of lanes before the chosen one: those up to which at most `chosen` are empty.
        chosen = cast(w * cast(count, "float64"), "int64")
        lane = (empty.cumsum(-1) <= chosen[:, None]).sum(-1)
        entity = 1 + (SIDE - 1) * cast(~right, "int64") + 10 * cast(right, "int64") + 20 * cast(gold, "int64")
        kept = self.arrays.where(count > 0)
        rows, lane, entity = rows[kept], lane[kept], entity[kept]
        entities[rows, lane] = entity
        board[rows, lane + 1] = self.arrays.rows(self.lanes, entity)


def _entities() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return each entity's column [41], the entity that it becomes by a move [41], and its row of the board, bool [41, 10, 4]."""
    columns, moved = np.full(ENTITIES, -1), np.zeros(ENTITIES, np.int64)
    lanes = np.zeros((ENTITIES, SIDE, 4), np.bool_)
    for entity in range(1, ENTITIES):
        x, step, channel = (entity - 1) % 10, (-1, 1)[(entity - 1) // 10 % 2], GOLD if entity >= FIRST_GOLD else ENEMY
        columns[entity] = x
        lanes[entity, x, channel] = True
        if 0 <= x + step < SIDE:
            moved[entity] = entity + step
        if 0 <= x - step < SIDE:
            lanes[entity, x - step, TRAIL] = True
    return columns, moved, lanes
