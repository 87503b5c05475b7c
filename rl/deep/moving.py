"""How tensors get to the device and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

ALIGNED = 16  # bytes, at multiples of which each tensor begins, as a GPU reads them best


def together(tensors: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """The tensors on the device: those of the host by one copy, for which it does not wait."""
    here = {name: tensor for name, tensor in tensors.items() if tensor.device.type == "cpu"}
    if device.type == "cpu" or not here:
        return {name: tensor.to(device, non_blocking=True) for name, tensor in tensors.items()}
    begins, total = {}, 0
    for name, tensor in here.items():
        begins[name], total = total, total + -(-tensor.nbytes // ALIGNED) * ALIGNED
    # Torch uses pinned memory again only when the copies from it are done.
    packed = torch.empty(total, dtype=torch.uint8, pin_memory=device.type == "cuda")
    for name, tensor in here.items():
        _part(packed, begins[name], tensor).copy_(tensor)
    there = packed.to(device, non_blocking=True)
    moved = {name: _part(there, begins[name], tensor) for name, tensor in here.items()}
    return {name: moved[name] if name in moved else tensor.to(device) for name, tensor in tensors.items()}


def _part(packed: Tensor, begin: int, like: Tensor) -> Tensor:
    """The bytes from `begin` on as a tensor of the shape and type of another."""
    return packed[begin : begin + like.nbytes].view(like.dtype).view(like.shape)


def arrays_of(values: Any) -> Any:
    """Tensors of the CPU as arrays on the same memory, also within dicts and tuples; arrays and None stay."""
    return mapped(values, lambda part: part.detach().numpy() if isinstance(part, Tensor) else part)


def tensors_of(values: Any) -> Any:
    """Arrays as tensors on the same memory, also within dicts and tuples; tensors and None stay."""
    return mapped(values, lambda part: torch.from_numpy(part) if isinstance(part, np.ndarray) else part)


def on_host(values: Any) -> Any:
    """Tensors on the CPU, also within dicts and tuples."""
    return mapped(values, lambda part: part.cpu() if isinstance(part, Tensor) else part)


def mapped(values: Any, function: Callable[[Any], Any]) -> Any:
    """`function` of each leaf of nested dicts and tuples."""
    if isinstance(values, Mapping):
        return {name: mapped(part, function) for name, part in values.items()}
    if isinstance(values, tuple):
        return tuple(mapped(part, function) for part in values)
    return function(values)
