"""What a prediction is worth, example by example."""

from __future__ import annotations

from torch import Tensor

from supervised.validate import explained

CLASSIFYING = ("cross_entropy", "binary_cross_entropy")  # losses whose predictions are right or wrong


@explained("a tensor prediction [N, B, ...], its target and the name of the loss")
def correct(prediction: Tensor, target: Tensor, loss: str) -> Tensor | None:
    """Which predictions are right, bool [N, B, ...]; None where the loss is that of a regression.

    cross_entropy: the largest of logits [N, B, ..., C] is the target; binary_cross_entropy: its logit has the right sign.
    """
    if loss == "cross_entropy":
        return prediction.argmax(-1) == target
    if loss == "binary_cross_entropy":
        return (prediction > 0) == (target > 0.5)
    return None


@explained("a tensor prediction [N, B, ...] and the name of the loss")
def probabilities(prediction: Tensor, loss: str) -> Tensor:
    """What a model trained with this loss holds for likely: softmax or sigmoid of its outputs, or the outputs themselves."""
    if loss == "cross_entropy":
        return prediction.softmax(-1)
    return prediction.sigmoid() if loss == "binary_cross_entropy" else prediction
