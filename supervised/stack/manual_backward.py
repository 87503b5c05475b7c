"""Chains of simple layers with manual gradients, bit-identical to autograd's but without its overhead.

For small networks autograd's bookkeeping takes longer than the arithmetic: a training step of a 4-64-64-2 network takes 301 us
with it and 124 us without. A chain consists of layers registered here; models with other layers, or with a layer of width 1
(see `determinism.product`), use autograd.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar, cast

import numpy as np
import torch
from torch import Tensor, nn

from supervised.stack.compiled_mlp import CompiledMLP
from supervised.stack.memory import FlatMemory, Place
from supervised.stack.registry import alike
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
    """Register a function that makes the `LayerBackward` of modules of these types, or None for unsupported ones."""

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
            and _has_axes(x, self.memory.n, self.flattens)
            and x.dtype.is_floating_point
            and not torch.is_autocast_enabled(self.memory.device.type)
        )

    def __call__(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer.forward(x, False)
        return x

    def vjp(self, x: Tensor) -> tuple[Tensor, Callable[[Tensor], None]]:
        """As `Stack.vjp`."""
        passed = [x]
        for layer in self.layers:
            passed.append(layer.forward(passed[-1], True))

        def backward(gradient: Tensor) -> None:
            check_gradient(gradient, passed[-1])
            for i in reversed(range(self.first, len(self.layers))):
                gradient = self.layers[i].backward(gradient, passed[i], passed[i + 1], i > self.first)
            self.memory.arrived = set(self.trained)

        return passed[-1], backward


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
            and _has_axes(x, self.memory.n, self.flattens)
            and x.dtype in (np.float32, torch.float32)
            and not torch.is_autocast_enabled("cpu")
        )

    def __call__(self, x: Tensor) -> Tensor:
        return torch.from_numpy(self.forward(x.detach().numpy()))

    def vjp(self, x: Tensor) -> tuple[Tensor, Callable[[Tensor], None]]:
        """As `Stack.vjp`."""
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
        """As `Stack.vjp`, for arrays."""
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


def _has_axes(x: Tensor | np.ndarray, n: int, flattens: bool) -> bool:
    """Return whether x has n members and axes [B, features], or more if the chain flattens; compiled code checks no shapes."""
    return x.ndim >= 3 and len(x) == n and (x.ndim == 3 or flattens)


def check_gradient(gradient: Any, y: Tensor | np.ndarray) -> None:
    """Raise ArgumentError unless a gradient has the shape and type of the outputs y."""
    if not isinstance(gradient, type(y)) or gradient.shape != y.shape or gradient.dtype != y.dtype:
        raise ArgumentError(f"gradient must match the outputs, {kind_of(y)}, not {kind_of(gradient)}.")


def chain(memory: FlatMemory, modules: Sequence[nn.Module]) -> Chain | None:
    """Return the N modules as a chain, or None if a layer is not registered or a parameter is used more than once."""
    groups = innermost(modules)
    layers = _layers(memory, groups)
    trained = [any(parameter.requires_grad for parameter in group[0].parameters()) for group in groups]
    first = trained.index(True) if True in trained else len(groups)
    return None if layers is None else Chain(memory, layers, trained_places(memory, groups), first, _flattens(groups))


def compiled_chain(memory: FlatMemory, modules: Sequence[nn.Module]) -> CompiledChain | None:
    """As `chain`, with the leading linear layers and ReLUs (after an optional Flatten) compiled; None if there are none."""
    groups = innermost(modules)
    layers, begin = _layers(memory, groups) or [], int(_flattens(groups))
    run: LinearRun = []
    end = begin
    while end < len(layers):
        linear = layers[end]
        if not isinstance(linear, _Linear) or not linear.is_trained:
            break
        relu = end + 1 < len(layers) and isinstance(layers[end + 1], _ReLU)
        run.append((linear, relu))
        end += 1 + relu
    if not run:
        return None
    mlp = compiled_mlp(memory, run)
    return CompiledChain(memory, mlp, layers[end:], trained_places(memory, groups), begin == 1)


def compiled_mlp(memory: FlatMemory, run: LinearRun) -> CompiledMLP:
    """Compile linear layers, each with whether a ReLU follows."""
    return CompiledMLP(
        memory.flat,
        memory.gradient,
        [linear.begins[0] for linear, _ in run],
        [linear.begins[1] for linear, _ in run],
        [run[0][0].weight.shape[2], *(linear.weight.shape[1] for linear, _ in run)],
        [relu for _, relu in run],
    )


def linear_run(memory: FlatMemory, groups: Sequence[Sequence[nn.Module]]) -> LinearRun | None:
    """Return N modules per layer as input for `compiled_mlp`, or None if some are of another type or not trained."""
    run: LinearRun = []
    for group in groups:
        if alike(group, (nn.ReLU,)) and run and not run[-1][1]:
            run[-1] = run[-1][0], True
        elif alike(group, (nn.Linear,)) and (linear := _Linear(memory, cast(nn.Linear, group[0]))).is_trained:
            run.append((linear, False))
        else:
            return None
    return run


def _layers(memory: FlatMemory, groups: list[Sequence[nn.Module]]) -> list[LayerBackward] | None:
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


def _flattens(groups: list[Sequence[nn.Module]]) -> bool:
    return bool(groups) and isinstance(groups[0][0], nn.Flatten)


def innermost(modules: Sequence[nn.Module]) -> list[Sequence[nn.Module]]:
    """Return the innermost layers of N modules in execution order, N modules per layer."""
    kind = type(modules[0])
    for base, parts in PARTS.items():
        if issubclass(kind, base) and kind.forward is base.forward:
            rows = zip(*(parts(module) for module in modules), strict=True)
            return [layer for row in rows for layer in innermost(row)]
    return [modules]


class _Linear:
    def __init__(self, memory: FlatMemory, first: nn.Linear) -> None:
        weight = memory.stacked(first.weight)
        assert weight is not None
        self.weight, self.transposed = weight.detach(), weight.detach().mT
        self.weight_gradient = memory.gradient_of(first.weight)
        bias = memory.stacked(first.bias)
        self.bias = None if bias is None else bias.detach()[:, None]
        self.bias_gradient = None if bias is None else memory.gradient_of(first.bias)
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


class _ReLU:
    def forward(self, x: Tensor, keep: bool) -> Tensor:
        return torch.relu(x)

    def backward(self, gradient: Tensor, x: Tensor, y: Tensor, needed: bool) -> Tensor:
        return torch.ops.aten.threshold_backward(gradient, y, 0)  # type: ignore[no-any-return]  # torch.ops has no types


class _Flatten:
    def forward(self, x: Tensor, keep: bool) -> Tensor:
        return x if x.ndim == 3 else x.flatten(2)

    def backward(self, gradient: Tensor, x: Tensor, y: Tensor, needed: bool) -> Tensor:
        return gradient.view(x.shape) if needed else gradient


LinearRun = list[tuple[_Linear, bool]]  # linear layers, each with whether a ReLU follows


@register_backward(nn.Linear)
def _linear(memory: FlatMemory, modules: Sequence[nn.Linear]) -> LayerBackward | None:
    first = modules[0]
    return None if 1 in (first.in_features, first.out_features) else _Linear(memory, first)


@register_backward(nn.ReLU)
def _relu(memory: FlatMemory, modules: Sequence[nn.ReLU]) -> LayerBackward:
    return _ReLU()


class _Identity:
    def forward(self, x: Tensor, keep: bool) -> Tensor:
        return x

    def backward(self, gradient: Tensor, x: Tensor, y: Tensor, needed: bool) -> Tensor:
        return gradient


@register_backward(nn.Identity)
def _identity(memory: FlatMemory, modules: Sequence[nn.Identity]) -> LayerBackward:
    return _Identity()


@register_backward(nn.Flatten)
def _flatten(memory: FlatMemory, modules: Sequence[nn.Flatten]) -> LayerBackward | None:
    first = modules[0]
    return _Flatten() if (first.start_dim, first.end_dim) == (1, -1) else None
