"""Tensors on a device, see `rl.deep.arrays`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rl.core.observations import Part, leaves
from rl.core.types import Batch, no_such_action
from rl.deep.array_protocol import InEval
from rl.deep.heads.head import Head, HeadLoss, Outputs
from rl.deep.moving import mapped, tensors_of, time_swapped, together
from rl.deep.normalize import RunningMoments, encoded
from supervised import Stack

# Fields of a batch that are copied to the device together with the observations.
NUMBERS = ("action", "reward", "discount", "next_mask", "weight", "mask")


class OnDevice:
    """Tensors. See `Arrays`."""

    def __init__(
        self, parts: tuple[Part, ...], moments: RunningMoments | None, in_eval: InEval, device: torch.device
    ) -> None:
        self.parts, self.moments, self.in_eval, self.device = parts, moments, in_eval, device

    def encode(self, obs: Any) -> Any:
        return encoded(self.parts, self.moments, obs, self.device)

    def encode_windows(self, obs: Any) -> Any:
        return mapped(self.encode(mapped(obs, time_swapped)), time_swapped)

    def values(self, stack: Stack, x: Any) -> Tensor:
        values: Tensor = self.in_eval(stack, lambda: stack(x))
        return values

    def vjp(self, stack: Stack, x: Any) -> tuple[Tensor, Callable[[Tensor], None]]:
        return stack.vjp(x)

    def batch(self, batch: Batch, actions: int) -> Batch:
        batch = Batch(*map(tensors_of, batch))
        numbers = batch.action.cpu().numpy()  # an index out of range would make every later CUDA call fail
        if numbers.min() < 0 or numbers.max() >= actions:
            raise no_such_action(actions)
        return on_device(batch, self.device)

    def numbers(self, batch: Batch) -> Batch:
        return on_device(Batch(*map(tensors_of, batch)), self.device)

    def where(self, condition: np.ndarray, x: Tensor, y: Tensor) -> Tensor:
        rows = torch.from_numpy(condition).to(self.device)
        return torch.where(rows.view(*condition.shape, *(1,) * (x.ndim - condition.ndim)), x, y)

    def zeros(self, shape: tuple[int, ...]) -> Tensor:
        return torch.zeros(shape, device=self.device)

    def own(self, y: Any) -> Any:
        return mapped(tensors_of(y), lambda part: part.to(self.device) if isinstance(part, Tensor) else part)

    def rows(self, y: Tensor, k: int, *index: np.ndarray) -> Tensor:
        return y[k][self._index(index)][None]

    def placed(self, found: list[Any], like: Tensor, index: list[tuple[np.ndarray, ...]]) -> Tensor:
        zeros = torch.zeros_like(like)
        for k, (rows, places) in enumerate(zip(found, index, strict=True)):
            zeros[k][self._index(places)] = rows[0]
        return zeros

    def _index(self, index: tuple[np.ndarray, ...]) -> tuple[Tensor, ...]:
        return tuple(torch.from_numpy(part).to(self.device, non_blocking=True) for part in index)

    def unroll(self, stack: Stack, x: Any, state: Any, lengths: Sequence[int] | None) -> tuple[Tensor, Any]:
        found: tuple[Tensor, Any] = self.in_eval(stack, functools.partial(stack.unroll, x, state, lengths=lengths))
        return found

    def q(self, head: Head, y: Tensor) -> Tensor:
        return head.q(y)

    def loss(self, head: Head, outputs: Outputs, batch: Batch, measured: bool) -> HeadLoss:
        return head.loss(outputs, batch, measured)

    def host(self, y: Any) -> np.ndarray:
        found: np.ndarray = y if isinstance(y, np.ndarray) else y.cpu().numpy()
        return found

    def host_rows(self, found: list[Tensor]) -> list[np.ndarray]:
        together = self.host(torch.cat(found, 1))[0]
        return np.split(together, np.cumsum([rows.shape[1] for rows in found])[:-1])

    def tensor(self, y: Tensor) -> Tensor:
        return y


def on_device(batch: Batch, device: torch.device) -> Batch:
    """Copy a batch to the device in one transfer; its index stays on the host, where the replay uses it."""
    plain = {name: part for name in NUMBERS if (part := getattr(batch, name)) is not None}
    several = {name: leaves(obs) for name in ("obs", "next_obs", "state") if (obs := getattr(batch, name)) is not None}
    inner = {f"{name}/{key}": leaf for name, found in several.items() for key, leaf in found.items()}
    moved = together({**plain, **inner}, device)
    parts: dict[str, Any] = {name: {key: moved[f"{name}/{key}"] for key in found} for name, found in several.items()}
    changed: dict[str, Any] = {name: found.get("", found) for name, found in parts.items()}
    changed |= {name: moved[name] for name in plain}
    return batch._replace(**changed)
