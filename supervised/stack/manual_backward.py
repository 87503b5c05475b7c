"""Chains of simple layers with manual gradients, bit-identical to autograd's but without its overhead.

For small networks autograd's bookkeeping takes longer than the arithmetic: a training step of a 4-64-64-2 network takes 301 us
with it and 124 us without. A chain consists of layers registered here; models with other layers, or with a layer of width 1
(see `determinism.product`), use autograd.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from supervised.stack.memory import FlatMemory, Place
from supervised.validate import ArgumentError, kind_of


class LayerBackward(Protocol):
    """Forward and backward pass of one layer of all members, [N, B, ...] -> [N, B, ...]."""

    def forward(self, x: Tensor, keep: bool) -> Tensor:
        """Compute the outputs. keep: whether `backward` will be called."""
        ...

    def backward(self, gradient: Tensor, x: Tensor, y: Tensor, needed: bool) -> Tensor:
        """Write the gradients of the layer's weights -> the gradient with respect to x (arbitrary unless `needed`)."""
        ...


Maker = Callable[[FlatMemory, Sequence[Any]], LayerBackward | None]
M = TypeVar("M", bound=Maker)
BACKWARD: dict[type[nn.Module], Maker] = {}
# The submodules of modules that only call them one after another.
PARTS: dict[type[nn.Module], Callable[[Any], list[nn.Module]]] = {nn.Sequential: list}


def register_backward(*kinds: type[nn.Module]) -> Callable[[M], M]:
    """Register a function that creates the `LayerBackward` of modules of these types, or None for unsupported ones."""

    def register(make: M) -> M:
        BACKWARD.update(dict.fromkeys(kinds, make))
        return make

    return register


class Chain:
    """A sequence of layers."""

    def __init__(
        self, memory: FlatMemory, layers: Sequence[LayerBackward], trained: set[Place], first: int, flattens: bool
    ) -> None:
        """trained: the weights that get a gradient. first: the index of the first layer with such weights, whose input needs
        no gradient. flattens: whether the chain begins with a Flatten."""
        self.memory, self.layers, self.trained, self.first = memory, list(layers), trained, first
        self.flattens = flattens

    def fits(self, x: Any) -> bool:
        """Return whether x has the axes the layers support: [N, B, features], or more axes if the chain flattens them."""
        return (
            isinstance(x, Tensor)
            and has_axes(x, self.memory.n, self.flattens)
            and x.dtype.is_floating_point
            and not torch.is_autocast_enabled(self.memory.device.type)
        )

    def __call__(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer.forward(x, False)
        return x

    def vjp(self, x: Tensor) -> tuple[Tensor, Callable[[Tensor], None]]:
        """Like `Stack.vjp`."""
        passed = [x]
        for layer in self.layers:
            passed.append(layer.forward(passed[-1], True))

        def backward(gradient: Tensor) -> None:
            check_gradient(gradient, passed[-1])
            for i in reversed(range(self.first, len(self.layers))):
                gradient = self.layers[i].backward(gradient, passed[i], passed[i + 1], i > self.first)
            self.memory.arrived = set(self.trained)

        return passed[-1], backward


def has_axes(x: Tensor | np.ndarray, n: int, flattens: bool) -> bool:
    """Return whether x has n members and axes [B, features], or more if the chain flattens; compiled code checks no shapes."""
    return x.ndim >= 3 and len(x) == n and (x.ndim == 3 or flattens)


def check_gradient(gradient: Any, y: Tensor | np.ndarray) -> None:
    """Raise ArgumentError unless a gradient has the shape and type of the outputs y."""
    if not isinstance(gradient, type(y)) or gradient.shape != y.shape or gradient.dtype != y.dtype:
        raise ArgumentError(f"gradient must match the outputs, {kind_of(y)}, not {kind_of(gradient)}.")


def chain(memory: FlatMemory, modules: Sequence[nn.Module]) -> Chain | None:
    """Return the N modules as a chain, or None if a layer is not registered or a parameter is used more than once."""
    groups = innermost(modules)
    layers = layers_of(memory, groups)
    trained = [any(parameter.requires_grad for parameter in group[0].parameters()) for group in groups]
    first = trained.index(True) if True in trained else len(groups)
    return (
        None if layers is None else Chain(memory, layers, trained_places(memory, groups), first, flattens_first(groups))
    )


def layers_of(memory: FlatMemory, groups: list[Sequence[nn.Module]]) -> list[LayerBackward] | None:
    """Return the layers of a chain, given N modules per layer; None as in `chain`."""
    parameters = [parameter for group in groups for parameter in group[0].parameters()]
    if len(set(map(id, parameters))) < len(parameters):
        return None  # each use would overwrite the gradient instead of accumulating it
    found: list[LayerBackward] = []
    for group in groups:
        make = BACKWARD.get(type(group[0]))
        layer = None if make is None else make(memory, group)
        if layer is None:
            return None
        found.append(layer)
    return found


def trained_places(memory: FlatMemory, groups: list[Sequence[nn.Module]]) -> set[Place]:
    """Return the places of the parameters of these layers that are trained."""
    parameters = [parameter for group in groups for parameter in group[0].parameters()]
    return {(memory.name_of(parameter), None) for parameter in parameters if parameter.requires_grad}


def flattens_first(groups: list[Sequence[nn.Module]]) -> bool:
    """Return whether a chain begins with a Flatten, given N modules per layer."""
    return bool(groups) and isinstance(groups[0][0], nn.Flatten)


def innermost(modules: Sequence[nn.Module]) -> list[Sequence[nn.Module]]:
    """Return the innermost layers of N modules in execution order, N modules per layer."""
    kind = type(modules[0])
    for base, parts in PARTS.items():
        if issubclass(kind, base) and kind.forward is base.forward:
            rows = zip(*(parts(module) for module in modules), strict=True)
            return [layer for row in rows for layer in innermost(row)]
    return [modules]


class Linear:
    """A linear layer."""

    def __init__(self, memory: FlatMemory, first: nn.Linear) -> None:
        weight = memory.stacked(first.weight)
        assert weight is not None
        self.weight, self.transposed = weight.detach(), weight.detach().mT
        self.weight_gradient = memory.gradient_of(first.weight)
        bias = memory.stacked(first.bias)
        self.bias = None if bias is None else bias.detach()[:, None]
        self.bias_gradient = None if bias is None else memory.gradient_of(first.bias)
        self.inputs, self.outputs, self.has_bias = first.in_features, first.out_features, bias is not None
        self.begins = memory.begin_of(first.weight), memory.begin_of(first.bias)
        self.is_trained = self.weight_gradient is not None and (bias is None or self.bias_gradient is not None)

    def forward(self, x: Tensor, keep: bool) -> Tensor:
        return torch.bmm(x, self.transposed) if self.bias is None else torch.baddbmm(self.bias, x, self.transposed)

    def backward(self, gradient: Tensor, x: Tensor, y: Tensor, needed: bool) -> Tensor:
        if self.weight_gradient is not None:
            torch.bmm(gradient.mT, x, out=self.weight_gradient)
        if self.bias_gradient is not None:
            torch.sum(gradient, 1, out=self.bias_gradient)
        return torch.bmm(gradient, self.weight) if needed else gradient


class LayerNorm:
    """A layer normalization over one axis, with a scale and a shift."""

    def __init__(self, memory: FlatMemory, first: nn.LayerNorm) -> None:
        weight, bias = memory.stacked(first.weight), memory.stacked(first.bias)
        assert weight is not None
        assert bias is not None
        self.weight, self.bias = weight.detach()[:, None], bias.detach()[:, None]
        self.weight_gradient, self.bias_gradient = memory.gradient_of(first.weight), memory.gradient_of(first.bias)
        self.shape, self.eps = list(first.normalized_shape), first.eps
        self.width = self.shape[0]
        self.begins = memory.begin_of(first.weight), memory.begin_of(first.bias)
        self.is_trained = self.weight_gradient is not None and self.bias_gradient is not None
        self._kept: tuple[Tensor, tuple[Tensor, Tensor, Tensor]] | None = None  # the last input, and what belongs to it

    def forward(self, x: Tensor, keep: bool) -> Tensor:
        found = self._normalized(x)
        if keep:
            self._kept = x, found
        return found[0] * self.weight + self.bias

    def backward(self, gradient: Tensor, x: Tensor, y: Tensor, needed: bool) -> Tensor:
        kept = self._kept  # overwritten by another forward pass?
        normal, mean, factor = kept[1] if kept is not None and kept[0] is x else self._normalized(x)
        if self.weight_gradient is not None:
            torch.sum(gradient * normal, 1, out=self.weight_gradient)
        if self.bias_gradient is not None:
            torch.sum(gradient, 1, out=self.bias_gradient)
        if not needed:
            return gradient
        function: Any = torch.ops.aten.native_layer_norm_backward
        found: tuple[Tensor, ...] = function(
            gradient * self.weight, x, self.shape, mean, factor, None, None, [True, False, False]
        )
        return found[0]

    def _normalized(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the normalized rows, their means, and the reciprocals of their standard deviations."""
        return torch.native_layer_norm(x, self.shape, None, None, self.eps)


class ReLU:
    """A ReLU."""

    def forward(self, x: Tensor, keep: bool) -> Tensor:
        return torch.relu(x)

    def backward(self, gradient: Tensor, x: Tensor, y: Tensor, needed: bool) -> Tensor:
        return torch.ops.aten.threshold_backward(gradient, y, 0)  # type: ignore[no-any-return]  # torch.ops has no types


class _Flatten:
    def forward(self, x: Tensor, keep: bool) -> Tensor:
        return x if x.ndim == 3 else x.flatten(2)

    def backward(self, gradient: Tensor, x: Tensor, y: Tensor, needed: bool) -> Tensor:
        return gradient.view(x.shape) if needed else gradient


@register_backward(nn.Linear)
def _linear(memory: FlatMemory, modules: Sequence[nn.Linear]) -> LayerBackward | None:
    first = modules[0]
    return None if 1 in (first.in_features, first.out_features) else Linear(memory, first)


@register_backward(nn.LayerNorm)
def _layer_norm(memory: FlatMemory, modules: Sequence[nn.LayerNorm]) -> LayerBackward | None:
    first = modules[0]
    whole = len(first.normalized_shape) == 1 and first.weight is not None and first.bias is not None
    return LayerNorm(memory, first) if whole else None


@register_backward(nn.ReLU)
def _relu(_memory: FlatMemory, _modules: Sequence[nn.ReLU]) -> LayerBackward:
    return ReLU()


class _Identity:
    def forward(self, x: Tensor, keep: bool) -> Tensor:
        return x

    def backward(self, gradient: Tensor, x: Tensor, y: Tensor, needed: bool) -> Tensor:
        return gradient


@register_backward(nn.Identity)
def _identity(_memory: FlatMemory, _modules: Sequence[nn.Identity]) -> LayerBackward:
    return _Identity()


@register_backward(nn.Flatten)
def _flatten(_memory: FlatMemory, modules: Sequence[nn.Flatten]) -> LayerBackward | None:
    first = modules[0]
    return _Flatten() if (first.start_dim, first.end_dim) == (1, -1) else None
