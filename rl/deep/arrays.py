"""Where a Q-network's numbers lie: in numpy arrays on the host, in tensors on a device. Chosen once for each agent.

On the host a small network of linear layers, layer normalizations and ReLUs is computed without torch (`CompiledChain` of
`supervised.stack.compiled_chain`), and any other by torch on the same memory. On a device everything stays there, and
`host` is where the host waits for it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from rl.core.observations import Part, encode, leaves
from rl.core.types import Batch, no_such_action
from rl.deep.heads.head import Head, HeadLoss, Outputs
from rl.deep.moving import arrays_of, mapped, tensors_of, together
from rl.deep.normalize import RunningMoments
from supervised import Stack

MODE_DEPENDENT = (
    nn.Dropout,
    nn.Dropout1d,
    nn.Dropout2d,
    nn.BatchNorm1d,
    nn.BatchNorm2d,
)  # that act otherwise when judged
NUMBERS = (
    "action",
    "reward",
    "discount",
    "next_mask",
    "weight",
    "mask",
)  # of a batch; they go to the device with the observations


Judge = Callable[[Stack, Callable[[], Any]], Any]  # calls a function that asks a stack, as when it is judged


class Arrays(Protocol):
    """Encodes observations, computes networks and asks heads, in arrays of one kind."""

    def encode(self, obs: Any) -> Any:
        """Observations [N, B, *O] -> what the networks take, normalized where the agent normalizes."""
        ...

    def encode_windows(self, obs: Any) -> Any:
        """Observations [N, B, W, *O] that lie in memory in the order of time -> what the networks take, likewise."""
        ...

    def values(self, stack: Stack, x: Any) -> Any:
        """The outputs for encoded observations, no gradient, dropout and batch-norm as when judged."""
        ...

    def vjp(self, stack: Stack, x: Any) -> tuple[Any, Callable[[Any], None]]:
        """As `Stack.vjp`."""
        ...

    def batch(self, batch: Batch, actions: int) -> Batch:
        """A batch in arrays of this kind. Raises ValueError for actions that do not exist, if nothing later would."""
        ...

    def numbers(self, batch: Batch) -> Batch:
        """A batch of numbers of the host, without observations, in arrays of this kind."""
        ...

    def where(self, condition: np.ndarray, x: Any, y: Any) -> Any:
        """The rows of x [N, B, ...] where condition [N, B] is true, and of y elsewhere."""
        ...

    def zeros(self, shape: tuple[int, ...]) -> Any:
        """Zeros, float32."""
        ...

    def own(self, y: Any) -> Any:
        """Arrays and tensors, also within dicts and tuples, in arrays of this kind."""
        ...

    def rows(self, y: Any, k: int, *index: np.ndarray) -> Any:
        """y[k] of y [N, ...] at indices of its further axes, [M] each -> [1, M, ...]."""
        ...

    def placed(self, found: list[Any], like: Any, index: list[tuple[np.ndarray, ...]]) -> Any:
        """Zeros like `like` [N, ...], with the rows [1, M, ...] of the k-th in `found` at its indices."""
        ...

    def reading(self, stack: Stack, x: Any, state: Any, lengths: Sequence[int] | None) -> tuple[Tensor, Any]:
        """`Stack.unroll`, dropout and batch-norm as when judged."""
        ...

    def q(self, head: Head, y: Any) -> Any: ...

    def loss(self, head: Head, outputs: Outputs, batch: Batch, measured: bool) -> HeadLoss: ...

    def host(self, y: Any) -> np.ndarray:
        """An array of the host, as which some come already."""
        ...

    def host_rows(self, found: list[Any]) -> list[np.ndarray]:
        """Numbers [1, M] of each member, M as it happens, as arrays of the host [M]; fetched at once."""
        ...

    def tensor(self, y: Any) -> Tensor:
        """A tensor, where the networks are."""
        ...


class OnHost:
    """Numpy arrays. See `Arrays`."""

    def __init__(self, parts: tuple[Part, ...], moments: RunningMoments | None, judge: Judge) -> None:
        self.parts, self.moments, self.judge = parts, moments, judge
        self.as_it_is = parts[0].is_read_as if len(parts) == 1 and moments is None else lambda x: False

    def encode(self, obs: Any) -> Any:
        return obs if self.as_it_is(obs) else arrays_of(encoded(self.parts, self.moments, obs, torch.device("cpu")))

    def encode_windows(self, obs: Any) -> Any:
        return mapped(self.encode(mapped(obs, _turned)), _turned)

    def values(self, stack: Stack, x: Any) -> np.ndarray:
        code = stack.compiled_chain()
        return (
            arrays_of(self.judge(stack, lambda: stack(tensors_of(x))))
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
        # In memory in the order of time, as compiled code reads it.
        zeros = np.zeros((len(like), like.shape[2], like.shape[1], *like.shape[3:]), like.dtype).swapaxes(1, 2)
        for k, (rows, places) in enumerate(zip(found, index, strict=True)):
            zeros[k][places] = rows[0]
        return zeros

    def reading(self, stack: Stack, x: Any, state: Any, lengths: Sequence[int] | None) -> tuple[Tensor, Any]:
        found: tuple[Tensor, Any] = self.judge(stack, functools.partial(stack.unroll, x, state, lengths=lengths))
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


class OnDevice:
    """Tensors. See `Arrays`."""

    def __init__(
        self, parts: tuple[Part, ...], moments: RunningMoments | None, judge: Judge, device: torch.device
    ) -> None:
        self.parts, self.moments, self.judge, self.device = parts, moments, judge, device

    def encode(self, obs: Any) -> Any:
        return encoded(self.parts, self.moments, obs, self.device)

    def encode_windows(self, obs: Any) -> Any:
        return mapped(self.encode(mapped(obs, _turned)), _turned)

    def values(self, stack: Stack, x: Any) -> Tensor:
        values: Tensor = self.judge(stack, lambda: stack(x))
        return values

    def vjp(self, stack: Stack, x: Any) -> tuple[Tensor, Callable[[Tensor], None]]:
        return stack.vjp(x)

    def batch(self, batch: Batch, actions: int) -> Batch:
        batch = Batch(*map(tensors_of, batch))
        numbers = batch.action.cpu().numpy()  # an action that does not exist would end every later call on a GPU
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

    def reading(self, stack: Stack, x: Any, state: Any, lengths: Sequence[int] | None) -> tuple[Tensor, Any]:
        found: tuple[Tensor, Any] = self.judge(stack, functools.partial(stack.unroll, x, state, lengths=lengths))
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


def of_device(
    device: torch.device, parts: tuple[Part, ...], moments: RunningMoments | None, module: nn.Module
) -> Arrays:
    """The arrays of an agent whose networks, modules like this one, are on the device."""
    judge = judge_of(module)
    return OnHost(parts, moments, judge) if device.type == "cpu" else OnDevice(parts, moments, judge, device)


def judge_of(module: nn.Module) -> Judge:
    """How stacks of such modules are asked as when judged, without a gradient."""
    return _in_evaluation_mode if any(map(_is_mode_dependent, module.modules())) else _as_they_are


def _is_mode_dependent(part: nn.Module) -> bool:
    between = isinstance(part, nn.RNNBase) and part.dropout > 0  # dropout between recurrent layers
    return between or isinstance(part, MODE_DEPENDENT)


def _in_evaluation_mode(stack: Stack, ask: Callable[[], Any]) -> Any:
    with stack.eval_mode():
        return ask()


def _as_they_are(stack: Stack, ask: Callable[[], Any]) -> Any:
    with torch.no_grad():
        return ask()


def _turned(x: Any) -> Any:
    """[N, B, W, ...] <-> [N, W, B, ...]."""
    return x.swapaxes(1, 2)


def encoded(parts: tuple[Part, ...], moments: RunningMoments | None, obs: Any, device: torch.device) -> Any:
    """Observations in tensors or arrays as the networks take them, tensors on the device."""
    x = encode(parts, tensors_of(obs), device)
    return x if moments is None else moments.normalize(x)


def on_device(batch: Batch, device: torch.device) -> Batch:
    """A batch on the device, by one copy, but for its index, which is of the replay."""
    plain = {name: part for name in NUMBERS if (part := getattr(batch, name)) is not None}
    several = {name: leaves(obs) for name in ("obs", "next_obs", "state") if (obs := getattr(batch, name)) is not None}
    inner = {f"{name}/{key}": leaf for name, found in several.items() for key, leaf in found.items()}
    moved = together({**plain, **inner}, device)
    parts: dict[str, Any] = {name: {key: moved[f"{name}/{key}"] for key in found} for name, found in several.items()}
    changed: dict[str, Any] = {name: found.get("", found) for name, found in parts.items()}
    changed |= {name: moved[name] for name in plain}
    return batch._replace(**changed)
