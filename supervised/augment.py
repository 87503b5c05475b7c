"""Random image augmentation, applied to whole batches on their device.

Each augmentation is a frozen dataclass. Call it with images [B, ..., H, W] in [0, 1] and a generator to get augmented images.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from supervised.validate import ArgumentError, instance, integer, number, shown, store


@dataclass(frozen=True)
class Shift:
    """Shift each image by up to `pixels` whole pixels along both axes, with zero padding."""

    pixels: int = 2

    def __post_init__(self) -> None:
        store(self, integer, "pixels", low=0)

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """[B, ..., H, W] -> the same shape."""
        _check(x, generator)
        by = torch.randint(2 * self.pixels + 1, (2, len(x)), generator=generator, device=x.device)
        h, w = x.shape[-2:]
        wide = F.pad(x.reshape(len(x), -1, h, w), (self.pixels,) * 4)
        example, channel = (
            torch.arange(n, device=x.device).view(s) for n, s in ((len(x), (-1, 1, 1, 1)), (wide.shape[1], (-1, 1, 1)))
        )
        rows = (by[0][:, None] + torch.arange(h, device=x.device))[:, None, :, None]
        columns = (by[1][:, None] + torch.arange(w, device=x.device))[:, None, None, :]
        return wide[example, channel, rows, columns].view_as(x)


@dataclass(frozen=True)
class Affine:
    """Apply a random affine transformation to each image, with bilinear interpolation and zero padding.

    Each parameter is drawn uniformly: the rotation up to +-`degrees`, the zoom up to the fraction `scale`, the shear up to
    +-`shear` degrees, the translation up to the fraction `shift` of the side.
    """

    degrees: float = 10.0
    scale: float = 0.1
    shear: float = 0.0
    shift: float = 0.0

    def __post_init__(self) -> None:
        store(self, number, "degrees", "shift", low=0.0)
        store(self, number, "scale", low=0.0, high=1.0, below=True)
        store(self, number, "shear", low=0.0, high=90.0, below=True)

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """[B, ..., H, W] -> the same shape."""
        _check(x, generator)
        h, w = x.shape[-2:]
        draw = torch.rand(6, len(x), generator=generator, device=x.device) * 2 - 1
        angle, slant = draw[0] * math.radians(self.degrees), torch.tan(draw[1] * math.radians(self.shear))
        wide, high = 1 + draw[2] * self.scale, 1 + draw[3] * self.scale
        cos, sin = torch.cos(angle), torch.sin(angle)
        # The inverse map, from output to input pixels: rotate, shear, scale, translate. Each axis is in units of half its side,
        # so the off-diagonal terms carry the aspect ratio.
        matrix = torch.stack(
            [
                torch.stack([cos / wide, (-sin + cos * slant) / wide * (h / w), draw[4] * 2 * self.shift], 1),
                torch.stack([sin / high * (w / h), (cos + sin * slant) / high, draw[5] * 2 * self.shift], 1),
            ],
            1,
        )
        pictures = x.reshape(len(x), -1, h, w)
        grid = F.affine_grid(matrix.to(x.dtype), list(pictures.shape), align_corners=False)
        return F.grid_sample(pictures, grid, align_corners=False).view_as(x)


@dataclass(frozen=True)
class Noise:
    """Add Gaussian noise with standard deviation `std` to each pixel and clamp the result to [0, 1]."""

    std: float = 0.1

    def __post_init__(self) -> None:
        store(self, number, "std", low=0.0)

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """[B, ..., H, W] -> the same shape."""
        _check(x, generator)
        return (x + self.std * torch.randn(x.shape, generator=generator, device=x.device)).clamp(0, 1)


Augmentation = Shift | Affine | Noise


def _check(x: Any, generator: Any) -> None:
    """Raise ArgumentError unless x is a batch of images and `generator` a torch.Generator."""
    if not isinstance(x, Tensor) or not x.is_floating_point() or x.ndim < 3:
        raise ArgumentError(f"x must be a floating-point tensor [B, ..., H, W], not {shown(x)}.")
    instance(generator, "generator", torch.Generator, "a torch.Generator")
