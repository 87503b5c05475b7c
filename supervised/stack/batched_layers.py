"""Layers computed for all members at once, with results bit-identical to each member alone (see `supervised.determinism`)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from supervised import determinism
from supervised.stack.registry import Members, Op, register_batched, register_deterministic

register_deterministic(
    nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d,
    nn.Embedding, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.LayerNorm, nn.GroupNorm, nn.InstanceNorm1d,
    nn.InstanceNorm2d, nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d,
    nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.Identity, nn.ReLU,
    nn.LeakyReLU, nn.PReLU, nn.Hardtanh, nn.ReLU6, nn.Sigmoid, nn.Tanh, nn.ELU, nn.SELU, nn.CELU, nn.SiLU, nn.GELU,
    nn.Softplus, nn.Mish, nn.LogSigmoid, nn.Softmax, nn.LogSoftmax, nn.Hardswish, nn.Hardsigmoid, nn.Flatten,
    nn.Unflatten, nn.Sequential, nn.ModuleList, nn.ModuleDict, nn.ZeroPad2d, nn.Upsample,
)  # fmt: skip


@register_batched(nn.Identity, nn.ReLU, nn.LeakyReLU, nn.Hardtanh, nn.ReLU6)
def _arithmetic(_members: Members, modules: Sequence[nn.Module]) -> Op:
    return modules[0]


@register_batched(nn.Sigmoid, nn.Tanh, nn.ELU, nn.SELU, nn.CELU, nn.SiLU, nn.GELU, nn.Softplus, nn.Mish, nn.LogSigmoid)
def _transcendental(_members: Members, modules: Sequence[nn.Module]) -> Op:
    return lambda x: determinism.elementwise(modules[0], x)


@register_batched(nn.Linear)
def _linear(members: Members, modules: Sequence[nn.Linear]) -> Op:
    weight, bias = members.memory.stacked(modules[0].weight), members.memory.stacked(modules[0].bias)
    assert weight is not None

    def op(x: Tensor) -> Tensor:
        if x.ndim == 3:
            return determinism.product(x, weight, bias)
        return determinism.product(x.flatten(1, -2), weight, bias).view(*x.shape[:-1], -1)

    return op


@register_batched(nn.LayerNorm)
def _layer_norm(members: Members, modules: Sequence[nn.LayerNorm]) -> Op:
    first = modules[0]
    weight, bias = members.memory.stacked(first.weight), members.memory.stacked(first.bias)
    shape = list(first.normalized_shape)

    def op(x: Tensor) -> Tensor:
        y = F.layer_norm(x, shape, eps=first.eps)
        aligned = [len(x), *[1] * (x.ndim - 1 - len(shape)), *shape]
        y = y if weight is None else y * weight.view(aligned)
        return y if bias is None else y + bias.view(aligned)

    return op


@register_batched(nn.BatchNorm1d)
def _batch_norm(_members: Members, modules: Sequence[nn.BatchNorm1d]) -> Op:
    # One member at a time: the order in which torch sums the averages depends on the number of columns.
    return lambda x: torch.stack([module(part) for module, part in zip(modules, x.unbind(), strict=True)])


@register_batched(nn.Dropout)
def _dropout(members: Members, modules: Sequence[nn.Dropout]) -> Op:
    p = modules[0].p

    def op(x: Tensor) -> Tensor:
        if p == 0 or not any(module.training for module in modules):
            return x
        kept = torch.ones_like(x)
        for k, (part, module) in enumerate(zip(kept, modules, strict=True)):
            if module.training:  # single members may be in eval mode
                part.bernoulli_(1 - p, generator=members.draws.generator(k)).div_(max(1 - p, 1e-38))
        return x * kept

    return op


@register_batched(nn.Flatten)
def _flatten(_members: Members, modules: Sequence[nn.Flatten]) -> Op | None:
    first = modules[0]
    return (lambda x: x.flatten(2)) if (first.start_dim, first.end_dim) == (1, -1) else None


@register_batched(nn.Embedding)
def _embedding(members: Members, modules: Sequence[nn.Embedding]) -> Op | None:
    first = modules[0]
    weight = members.memory.stacked(first.weight)
    if (
        weight is None
        or first.max_norm is not None
        or first.scale_grad_by_freq
        or first.sparse
        or first.padding_idx is not None
    ):
        return None
    n, size = len(members.seeds), first.num_embeddings
    begin = torch.arange(0, n * size, size, device=members.device)
    return lambda x: F.embedding(x + begin.view(n, *[1] * (x.ndim - 1)), weight.flatten(0, 1))


@register_batched(nn.Sequential)
def _sequential(members: Members, modules: Sequence[nn.Sequential]) -> Op | None:
    ops = [members.batched_op(parts) for parts in zip(*modules, strict=True)]
    if any(op is None for op in ops):
        return None

    def run(x: Tensor) -> Tensor:
        for op in ops:
            assert op is not None
            x = op(x)
        return x

    return run
