"""Chains of simple layers with their gradients written out: autograd's numbers to the bit, without its overhead.

For small networks autograd's bookkeeping takes longer than the arithmetic: a whole step of a 4-64-64-2 network was
measured at 301 us with it and 124 us without. A layer that has a `Link` here may stand in a chain; a model of others, or
one with a layer of width 1 (see `bits.product`), goes through autograd.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from supervised.fused import Layers
from supervised.memory import FlatMemory, Place
from supervised.validate import ArgumentError, kind_of


class Link(Protocol):
    """One layer of all members: [N, B, ...] -> [N, B, ...], and the gradient back."""

    def forward(self, x: Tensor, keep: bool) -> Tensor:
        """keep: whether the gradient will be asked for."""
        ...

    def backward(self, gradient: Tensor, x: Tensor, y: Tensor, needed: bool) -> Tensor:
        """Write the gradients of the layer's own weights -> that of its input x (anything, unless it is `needed`)."""
        ...


Maker = Callable[[FlatMemory, Sequence[Any]], Link | None]
M = TypeVar("M", bound=Maker)
LINKS: dict[type[nn.Module], Maker] = {}
# What a module that does nothing but call others, one after another, calls.
PARTS: dict[type[nn.Module], Callable[[Any], list[nn.Module]]] = {nn.Sequential: list}


def link(*kinds: type[nn.Module]) -> Callable[[M], M]:
    """Enter how modules of these types become a link; the function may answer None where it has no way."""

    def enter(make: M) -> M:
        LINKS.update(dict.fromkeys(kinds, make))
        return make

    return enter


class Trained:
    """The trained parameters of a chain, whose gradients all arrive at once."""

    def __init__(self, memory: FlatMemory, parameters: Sequence[nn.Parameter]) -> None:
        self.memory = memory
        self.places: set[Place] = {(memory.name_of(p), None) for p in parameters if p.requires_grad}

    def arrived(self) -> None:
        """Tell the memory."""
        self.memory.arrived = set(self.places)


class Chain:
    """Links one after another."""

    def __init__(self, links: Sequence[Link], trained: Trained, first: int) -> None:
        self.links, self.trained = list(links), trained
        self.first = first  # the first link that is trained: nobody needs the gradient by its input

    def fits(self, x: Any) -> bool:
        """Whether x has the axes that the links are written for, [N, B, features] or what is flattened to that."""
        return (
            isinstance(x, Tensor) and x.dtype.is_floating_point and (x.ndim == 3 or isinstance(self.links[0], _Flatten))
        )

    def __call__(self, x: Tensor) -> Tensor:
        for each in self.links:
            x = each.forward(x, False)
        return x

    def vjp(self, x: Tensor) -> tuple[Tensor, Callable[[Tensor], None]]:
        """As `Stack.vjp`."""
        passed = [x]
        for each in self.links:
            passed.append(each.forward(passed[-1], True))

        def pull_back(gradient: Tensor) -> None:
            check_gradient(gradient, passed[-1])
            for i in reversed(range(self.first, len(self.links))):
                gradient = self.links[i].backward(gradient, passed[i], passed[i + 1], i > self.first)
            self.trained.arrived()

        return passed[-1], pull_back


class CompiledChain:
    """A chain that begins with linear layers in machine code (`supervised.fused`), on arrays of the host.

    flat: whether observations are flattened first. rest: the links behind those layers, which torch computes.
    """

    def __init__(self, flat: bool, layers: Layers, rest: Sequence[Link], trained: Trained) -> None:
        self.flat, self.layers, self.rest, self.trained = flat, layers, list(rest), trained

    def fits(self, x: Any) -> bool:
        """Whether x is what the chain is written for: float32 [N, B, features], or what is flattened to that."""
        return isinstance(x, (Tensor, np.ndarray)) and x.dtype in (torch.float32, np.float32) and self._axes(x.ndim)

    def _axes(self, count: int) -> bool:
        return count == 3 or (self.flat and count > 3)

    def __call__(self, x: Tensor) -> Tensor:
        return torch.from_numpy(self.values(x.detach().numpy()))

    def vjp(self, x: Tensor) -> tuple[Tensor, Callable[[Tensor], None]]:
        """As `Stack.vjp`."""
        found, back = self.vjp_of(x.detach().numpy())
        y = torch.from_numpy(found)

        def pull_back(gradient: Tensor) -> None:
            check_gradient(gradient, y)
            back(gradient.numpy())

        return y, pull_back

    def values(self, x: np.ndarray) -> np.ndarray:
        """x [N, B, ...] -> y [N, B, O]."""
        y = self.layers.forward(self._rows(x), False)
        if self.rest:
            passed = torch.from_numpy(y)
            for each in self.rest:
                passed = each.forward(passed, False)
            y = passed.numpy()
        return y

    def vjp_of(self, x: np.ndarray) -> tuple[np.ndarray, Callable[[np.ndarray], None]]:
        """As `Stack.vjp`, for arrays."""
        rows = self._rows(x)
        y = self.layers.forward(rows, True)
        passed = [torch.from_numpy(y)] if self.rest else []
        for each in self.rest:
            passed.append(each.forward(passed[-1], True))

        def pull_back(gradient: np.ndarray) -> None:
            if self.rest:
                by = torch.from_numpy(gradient)
                for i in reversed(range(len(self.rest))):
                    by = self.rest[i].backward(by, passed[i], passed[i + 1], True)
                gradient = by.numpy()
            self.layers.backward(gradient, rows, y)
            self.trained.arrived()

        return passed[-1].numpy() if passed else y, pull_back

    def _rows(self, x: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(x if x.ndim == 3 else x.reshape(*x.shape[:2], -1))


def check_gradient(gradient: Any, y: Tensor) -> None:
    """Raise ArgumentError unless a gradient has the shape and type of the outputs y."""
    if not isinstance(gradient, Tensor) or gradient.shape != y.shape or gradient.dtype != y.dtype:
        raise ArgumentError(f"gradient is {kind_of(y)}, as the outputs, not {kind_of(gradient)}.")


def chain(memory: FlatMemory, modules: Sequence[nn.Module]) -> Chain | None:
    """The N modules as a chain; None where some layer has no link, or where a parameter is used more than once."""
    layers = _layers(modules)
    links = _links(memory, layers)
    trained = [any(parameter.requires_grad for parameter in parts[0].parameters()) for parts in layers]
    first = trained.index(True) if True in trained else len(layers)
    return None if links is None else Chain(links, _trained(memory, layers), first)


def compiled_chain(memory: FlatMemory, modules: Sequence[nn.Module]) -> CompiledChain | None:
    """The same with the linear layers and ReLUs that it begins with (but for a Flatten) in machine code; None: it has none."""
    layers = _layers(modules)
    links = _links(memory, layers)
    return None if links is None else _compiled(memory, links, _trained(memory, layers))


def _trained(memory: FlatMemory, layers: list[Sequence[nn.Module]]) -> Trained:
    return Trained(memory, [parameter for parts in layers for parameter in parts[0].parameters()])


def _links(memory: FlatMemory, layers: list[Sequence[nn.Module]]) -> list[Link] | None:
    parameters = [parameter for parts in layers for parameter in parts[0].parameters()]
    if len(set(map(id, parameters))) < len(parameters):
        return None  # each link writes the gradient anew, where it should be added up
    found: list[Link] = []
    for parts in layers:
        make = LINKS.get(type(parts[0]))
        made = None if make is None else make(memory, parts)
        if made is None:
            return None
        found.append(made)
    return found


def _compiled(memory: FlatMemory, links: list[Link], trained: Trained) -> CompiledChain | None:
    first = 1 if links and isinstance(links[0], _Flatten) else 0
    end, run = first, []
    while end < len(links):
        one = links[end]
        if (
            not isinstance(one, _Linear)
            or one.weight_gradient is None
            or (one.bias is not None and one.bias_gradient is None)
        ):
            break
        relu = end + 1 < len(links) and isinstance(links[end + 1], _ReLU)
        run.append((one, relu))
        end += 1 + relu
    if not run:
        return None
    layers = Layers(
        memory.flat,
        memory.gradient,
        [one.begins[0] for one, _ in run],
        [one.begins[1] for one, _ in run],
        [run[0][0].weight.shape[2], *(one.weight.shape[1] for one, _ in run)],
        [relu for _, relu in run],
    )
    return CompiledChain(first == 1, layers, links[end:], trained)


def _layers(modules: Sequence[nn.Module]) -> list[Sequence[nn.Module]]:
    """The innermost layers of N modules in the order of their work, each N times."""
    kind = type(modules[0])
    for base, parts in PARTS.items():
        if issubclass(kind, base) and kind.forward is base.forward:
            rows = zip(*(parts(module) for module in modules), strict=True)
            return [layer for row in rows for layer in _layers(row)]
    return [modules]


class _Linear:
    def __init__(self, memory: FlatMemory, first: nn.Linear) -> None:
        weight = memory.of_all(first.weight)
        assert weight is not None
        self.weight, self.transposed = weight.detach(), weight.detach().mT
        self.weight_gradient = memory.gradient_of(first.weight)
        bias = memory.of_all(first.bias)
        self.bias = None if bias is None else bias.detach()[:, None]
        self.bias_gradient = None if bias is None else memory.gradient_of(first.bias)
        self.begins = memory.begin_of(first.weight), memory.begin_of(first.bias)

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


@link(nn.Linear)
def _linear(memory: FlatMemory, modules: Sequence[nn.Linear]) -> Link | None:
    first = modules[0]
    return None if 1 in (first.in_features, first.out_features) else _Linear(memory, first)


@link(nn.ReLU)
def _relu(memory: FlatMemory, modules: Sequence[nn.ReLU]) -> Link:
    return _ReLU()


@link(nn.Flatten)
def _flatten(memory: FlatMemory, modules: Sequence[nn.Flatten]) -> Link | None:
    first = modules[0]
    return _Flatten() if (first.start_dim, first.end_dim) == (1, -1) else None
