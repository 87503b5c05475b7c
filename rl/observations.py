"""Observations of every kind as named parts, and parts as what a network reads.

An observation is a tensor or nested dicts of tensors (`envs` makes dicts of tuples). Its leaves have names: "" where there
is one alone, else the keys joined by dots.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from rl.spaces import SpaceError


@dataclass(frozen=True)
class Part:
    """One leaf of an observation space.

    shape and dtype: as the environment gives it. kind: "discrete" (one-hot), "vector" (flat numbers) or "image".
    features: the shape that a network sees, [size], or [C, H, W] of an image.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    kind: str
    features: tuple[int, ...]
    sizes: tuple[int, ...] = ()  # of each number's one-hot code
    starts: tuple[int, ...] = ()
    channels_last: bool = False

    def holds(self, values: np.ndarray) -> bool:
        """Whether values [..., *shape] of a discrete part lie in it."""
        digits = values.reshape(-1, len(self.sizes))
        return bool(((digits >= self.starts) & (digits < np.add(self.starts, self.sizes))).all())

    def example(self, *lead: int) -> Tensor:
        """An observation that the part could hold, [*lead, *shape]: zeros, or the lowest number of each."""
        lowest = torch.tensor(self.starts).reshape(self.shape) if self.kind == "discrete" else torch.zeros(self.shape)
        return lowest.expand(*lead, *self.shape)

    def encode(self, x: Tensor) -> Tensor:
        """[..., *shape] -> float32 [..., *features]: one-hot codes, numbers, or an image; bytes become 0..1."""
        if self.kind == "vector":
            x = x if x.dtype == torch.float32 else x.float() / (255 if self.dtype == np.uint8 else 1)
            return x if len(self.shape) == 1 else x.reshape(*x.shape[: x.ndim - len(self.shape)], -1)
        if self.kind == "discrete":
            digits = x.long().reshape(*x.shape[: x.ndim - len(self.shape)], -1)
            codes = [
                F.one_hot(digits[..., i] - start, size)
                for i, (size, start) in enumerate(zip(self.sizes, self.starts, strict=True))
            ]
            return (codes[0] if len(codes) == 1 else torch.cat(codes, -1)).float()
        scaled = x.float() / 255 if self.dtype == np.uint8 else x.float()
        scaled = scaled.movedim(-1, -3) if self.channels_last else scaled
        return scaled.reshape(*x.shape[: x.ndim - len(self.shape)], *self.features)


def leaves(obs: Any, name: str = "") -> dict[str, Any]:
    """The leaves of nested dicts or tuples by name."""
    if isinstance(obs, (Mapping, tuple)):
        pairs = obs.items() if isinstance(obs, Mapping) else ((str(i), part) for i, part in enumerate(obs))
        joined = [leaves(part, f"{name}.{key}" if name else str(key)) for key, part in pairs]
        return {key: leaf for found in joined for key, leaf in found.items()}
    return {name: obs}


def parts_of(space: gym.Space[Any], name: str = "") -> tuple[Part, ...]:
    """The parts of an observation space. Raises SpaceError, with the way out, for what no network here reads."""
    if isinstance(space, (gym.spaces.Dict, gym.spaces.Tuple)):
        inner = space.spaces.items() if isinstance(space, gym.spaces.Dict) else enumerate(space.spaces)
        found = [part for key, own in inner for part in parts_of(own, f"{name}.{key}" if name else str(key))]
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
        return (_box(space, name),)
    raise SpaceError(
        f"The observation {name or 'space'} {space} is of a kind that no network here reads. Turn it into numbers with"
        " gymnasium.wrappers.TransformObservation, or choose parts of it with FilterObservation."
    )


def _box(space: gym.spaces.Box, name: str) -> Part:
    shape = space.shape
    if math.prod(shape) == 0:
        raise SpaceError(f"The observation {name or 'space'} {space} holds no number at all.")
    dtype = np.dtype(np.float32) if space.dtype.kind == "f" else np.dtype(space.dtype)
    image = space.dtype in (np.uint8, np.bool_) and len(shape) in (2, 3, 4) and min(sorted(shape)[-2:]) >= 4
    if not image:
        return Part(name, shape, dtype, "vector", (math.prod(shape),))
    # Of three axes the channels are the shortest: the first in stacked frames, the last in coloured pictures. Of four, the
    # first are frames, and the channels the second or the last.
    last = (len(shape) == 3 and shape[-1] < shape[0]) or (len(shape) == 4 and shape[-1] < shape[1])
    sides = shape[-3:-1] if last else shape[-2:]
    features = (math.prod(shape) // math.prod(sides), *sides)
    return Part(name, shape, dtype, "image", features, channels_last=last)


def encode(parts: tuple[Part, ...], obs: Any, device: torch.device) -> Any:
    """Observations [N, B, *O] -> what the networks take: a tensor, or a dict of them. Raises SpaceError for other parts."""
    if len(parts) == 1 and isinstance(obs, Tensor):
        return parts[0].encode(obs.to(device, non_blocking=True))
    found = leaves(obs)
    if found.keys() != {part.name for part in parts}:
        raise SpaceError(
            f"The observation has the parts {', '.join(map(repr, found))}; the agent was built for"
            f" {', '.join(repr(part.name) for part in parts)}."
        )
    encoded = {part.name: part.encode(torch.as_tensor(found[part.name]).to(device)) for part in parts}
    return encoded if len(parts) > 1 else encoded[parts[0].name]
