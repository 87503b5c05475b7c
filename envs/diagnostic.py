"""Tiny environments with known Q*, each of which exposes a common bug.

All are `TableEnv`s, with a finite model in Gymnasium's format, so that the tabular tools read it as they read FrozenLake's.
They are registered as `envs/NAME-v0`; `gymnasium.make("envs:envs/Chain-v0")` imports this package automatically.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.toy_text.utils import categorical_sample

from supervised.validate import ArgumentError, integer, number, shown
from supervised.validate import choice as one_of

Transitions = dict[int, dict[int, list[tuple[float, int, float, bool]]]]


class TableEnv(gym.Env[Any, Any]):
    """A Gymnasium environment defined by a finite model.

    P: `P[s][a]` is a list of (probability, next state, reward, terminated). start: the distribution of initial states [S].
    """

    def __init__(self, P: Transitions, start: list[float], render_mode: str | None = None) -> None:
        self.P = _checked(P)
        if not isinstance(start, (list, tuple)) and getattr(start, "ndim", 0) != 1:
            raise ArgumentError(f"start must be a list of {len(P)} probabilities, not {shown(start)}.")
        self.initial_state_distrib = np.array([number(p, "start", 0.0, 1.0) for p in start], dtype=np.float64)
        if self.initial_state_distrib.shape != (len(P),) or abs(self.initial_state_distrib.sum() - 1) > 1e-6:
            raise ArgumentError(
                f"start must be the initial distribution over the {len(P)} states, with sum 1, not {shown(start)}."
            )
        self.observation_space = gym.spaces.Discrete(len(P))
        self.action_space = gym.spaces.Discrete(len(P[0]))
        self.render_mode = render_mode
        self.metadata = {"render_modes": []}
        self.s = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        super().reset(seed=seed)
        self.s = int(categorical_sample(self.initial_state_distrib, self.np_random))
        return self.s, {}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
        outcomes = self.P[self.s][int(action)]
        _, self.s, reward, terminated = outcomes[categorical_sample([o[0] for o in outcomes], self.np_random)]
        return self.s, reward, terminated, False, {}


def _checked(P: Any) -> Transitions:
    """Check a model. Raises ArgumentError unless states and actions are numbered from 0 and all outcomes are present."""
    states = len(P) if isinstance(P, Mapping) else 0
    actions = len(P[0]) if states and isinstance(P.get(0), Mapping) else 0
    for s in range(states):
        for a in range(actions):
            outcomes = P[s].get(a) if isinstance(P.get(s), Mapping) and len(P[s]) == actions else None
            good = isinstance(outcomes, (list, tuple)) and all(
                isinstance(o, (list, tuple)) and len(o) == 4 and o[1] in range(states) for o in outcomes
            )
            if not good:
                states = 0
    if not states or not actions:
        raise ArgumentError(
            "P[s][a] must be a list of (probability, next state, reward, terminated) for each state s and action a, numbered"
            f" from 0, not {shown(P)}."
        )
    checked: Transitions = P
    return checked


def one_step(**kwargs: Any) -> TableEnv:
    """One state, one action, reward 1, then termination: Q* = 1. Exposes a wrong sign and bootstrapping past the end."""
    return TableEnv({0: {0: [(1.0, 0, 1.0, True)]}}, [1.0], **kwargs)


def delay(**kwargs: Any) -> TableEnv:
    """Reward 0, then 1 and termination: Q* = (gamma, 1). Exposes wrong discounting."""
    return TableEnv({0: {0: [(1.0, 1, 0.0, False)]}, 1: {0: [(1.0, 1, 1.0, True)]}}, [1.0, 0.0], **kwargs)


def choice(**kwargs: Any) -> TableEnv:
    """Two states, two actions; reward 1 for the action equal to the state, else -1, then termination."""
    P: Transitions = {s: {a: [(1.0, s, 1.0 if a == s else -1.0, True)] for a in (0, 1)} for s in (0, 1)}
    return TableEnv(P, [0.5, 0.5], **kwargs)


def endless(**kwargs: Any) -> TableEnv:
    """Reward 1 per step, truncated after 5 steps, never terminated: Q* = 1 / (1 - gamma). Exposes truncation as termination."""
    return TableEnv({0: {0: [(1.0, 0, 1.0, False)]}}, [1.0], **kwargs)


def chain(**kwargs: Any) -> TableEnv:
    """Five states in a row: moving right gives 1 at the end and terminates, moving left gives 0.1 at the wall of the start."""
    P: Transitions = {}
    for s in range(5):
        right = (1.0, s + 1, 0.0, False) if s < 4 else (1.0, s, 1.0, True)
        P[s] = {0: [(1.0, max(s - 1, 0), 0.1 if s == 0 else 0.0, False)], 1: [right]}
    return TableEnv(P, [1.0, 0, 0, 0, 0], **kwargs)


def coin(**kwargs: Any) -> TableEnv:
    """A fair coin (reward 2 or 0) or a certain 0.9, both terminate: Q* = (1, 0.9). Exposes too large step sizes."""
    P: Transitions = {0: {0: [(0.5, 0, 2.0, True), (0.5, 0, 0.0, True)], 1: [(1.0, 0, 0.9, True)]}}
    return TableEnv(P, [1.0], **kwargs)


LOTTERY = ((-2.0, 0.5), (0.0, 0.2), (4.0, 0.3))  # rewards of the first draw, and their probabilities


def lottery(**kwargs: Any) -> TableEnv:
    """Two random draws whose return distributions are known exactly (`exact_returns`).

    State 0: action 0 gives 0.5 and terminates; action 1 gives -2, 0 or 4 with probability 0.5, 0.2 and 0.3 and leads to state 1.
    State 1: action 0 gives 1, action 1 gives 3 or -2 with probability 0.5 each; both terminate. With gamma 1, Q* is (0.5, 1.2)
    and (1, 0.5).
    """
    P: Transitions = {
        0: {0: [(1.0, 0, 0.5, True)], 1: [(p, 1, reward, False) for reward, p in LOTTERY]},
        1: {0: [(1.0, 1, 1.0, True)], 1: [(0.5, 1, 3.0, True), (0.5, 1, -2.0, True)]},
    }
    return TableEnv(P, [1.0, 0.0], **kwargs)


def exact_returns(state: int, action: int, gamma: float) -> dict[float, float]:
    """Return the return distribution {value: probability} of a pair in Lottery, taking action 0 in state 1 afterwards."""
    g = number(gamma, "gamma", 0.0, 1.0)
    pair = integer(state, "state", 0, 1), integer(action, "action", 0, 1)
    known: dict[tuple[int, int], dict[float, float]] = {
        (0, 0): {0.5: 1.0},
        (0, 1): {reward + g: p for reward, p in LOTTERY},
        (1, 0): {1.0: 1.0},
        (1, 1): {-2.0: 0.5, 3.0: 0.5},
    }
    return known[pair]


def exact_q(name: str, gamma: float) -> np.ndarray:
    """Return Q* [S, A] of a diagnostic environment, derived by hand."""
    g = number(gamma, "gamma", 0.0, 1.0)
    # In Chain either end may be better: moving right from s is worth g**(4 - s), staying at the wall 0.1 / (1 - g).
    right = np.array([g**4, g**3, g**2, g, 1.0])
    wall = 0.1 / (1 - g) if g < 1 else np.inf
    values = np.maximum(right, np.array([wall * g**s for s in range(5)]))
    tables = {
        "OneStep": [[1.0]],
        "Delay": [[g], [1.0]],
        "Choice": [[1.0, -1.0], [-1.0, 1.0]],
        "Endless": [[1 / (1 - g) if g < 1 else np.inf]],
        "Chain": [[0.1 + g * values[0], g * values[1]]]
        + [[g * values[s - 1], g * values[s + 1] if s < 4 else 1.0] for s in range(1, 5)],
        "Coin": [[1.0, 0.9]],
        "Lottery": [[0.5, g + sum(reward * p for reward, p in LOTTERY)], [1.0, 0.5]],
    }
    return np.array(tables[one_of(name, "diagnostic environment", tables)])


DIAGNOSTIC = {
    "OneStep": (one_step, None),
    "Delay": (delay, None),
    "Choice": (choice, None),
    "Endless": (endless, 5),
    "Chain": (chain, 50),
    "Coin": (coin, None),
    "Lottery": (lottery, None),
}


def register() -> None:
    """Register the diagnostic environments with Gymnasium, unless already done."""
    for name, (make, limit) in DIAGNOSTIC.items():
        if f"envs/{name}-v0" not in gym.registry:
            gym.register(f"envs/{name}-v0", entry_point=make, max_episode_steps=limit)
