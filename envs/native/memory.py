"""MemoryChain, RepeatPrevious and RepeatFirst in arrays, see `envs.memory`; `envs.native.finite` provides TMaze."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from envs import memory
from envs.errors import EnvError
from envs.native.arrays import Arrays
from envs.native.draws import Counted
from envs.native.game import State


class MemoryChain:
    """`envs/MemoryChain-v0`. The state has the steps taken and the bit, int64 [R]."""

    step_draws = 1  # like the original, which draws even if there is a single outcome
    reset_draws = 1
    draws = Counted
    limit: int | None = None
    persistent: tuple[str, ...] = ()

    def __init__(self, arrays: Arrays, **settings: Any) -> None:
        self.arrays, self.env = arrays, memory.MemoryChain(**settings)
        self.observation_space, self.action_space = self.env.observation_space, self.env.action_space

    def reset(self, draws: Any) -> State:
        bit = self.arrays.cast(draws[:, 0] * 2, "int64")
        return {"steps": 0 * bit, "bit": bit}

    def transition(self, state: State, action: Any, draws: Any) -> tuple[State, Any, Any]:
        cast, over = self.arrays.cast, state["steps"] == self.env.length
        hit = 2 * cast(action == state["bit"], "float32") - 1
        return {"steps": state["steps"] + 1, "bit": state["bit"]}, hit * cast(over, "float32"), over

    def observe(self, state: State) -> Any:
        xp, cast = self.arrays.xp, self.arrays.cast
        steps = state["steps"] - cast(state["steps"] > 0, "int64")
        left = 1 - cast(steps, "float64") / self.env.length
        bit = xp.where(steps == 0, 2 * state["bit"] - 1, 0)
        return cast(xp.stack((left, 0 * left, cast(bit, "float64")), -1), "float32")

    def mask(self, state: State) -> None:
        """Return None: all actions are allowed."""

    def picture(self, state: State) -> np.ndarray:
        """Raise EnvError: rendering is not supported."""
        raise EnvError("MemoryChain cannot be rendered.")


class Cards(ABC):
    """Cards dealt from a shuffled deck, one per step. State: the cards left, int64 [R, suits], and the hand, [R, H]."""

    step_draws = 1
    reset_draws = 1
    draws = Counted
    limit: int | None = None
    persistent: tuple[str, ...] = ()

    def __init__(self, arrays: Arrays, env: memory.Cards) -> None:
        self.arrays, self.env = arrays, env
        self.observation_space, self.action_space = env.observation_space, env.action_space
        self.suits = arrays.array(np.arange(env.suits), "int64")

    def reset(self, draws: Any) -> State:
        left, suit = self._deal(
            self.arrays.array(np.full((len(draws), self.env.suits), self.env.copies), "int64"), draws
        )
        return {"left": left, "hand": self._first(suit)}

    @abstractmethod
    def _first(self, suit: Any) -> Any:
        """Return the suits to remember after the first card, int64 [R, H]."""

    def _deal(self, left: Any, draws: Any) -> tuple[Any, Any]:
        """Return the cards left after one more is dealt, and its suit. draws: uniform numbers [R, 1]."""
        before = left.cumsum(-1)
        suit = (self.arrays.cast(before, "float64") <= draws * before[:, -1:]).sum(-1)
        return left - self.arrays.cast(self.suits == suit[:, None], "int64"), suit

    def mask(self, state: State) -> Any:
        """Return None: all actions are allowed."""
        return None

    def picture(self, state: State) -> np.ndarray:
        """Raise EnvError: rendering is not supported."""
        raise EnvError(f"{type(self.env).__name__} cannot be rendered.")


class RepeatPrevious(Cards):
    """`envs/RepeatPrevious-v0`. hand: the last k cards, from the oldest to the newest; -1 for those before the first."""

    env: memory.RepeatPrevious

    def __init__(self, arrays: Arrays, **settings: Any) -> None:
        super().__init__(arrays, memory.RepeatPrevious(**settings))

    def _first(self, suit: Any) -> Any:
        xp, none = self.arrays.xp, (0 * suit - 1)[:, None]
        return xp.concatenate((*[none] * (self.env.k - 1), suit[:, None]), -1)

    def transition(self, state: State, action: Any, draws: Any) -> tuple[State, Any, Any]:
        arrays, hand, env = self.arrays, state["hand"], self.env
        oldest = hand[:, 0]
        size = 1.0 / (env.steps + 1 - env.k)
        counts, hit = arrays.cast(oldest >= 0, "float32"), arrays.cast(action == oldest, "float32")
        left, suit = self._deal(state["left"], draws)
        following = {"left": left, "hand": arrays.xp.concatenate((hand[:, 1:], suit[:, None]), -1)}
        return following, arrays.cast(counts * (2 * hit - 1) * size, "float32"), left.sum(-1) == 0

    def observe(self, state: State) -> Any:
        return state["hand"][:, -1] + 0


class RepeatFirst(Cards):
    """`envs/RepeatFirst-v0`. hand: the first and the current card."""

    env: memory.RepeatFirst

    def __init__(self, arrays: Arrays, **settings: Any) -> None:
        super().__init__(arrays, memory.RepeatFirst(**settings))

    def _first(self, suit: Any) -> Any:
        return self.arrays.xp.stack((suit, suit), -1)

    def transition(self, state: State, action: Any, draws: Any) -> tuple[State, Any, Any]:
        arrays, first = self.arrays, state["hand"][:, 0]
        hit = arrays.cast(action == first, "float32")
        left, suit = self._deal(state["left"], draws)
        following = {"left": left, "hand": arrays.xp.stack((first, suit), -1)}
        return following, arrays.cast((2 * hit - 1) * (1.0 / self.env.steps), "float32"), left.sum(-1) == 0

    def observe(self, state: State) -> Any:
        return state["hand"][:, 1] + 0
