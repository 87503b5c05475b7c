"""Metrics of predictions, per example."""

from __future__ import annotations

from torch import Tensor

from supervised.validate import explained

CLASSIFYING = ("cross_entropy", "binary_cross_entropy")  # losses with an accuracy


@explained("a tensor prediction [N, B, ...], its target and the name of the loss")
def correct(prediction: Tensor, target: Tensor, loss: str) -> Tensor | None:
    """Return which predictions are correct, bool [N, B, ...], or None for a regression loss.

    cross_entropy: the largest of the logits [N, B, ..., C] is the target. binary_cross_entropy: the logit has the right sign.
    """
    if loss == "cross_entropy":
        return prediction.argmax(-1) == target
    if loss == "binary_cross_entropy":
        return (prediction > 0) == (target > 0.5)
    return None


@explained("a tensor prediction [N, B, ...] and the name of the loss")
def probabilities(prediction: Tensor, loss: str) -> Tensor:
    """Return the predicted probabilities: softmax or sigmoid of the outputs, depending on the loss, or the outputs themselves."""
    if loss == "cross_entropy":
        return prediction.softmax(-1)
    return prediction.sigmoid() if loss == "binary_cross_entropy" else prediction
