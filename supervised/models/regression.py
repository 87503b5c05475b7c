"""Linear, logistic and softmax regression: one linear layer each, with different losses.

On one-hot states, linear regression without a bias is a Q-table; softmax regression is the head of Boltzmann exploration.
"""

from __future__ import annotations

from torch import nn

from supervised.models.layers import Model, initialize, linear
from supervised.validate import integer


class _Regression(Model):
    def __init__(self, inputs: int, outputs: int, bias: bool, init: str, loss: str) -> None:
        super().__init__(nn.Flatten(), initialize(linear(inputs, outputs, bias), init), loss)


class LinearRegression(_Regression):
    """Linear least squares, [B, ...] with `inputs` numbers per example -> [B, outputs]."""

    def __init__(self, inputs: int, outputs: int = 1, *, bias: bool = True, init: str = "torch") -> None:
        super().__init__(inputs, outputs, bias, init, "mse")


class LogisticRegression(_Regression):
    """Logistic regression, [B, ...] with `inputs` numbers per example -> logits [B, outputs], one per binary target."""

    def __init__(self, inputs: int, outputs: int = 1, *, bias: bool = True, init: str = "torch") -> None:
        super().__init__(inputs, outputs, bias, init, "binary_cross_entropy")


class SoftmaxRegression(_Regression):
    """Softmax regression, [B, ...] with `inputs` numbers per example -> logits [B, classes]."""

    def __init__(self, inputs: int, classes: int, *, bias: bool = True, init: str = "torch") -> None:
        super().__init__(inputs, integer(classes, "classes", 1), bias, init, "cross_entropy")
