"""Losses of each example, and their mean within each seed. Sum those over seeds and differentiate: seed k gets the gradient
it would have alone.

Each loss takes predictions [N, B, ...] and targets and answers [N, B, ...], nothing averaged yet.
"""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from supervised import determinism
from supervised.validate import explained, number

IGNORED = -100  # the class of a place that counts for nothing, as in torch


@explained("tensors prediction and target of one shape [N, B, ...]")
def mse(prediction: Tensor, target: Tensor) -> Tensor:
    """(prediction - target) squared; both [N, B, ...]."""
    return F.mse_loss(prediction, target, reduction="none")


@explained("tensors prediction and target of one shape [N, B, ...]")
def huber(prediction: Tensor, target: Tensor) -> Tensor:
    """Half the square up to a distance of 1, a straight line beyond (Huber 1964); both [N, B, ...]."""
    return F.huber_loss(prediction, target, reduction="none")


@explained("tensors logit and target of one shape [N, B, ...]")
def binary_cross_entropy(logit: Tensor, target: Tensor) -> Tensor:
    """-log of the probability that sigmoid(logit) gives to target, a number in [0, 1]; both [N, B, ...]."""
    # max(z, 0) - z t + log(1 + exp(-|z|)): no exp overflows.
    return logit.clamp(min=0) - logit * target + determinism.elementwise(lambda z: (-z.abs()).exp().log1p(), logit)


@explained(
    "tensors logits [N, B, ..., C] and target, whole numbers [N, B, ...] from 0 to C - 1 or floats [N, B, ..., C], and a"
    " smoothing in [0, 1]"
)
def cross_entropy(
    logits: Tensor, target: Tensor, smoothing: float = 0.0, class_weights: Tensor | None = None
) -> Tensor:
    """-log softmax(logits)[target]: logits [N, B, ..., C], target [N, B, ...] whole numbers 0..C-1.

    Soft targets are probabilities of the classes, floats [N, B, ..., C]: -sum_c target_c log softmax(logits)_c. smoothing: this
    share of the target is spread evenly over all classes (Szegedy et al. 2016, section 7). Where a whole number is IGNORED the
    loss is 0; tell `per_seed` to leave the place out. class_weights [C]: what each class's loss is multiplied by.
    """
    smoothing = number(smoothing, "smoothing", 0.0, 1.0)
    if target.is_floating_point():
        soft = (1 - smoothing) * target + smoothing / logits.shape[-1] if smoothing else target
        weighted = soft if class_weights is None else soft * class_weights
        return -(weighted * logits.log_softmax(-1)).sum(-1)
    found = F.cross_entropy(
        logits.flatten(0, -2),
        target.flatten(),
        weight=class_weights,
        reduction="none",
        ignore_index=IGNORED,
        label_smoothing=smoothing,
    )
    return found.view(target.shape)


@explained("tensors logits and target of one shape [..., C], floats")
def cross_entropy_slope(logits: Tensor, target: Tensor) -> Tensor:
    """The derivative of `cross_entropy` by the logits, for soft targets that add up to 1: softmax(logits) - target, [..., C]."""
    return logits.softmax(-1) - target


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mse": mse,
    "huber": huber,
    "binary_cross_entropy": binary_cross_entropy,
    "cross_entropy": cross_entropy,
}


@explained("tensors loss [N, B, ...] and counts of its shape or None")
def per_seed(loss: Tensor, counts: Tensor | None = None) -> Tensor:
    """The mean of each seed's losses: [N, B, ...] -> [N]. counts: which places count (bool, of the same shape); None: all."""
    if counts is None:
        return loss.flatten(1).mean(1)
    return (loss * counts).flatten(1).sum(1) / counts.flatten(1).sum(1).clamp(min=1)
