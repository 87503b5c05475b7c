"""The interface of a game: pure functions of states, actions and random numbers, over the arrays of many copies."""

from __future__ import annotations

from typing import Any, Protocol

import gymnasium as gym

from envs.native.arrays import Arrays

State = dict[str, Any]  # arrays [R, ...]


class Game(Protocol):
    """R copies of a game at once, computed by the backend `arrays`.

    A game stores nothing between calls: all state is in the arrays that it takes and returns.
    """

    arrays: Arrays
    observation_space: gym.Space[Any]  # of one copy
    action_space: gym.spaces.Discrete
    step_draws: int  # uniform numbers that a step needs
    reset_draws: int  # and a reset
    draws: Any  # the class of `envs.native.draws` that draws them
    limit: int | None  # steps of an episode, if the game itself has a time limit
    persistent: tuple[str, ...]  # parts of the state that survive a reset without a seed

    def reset(self, draws: Any) -> State:
        """Return initial states from numbers in [0, 1), float64 [R, reset_draws]."""

    def transition(self, state: State, action: Any, draws: Any) -> tuple[State, Any, Any]:
        """Return the next state, reward float [R] and terminated bool [R]. action int64 [R], draws float64 [R, step_draws].

        May overwrite the arrays of the given state.
        """

    def observe(self, state: State) -> Any:
        """Return the observations [R, *O], in new arrays."""

    def mask(self, state: State) -> Any:
        """Return the actions allowed in each state, bool [R, A]; None: all, always."""

    def picture(self, state: State) -> Any:
        """Return a picture of one copy, uint8 [height, width, 3], from its state, arrays [1, ...] on the host."""
