"""Bit-identical results for a member, however many members are computed at once.

`import supervised` sets `MKL_CBWR`, which MKL reads once, at its first product: by default the code path of its batched product
depends on the number of matrices, which changes the last bits (measurements: section "Seeds are an axis" of docs/guide.md).
"AVX2" had no measurable cost.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

LANES = 32  # at least the number of floats that any CPU's vector unit processes at once, with unrolled loops


class threads:
    """Context manager that sets the number of torch threads for the current Python thread: `with threads(1): ...`.

    Where several threads split a loop depends on its length, which affects rounding. In small networks synchronization also
    takes longer than the arithmetic, milliseconds on a busy machine.
    """

    __slots__ = ("before", "count")

    def __init__(self, count: int) -> None:
        self.count = count

    def __enter__(self) -> None:
        self.before = torch.get_num_threads()
        if self.before != self.count:
            torch.set_num_threads(self.count)

    def __exit__(self, *error: object) -> None:
        if self.before != self.count:
            torch.set_num_threads(self.before)


def elementwise(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Apply an elementwise `function` to x [N, ...] so that results do not depend on an element's position.

    Torch computes exp and the like in SIMD vectors and the remaining elements one by one, with different rounding. Each member
    is therefore padded to whole vectors.
    """
    spare = -x[0].numel() % LANES
    if not spare or not x.is_cpu:
        return function(x)
    n = x.shape[0]
    return function(F.pad(x.reshape(n, -1), (0, spare)))[:, :-spare].reshape(x.shape)


def product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Compute x [N, B, I] times weight [N, O, I] transposed, plus bias [N, O] -> [N, B, O].

    For a single column, BLAS uses different routines for one matrix and for several, so a column of zeros is added, in the
    forward pass (O = 1) and in the backward pass (I = 1).
    """
    if torch.is_autocast_enabled(x.device.type):
        kind = torch.get_autocast_dtype(x.device.type)
        x, weight, bias = x.to(kind), weight.to(kind), None if bias is None else bias.to(kind)
    outputs, inputs = weight.shape[1:]
    if inputs == 1:
        x, weight = F.pad(x, (0, 1)), F.pad(weight, (0, 1))
    if outputs > 1:
        return cast(Tensor, _Product.apply(x, weight, bias))
    y = cast(Tensor, _Product.apply(x, F.pad(weight, (0, 0, 0, 1)), None))[..., :1]
    return y if bias is None else y + bias[:, None]


class _Product(torch.autograd.Function):
    """A batched product whose gradient has the weight's layout.

    Torch's own gradient is transposed; accumulating it takes a tenth of a training step.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return torch.bmm(x, weight.mT) if bias is None else torch.baddbmm(bias[:, None], x, weight.mT)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (y,), (x, weight) = gradients, ctx.saved_tensors
        wanted = ctx.needs_input_grad
        return (
            torch.bmm(y, weight) if wanted[0] else None,
            torch.bmm(y.mT, x) if wanted[1] else None,
            y.sum(1) if wanted[2] else None,
        )


@functools.cache
def check() -> None:
    """Warn if torch multiplied matrices before this package was imported, in which case MKL keeps its default."""
    generator = torch.Generator().manual_seed(0)
    x, weight = torch.randn(2, 10, 32, generator=generator), torch.randn(2, 32, 51, generator=generator)
    with threads(1):
        together, alone = torch.bmm(x, weight), torch.bmm(x[1:], weight[1:])
    if not torch.equal(together[1:], alone):
        warnings.warn(
            "A member of a stack may differ in the last bit from the same member alone: torch multiplied matrices before"
            " `supervised` was imported. Import `supervised` (or `rl`) first, or set MKL_CBWR=AVX2 in the environment.",
            RuntimeWarning,
            stacklevel=3,
        )
