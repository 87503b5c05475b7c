"""Transfers between host and device, and conversions between arrays and tensors, in nested dicts and tuples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

ALIGNED = 16  # alignment of each tensor in bytes, for fast reads on a GPU


def together(tensors: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """Copy tensors to the device: all those on the host in one asynchronous transfer."""
    here = {name: tensor for name, tensor in tensors.items() if tensor.device.type == "cpu"}
    if device.type == "cpu" or not here:
        return {name: tensor.to(device, non_blocking=True) for name, tensor in tensors.items()}
    begins, total = {}, 0
    for name, tensor in here.items():
        begins[name], total = total, total + -(-tensor.nbytes // ALIGNED) * ALIGNED
    # Torch reuses pinned memory only after the copies from it have completed.
    packed = torch.empty(total, dtype=torch.uint8, pin_memory=device.type == "cuda")
    for name, tensor in here.items():
        _part(packed, begins[name], tensor).copy_(tensor)
    there = packed.to(device, non_blocking=True)
    moved = {name: _part(there, begins[name], tensor) for name, tensor in here.items()}
    return {name: moved[name] if name in moved else tensor.to(device) for name, tensor in tensors.items()}


def _part(packed: Tensor, begin: int, like: Tensor) -> Tensor:
    """Return the bytes from `begin` as a tensor with the shape and dtype of another."""
    return packed[begin : begin + like.nbytes].view(like.dtype).view(like.shape)


def arrays_of(values: Any) -> Any:
    """Convert CPU tensors to arrays that share their memory, also nested; anything else is unchanged."""
    return mapped(values, lambda part: part.detach().numpy() if isinstance(part, Tensor) else part)


def tensors_of(values: Any) -> Any:
    """Convert arrays to tensors that share their memory, also nested; anything else is unchanged."""
    return mapped(values, lambda part: torch.from_numpy(part) if isinstance(part, np.ndarray) else part)


def on_host(values: Any) -> Any:
    """Copy tensors to the CPU, also nested; anything else is unchanged."""
    return mapped(values, lambda part: part.cpu() if isinstance(part, Tensor) else part)


def mapped(values: Any, function: Callable[[Any], Any]) -> Any:
    """Apply `function` to each leaf of nested dicts and tuples."""
    if isinstance(values, Mapping):
        return {name: mapped(part, function) for name, part in values.items()}
    if isinstance(values, tuple):
        return tuple(mapped(part, function) for part in values)
    return function(values)


def time_swapped(x: Any) -> Any:
    """Swap the axes of windows and time: [N, B, W, ...] <-> [N, W, B, ...]."""
    return x.swapaxes(1, 2)
