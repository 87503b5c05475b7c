"""Finite models whose state is hidden (POMDPs): the states, and what is seen in each."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np

from envs.model.extract import peeled
from envs.model.model import Model, NotATable
from supervised.validate import instance

MOST_STATES = 100_000
Hidden = Hashable  # a hidden state
HiddenOutcomes = Sequence[tuple[float, Hidden, float, bool]]  # (probability, next state, reward, terminated)


@dataclass(frozen=True, eq=False)
class PartialModel:
    """A finite Markov decision process of which an agent sees one of O observations in each of S states.

    An observation follows from the state alone; several states may look the same. That covers every partially observable
    process with finitely many observations: what is drawn with an observation is a part of the state then.
    """

    model: Model
    observation: np.ndarray  # int64 [S], the number of what is seen in each state
    seen: tuple[Any, ...]  # the O observations, as the environment gives them

    @property
    def observations(self) -> int:
        return len(self.seen)


def read_partial(env: gym.Env[Any, Any]) -> PartialModel:
    """The finite model of an environment with hidden states, by its method `partial_model()`, and its time limit.

    Raises NotATable, with the reason, where there is none or it has too many states to be listed.
    """
    inside, limit = peeled(instance(env, "env", gym.Env, "a gymnasium.Env"), "partial_model")
    if not callable(getattr(inside, "partial_model", None)):
        raise NotATable(f"{type(inside).__name__} has no model with hidden states: it lacks partial_model().")
    found: PartialModel = inside.partial_model()  # type: ignore[attr-defined]  # asked for above
    limits = [n for n in (limit, found.model.limit) if n is not None]
    return dataclasses.replace(found, model=dataclasses.replace(found.model, limit=min(limits, default=None)))


def looked_at(model: Model, seen: Sequence[Any]) -> PartialModel:
    """A model of which `seen[s]` is all that is seen in state s; equal observations get the same number, by first sight."""
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
    """The model of a process that is given by functions, over all states that can be reached.

    first: (probability, state) of the states that may come first. outcomes(state, action) and seen(state) are those of
    `envs.memory.HiddenStates`. Raises NotATable where more than 100,000 states can be reached.
    """
    numbers: dict[Hidden, int] = {state: i for i, (_, state) in enumerate(first)}
    states, rows = list(numbers), []
    for s, state in enumerate(states):  # which grows on the way
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
            raise NotATable(f"{name} has more than {MOST_STATES:,} hidden states, too many to be listed.")
    start = np.zeros(len(states))
    start[: len(first)] = [probability for probability, _ in first]
    return looked_at(Model.of(name, rows, start), [seen(state) for state in states])
