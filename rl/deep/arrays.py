"""The arrays that a Q-network computes with: numpy arrays on the host or tensors on a device, chosen once per agent.

On the host, small networks of linear layers and ReLUs run without torch (`CompiledChain` of
`supervised.stack.manual_backward`), all others in torch on the same memory. On a device everything stays there until `host`
copies it back, which synchronizes.
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

# Layers that behave differently in eval mode.
MODE_DEPENDENT = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.BatchNorm1d, nn.BatchNorm2d)
# Fields of a batch that are copied to the device together with the observations.
NUMBERS = ("action", "reward", "discount", "next_mask", "weight", "mask")


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


class OnHost:
    """Numpy arrays. See `Arrays`."""

    def __init__(self, parts: tuple[Part, ...], moments: RunningMoments | None, in_eval: InEval) -> None:
        self.parts, self.moments, self.in_eval = parts, moments, in_eval
        self.is_encoded = parts[0].is_read_as if len(parts) == 1 and moments is None else lambda x: False

    def encode(self, obs: Any) -> Any:
        return obs if self.is_encoded(obs) else arrays_of(encoded(self.parts, self.moments, obs, torch.device("cpu")))

    def encode_windows(self, obs: Any) -> Any:
        return mapped(self.encode(mapped(obs, _turned)), _turned)

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


class OnDevice:
    """Tensors. See `Arrays`."""

    def __init__(
        self, parts: tuple[Part, ...], moments: RunningMoments | None, in_eval: InEval, device: torch.device
    ) -> None:
        self.parts, self.moments, self.in_eval, self.device = parts, moments, in_eval, device

    def encode(self, obs: Any) -> Any:
        return encoded(self.parts, self.moments, obs, self.device)

    def encode_windows(self, obs: Any) -> Any:
        return mapped(self.encode(mapped(obs, _turned)), _turned)

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


def of_device(
    device: torch.device, parts: tuple[Part, ...], moments: RunningMoments | None, module: nn.Module
) -> Arrays:
    """Return the arrays of an agent whose networks, modules like this one, are on the device."""
    in_eval = in_eval_of(module)
    return OnHost(parts, moments, in_eval) if device.type == "cpu" else OnDevice(parts, moments, in_eval, device)


def in_eval_of(module: nn.Module) -> InEval:
    """Return how to call stacks of such modules in eval mode; the mode is not switched if no layer depends on it."""
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
    """Encode observations, tensors or arrays, as network inputs: tensors on the device."""
    x = encode(parts, tensors_of(obs), device)
    return x if moments is None else moments.normalize(x)


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
