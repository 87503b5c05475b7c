"""Numpy arrays on the host, see `rl.deep.arrays`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rl.core.observations import Part
from rl.core.types import Batch
from rl.deep.array_protocol import InEval
from rl.deep.heads.head import Head, HeadLoss, Outputs
from rl.deep.moving import arrays_of, mapped, tensors_of, time_swapped
from rl.deep.normalize import RunningMoments, encoded
from supervised import Stack


class OnHost:
    """Numpy arrays. See `Arrays`."""

    def __init__(self, parts: tuple[Part, ...], moments: RunningMoments | None, in_eval: InEval) -> None:
        self.parts, self.moments, self.in_eval = parts, moments, in_eval
        self.is_encoded = parts[0].is_read_as if len(parts) == 1 and moments is None else lambda _x: False

    def encode(self, obs: Any) -> Any:
        return obs if self.is_encoded(obs) else arrays_of(encoded(self.parts, self.moments, obs, torch.device("cpu")))

    def encode_windows(self, obs: Any) -> Any:
        return mapped(self.encode(mapped(obs, time_swapped)), time_swapped)

    def values(self, stack: Stack, x: Any) -> np.ndarray:
        code = stack.compiled_chain()
        return (
            arrays_of(self.in_eval(stack, lambda: stack(tensors_of(x))))
            if code is None or not code.fits(x)
            else code.forward(x)
        )

    def vjp(self, stack: Stack, x: Any) -> tuple[np.ndarray, Callable[[np.ndarray], None]]:
        code = stack.compiled_chain()
        if code is not None and code.fits(x):
            return code.array_vjp(x)
        y, backward = stack.vjp(tensors_of(x))
        return y.numpy(), lambda gradient: backward(tensors_of(gradient))

    def batch(self, batch: Batch, actions: int) -> Batch:
        return batch if isinstance(batch.reward, np.ndarray) else Batch(*map(arrays_of, batch))

    def numbers(self, batch: Batch) -> Batch:
        return batch

    def where(self, condition: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.where(condition.reshape(*condition.shape, *(1,) * (x.ndim - condition.ndim)), x, y)

    def zeros(self, shape: tuple[int, ...]) -> np.ndarray:
        return np.zeros(shape, np.float32)

    def own(self, y: Any) -> Any:
        return arrays_of(y)

    def rows(self, y: np.ndarray, k: int, *index: np.ndarray) -> np.ndarray:
        found: np.ndarray = y[k][index][None]
        return found

    def placed(self, found: list[Any], like: np.ndarray, index: list[tuple[np.ndarray, ...]]) -> np.ndarray:
        # Time-major in memory, as compiled code reads it.
        zeros = np.zeros((len(like), like.shape[2], like.shape[1], *like.shape[3:]), like.dtype).swapaxes(1, 2)
        for k, (rows, places) in enumerate(zip(found, index, strict=True)):
            zeros[k][places] = rows[0]
        return zeros

    def unroll(self, stack: Stack, x: Any, state: Any, lengths: Sequence[int] | None) -> tuple[Tensor, Any]:
        found: tuple[Tensor, Any] = self.in_eval(stack, functools.partial(stack.unroll, x, state, lengths=lengths))
        return found

    def q(self, head: Head, y: np.ndarray) -> np.ndarray:
        return head.q_of(y)

    def loss(self, head: Head, outputs: Outputs, batch: Batch, measured: bool) -> HeadLoss:
        return head.loss_of(outputs, batch, measured)

    def host(self, y: np.ndarray) -> np.ndarray:
        return y

    def host_rows(self, found: list[np.ndarray]) -> list[np.ndarray]:
        return [rows[0] for rows in found]

    def tensor(self, y: np.ndarray) -> Tensor:
        return torch.from_numpy(y)
