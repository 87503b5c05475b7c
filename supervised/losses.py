"""Losses per example, and their mean within each seed.

Each loss maps predictions and targets to unreduced losses [N, B, ...]. Average within each seed (`per_seed`), sum over the
seeds and differentiate: seed k gets the same gradient as if trained alone.
"""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from supervised import determinism
from supervised.validate import explained, number

IGNORED = -100  # the target class that is ignored, as in torch


@explained("tensors prediction and target of one shape [N, B, ...]")
def mse(prediction: Tensor, target: Tensor) -> Tensor:
    """Compute the squared error (prediction - target)^2; both [N, B, ...]."""
    return F.mse_loss(prediction, target, reduction="none")


@explained("tensors prediction and target of one shape [N, B, ...]")
def huber(prediction: Tensor, target: Tensor) -> Tensor:
    """Compute the Huber loss, quadratic for errors up to 1 and linear beyond (Huber 1964); both [N, B, ...]."""
    return F.huber_loss(prediction, target, reduction="none")


@explained("tensors logit and target of one shape [N, B, ...]")
def binary_cross_entropy(logit: Tensor, target: Tensor) -> Tensor:
    """Compute the binary cross-entropy of sigmoid(logit) with a target in [0, 1]; both [N, B, ...]."""
    # max(z, 0) - z t + log(1 + exp(-|z|)) cannot overflow.
    return logit.clamp(min=0) - logit * target + determinism.elementwise(lambda z: (-z.abs()).exp().log1p(), logit)


@explained(
    "tensors logits [N, B, ..., C] and target, whole numbers [N, B, ...] from 0 to C - 1 or floats [N, B, ..., C], and a"
    " smoothing in [0, 1]"
)
def cross_entropy(
    logits: Tensor, target: Tensor, smoothing: float = 0.0, class_weights: Tensor | None = None
) -> Tensor:
    """Compute -log softmax(logits)[target] for logits [N, B, ..., C] and integer targets [N, B, ...] in 0..C-1.

    Soft targets are class probabilities, floats [N, B, ..., C]: the loss is -sum_c target_c log softmax(logits)_c. smoothing:
    the share of the target that is spread evenly over all classes (Szegedy et al. 2016, section 7). Where an integer target is
    IGNORED the loss is 0; exclude these places with the `counts` of `per_seed`. class_weights [C]: a factor for each class.
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
    """Return the gradient of `cross_entropy` with respect to the logits: softmax(logits) - target, [..., C].

    Holds for soft targets that sum to 1.
    """
    return logits.softmax(-1) - target


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mse": mse,
    "huber": huber,
    "binary_cross_entropy": binary_cross_entropy,
    "cross_entropy": cross_entropy,
}


@explained("tensors loss [N, B, ...] and counts of its shape or None")
def per_seed(loss: Tensor, counts: Tensor | None = None) -> Tensor:
    """Return the mean loss of each seed, [N, B, ...] -> [N].

    counts: bool, of the same shape: which places to include; None: all.
    """
    if counts is None:
        return loss.flatten(1).mean(1)
    return (loss * counts).flatten(1).sum(1) / counts.flatten(1).sum(1).clamp(min=1)
