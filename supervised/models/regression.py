"""Linear, logistic and softmax regression: one linear layer, and the loss that makes it each of the three.

On one-hot states linear regression without a bias is a Q-table; softmax regression is the head of Boltzmann exploration.
"""

from __future__ import annotations

from torch import nn

from supervised.models.layers import Model, initialise, linear
from supervised.validate import integer


class _Regression(Model):
    def __init__(self, inputs: int, outputs: int, bias: bool, init: str, loss: str) -> None:
        super().__init__(nn.Flatten(), initialise(linear(inputs, outputs, bias), init), loss)


class LinearRegression(_Regression):
    """[B, ...] with `inputs` numbers each -> [B, outputs], fitted by least squares."""

    def __init__(self, inputs: int, outputs: int = 1, *, bias: bool = True, init: str = "torch") -> None:
        super().__init__(inputs, outputs, bias, init, "mse")


class LogisticRegression(_Regression):
    """[B, ...] with `inputs` numbers each -> logits [B, outputs], each the log odds of one yes-or-no question."""

    def __init__(self, inputs: int, outputs: int = 1, *, bias: bool = True, init: str = "torch") -> None:
        super().__init__(inputs, outputs, bias, init, "binary_cross_entropy")


class SoftmaxRegression(_Regression):
    """[B, ...] with `inputs` numbers each -> logits [B, classes], of which softmax makes probabilities."""

    def __init__(self, inputs: int, classes: int, *, bias: bool = True, init: str = "torch") -> None:
        super().__init__(inputs, integer(classes, "classes", 1), bias, init, "cross_entropy")
