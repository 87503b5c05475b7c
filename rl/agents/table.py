"""What all tabular agents share: N tables, and the settings of a tabular rule as numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from rl import targets
from rl.explore import Explore
from rl.spaces import StateIndex, actions_of
from rl.types import Batch, Update
from supervised.schedules import VISITS, Curve, Schedule, as_schedule, check_range, value_at
from supervised.streams import generator

LONGEST_LOOKUP = 65_536
MOST_BYTES = 16_000_000_000


class TableDescription(Protocol):
    """What every tabular agent's description has: settings and a rule."""

    @property
    def gamma(self) -> float | Schedule: ...
    @property
    def step_size(self) -> float | Schedule: ...
    @property
    def explore(self) -> Explore: ...
    @property
    def initial_q(self) -> float | tuple[float, float]: ...
    @property
    def rule(self) -> Callable[..., float]:
        """(q, s, a, reward, discount, s2, step_size) -> TD error; see CONTRIBUTING."""
        ...


def check_table_settings(description: TableDescription) -> None:
    """Raise a ValueError or TypeError, in a sentence, for settings that make no sense."""
    check_range("gamma", as_schedule(description.gamma), 0.0, 1.0, ("steps",))
    check_range("step_size", as_schedule(description.step_size), 0.0, 1.0, ("steps", "episodes", "visits"))
    if not isinstance(description.explore, Explore):
        raise TypeError(
            f"explore must be one of rl.explore's EpsilonGreedy, Greedy, Boltzmann or DecayingNoise, not {description.explore!r}."
        )
    values = description.initial_q if isinstance(description.initial_q, tuple) else (description.initial_q,)
    good = all(isinstance(v, (int, float)) and not isinstance(v, bool) and math.isfinite(v) for v in values)
    if not good or len(values) > 2 or values[0] > values[-1]:
        raise ValueError(f"initial_q must be a finite number or (low, high), not {description.initial_q!r}.")


class TableAgent:
    """N tables Q [N, S, A] with their visit counts, float64 and int64, on the CPU."""

    def __init__(
        self, description: TableDescription, observation_space: Any, action_space: Any, seeds: Any, device: str = "cpu"
    ) -> None:
        if device not in ("cpu", "auto"):
            raise ValueError(f'A table lives on the CPU; device must be "cpu" or "auto", not {device!r}.')
        self.description = description
        self.seeds = tuple(range(seeds)) if isinstance(seeds, int) else tuple(seeds)
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"An agent has at least one seed, and each once, not {list(self.seeds)}.")
        self.index = StateIndex(observation_space)
        self.actions, self.first_action = actions_of(action_space)
        shape = (self.index.size, self.actions)
        needed = len(self.seeds) * shape[0] * shape[1] * 16
        if needed > MOST_BYTES:
            raise ValueError(
                f"{len(self.seeds)} tables of {shape[0]:,} states and {shape[1]} actions take {needed / 1e9:.1f} GB, more than"
                f" the {MOST_BYTES / 1e9:.0f} GB that are allowed. Take fewer seeds, or an agent with a network."
            )
        self.table = np.stack([_initial(description.initial_q, shape, seed) for seed in self.seeds])
        self.visits = np.zeros((len(self.seeds), *shape), np.int64)
        self.updates = 0

    def q(self, obs: Any) -> Tensor:
        """State indices [N, B] -> float64 [N, B, A]. Raises ValueError for indices outside 0..S-1 or another shape."""
        states = self._states(obs)
        return torch.from_numpy(np.take_along_axis(self.table, states[..., None], axis=1))

    def update(self, batch: Batch) -> Update:
        """Learn from a batch of transitions [N, B], one after another; obs and next_obs are state indices.

        For loops of your own. A schedule in steps counts the transitions (one without a horizon spans 100 000 of them),
        one in visits the visits; episodes are not known here, and such a schedule stays at its start.
        """
        states, next_states = self._states(batch.obs), self._states(batch.next_obs)
        q = torch.from_numpy(self.table)
        rate = as_schedule(self.description.step_size).curve(100_000)
        errors = torch.zeros(states.shape, dtype=torch.float64)
        reward, discount = batch.reward.double().cpu(), batch.discount.double().cpu()
        action, members = batch.action.cpu(), torch.arange(len(self.seeds))
        for b in range(states.shape[1]):
            s, a = torch.from_numpy(states[:, b]), action[:, b]
            mask = None if batch.next_mask is None else batch.next_mask[:, b].cpu()
            target = targets.q_learning(
                reward[:, b], discount[:, b], q[members, torch.from_numpy(next_states[:, b])], mask
            )
            visits = self.visits[members, s, a]
            self.visits[members, s, a] += 1
            time = visits if rate.unit == VISITS else np.full(len(self.seeds), self.updates * (rate.unit == 0))
            step_size = torch.tensor([value_at(rate, int(t)) for t in time], dtype=torch.float64)
            if batch.weight is not None:
                step_size = step_size * batch.weight[:, b].double().cpu()
            errors[:, b] = target - q[members, s, a]
            q[members, s, a] += step_size * errors[:, b]
            self.updates += 1
        return Update({"train/td_error": errors.abs().mean(1)}, errors)

    def state_dict(self) -> dict[str, np.ndarray]:
        return {"q": self.table, "visits": self.visits, "updates": np.array([self.updates])}

    def load_state_dict(self, state: dict[str, np.ndarray]) -> None:
        """Take over saved tables. Raises ValueError for another shape, or for NaN or infinite values."""
        for name, mine in (("q", self.table), ("visits", self.visits)):
            saved = state.get(name)
            if saved is None or saved.shape != mine.shape or saved.dtype != mine.dtype:
                found = "nothing" if saved is None else f"{saved.dtype} {list(saved.shape)}"
                raise ValueError(f"The saved table {name!r} must be {mine.dtype} {list(mine.shape)}, but is {found}.")
        if not np.isfinite(state["q"]).all():
            raise ValueError("The saved Q-table has values that are NaN or infinite.")
        if (state["visits"] < 0).any():
            raise ValueError("The saved visit counts are negative.")
        self.table[:] = state["q"]
        self.visits[:] = state["visits"]
        self.updates = int(state["updates"][0]) if "updates" in state else 0

    def _states(self, obs: Any) -> np.ndarray:
        states = np.asarray(obs.cpu() if isinstance(obs, Tensor) else obs)
        if states.ndim != 2 or states.shape[0] != len(self.seeds) or states.dtype.kind not in "iu":
            raise ValueError(
                f"A table takes state indices, whole numbers [N, B] with N = {len(self.seeds)} seeds, not"
                f" {states.dtype} {list(states.shape)}."
            )
        if states.size and not (states.min() >= 0 and states.max() < self.index.size):
            raise ValueError(f"State indices lie in 0..{self.index.size - 1}; got {states.min()} to {states.max()}.")
        return states.astype(np.int64)


def lookup(rate: Curve) -> np.ndarray:
    """The step size at the first visits [V], up to where it no longer changes. Empty unless it goes by visits."""
    values: list[float] = []
    while rate.unit == VISITS and len(values) < LONGEST_LOOKUP:
        values.append(value_at(rate, len(values)))
        if values[-1] == rate.end:
            break
    return np.array(values, dtype=np.float64)


def _initial(initial_q: float | tuple[float, float], shape: tuple[int, int], seed: int) -> np.ndarray:
    if isinstance(initial_q, tuple):
        return generator(seed, "initial").uniform(*initial_q, size=shape)
    return np.full(shape, float(initial_q))
