"""Layers over all rows of sequences, arrays [N, R, I] -> [N, R, O]: linear layers and ReLUs compiled, others by torch."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import nn

from supervised.stack.manual_backward import BACKWARD, LayerBackward, compiled_mlp, linear_run
from supervised.stack.memory import FlatMemory
from supervised.stack.registry import alike


class Extent(NamedTuple):
    """Which rows of each member are read, from `begins` on and before `ends`, each int64 [N]. Only a gradient begins later."""

    begins: np.ndarray
    ends: np.ndarray


class RowLayer(Protocol):
    """One or several layers of all members; `compiled_mlp.CompiledMLP` is one."""

    def forward(self, x: np.ndarray, keep: bool, ends: np.ndarray | None = None) -> np.ndarray:
        """[N, R, I] -> [N, R, O]."""
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
        """Write the gradients of the weights, from that by y -> that by x, if it is needed."""
        ...


class ByTorch:
    """A layer without weights that treats each row alone, so that nobody reads what it makes of rows that do not count."""

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
    """Layers one after another; none at all pass on what they are given."""

    def __init__(self, layers: Sequence[RowLayer]) -> None:
        self.layers = list(layers)

    def forward(self, x: np.ndarray, keep: bool, ends: np.ndarray) -> list[np.ndarray]:
        """x [N, R, I], contiguous -> x, and what each layer makes."""
        passed = [x]
        for layer in self.layers:
            passed.append(layer.forward(passed[-1], keep, ends))
        return passed

    def backward(self, gradient: np.ndarray, passed: list[np.ndarray], extent: Extent, needed: bool) -> np.ndarray:
        """Write the gradients of the weights, from that by the last of `passed` -> that by the first, if it is needed."""
        for i in reversed(range(len(self.layers))):
            gradient = self.layers[i].backward(gradient, passed[i], passed[i + 1], needed or i > 0, *extent)
        return gradient


def row_layers(memory: FlatMemory, groups: Sequence[Sequence[nn.Module]]) -> list[Callable[[], RowLayer]] | None:
    """What makes layers for arrays, each of N modules: runs of linear layers and ReLUs compiled, others by a `LayerBackward`.

    None where some are neither. Linear layers need numba when they are made.
    """
    found: list[Callable[[], RowLayer]] = []
    while groups:
        runs = (linear_run(memory, groups[:end]) for end in range(len(groups), 0, -1))
        run = next(filter(None, runs), None)
        if run is not None:
            found.append(functools.partial(compiled_mlp, memory, run))
            groups = groups[sum(1 + relu for _, relu in run) :]
            continue
        layer = _without_weights(memory, groups[0])
        if layer is None:
            return None
        found.append(functools.partial(ByTorch, layer))
        groups = groups[1:]
    return found


def _without_weights(memory: FlatMemory, group: Sequence[nn.Module]) -> LayerBackward | None:
    """How a layer that has no weights is computed; None for others, and for a Flatten, which reads the axes of a sequence."""
    make = BACKWARD.get(type(group[0]))
    if make is None or alike(group, (nn.Flatten,)) or any(True for _ in group[0].parameters()):
        return None
    return make(memory, group)
