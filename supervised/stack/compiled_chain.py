"""Chains whose leading linear layers, layer normalizations and ReLUs are compiled (see `supervised.stack.compiled_mlp`)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn

from supervised.stack.compiled_mlp import CompiledMLP, Layer
from supervised.stack.manual_backward import (
    LayerBackward,
    LayerNorm,
    Linear,
    ReLU,
    check_gradient,
    flattens_first,
    has_axes,
    innermost,
    layers_of,
    trained_places,
)
from supervised.stack.memory import FlatMemory, Place
from supervised.stack.registry import alike


class Dense(NamedTuple):
    """A linear layer, the layer normalization after it, if any, and whether a ReLU follows."""

    linear: Linear
    norm: LayerNorm | None
    relu: bool

    @property
    def length(self) -> int:
        """How many layers these are."""
        return 1 + (self.norm is not None) + self.relu

    def layer(self) -> Layer:
        """Return where the weights are, for `CompiledMLP`."""
        plain = Layer(*self.linear.begins, self.linear.outputs, self.relu)
        if self.norm is None:
            return plain
        scale, shift = self.norm.begins
        return plain._replace(scale=scale, shift=shift, eps=self.norm.eps)


LinearRun = list[Dense]


class CompiledChain:
    """A chain that begins with a compiled MLP, on numpy arrays or CPU tensors."""

    def __init__(
        self, memory: FlatMemory, mlp: CompiledMLP, rest: Sequence[LayerBackward], trained: set[Place], flattens: bool
    ) -> None:
        """rest: the layers after the MLP, computed by torch. trained, flattens: as in `Chain`."""
        self.memory, self.mlp, self.rest, self.trained, self.flattens = memory, mlp, list(rest), trained, flattens

    def fits(self, x: Any) -> bool:
        """Return whether the chain supports x: float32 [N, B, features], or more axes if the chain flattens them."""
        return (
            isinstance(x, (np.ndarray, Tensor))
            and has_axes(x, self.memory.n, self.flattens)
            and x.dtype in (np.float32, torch.float32)
            and not torch.is_autocast_enabled("cpu")
        )

    def __call__(self, x: Tensor) -> Tensor:
        return torch.from_numpy(self.forward(x.detach().numpy()))

    def vjp(self, x: Tensor) -> tuple[Tensor, Callable[[Tensor], None]]:
        """Like `Stack.vjp`."""
        found, back = self.array_vjp(x.detach().numpy())
        y = torch.from_numpy(found)

        def backward(gradient: Tensor) -> None:
            check_gradient(gradient, y)
            back(gradient.numpy())

        return y, backward

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Forward pass x [N, B, ...] -> y [N, B, O]."""
        y = self.mlp.forward(self._rows(x), False)
        if self.rest:
            passed = torch.from_numpy(y)
            for layer in self.rest:
                passed = layer.forward(passed, False)
            y = passed.numpy()
        return y

    def array_vjp(self, x: np.ndarray) -> tuple[np.ndarray, Callable[[np.ndarray], None]]:
        """Like `Stack.vjp`, for arrays."""
        rows = self._rows(x)
        y = self.mlp.forward(rows, True)
        passed = [torch.from_numpy(y)] if self.rest else []
        for layer in self.rest:
            passed.append(layer.forward(passed[-1], True))

        outputs: np.ndarray = passed[-1].numpy() if passed else y

        def backward(gradient: np.ndarray) -> None:
            check_gradient(gradient, outputs)
            if self.rest:
                by = torch.from_numpy(gradient)
                for i in reversed(range(len(self.rest))):
                    by = self.rest[i].backward(by, passed[i], passed[i + 1], True)
                gradient = by.numpy()
            self.mlp.backward(gradient, rows, y)
            self.memory.arrived = set(self.trained)

        return outputs, backward

    def _rows(self, x: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(x if x.ndim == 3 else x.reshape(*x.shape[:2], math.prod(x.shape[2:])))


def compiled_chain(memory: FlatMemory, modules: Sequence[nn.Module]) -> CompiledChain | None:
    """Like `manual_backward.chain`, but compile the leading linear layers (after an optional Flatten); None if there are none.

    A layer normalization and a ReLU after a linear layer are compiled with it.
    """
    groups = innermost(modules)
    layers, flattens = layers_of(memory, groups) or [], flattens_first(groups)
    run = _leading(layers[int(flattens) :])
    if not run:
        return None
    end = int(flattens) + sum(dense.length for dense in run)
    return CompiledChain(memory, compiled_mlp(memory, run), layers[end:], trained_places(memory, groups), flattens)


def _leading(layers: Sequence[LayerBackward]) -> LinearRun:
    """Return the layers from the first on that can be compiled."""
    run: LinearRun = []
    end = 0
    while end < len(layers):
        linear = layers[end]
        if not isinstance(linear, Linear) or not linear.is_trained:
            break
        norm, relu = next(iter(layers[end + 1 :]), None), next(iter(layers[end + 2 :]), None)
        if isinstance(norm, LayerNorm) and norm.is_trained and linear.has_bias and norm.width == linear.outputs:
            run.append(Dense(linear, norm, isinstance(relu, ReLU)))
        else:
            run.append(Dense(linear, None, isinstance(norm, ReLU)))
        end += run[-1].length
    if run and run[-1].norm is not None:  # the last compiled layer is without
        run[-1] = Dense(run[-1].linear, None, False)
    return run


def compiled_mlp(memory: FlatMemory, run: LinearRun) -> CompiledMLP:
    """Compile linear layers and what follows each of them."""
    return CompiledMLP(memory.flat, memory.gradient, run[0].linear.inputs, [dense.layer() for dense in run])


def linear_run(memory: FlatMemory, groups: Sequence[Sequence[nn.Module]]) -> LinearRun | None:
    """Return N modules per layer, linear layers and ReLUs, as input for `compiled_mlp`, or None if some are of another type or
    not trained."""
    run: LinearRun = []
    for group in groups:
        if alike(group, (nn.ReLU,)) and run and not run[-1].relu:
            run[-1] = run[-1]._replace(relu=True)
        elif alike(group, (nn.Linear,)) and (linear := Linear(memory, cast(nn.Linear, group[0]))).is_trained:
            run.append(Dense(linear, None, False))
        else:
            return None
    return run
