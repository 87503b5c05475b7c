"""Layers applied to each row of sequences, arrays [N, R, I] -> [N, R, O]: linear layers and ReLUs compiled, others by torch."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import nn

from supervised.stack.compiled_chain import compiled_mlp, linear_run
from supervised.stack.manual_backward import BACKWARD, LayerBackward
from supervised.stack.memory import FlatMemory
from supervised.stack.registry import alike


class Extent(NamedTuple):
    """The range of rows begins..ends of each member, each int64 [N]. Forward passes always start at row 0."""

    begins: np.ndarray
    ends: np.ndarray


class RowLayer(Protocol):
    """One or several layers of all members, such as `compiled_mlp.CompiledMLP`."""

    def forward(self, x: np.ndarray, keep: bool, ends: np.ndarray | None = None) -> np.ndarray:
        """Forward pass [N, R, I] -> [N, R, O]."""
        ...

    def backward(
        self,
        gradient: np.ndarray,
        x: np.ndarray,
        y: np.ndarray,
        needed: bool = False,
        begins: np.ndarray | None = None,
        ends: np.ndarray | None = None,
    ) -> np.ndarray:
        """Write the gradients of the weights, given that with respect to y -> the one with respect to x, if `needed`."""
        ...


class ByTorch:
    """A layer without weights, computed by torch. It treats rows independently, so unused rows do not matter."""

    def __init__(self, layer: LayerBackward) -> None:
        self.layer = layer

    def forward(self, x: np.ndarray, keep: bool, ends: np.ndarray | None = None) -> np.ndarray:
        found: np.ndarray = self.layer.forward(torch.from_numpy(x), keep).numpy()
        return np.ascontiguousarray(found)

    def backward(
        self,
        gradient: np.ndarray,
        x: np.ndarray,
        y: np.ndarray,
        needed: bool = False,
        begins: np.ndarray | None = None,
        ends: np.ndarray | None = None,
    ) -> np.ndarray:
        by, x_, y_ = torch.from_numpy(gradient), torch.from_numpy(x), torch.from_numpy(y)
        return np.ascontiguousarray(self.layer.backward(by, x_, y_, needed).numpy())


class RowLayers:
    """A sequence of layers; the identity if it is empty."""

    def __init__(self, layers: Sequence[RowLayer]) -> None:
        self.layers = list(layers)

    def forward(self, x: np.ndarray, keep: bool, ends: np.ndarray) -> list[np.ndarray]:
        """Forward pass of a contiguous x [N, R, I] -> x and the outputs of each layer."""
        passed = [x]
        for layer in self.layers:
            passed.append(layer.forward(passed[-1], keep, ends))
        return passed

    def backward(self, gradient: np.ndarray, passed: list[np.ndarray], extent: Extent, needed: bool) -> np.ndarray:
        """Write the gradients of the weights, given that of the last of `passed` -> that of the first, if `needed`."""
        for i in reversed(range(len(self.layers))):
            gradient = self.layers[i].backward(gradient, passed[i], passed[i + 1], needed or i > 0, *extent)
        return gradient


def row_layers(memory: FlatMemory, groups: Sequence[Sequence[nn.Module]]) -> list[Callable[[], RowLayer]] | None:
    """Return functions that create the layers: runs of linear layers and ReLUs compiled, others by their `LayerBackward`.

    groups: N modules per layer. Returns None if some layers are neither. Creating linear layers requires numba.
    """
    found: list[Callable[[], RowLayer]] = []
    while groups:
        runs = (linear_run(memory, groups[:end]) for end in range(len(groups), 0, -1))
        run = next(filter(None, runs), None)
        if run is not None:
            found.append(functools.partial(compiled_mlp, memory, run))
            groups = groups[sum(dense.length for dense in run) :]
            continue
        layer = _without_weights(memory, groups[0])
        if layer is None:
            return None
        found.append(functools.partial(ByTorch, layer))
        groups = groups[1:]
    return found


def _without_weights(memory: FlatMemory, group: Sequence[nn.Module]) -> LayerBackward | None:
    """Return the `LayerBackward` of a layer without weights; None for other layers, and for Flatten, which reads more axes."""
    make = BACKWARD.get(type(group[0]))
    if make is None or alike(group, (nn.Flatten,)) or any(True for _ in group[0].parameters()):
        return None
    return make(memory, group)
