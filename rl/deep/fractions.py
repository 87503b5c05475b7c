"""The layer of an implicit quantile network, which maps features and fractions to quantiles.

Dabney, Ostrovski, Silver and Munos (2018), "Implicit Quantile Networks for Distributional Reinforcement Learning", equation 4.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from rl import network_layers
from supervised import determinism
from supervised.stack.drawn import Drawn
from supervised.stack.manual_backward import BACKWARD, LayerBackward, register_backward
from supervised.stack.memory import FlatMemory
from supervised.stack.registry import Members, Op, register_batched, register_deterministic
from supervised.validate import ArgumentError, explained, integer, shown


class QuantileHead(Drawn):
    """Maps features to quantiles: head(features * relu(embedding(cos(pi i fraction)))).

    [B, F] -> [B, A, K], or [B, T, F] -> [B, T, A, K]. Its drawn numbers are fractions [B, K] in [0, 1], shared by all steps of a
    sequence; without any, `quantiles` evenly spaced fractions are used. cosines: the number of cosines, i = 1 ... cosines. head:
    the linear output layer. dueling: its outputs are a state value and advantages at each fraction.
    """

    def __init__(self, head: nn.Linear, quantiles: int, cosines: int, dueling: bool) -> None:
        super().__init__()
        self.quantiles, self.cosines = integer(quantiles, "quantiles", 1), integer(cosines, "cosines", 1)
        self.embedding = nn.Linear(self.cosines, head.in_features)
        self.head = head
        self.dueling = network_layers.Dueling() if dueling else nn.Identity()

    @explained("a tensor [B, F] or [B, T, F]")
    def forward(self, features: Tensor) -> Tensor:
        """Map features [B, F] to quantiles [B, A, K], or [B, T, F] to [B, T, A, K]."""
        fractions = self.drawn
        fractions = evenly(self.quantiles, self.embedding.weight) if fractions is None else fractions
        fractions = fractions.expand(len(features), -1)
        embedded = torch.relu(self.embedding(_cosines(self.cosines, fractions[None])[0]))  # [B, K, F]
        if features.ndim == 3:
            embedded = embedded[:, None]
        y: Tensor = self.dueling(self.head(features[..., None, :] * embedded))
        return y.transpose(-1, -2)

    def extra_repr(self) -> str:
        return f"quantiles={self.quantiles}, cosines={self.cosines}"


def with_fractions(network: nn.Module, quantiles: int, cosines: int, dueling: bool) -> nn.Module:
    """Replace the last layer, `head`, of a network by a QuantileHead, in place, and return the network.

    Raises ArgumentError for a network without such a layer.
    """
    head = getattr(network, "head", None)
    if type(head) is not nn.Linear:
        raise ArgumentError(
            "rl.ImplicitQuantiles replaces a network's last layer: it needs a network by name, or a module whose last layer is an"
            f" nn.Linear called `head` (supervised.models.layers.Model), not {shown(network)}."
        )
    network.head = QuantileHead(head, quantiles, cosines, dueling)
    return network


def evenly(quantiles: int, like: Tensor) -> Tensor:
    """Return the evenly spaced fractions (2 i + 1) / (2 quantiles), [quantiles]."""
    return (torch.arange(quantiles, device=like.device) + 0.5).to(like.dtype) / quantiles


def _cosines(count: int, fractions: Tensor) -> Tensor:
    """Return cos(pi i fraction) for i = 1 ... count: [N, B, K] -> [N, B, K, count]."""
    angles = torch.arange(1, count + 1, dtype=fractions.dtype, device=fractions.device) * math.pi
    return determinism.elementwise(torch.cos_, fractions[..., None] * angles)


register_deterministic(QuantileHead)


@register_batched(QuantileHead)
def _quantile_head(members: Members, modules: Sequence[QuantileHead]) -> Op | None:
    first: Any = modules[0]
    embed, answer = (members.batched_op([getattr(m, name) for m in modules]) for name in ("embedding", "head"))
    if embed is None or answer is None:
        return None

    def run(features: Tensor) -> Tensor:
        n, b, width = features.shape
        cosines = _cosines(first.cosines, _fractions(first, features))
        embedded = torch.relu(embed(cosines.flatten(1, 2)))
        product = features[:, :, None] * embedded.view(n, b, -1, width)
        y: Tensor = first.dueling(answer(product.flatten(1, 2)))
        return y.view(n, b, -1, y.shape[-1]).transpose(-1, -2)

    return run


def _fractions(layer: Any, features: Tensor) -> Tensor:
    """Return the fractions of all members, [N, B, K]."""
    drawn = layer.numbers.value
    return (evenly(layer.quantiles, layer.embedding.weight) if drawn is None else drawn).expand(*features.shape[:2], -1)


class _Passed(NamedTuple):
    """The intermediate results of a forward pass that the backward pass needs."""

    x: Tensor  # [N, B, F]
    cosines: Tensor  # [N, B * K, C]
    embedded: Tensor  # [N, B * K, F], after the ReLU
    product: Tensor  # [N, B * K, F]
    answer: Tensor  # [N, B * K, outputs]


class _QuantileHead:
    """A QuantileHead with an explicit backward pass, for chains of layers without autograd."""

    def __init__(
        self, first: QuantileHead, embedding: LayerBackward, head: LayerBackward, dueling: LayerBackward
    ) -> None:
        self.first, self.embedding, self.head, self.dueling = first, embedding, head, dueling
        self.passed: _Passed | None = None

    def forward(self, x: Tensor, keep: bool) -> Tensor:
        passed = self._pass(x, keep)
        if keep:
            self.passed = passed
        y = self.dueling.forward(passed.answer, keep)
        return y.view(*x.shape[:2], -1, y.shape[-1]).transpose(-1, -2).contiguous()

    def _pass(self, x: Tensor, keep: bool) -> _Passed:
        # In place where possible: allocating memory costs as much as the arithmetic.
        cosines = _cosines(self.first.cosines, _fractions(self.first, x)).flatten(1, 2)
        embedded = self.embedding.forward(cosines, keep).relu_()
        each = _by_row(embedded, x)
        product = (each * x[:, :, None] if keep else each.mul_(x[:, :, None])).flatten(1, 2)
        return _Passed(x, cosines, embedded, product, self.head.forward(product, keep))

    def backward(self, gradient: Tensor, x: Tensor, y: Tensor, needed: bool) -> Tensor:
        p = self.passed if self.passed is not None and self.passed.x is x else self._pass(x, True)
        by = gradient.transpose(-1, -2).flatten(1, 2)  # [N, B * K, A]
        by = self.dueling.backward(by, p.answer, by, True)
        by = self.head.backward(by.contiguous(), p.product, p.answer, True)
        found = _by_row(by * p.embedded, x).sum(2) if needed else x
        _by_row(by, x).mul_(x[:, :, None])
        torch.ops.aten.threshold_backward.grad_input(by, p.embedded, 0, grad_input=by)
        self.embedding.backward(by, p.cosines, p.embedded, False)
        return found


def _by_row(part: Tensor, x: Tensor) -> Tensor:
    """Return a view of [N, B * K, F] as [N, B, K, F]."""
    return part.view(*x.shape[:2], -1, x.shape[2])


@register_backward(QuantileHead)
def _quantile_backward(memory: FlatMemory, modules: Sequence[QuantileHead]) -> LayerBackward | None:
    parts = []
    for name in ("embedding", "head", "dueling"):
        group = [getattr(module, name) for module in modules]
        make = BACKWARD.get(type(group[0]))
        link = None if make is None else make(memory, group)
        if link is None:
            return None
        parts.append(link)
    return _QuantileHead(modules[0], *parts)
