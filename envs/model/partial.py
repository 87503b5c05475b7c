"""Finite models with hidden states (POMDPs): the states and their observations."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np

from envs.model.extract import peeled
from envs.model.model import Model, NoModelError
from supervised.validate import instance

MOST_STATES = 100_000
Hidden = Hashable  # a hidden state
HiddenOutcomes = Sequence[tuple[float, Hidden, float, bool]]  # (probability, next state, reward, terminated)


@dataclass(frozen=True, eq=False)
class PartialModel:
    """A finite Markov decision process with S states, in each of which an agent sees one of O observations.

    The observation is a function of the state; several states may share one. This covers every POMDP with finitely many
    observations, since random observations can be made part of the state.
    """

    model: Model
    observation: np.ndarray  # int64 [S], the index of each state's observation
    seen: tuple[Any, ...]  # the O observations, as the environment returns them

    @property
    def observations(self) -> int:
        """The number of observations."""
        return len(self.seen)


def read_partial(env: gym.Env[Any, Any]) -> PartialModel:
    """Return the finite model of an environment with hidden states, from its `partial_model()`, with its time limit.

    Raises NoModelError, with the reason, if there is none or it has too many states to enumerate.
    """
    inside, limit = peeled(instance(env, "env", gym.Env, "a gymnasium.Env"), "partial_model")
    if not callable(getattr(inside, "partial_model", None)):
        raise NoModelError(f"{type(inside).__name__} has no model with hidden states: it lacks partial_model().")
    found: PartialModel = inside.partial_model()  # type: ignore[attr-defined]  # checked above
    limits = [n for n in (limit, found.model.limit) if n is not None]
    return dataclasses.replace(found, model=dataclasses.replace(found.model, limit=min(limits, default=None)))


def looked_at(model: Model, seen: Sequence[Any]) -> PartialModel:
    """Return a model with observation `seen[s]` in state s; equal observations share an index, in order of first occurrence."""
    numbers: dict[bytes, int] = {}
    observation = [numbers.setdefault(np.asarray(o).tobytes(), len(numbers)) for o in seen]
    first = [observation.index(number) for number in range(len(numbers))]
    return PartialModel(model, np.array(observation, np.int64), tuple(seen[s] for s in first))


def enumerated(
    name: str,
    first: Sequence[tuple[float, Hidden]],
    outcomes: Callable[[Any, int], HiddenOutcomes],
    seen: Callable[[Any], Any],
    actions: int,
) -> PartialModel:
    """Return the model of a process defined by functions, over all reachable states.

    first: (probability, state) of the initial states. outcomes(state, action) and seen(state): as in
    `envs.memory.HiddenStates`. Raises NoModelError if more than 100,000 states are reachable.
    """
    numbers: dict[Hidden, int] = {state: i for i, (_, state) in enumerate(first)}
    states, rows = list(numbers), []
    for s, state in enumerate(states):  # the list grows during iteration
        row = []
        for a in range(actions):
            found = []
            for probability, following, reward, terminated in outcomes(state, a):
                if not terminated and following not in numbers:
                    numbers[following] = len(states)
                    states.append(following)
                found.append((probability, s if terminated else numbers[following], reward, terminated))
            row.append(found)
        rows.append(row)
        if len(states) > MOST_STATES:
            raise NoModelError(f"{name} has more than {MOST_STATES:,} hidden states, too many to enumerate.")
    start = np.zeros(len(states))
    start[: len(first)] = [probability for probability, _ in first]
    return looked_at(Model.of(name, rows, start), [seen(state) for state in states])
