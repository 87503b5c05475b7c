"""Partially observable environments in which acting well requires memory.

Each is a finite process with hidden states. `envs.read_partial` returns its model, from which `rl.belief` computes the best
return with and without memory; `exact_returns` gives both, derived by hand. CartPole and MountainCar without velocities, and
FrozenLake's 3x3 window, are in `envs.views`.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.toy_text.utils import categorical_sample
from gymnasium.wrappers import TimeLimit

from envs.model.partial import HiddenOutcomes, PartialModel, enumerated
from supervised.validate import ArgumentError, integer, shown


class HiddenStates(gym.Env[Any, Any]):
    """Base class of environments that show `seen(state)` instead of their state.

    A subclass sets `observation_space` and `action_space` (Discrete), and defines `first`, `outcomes` and `seen`. States must be
    hashable, preferably tuples.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012  # as gymnasium.Env declares it
    action_space: gym.spaces.Discrete

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode
        self.state: Any = None

    @abc.abstractmethod
    def first(self) -> Sequence[tuple[float, Any]]:
        """Return (probability, state) for each initial state."""

    @abc.abstractmethod
    def outcomes(self, state: Any, action: int) -> HiddenOutcomes:
        """Return (probability, next state, reward, terminated) for each outcome of an action."""

    @abc.abstractmethod
    def seen(self, state: Any) -> Any:
        """Return the observation in a state."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        first = self.first()
        self.state = first[categorical_sample([p for p, _ in first], self.np_random)][1]
        return self.seen(self.state), {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        if not self.action_space.contains(action):
            raise ArgumentError(f"An action must be in 0..{self.action_space.n - 1}, not {shown(action)}.")
        found = self.outcomes(self.state, int(action))
        _, self.state, reward, terminated = found[categorical_sample([o[0] for o in found], self.np_random)]
        return self.seen(self.state), reward, terminated, False, {}

    def partial_model(self) -> PartialModel:
        """Return the model over all reachable states, with their observations. Raises NoModelError if there are too many."""
        name = type(self).__name__ if self.spec is None else self.spec.id
        return enumerated(name, self.first(), self.outcomes, self.seen, int(self.action_space.n))


class TMaze(HiddenStates):
    """A corridor whose first cell shows on which side of the junction at the far end the goal is.

    Bakker (2002), Reinforcement learning with long short-term memory, section 4. Actions: 0 north, 1 east, 2 south, 3 west.
    Start: the first cell, with the goal in the north or in the south with probability 1/2 each. Observation, three bits: 011 in
    the first cell if the goal is in the north, 110 if it is in the south, 101 in the corridor, 010 at the junction, `length`
    steps to the east. Reward: 4 for turning to the goal, -0.1 for turning the other way, both of which terminate; -0.1 for moving
    into a wall, and 0 otherwise. The observation after the last step is the junction's.

    Best return: 4. Without memory: 1.95, since half of the turns are right. The paper gives no time limit; here it is
    50 * (length + 1) steps (`t_maze`, envs/TMaze-v0).
    """

    def __init__(self, length: int = 10, render_mode: str | None = None) -> None:
        super().__init__(render_mode)
        self.length = integer(length, "length", 1, 10_000)
        self.observation_space = gym.spaces.MultiBinary(3)
        self.action_space = gym.spaces.Discrete(4)

    def first(self) -> Sequence[tuple[float, tuple[int, bool]]]:
        return [(0.5, (0, True)), (0.5, (0, False))]

    def outcomes(self, state: tuple[int, bool], action: int) -> HiddenOutcomes:
        place, north = state
        if place == self.length and action in {0, 2}:
            return [(1.0, state, 4.0 if (action == 0) == north else -0.1, True)]
        there = place + {1: 1, 3: -1}.get(action, 0)
        moves = there != place and 0 <= there <= self.length
        return [(1.0, (there, north), 0.0, False)] if moves else [(1.0, state, -0.1, False)]

    def seen(self, state: tuple[int, bool]) -> np.ndarray:
        place, north = state
        corridor = [1, 0, 1] if place < self.length else [0, 1, 0]
        return np.array(([0, 1, 1] if north else [1, 1, 0]) if place == 0 else corridor, np.int8)

    def exact_returns(self) -> tuple[float, float]:
        """Return the best return with and without memory; without, half of the turns are right."""
        return 4.0, (4.0 - 0.1) / 2


class MemoryChain(HiddenStates):
    """A bit is shown at the start of the episode and must be repeated at its end. bsuite's memory_len (Osband et al. 2020).

    Observation, float32 [3]: the time left, 1 - t / length; the index of the queried bit at t = length - 1, else 0 (there is
    one bit, with index 0, so this is always 0, as in bsuite); and the bit, 1 or -1, at t = 0, else 0. Start: either bit with
    probability 1/2. Reward: at the last step 1 if the action equals the bit (0 for -1, 1 for 1), else -1; 0 at other steps.

    An episode has length + 1 steps, as in bsuite, whose observations lag by one step: t is 0 at the start and still 0 after the
    first step, so the bit is shown twice, and the last action is chosen at t = length - 1. bsuite's observations have the shape
    [1, 3]. Best return: 1. Without memory: 0, except for length 1, where the last action sees the bit and the return is 1.
    """

    def __init__(self, length: int = 10, render_mode: str | None = None) -> None:
        super().__init__(render_mode)
        self.length = integer(length, "length", 1, 10_000)
        low, high = np.array([0, 0, -1], np.float32), np.ones(3, np.float32)
        self.observation_space = gym.spaces.Box(low, high, dtype=np.float32)
        self.action_space = gym.spaces.Discrete(2)

    def first(self) -> Sequence[tuple[float, tuple[int, int]]]:
        return [(0.5, (0, 0)), (0.5, (0, 1))]

    def outcomes(self, state: tuple[int, int], action: int) -> HiddenOutcomes:
        steps, bit = state
        over = steps == self.length
        return [(1.0, (steps + 1, bit), (1.0 if action == bit else -1.0) if over else 0.0, over)]

    def seen(self, state: tuple[int, int]) -> np.ndarray:
        steps, bit = state
        time = max(steps - 1, 0)
        return np.array([1 - time / self.length, 0.0, 2 * bit - 1 if time == 0 else 0], np.float32)

    def exact_returns(self) -> tuple[float, float]:
        """Return the best return with and without memory."""
        return 1.0, 1.0 if self.length == 1 else 0.0


class Cards(HiddenStates):
    """Cards dealt from a shuffled deck, one per step, until it is empty. copies: the number of cards of each suit."""

    def __init__(self, suits: int, copies: int, render_mode: str | None) -> None:
        super().__init__(render_mode)
        self.suits = integer(suits, "suits", 2, 1_000)
        self.copies = integer(copies, "copies", 1, 100_000)
        self.steps = self.suits * self.copies - 1  # of an episode; the first card is dealt by reset
        self.observation_space = gym.spaces.Discrete(self.suits)
        self.action_space = gym.spaces.Discrete(self.suits)

    def dealt(self, left: tuple[int, ...]) -> list[tuple[float, int, tuple[int, ...]]]:
        """Return (probability, suit, remaining deck) for each possible next card."""
        total = sum(left)
        return [(n / total, i, (*left[:i], n - 1, *left[i + 1 :])) for i, n in enumerate(left) if n]

    def full(self) -> tuple[int, ...]:
        return (self.copies,) * self.suits


class RepeatPrevious(Cards):
    """Repeat the suit of the k-th last card. POPGym's RepeatPrevious (Morad et al. 2023).

    Observation and action: a suit. Start: a shuffled deck of `suits` * `copies` cards, its first card shown. From step k on the
    reward is 1 / n if the action is the suit of the k-th last card (k = 1: the current one, k = 4: three steps ago), else
    -1 / n, where n is the number of such steps; before step k it is 0. An episode ends when the deck is empty.

    POPGym: easy is k=4, medium k=32 with copies=26, hard k=64 with copies=39. POPGym reports the end as a truncation; here it is
    a termination, since nothing can follow. Best return: 1. Without memory: 2 * copies / (suits * copies - 1) - 1, by choosing
    any suit other than the current one; 1 for k = 1.
    """

    def __init__(self, k: int = 4, suits: int = 4, copies: int = 13, render_mode: str | None = None) -> None:
        super().__init__(suits, copies, render_mode)
        self.k = integer(k, "k", 1, self.steps)

    def first(self) -> Sequence[tuple[float, tuple[Any, ...]]]:
        return [(p, (left, (suit,))) for p, suit, left in self.dealt(self.full())]

    def outcomes(self, state: tuple[Any, ...], action: int) -> HiddenOutcomes:
        left, hand = state  # up to the last k cards
        judged = len(hand) == self.k
        reward = (1.0 if action == hand[0] else -1.0) / (self.steps + 1 - self.k) if judged else 0.0
        over = sum(left) == 1
        return [(p, (rest, (*hand, suit)[-self.k :]), reward, over) for p, suit, rest in self.dealt(left)]

    def seen(self, state: tuple[Any, ...]) -> int:
        return int(state[1][-1])

    def exact_returns(self) -> tuple[float, float]:
        """Return the best return with and without memory; without, `copies` of the other cards have the chosen suit."""
        return 1.0, 1.0 if self.k == 1 else 2 * self.copies / self.steps - 1


class RepeatFirst(Cards):
    """Repeat the suit of the first card at every step. POPGym's RepeatFirst (Morad et al. 2023).

    Observation and action: a suit. Start: a shuffled deck of `suits` * `copies` cards, its first card shown. Reward: 1 / n if the
    action is the first card's suit, else -1 / n, where n is the number of steps. An episode ends when the deck is empty.

    POPGym: easy is copies=13, medium copies=104, hard copies=208. POPGym reports the end as a truncation; here it is a
    termination, since nothing can follow. Best return: 1. Without memory: by repeating the current suit, right at first.
    """

    def __init__(self, suits: int = 4, copies: int = 13, render_mode: str | None = None) -> None:
        super().__init__(suits, copies, render_mode)

    def first(self) -> Sequence[tuple[float, tuple[Any, ...]]]:
        return [(p, (left, suit, suit)) for p, suit, left in self.dealt(self.full())]

    def outcomes(self, state: tuple[Any, ...], action: int) -> HiddenOutcomes:
        left, wanted, _ = state
        reward = (1.0 if action == wanted else -1.0) / self.steps
        return [(p, (rest, wanted, suit), reward, sum(left) == 1) for p, suit, rest in self.dealt(left)]

    def seen(self, state: tuple[Any, ...]) -> int:
        return int(state[2])

    def exact_returns(self) -> tuple[float, float]:
        """Return the best return with and without memory; without, right at first, then for copies - 1 of the other cards."""
        later = 2 * (self.copies - 1) / self.steps - 1
        return 1.0, (1 + (self.steps - 1) * later) / self.steps


def t_maze(length: int = 10, render_mode: str | None = None) -> TimeLimit[Any, Any]:
    """`TMaze` with its time limit, 50 * (length + 1) steps."""
    maze = TMaze(length, render_mode)
    return TimeLimit(maze, 50 * (maze.length + 1))


MEMORY: dict[str, Callable[..., gym.Env[Any, Any]]] = {
    "TMaze": t_maze,  # with its own time limit
    "MemoryChain": MemoryChain,  # this and the following always terminate
    "RepeatPrevious": RepeatPrevious,
    "RepeatFirst": RepeatFirst,
}


def register() -> None:
    """Register these environments with Gymnasium, unless already done."""
    for name, make in MEMORY.items():
        if f"envs/{name}-v0" not in gym.registry:
            gym.register(f"envs/{name}-v0", entry_point=make)
