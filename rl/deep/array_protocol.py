"""The array types of Q-networks: the interface of `OnHost` and `OnDevice`, see `rl.deep.arrays`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from rl.core.types import Batch
from rl.deep.heads.head import Head, HeadLoss, Outputs
from supervised import Stack

InEval = Callable[[Stack, Callable[[], Any]], Any]  # calls a function with the stack in eval mode, without a gradient


class Arrays(Protocol):
    """Encodes observations and calls networks and heads, with one type of array."""

    def encode(self, obs: Any) -> Any:
        """Encode observations [N, B, *O] as network inputs, normalized if the agent is configured so."""
        ...

    def encode_windows(self, obs: Any) -> Any:
        """Encode observations of windows [N, B, W, *O], stored time-major in memory, as `encode` does."""
        ...

    def values(self, stack: Stack, x: Any) -> Any:
        """Return the outputs for encoded observations, without a gradient and in eval mode."""
        ...

    def vjp(self, stack: Stack, x: Any) -> tuple[Any, Callable[[Any], None]]:
        """Return the outputs and the backward function, like `Stack.vjp`."""
        ...

    def batch(self, batch: Batch, actions: int) -> Batch:
        """Convert a batch to this type. Raises ValueError for invalid actions, unless a later step checks them."""
        ...

    def numbers(self, batch: Batch) -> Batch:
        """Convert a host batch without observations to this type."""
        ...

    def where(self, condition: np.ndarray, x: Any, y: Any) -> Any:
        """Return the rows of x [N, B, ...] where condition [N, B] is true, and those of y elsewhere."""
        ...

    def zeros(self, shape: tuple[int, ...]) -> Any:
        """Return zeros, float32."""
        ...

    def own(self, y: Any) -> Any:
        """Convert arrays and tensors, also nested in dicts and tuples, to this type."""
        ...

    def rows(self, y: Any, k: int, *index: np.ndarray) -> Any:
        """Return y[k] at index arrays [M] of its next axes: y [N, ...] -> [1, M, ...]."""
        ...

    def placed(self, found: list[Any], like: Any, index: list[tuple[np.ndarray, ...]]) -> Any:
        """Return zeros like `like` [N, ...], with found[k] [1, M, ...] written at index[k] of member k."""
        ...

    def unroll(self, stack: Stack, x: Any, state: Any, lengths: Sequence[int] | None) -> tuple[Tensor, Any]:
        """Call `Stack.unroll` in eval mode, without a gradient."""
        ...

    def q(self, head: Head, y: Any) -> Any: ...

    def loss(self, head: Head, outputs: Outputs, batch: Batch, measured: bool) -> HeadLoss: ...

    def host(self, y: Any) -> np.ndarray:
        """Return a host array; those that are one already are unchanged."""
        ...

    def host_rows(self, found: list[Any]) -> list[np.ndarray]:
        """Return the members' numbers [1, M], with a different M each, as host arrays [M], in a single transfer."""
        ...

    def tensor(self, y: Any) -> Tensor:
        """Return a tensor on the device of the networks."""
        ...
