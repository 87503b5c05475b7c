"""What every executor has, and the loop it works for."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from rl.tabular.kernel import ActorState, LoopParams
from rl.tabular.tables import TabularAgent


def padded_zeros(n: int, width: int, kind: type) -> np.ndarray:
    """Return zeros [n, width] whose rows share no cache line, which avoids false sharing between threads."""
    line = 128 // np.dtype(kind).itemsize
    return np.zeros((n, -(-width // line) * line), kind)[:, :width]


def as_memoryview(array: np.ndarray) -> Any:
    """Return a memoryview of an array; plain Python indexes it several times faster than the array."""
    return memoryview(array)  # type: ignore[arg-type]  # numpy's stubs do not declare arrays as buffers


def warn_of_fresh_episodes(name: str, seeds: Any, step: int) -> None:
    """Warn that an exception interrupted a step, so that new episodes start in these environments."""
    warnings.warn(
        f"An exception interrupted {name} (seed {seeds}) within a step, after {step:,} steps: new episodes start there.",
        RuntimeWarning,
        stacklevel=6,
    )


class Stepped(Protocol):
    """The interface of a loop that an executor reads and writes."""

    seeds: tuple[int, ...]
    envs_per_seed: int
    agent: TabularAgent
    actor: ActorState  # arrays [N, ...]
    parts: dict[str, Any]  # what the kernel is specialized for: the rule and its constants

    @property
    def step(self) -> int: ...

    def begin_anew(self, place: Any) -> None: ...

    def seed_slice(
        self, k: int, wrap: Callable[[np.ndarray], Any]
    ) -> tuple[Any, LoopParams, ActorState, np.random.Generator]: ...


class Executor:
    """Takes the environment steps of a loop. `kind` is its name in checkpoints."""

    kind: str

    def __init__(self, run: Stepped) -> None:
        self.run = run
        self.within: set[int] = set()  # indices of the seeds that an exception interrupted within a step

    def begin(self) -> None: ...

    def recover(self) -> None:
        """After an exception within a step: start new episodes for the seeds it interrupted."""

    def take(self, target: int) -> None:
        """Step every seed until it has taken `target` steps."""

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None: ...
