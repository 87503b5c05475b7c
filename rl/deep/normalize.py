"""Running mean and variance of observations, for normalizing a network's inputs.

Welford (1962), "Note on a method for calculating corrected sums of squares and products", one observation at a time in float64,
so that a seed's statistics are bit-identical however many seeds run next to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rl.core.observations import Part, encode, leaves
from rl.deep.moving import tensors_of, together

CLIP = 10.0  # standard deviations
EPSILON = 1e-8  # added to a variance


class RunningMoments:
    """The statistics of N seeds, each pooled over the seed's environments. Only vector observations are normalized."""

    def __init__(self, parts: tuple[Part, ...], n: int, device: torch.device) -> None:
        """Raises ValueError if no part of the observation is a vector."""
        self.parts = {part.name: part for part in parts if part.kind == "vector"}
        if not self.parts:
            raise ValueError(
                "normalize_observations=True has nothing to normalize: these observations are images or one-hot codes."
            )
        self.device = device
        self.count = np.zeros(n, np.int64)
        self.mean = {name: np.zeros((n, *part.features)) for name, part in self.parts.items()}
        self.squares = {
            name: np.zeros((n, *part.features)) for name, part in self.parts.items()
        }  # sums of squared deviations
        self._prepare()

    def observe(self, obs: Any) -> None:
        """Update the statistics with raw observations [N, B, *O]. Those with an entry that is not finite are skipped."""
        n, found = len(self.count), leaves(obs)
        x = {
            name: part.encode(torch.as_tensor(found[name])).cpu().double().numpy().reshape(n, -1, *part.features)
            for name, part in self.parts.items()
        }
        finite = np.logical_and.reduce([np.isfinite(values).all(-1) for values in x.values()])
        for b in range(finite.shape[1]):
            counted = finite[:, b]
            self.count += counted
            share = 1.0 / np.maximum(self.count, 1)[:, None]
            for name, values in x.items():
                mean = self.mean[name]
                value = np.where(counted[:, None], values[:, b], mean)
                before = value - mean
                mean += before * share
                self.squares[name] += before * (value - mean)
        self._prepare()

    def normalize(self, x: Any) -> Any:
        """Normalize encoded observations [N, ..., F], or a dict of them: (x - mean) / deviation, clipped to [-CLIP, CLIP]."""
        if isinstance(x, Tensor):
            return self._normalized(next(iter(self.parts)), x)
        return {name: self._normalized(name, part) if name in self.parts else part for name, part in x.items()}

    def _normalized(self, name: str, x: Tensor) -> Tensor:
        shape = (len(self.count), *(1,) * (x.ndim - 2), x.shape[-1])
        shift, scale = self._transform[name]
        return ((x - shift.view(shape)) * scale.view(shape)).clamp_(-CLIP, CLIP)

    def _prepare(self) -> None:
        """Update shift and scale, float32 [N, F]; with fewer than two observations the deviation is 1."""
        count = np.maximum(self.count, 1)[:, None]
        found: dict[str, Tensor] = {}
        for name, squares in self.squares.items():
            variance = np.where(count > 1, squares / count, 1.0)
            found[f"shift {name}"] = torch.from_numpy(self.mean[name].astype(np.float32))
            found[f"scale {name}"] = torch.from_numpy((1.0 / np.sqrt(variance + EPSILON)).astype(np.float32))
        moved = together(found, self.device)
        self._transform = {name: (moved[f"shift {name}"], moved[f"scale {name}"]) for name in self.parts}

    def state_dict(self) -> dict[str, np.ndarray]:
        """Return the counts int64 [N], and means and sums of squared deviations float64 [N, F]."""
        return {name: array.copy() for name, array in self._arrays().items()}

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Load a state returned by `state_dict`. Raises ValueError if the statistics are invalid or do not match."""
        for name, array in self._arrays().items():
            given = state.get(name)
            if given is None or given.shape != array.shape or given.dtype != array.dtype:
                raise ValueError(f"The saved {name} of the observations must be {array.dtype} {list(array.shape)}.")
            if not np.isfinite(given).all() or (not name.startswith("mean") and (given < 0).any()):
                raise ValueError(f"The saved {name} of the observations is invalid: it is negative, NaN or infinite.")
        for name, array in self._arrays().items():
            array[:] = state[name]
        self._prepare()

    def _arrays(self) -> dict[str, np.ndarray]:
        arrays: dict[str, np.ndarray] = {"count": self.count}
        for kind, found in (("mean", self.mean), ("squares", self.squares)):
            arrays |= {f"{kind} {name}".strip(): array for name, array in found.items()}
        return arrays


def encoded(parts: tuple[Part, ...], moments: RunningMoments | None, obs: Any, device: torch.device) -> Any:
    """Encode observations, tensors or arrays, as network inputs: tensors on the device."""
    x = encode(parts, tensors_of(obs), device)
    return x if moments is None else moments.normalize(x)
