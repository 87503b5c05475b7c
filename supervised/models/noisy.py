"""Noisy linear layers: weights with learned noise, which makes a network explore.

Fortunato et al. (2018), "Noisy Networks for Exploration", section 3, with factorized Gaussian noise.

Deviation: the means are initialized to the weights of the replaced layer; torch's linear layer draws them from the paper's
U(-1 / sqrt(inputs), 1 / sqrt(inputs)).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from supervised import determinism
from supervised.stack.drawn import Drawn
from supervised.stack.manual_backward import LayerBackward, register_backward
from supervised.stack.memory import FlatMemory
from supervised.stack.registry import Members, Op, register_batched, register_deterministic
from supervised.validate import ArgumentError, explained, instance, number, shown


class NoisyLinear(Drawn):
    """A linear layer y = (W + S * (f_out f_in^T)) x + b + s * f_out, with learned means W, b and standard deviations S, s.

    The noise f(e) = sign(e) sqrt|e| (`noise_of`) comes from `inputs + outputs` standard normal numbers e drawn for the layer,
    f_in first. Without drawn numbers it computes W x + b. linear: the layer whose weights initialize the means. sigma: the
    standard deviations are initialized to sigma / sqrt(inputs); 0.5 in the paper.
    """

    def __init__(self, linear: nn.Linear, sigma: float = 0.5) -> None:
        super().__init__()
        instance(linear, "linear", nn.Linear, "a torch.nn.Linear")
        if 0 in (linear.in_features, linear.out_features):
            raise ArgumentError(
                f"linear must have inputs and outputs, not be {shown(linear)}; run a lazy layer on one input first."
            )
        deviation = number(sigma, "sigma", 0.0, above=True) / math.sqrt(linear.in_features)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight, self.bias = linear.weight, linear.bias
        self.weight_deviation = nn.Parameter(torch.full_like(linear.weight, deviation))
        self.bias_deviation = None if linear.bias is None else nn.Parameter(torch.full_like(linear.bias, deviation))

    @property
    def drawn_size(self) -> int:
        """The number of random numbers the layer needs."""
        return self.in_features + self.out_features

    @explained("a tensor [..., inputs]")
    def forward(self, x: Tensor) -> Tensor:
        """Forward pass [..., inputs] -> [..., outputs]."""
        noise = self.drawn
        if noise is None:
            return F.linear(x, self.weight, self.bias)
        before, after = noise[: self.in_features], noise[self.in_features :]
        weight = self.weight + self.weight_deviation * torch.outer(after, before)
        bias = None if self.bias is None else self.bias + self.bias_deviation * after
        return F.linear(x, weight, bias)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


def noisy(module: nn.Module, sigma: float = 0.5) -> nn.Module:
    """Replace each nn.Linear in `module` by a `NoisyLinear` -> the module, or the new layer if it is an nn.Linear itself.

    Recurrent cells and convolutions are unchanged, and so are linear layers whose weight is not trained. Raises ArgumentError if
    there is no other linear layer.
    """
    instance(module, "module", nn.Module, "a torch.nn.Module")
    parts = module.named_modules(remove_duplicate=False)
    places = [(name, part) for name, part in parts if type(part) is nn.Linear and part.weight.requires_grad]
    if not places:
        raise ArgumentError(f"Only trained linear layers can be noisy, and {type(module).__name__} has none.")
    made = {part: NoisyLinear(part, sigma) for _, part in places}  # a shared layer stays shared
    if module in made:
        return made[module]
    for name, part in places:
        module.set_submodule(name, made[part])
    return module


def noise_of(normal: Tensor) -> Tensor:
    """Compute f(e) = sign(e) sqrt|e| for standard normal numbers e (Fortunato et al. 2018, section 3.1)."""
    return normal.sign() * normal.abs().sqrt()


register_deterministic(NoisyLinear)


@register_batched(NoisyLinear)
def _noisy(members: Members, modules: Sequence[NoisyLinear]) -> Op:
    first, stacked = modules[0], members.memory.stacked
    weight, deviation = stacked(first.weight), stacked(first.weight_deviation)
    bias, bias_deviation = stacked(first.bias), stacked(first.bias_deviation)
    assert weight is not None
    assert deviation is not None

    def op(x: Tensor) -> Tensor:
        noise = first.numbers.value
        w, b = weight, bias
        if noise is not None:
            before, after = noise[:, : first.in_features], noise[:, first.in_features :]
            w = weight + deviation * (after[:, :, None] * before[:, None])
            b = None if bias is None or bias_deviation is None else bias + bias_deviation * after
        if x.ndim == 3:
            return determinism.product(x, w, b)
        return determinism.product(x.flatten(1, -2), w, b).view(*x.shape[:-1], -1)

    return op


class _Noisy:
    """A noisy layer in a chain, with manual gradients."""

    def __init__(self, memory: FlatMemory, first: NoisyLinear) -> None:
        self.numbers, self.inputs = first.numbers, first.in_features
        parts = (first.weight, first.weight_deviation, first.bias, first.bias_deviation)
        self.weight, self.deviation, self.bias, self.bias_deviation = (
            None if part is None else part.detach() for part in map(memory.stacked, parts)
        )
        self.gradients = [None if part is None else memory.gradient_of(part) for part in parts]
        self.passed: tuple[Tensor, _Drawn] | None = None  # input and weights of the last forward pass

    def forward(self, x: Tensor, keep: bool) -> Tensor:
        drawn = self._drawn()
        if keep:
            self.passed = x, drawn
        weight, bias, *_ = drawn
        return torch.bmm(x, weight.mT) if bias is None else torch.baddbmm(bias[:, None], x, weight.mT)

    def backward(self, gradient: Tensor, x: Tensor, y: Tensor, needed: bool) -> Tensor:
        drawn = self.passed[1] if self.passed is not None and self.passed[0] is x else self._drawn()
        by_weight, by_deviation, by_bias, by_bias_deviation = self.gradients
        _put(torch.bmm(gradient.mT, x), drawn.noise, by_weight, by_deviation)
        _put(gradient.sum(1), drawn.bias_noise, by_bias, by_bias_deviation)
        return torch.bmm(gradient, drawn.weight) if needed else gradient

    def _drawn(self) -> _Drawn:
        assert self.weight is not None
        assert self.deviation is not None
        numbers = self.numbers.value
        if numbers is None:
            return _Drawn(self.weight, self.bias, None, None)
        before, after = numbers[:, : self.inputs], numbers[:, self.inputs :]
        noise = after[:, :, None] * before[:, None]
        bias = None if self.bias is None or self.bias_deviation is None else self.bias + self.bias_deviation * after
        return _Drawn(self.weight + self.deviation * noise, bias, noise, after)


class _Drawn(NamedTuple):
    """Weights [N, O, I] and biases [N, O] including their noise, and the noise itself; None: there is none."""

    weight: Tensor
    bias: Tensor | None
    noise: Tensor | None
    bias_noise: Tensor | None


def _put(gradient: Tensor, noise: Tensor | None, by_mean: Tensor | None, by_deviation: Tensor | None) -> None:
    """Write the gradients of mean and deviation, given that of mean + deviation * noise; None: not trained."""
    if by_mean is not None:
        by_mean.copy_(gradient)
    if by_deviation is not None:
        by_deviation.zero_() if noise is None else torch.mul(gradient, noise, out=by_deviation)


@register_backward(NoisyLinear)
def _noisy_backward(memory: FlatMemory, modules: Sequence[NoisyLinear]) -> LayerBackward | None:
    first = modules[0]
    return None if 1 in (first.in_features, first.out_features) else _Noisy(memory, first)
