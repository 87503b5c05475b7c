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
    rows: gold with probability 1/3, else an enemy. All entities move together, every few steps. Gold that the player meets gives
    a reward of 1, an enemy terminates the episode.

    ramping: every 102 steps of an episode, nine times, entities appear faster, and every second time they also move faster.

    Random numbers: a step has two, a reset none. Column 0 is as in `MinAtar`. Column 1, u, is for the entity that may appear.
    With k = floor(6u), it appears at the left end for k < 3, is gold for k = 0 and k = 3, and takes number floor((6u - k) * n) of
    the n empty rows, counted from the top.
    """

    minimal_actions = (NOOP, LEFT, UP, RIGHT, DOWN)
    player_rows = (1, LANES)
    colors = ((74, 144, 226), (208, 72, 72), (120, 120, 120), (245, 200, 60))
    step_draws = 2
    reset_draws = 0

    def __init__(self, arrays: Arrays, sticky: float = 0.1, ramping: bool = True, minimal: bool = True) -> None:
        super().__init__(arrays, sticky, minimal)
        self.last_level = LEVELS - 1 if flag(ramping, "ramping") else 0
        columns, moved, lanes = _entities()
        self.columns = arrays.array(columns, "int64")  # of an entity; -1 for none
        self.moved = arrays.array(moved, "int64")  # the entity after a move; 0 once it has left the board
        self.lanes = arrays.array(lanes, "bool")  # [41, 10, 4], the row of the board with an entity
        boards = np.zeros((1, SIDE, SIDE, 4), np.bool_)
        boards[0, 5, 5, PLAYER] = True
        self.boards = arrays.array(boards, "bool")  # at the start
        self.none = arrays.array(np.zeros((1, LANES)), "int64")
        lane, column = np.divmod(np.arange(CELLS) - SIDE, SIDE)
        self.lane, self.column = arrays.array(lane, "int64"), arrays.array(column, "int64")  # of a cell
        self.appearing = arrays.array((31, 11, 11, 30, 10, 10), "int64")  # the entity, by six equal chances

    def reset(self, draws: Any) -> State:
        rows, zero = self.arrays.rows, 0 * self.arrays.numbers(len(draws))
        return {
            "board": rows(self.boards, zero), "player": zero + 55, "entities": rows(self.none, zero), "age": zero + 0,
            "spawn": zero + SPAWN_STEPS, "move": zero + MOVE_STEPS, "last": zero,
        }  # fmt: skip

    def transition(self, state: State, action: Any, draws: Any) -> tuple[State, Any, Any]:
        where, rows = self.arrays.where, self.arrays.rows
        board, entities, age, spawn, move = (state[name] for name in ("board", "entities", "age", "spawn", "move"))
        copies = self.arrays.numbers(len(age))

        due = where(spawn == age)
        self._spawn(board, entities, due, draws[due, 1])
        spawn[due] += SPAWN_STEPS - self._level(age[due])

        action, player = self.play(state, action, draws)
        lane, column = self.lane.take(player), self.column.take(player)
        each, place = entities.reshape(-1), copies * LANES + lane
        gold, terminated = self._meet(each.take(place), column)
        taken = where(gold)
        each[place[taken]] = 0
        board[taken, lane[taken] + 1] = False

        due = where(move == age)
        moved = self.moved.take(rows(entities, due))
        each, place = moved.reshape(-1), self.arrays.numbers(len(due)) * LANES + lane[due]
        found, caught = self._meet(each.take(place), column[due])
        each[place[where(found)]] = 0
        gold[due] |= found
        terminated[due] |= caught
        entities[due] = moved
        board[due, 1 : LANES + 1] = rows(self.lanes, moved)
        move[due] += MOVE_STEPS - self._level(age[due]) // 2

        first = copies * CELLS
        self.move(board.reshape(-1, 4)[:, PLAYER], first + state["player"], first + player)
        after = {
            "board": board, "player": player, "entities": entities, "age": age + 1, "spawn": spawn, "move": move, "last": action,
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
        empty = (self.arrays.rows(entities, rows) == 0).cumsum(-1)  # lanes, up to each of them
        count = empty[:, -1]
        kind = cast(6 * u, "int64")
        chosen = cast((6 * u - kind) * count, "int64")
        lane = (empty <= chosen[:, None]).sum(-1)  # that is the empty one number `chosen`
        able = self.arrays.where(count > 0)
        rows, lane, entity = rows[able], lane[able], self.appearing.take(kind[able])
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
