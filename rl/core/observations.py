"""Observations as named parts, and their encoding as network inputs.

An observation is a tensor or nested dicts of tensors (`envs` converts tuples to dicts). Its leaves have names: "" if there is
only one, else the keys joined by dots.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np

from rl.core.spaces import SpaceError
from supervised.validate import is_tensor, kind_of, shown

if TYPE_CHECKING:
    import torch
    from torch import Tensor

CHANNELS = ("auto", "first", "last")
SMALLEST_SIDE = 4  # pixels per side of an image; smaller boxes are treated as vectors
UNBOUNDED = 1e10  # bounds this large are the range of a data type, not real bounds


@dataclass(frozen=True)
class Part:
    """One leaf of an observation space.

    shape and dtype: those of the environment. kind: "discrete" (one-hot encoded), "vector" (flattened) or "image". features: the
    shape of the network input, [size], or [C, H, W] for an image. scale: the divisor of the values, a number or a tensor of
    `shape`.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    kind: str
    features: tuple[int, ...]
    sizes: tuple[int, ...] = ()  # of each number's one-hot encoding
    starts: tuple[int, ...] = ()
    channels_last: bool = False
    scale: float | Tensor = field(default=1.0, compare=False)

    def is_read_as(self, x: Any) -> bool:
        """Return whether x needs no encoding: an array float32 [N, B, F] of a vector without scaling."""
        return (
            self.kind == "vector"
            and isinstance(x, np.ndarray)
            and x.dtype == np.float32
            and isinstance(self.scale, float)
            and self.scale == 1.0
            and x.shape[2:] == self.shape == self.features
        )

    def holds(self, values: np.ndarray) -> bool:
        """Return whether values [..., *shape] of a discrete part are in its space."""
        digits = values.reshape(-1, len(self.sizes))
        return bool(((digits >= self.starts) & (digits < np.add(self.starts, self.sizes))).all())

    def example(self, *lead: int) -> Tensor:
        """Return a valid example of the part, [*lead, *shape]: zeros, or the lowest value of each discrete number."""
        import torch

        lowest = torch.tensor(self.starts).reshape(self.shape) if self.kind == "discrete" else torch.zeros(self.shape)
        return lowest.expand(*lead, *self.shape)

    def encode(self, x: Tensor) -> Tensor:
        """Encode [..., *shape] as float32 [..., *features]: one-hot vectors, numbers or images; bytes are scaled to [0, 1]."""
        if self.shape and x.shape[-len(self.shape) :] != self.shape:
            what = f"observation {self.name}".strip()
            raise SpaceError(
                f"The {what} must have the shape [{', '.join(['...', *map(str, self.shape)])}], not {kind_of(x)}."
            )
        if self.kind == "vector":
            x = self._scaled(x)
            return x if len(self.shape) == 1 else x.reshape(*x.shape[: x.ndim - len(self.shape)], -1)
        if self.kind == "discrete":
            import torch
            import torch.nn.functional as F

            digits = x.long().reshape(*x.shape[: x.ndim - len(self.shape)], -1)
            codes = [
                F.one_hot(digits[..., i] - start, size)
                for i, (size, start) in enumerate(zip(self.sizes, self.starts, strict=True))
            ]
            return (codes[0] if len(codes) == 1 else torch.cat(codes, -1)).float()
        scaled = self._scaled(x)
        scaled = scaled.movedim(-1, -3) if self.channels_last else scaled
        return scaled.reshape(*x.shape[: x.ndim - len(self.shape)], *self.features)

    def _scaled(self, x: Tensor) -> Tensor:
        x = x.float()
        if is_tensor(self.scale):
            return x / self.scale.to(x.device, non_blocking=True)
        return x if self.scale == 1.0 else x / self.scale


def leaves(obs: Any, name: str = "") -> dict[str, Any]:
    """Return the leaves of nested dicts or tuples by name."""
    if isinstance(obs, (Mapping, tuple)):
        pairs = obs.items() if isinstance(obs, Mapping) else ((str(i), part) for i, part in enumerate(obs))
        joined = [leaves(part, f"{name}.{key}" if name else str(key)) for key, part in pairs]
        return {key: leaf for found in joined for key, leaf in found.items()}
    return {name: obs}


def parts_of(space: gym.Space[Any], name: str = "", channels: str = "auto") -> tuple[Part, ...]:
    """Return the parts of an observation space. Raises SpaceError, with a remedy, for spaces that networks do not support.

    channels: the position of the channel axis of images, one of CHANNELS; see `_channels_last`.
    """
    if isinstance(space, (gym.spaces.Dict, gym.spaces.Tuple)):
        inner = space.spaces.items() if isinstance(space, gym.spaces.Dict) else enumerate(space.spaces)
        found = [part for key, own in inner for part in parts_of(own, f"{name}.{key}" if name else str(key), channels)]
        if not found or len({part.name for part in found}) < len(found):
            raise SpaceError(f"The observation space {space} is empty, or two of its parts have the same name.")
        return tuple(found)
    if isinstance(space, gym.spaces.Discrete):
        n, start = int(space.n), int(space.start)
        return (Part(name, (), np.dtype(np.int64), "discrete", (n,), (n,), (start,)),)
    if isinstance(space, gym.spaces.MultiDiscrete):
        sizes, starts = tuple(space.nvec.ravel().tolist()), tuple(space.start.ravel().tolist())
        return (Part(name, space.shape, np.dtype(np.int64), "discrete", (sum(sizes),), sizes, starts),)
    if isinstance(space, gym.spaces.MultiBinary):
        return (Part(name, space.shape, np.dtype(np.int8), "vector", (math.prod(space.shape),)),)
    if isinstance(space, gym.spaces.Box):
        return (_box(space, name, channels),)
    raise SpaceError(
        f"The observation {name or 'space'} {shown(space)} is of a kind that networks do not support. Convert it to numbers with"
        " gymnasium.wrappers.TransformObservation, or select parts of it with FilterObservation."
    )


def _box(space: gym.spaces.Box, name: str, channels: str) -> Part:
    shape = space.shape
    if math.prod(shape) == 0:
        raise SpaceError(f"The observation {name or 'space'} {space} contains no numbers.")
    dtype = np.dtype(np.float32) if space.dtype.kind == "f" else np.dtype(space.dtype)
    if not _is_image(space, channels):
        scale = _scale(space) if space.dtype == np.uint8 else 1.0
        return Part(name, shape, dtype, "vector", (math.prod(shape),), scale=scale)
    last = _channels_last(shape, channels)
    sides = shape[-3:-1] if last else shape[-2:]
    features = (math.prod(shape) // math.prod(sides), *sides)
    return Part(name, shape, dtype, "image", features, channels_last=last, scale=_scale(space))


def _is_image(space: gym.spaces.Box, channels: str) -> bool:
    """Return whether a Box holds images.

    Images have three axes, or four (stacked frames), with sides of at least SMALLEST_SIDE pixels, or two axes if the data type is
    uint8 or bool. If `channels` is given, every Box with three or four axes is an image.
    """
    shape = space.shape
    if len(shape) in (3, 4) and channels != "auto":
        return True
    axes = (2, 3, 4) if space.dtype in (np.uint8, np.bool_) else (3, 4)
    return len(shape) in axes and sorted(shape)[-2] >= SMALLEST_SIDE


def _channels_last(shape: tuple[int, ...], channels: str) -> bool:
    """Return whether the channels of an image are the last of its last three axes; a fourth axis holds stacked frames.

    "auto": if the first two of these axes are equal, the channels are last; if the last two are equal, they are first; otherwise
    they are last if the last axis is shorter than the first.
    """
    if len(shape) < 3 or channels != "auto":
        return len(shape) > 2 and channels == "last"
    first, second, third = shape[-3:]
    if first == second:
        return True
    return second != third and third < first


def _scale(space: gym.spaces.Box) -> float | Tensor:
    """Return the divisor that scales a Box to [-1, 1]: its bounds, or 1 where it is unbounded; a number if all are equal."""
    if space.dtype == np.bool_:
        return 1.0
    low, high = np.abs(space.low.astype(np.float64)), np.abs(space.high.astype(np.float64))
    largest = np.maximum(low, high)
    largest = np.where((largest == 0) | (largest >= UNBOUNDED), 1.0, largest)
    alike = bool((largest == largest.flat[0]).all())
    if alike:
        return float(largest.flat[0])
    import torch

    return torch.from_numpy(largest.astype(np.float32))


def encode(parts: tuple[Part, ...], obs: Any, device: torch.device) -> Any:
    """Encode observations [N, B, *O] as network inputs, a tensor or a dict of tensors. Raises SpaceError for other parts."""
    if len(parts) == 1 and is_tensor(obs):
        return parts[0].encode(obs.to(device, non_blocking=True))
    return _encode_each(parts, leaves(obs), device)


def _encode_each(parts: tuple[Part, ...], found: dict[str, Any], device: torch.device) -> Any:
    if found.keys() != {part.name for part in parts}:
        raise SpaceError(
            f"The observation has the parts {', '.join(map(repr, found))}, but the agent was built for"
            f" {', '.join(repr(part.name) for part in parts)}."
        )
    import torch

    encoded = {
        part.name: part.encode(torch.as_tensor(found[part.name]).to(device, non_blocking=True)) for part in parts
    }
    return encoded if len(parts) > 1 else encoded[parts[0].name]
