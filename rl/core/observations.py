"""Observations of every kind as named parts, and parts as what a network reads.

An observation is a tensor or nested dicts of tensors (`envs` makes dicts of tuples). Its leaves have names: "" where there
is one alone, else the keys joined by dots.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from rl.core.spaces import SpaceError
from supervised.validate import kind_of, shown

CHANNELS = ("auto", "first", "last")
SMALLEST_SIDE = 4  # pixels, of an image; smaller boxes are read number by number
UNBOUNDED = 1e10  # such bounds are the range of a type, and no bounds


@dataclass(frozen=True)
class Part:
    """One leaf of an observation space.

    shape and dtype: as the environment gives it. kind: "discrete" (one-hot), "vector" (flat numbers) or "image".
    features: the shape that a network sees, [size], or [C, H, W] of an image. scale: what numbers are divided by, one for all
    or a tensor of `shape`.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    kind: str
    features: tuple[int, ...]
    sizes: tuple[int, ...] = ()  # of each number's one-hot code
    starts: tuple[int, ...] = ()
    channels_last: bool = False
    scale: float | Tensor = field(default=1.0, compare=False)

    def is_read_as(self, x: Any) -> bool:
        """Whether a network takes x as it is: an array float32 [N, B, F] of a vector that is not scaled."""
        return (
            self.kind == "vector"
            and isinstance(x, np.ndarray)
            and x.dtype == np.float32
            and isinstance(self.scale, float)
            and self.scale == 1.0
            and x.shape[2:] == self.shape == self.features
        )

    def holds(self, values: np.ndarray) -> bool:
        """Whether values [..., *shape] of a discrete part lie in it."""
        digits = values.reshape(-1, len(self.sizes))
        return bool(((digits >= self.starts) & (digits < np.add(self.starts, self.sizes))).all())

    def example(self, *lead: int) -> Tensor:
        """An observation that the part could hold, [*lead, *shape]: zeros, or the lowest number of each."""
        lowest = torch.tensor(self.starts).reshape(self.shape) if self.kind == "discrete" else torch.zeros(self.shape)
        return lowest.expand(*lead, *self.shape)

    def encode(self, x: Tensor) -> Tensor:
        """[..., *shape] -> float32 [..., *features]: one-hot codes, numbers, or an image; bytes and pixels become 0..1."""
        if self.shape and x.shape[-len(self.shape) :] != self.shape:
            what = f"observation {self.name}".strip()
            raise SpaceError(
                f"The {what} has the shape [{', '.join(['...', *map(str, self.shape)])}], not {kind_of(x)}."
            )
        if self.kind == "vector":
            x = self._scaled(x)
            return x if len(self.shape) == 1 else x.reshape(*x.shape[: x.ndim - len(self.shape)], -1)
        if self.kind == "discrete":
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
        x = x if x.dtype == torch.float32 else x.float()
        if isinstance(self.scale, Tensor):
            return x / self.scale.to(x.device, non_blocking=True)
        return x if self.scale == 1.0 else x / self.scale


def leaves(obs: Any, name: str = "") -> dict[str, Any]:
    """The leaves of nested dicts or tuples by name."""
    if isinstance(obs, (Mapping, tuple)):
        pairs = obs.items() if isinstance(obs, Mapping) else ((str(i), part) for i, part in enumerate(obs))
        joined = [leaves(part, f"{name}.{key}" if name else str(key)) for key, part in pairs]
        return {key: leaf for found in joined for key, leaf in found.items()}
    return {name: obs}


def parts_of(space: gym.Space[Any], name: str = "", channels: str = "auto") -> tuple[Part, ...]:
    """The parts of an observation space. Raises SpaceError, with the way out, for what no network here reads.

    channels: which axis of an image holds its channels, one of CHANNELS; see `_channels_last`.
    """
    if isinstance(space, (gym.spaces.Dict, gym.spaces.Tuple)):
        inner = space.spaces.items() if isinstance(space, gym.spaces.Dict) else enumerate(space.spaces)
        found = [part for key, own in inner for part in parts_of(own, f"{name}.{key}" if name else str(key), channels)]
        if not found or len({part.name for part in found}) < len(found):
            raise SpaceError(f"The observation space {space} is empty, or two of its parts have one name.")
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
        f"The observation {name or 'space'} {shown(space)} is of a kind that no network here reads. Turn it into numbers with"
        " gymnasium.wrappers.TransformObservation, or choose parts of it with FilterObservation."
    )


def _box(space: gym.spaces.Box, name: str, channels: str) -> Part:
    shape = space.shape
    if math.prod(shape) == 0:
        raise SpaceError(f"The observation {name or 'space'} {space} holds no number at all.")
    dtype = np.dtype(np.float32) if space.dtype.kind == "f" else np.dtype(space.dtype)
    if not _is_image(space, channels):
        scale = _scale(space) if space.dtype == np.uint8 else 1.0
        return Part(name, shape, dtype, "vector", (math.prod(shape),), scale=scale)
    last = _channels_last(shape, channels)
    sides = shape[-3:-1] if last else shape[-2:]
    features = (math.prod(shape) // math.prod(sides), *sides)
    return Part(name, shape, dtype, "image", features, channels_last=last, scale=_scale(space))


def _is_image(space: gym.spaces.Box, channels: str) -> bool:
    """Whether a Box holds images: of three axes, or four (stacked frames), with sides of SMALLEST_SIDE pixels or more; of two
    where its numbers are bytes or bools. Where it is said which axis holds the channels, all of three or four axes."""
    shape = space.shape
    if len(shape) in (3, 4) and channels != "auto":
        return True
    axes = (2, 3, 4) if space.dtype in (np.uint8, np.bool_) else (3, 4)
    return len(shape) in axes and sorted(shape)[-2] >= SMALLEST_SIDE


def _channels_last(shape: tuple[int, ...], channels: str) -> bool:
    """Whether the channels of an image are its last axis; before the last three axes may be one of stacked frames.

    "auto": where two sides that are equal stand first they are last, and where two stand last they are first; else they are
    the shortest axis.
    """
    if len(shape) < 3 or channels != "auto":
        return len(shape) > 2 and channels == "last"
    first, second, third = shape[-3:]
    if first == second:
        return True
    return second != third and third < first


def _scale(space: gym.spaces.Box) -> float | Tensor:
    """What makes the numbers of a Box at most 1 in size: its bounds, and 1 where it has none; one number where all are alike."""
    if space.dtype == np.bool_:
        return 1.0
    low, high = np.abs(space.low.astype(np.float64)), np.abs(space.high.astype(np.float64))
    largest = np.maximum(low, high)
    largest = np.where((largest == 0) | (largest >= UNBOUNDED), 1.0, largest)
    alike = bool((largest == largest.flat[0]).all())
    return float(largest.flat[0]) if alike else torch.from_numpy(largest.astype(np.float32))


def encode(parts: tuple[Part, ...], obs: Any, device: torch.device) -> Any:
    """Observations [N, B, *O] -> what the networks take: a tensor, or a dict of them. Raises SpaceError for other parts."""
    if len(parts) == 1 and isinstance(obs, Tensor):
        return parts[0].encode(obs.to(device, non_blocking=True))
    return _encode_each(parts, leaves(obs), device)


def _encode_each(parts: tuple[Part, ...], found: dict[str, Any], device: torch.device) -> Any:
    if found.keys() != {part.name for part in parts}:
        raise SpaceError(
            f"The observation has the parts {', '.join(map(repr, found))}; the agent was built for"
            f" {', '.join(repr(part.name) for part in parts)}."
        )
    encoded = {
        part.name: part.encode(torch.as_tensor(found[part.name]).to(device, non_blocking=True)) for part in parts
    }
    return encoded if len(parts) > 1 else encoded[parts[0].name]
