"""The multilayer perceptron."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from supervised.models.layers import ACTIVATIONS, Model, activation, initialize, linear, named
from supervised.validate import choice, integers, number

NORMS = ("layer", "batch")


def dense(
    inputs: int, widths: Sequence[int], activation_name: str, norm: str | None = None, dropout: float = 0.0
) -> list[tuple[str, nn.Module]]:
    """Return named linear layers of these widths, each with normalization before and dropout after its activation."""
    widths, activation_name = integers(widths, "widths", 1), choice(activation_name, "activation", ACTIVATIONS)
    dropout = number(dropout, "dropout", 0.0, 1.0, below=True)
    if norm is not None:
        choice(norm, "norm", NORMS)
    parts: list[tuple[str, nn.Module]] = []
    for i, width in enumerate(widths, 1):
        parts.append((f"linear{i}", linear(inputs, width)))
        if norm is not None:
            parts.append((f"norm{i}", nn.LayerNorm(width) if norm == "layer" else nn.BatchNorm1d(width)))
        parts.append((f"{activation_name}{i}", activation(activation_name)))
        if dropout:
            parts.append((f"dropout{i}", nn.Dropout(dropout)))
        inputs = width
    return parts


class MLP(Model):
    """A multilayer perceptron with hidden layers of `widths`, [B, ...] with `inputs` numbers per example -> [B, outputs].

    activation, init: names (see `supervised.models.layers`). norm: None, "layer" or "batch", before the activation. dropout:
    the probability of zeroing a hidden unit in training. loss: the loss that `fit` minimizes by default.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        widths: Sequence[int] = (256, 256),
        *,
        activation: str = "relu",
        init: str = "torch",
        norm: str | None = None,
        dropout: float = 0.0,
        loss: str = "cross_entropy",
    ) -> None:
        trunk = named([("flatten", nn.Flatten()), *dense(inputs, widths, activation, norm, dropout)])
        head = linear([inputs, *widths][-1], outputs)
        super().__init__(initialize(trunk, init), initialize(head, init), loss)
