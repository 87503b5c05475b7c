"""Losses of the TD error and their derivatives: pure functions with any leading axes [...].

A loss and its derivative are separate functions because learning needs only the derivative: with it the gradient of a small
network is computed manually (`supervised.stack.manual_backward`), which halves the time of a step. Tests check the derivatives
against autograd.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from supervised.renamed import former_name
from supervised.validate import explained, number

if TYPE_CHECKING:
    from torch import Tensor


@explained("a tensor error [...]")
def squared(error: Tensor) -> Tensor:
    """Return error**2 (Sutton and Barto 2018, section 9.2)."""
    return error.square()


@explained("a tensor error [...]")
def squared_grad(error: Tensor) -> Tensor:
    """Return the derivative of `squared`."""
    return 2 * error


@explained("a tensor error [...]")
def huber(error: Tensor) -> Tensor:
    """Return the Huber loss with threshold 1: error**2 / 2 up to it, linear beyond (Huber 1964; Mnih et al. 2015)."""
    small = error.abs().clamp(max=1.0)
    return small * (error.abs() - 0.5 * small)


@explained("a tensor error [...]")
def huber_grad(error: Tensor) -> Tensor:
    """Return the derivative of `huber`."""
    return error.clamp(-1.0, 1.0)


@explained("tensors predicted [..., Z] and sought [..., M], fraction [Z] or [..., Z] and a nonnegative kappa")
def quantile_huber(predicted: Tensor, sought: Tensor, fraction: Tensor, kappa: float = 1.0) -> tuple[Tensor, Tensor]:
    """Return the quantile Huber loss (Dabney et al. 2018, equations 9 and 10) and its derivative by the predicted quantiles.

    predicted [..., Z]: quantiles at these fractions in (0, 1); sought [..., M]: samples or quantiles of the target. The loss
    [...] is summed over the predicted quantiles and averaged over the target samples; the derivative is [..., Z]. kappa: the
    Huber threshold; with 0 the loss is the quantile regression loss of equation 8, whose minimizers are the exact quantiles.
    """
    kappa = number(kappa, "kappa", 0.0)
    error = sought[..., None, :] - predicted[..., :, None]  # [..., Z, M]
    pull = (fraction[..., :, None] - (error < 0).to(error.dtype)).abs()
    scaled = error / kappa if kappa else error
    cost, slope = (huber(scaled) * kappa, huber_grad(scaled)) if kappa else (error.abs(), error.sign())
    return (pull * cost).mean(-1).sum(-1), -(pull * slope).mean(-1)


LOSSES: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "huber": (huber, huber_grad),
    "squared": (squared, squared_grad),
}


@explained("tensors values [..., A] and action int64 [...] of numbers from 0 to A - 1")
def select(values: Tensor, action: Tensor) -> Tensor:
    """Return the values [...] of the actions taken [...] from values [..., A], or [..., Z] from values [..., A, Z]."""
    if values.ndim == action.ndim + 2:
        index = action[..., None, None].expand(*action.shape, 1, values.shape[-1])
        return values.gather(-2, index).squeeze(-2)
    return values.gather(-1, action[..., None]).squeeze(-1)


@explained("tensors slope [...], values [..., A] and action int64 [...] of numbers from 0 to A - 1")
def scatter_to_action(slope: Tensor, values: Tensor, action: Tensor) -> Tensor:
    """Return the gradient by all values [..., A] or [..., A, Z] from that of the actions taken [...]; zero elsewhere."""
    if values.ndim == action.ndim + 2:
        index = action[..., None, None].expand(*action.shape, 1, values.shape[-1])
        return values.new_zeros(values.shape).scatter_(-2, index, slope[..., None, :])
    return values.new_zeros(values.shape).scatter_(-1, action[..., None], slope[..., None])


__getattr__ = former_name(__name__)
