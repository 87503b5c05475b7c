"""Chains of simple layers with their gradients written out: autograd's numbers to the bit, without its overhead.

For small networks autograd's bookkeeping takes longer than the arithmetic: a whole step of a 4-64-64-2 network was
measured at 301 us with it and 124 us without. A layer that has a `Link` here may stand in a chain; a model of others, or
one with a layer of width 1 (see `determinism.product`), goes through autograd.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from supervised.stack.compiled_mlp import Layers
from supervised.stack.memory import FlatMemory
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


class Chain:
    """Links one after another."""

    def __init__(self, links: Sequence[Link], parameters: Sequence[nn.Parameter], first: int, compiled: bool) -> None:
        self.compiled = compiled  # whether some of it is machine code of our own
        self.links, self.parameters = list(links), [p for p in parameters if p.requires_grad]  # of the first member
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

        return passed[-1], pull_back


def check_gradient(gradient: Any, y: Tensor) -> None:
    """Raise ArgumentError unless a gradient has the shape and type of the outputs y."""
    if not isinstance(gradient, Tensor) or gradient.shape != y.shape or gradient.dtype != y.dtype:
        raise ArgumentError(f"gradient is {kind_of(y)}, as the outputs, not {kind_of(gradient)}.")


def chain(memory: FlatMemory, modules: Sequence[nn.Module], compiled: bool = False) -> Chain | None:
    """The N modules as a chain; None where some layer has no link, or where a parameter is used more than once.

    compiled: linear layers and ReLUs as one function.
    """
    found: list[Link] = []
    layers = _layers(modules)
    parameters = [parameter for parts in layers for parameter in parts[0].parameters()]
    if len(set(map(id, parameters))) < len(parameters):
        return None  # each link writes the gradient anew, where it should be added up
    for parts in layers:
        make = LINKS.get(type(parts[0]))
        made = None if make is None else make(memory, parts)
        if made is None:
            return None
        found.append(made)
    # Where the first layers are made one, they begin with that one, so its place is the same.
    trained = [any(parameter.requires_grad for parameter in parts[0].parameters()) for parts in layers]
    first = trained.index(True) if True in trained else len(layers)
    links = _fused(memory, found) if compiled else found
    return Chain(links, parameters, first, links is not found)


def _fused(memory: FlatMemory, links: list[Link]) -> list[Link]:
    """The links with the run of linear layers and ReLUs that they begin with (but for a Flatten) made one."""
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
        return links

    fused = Layers(
        memory.flat,
        memory.gradient,
        [one.begins[0] for one, _ in run],
        [one.begins[1] for one, _ in run],
        [run[0][0].weight.shape[2], *(one.weight.shape[1] for one, _ in run)],
        [relu for _, relu in run],
    )
    return [*links[:first], fused, *links[end:]]


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
