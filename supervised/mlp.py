"""The multilayer perceptron."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from supervised.layers import Model, activation, check_share, check_size, initialise, named
from supervised.names import nearest

NORMS = ("layer", "batch")


def dense(
    inputs: int, widths: Sequence[int], activation_name: str, norm: str | None = None, dropout: float = 0.0
) -> list[tuple[str, nn.Module]]:
    """Linear layers of these widths with their names; each is normalised before its activation, and dropped after it."""
    check_size(inputs, "inputs")
    check_share(dropout, "dropout")
    if norm is not None:
        nearest(norm, NORMS, "norm")
    parts: list[tuple[str, nn.Module]] = []
    for i, width in enumerate(widths, 1):
        parts.append((f"linear{i}", nn.Linear(inputs, check_size(width, "A width"))))
        if norm is not None:
            parts.append((f"norm{i}", nn.LayerNorm(width) if norm == "layer" else nn.BatchNorm1d(width)))
        parts.append((f"{activation_name}{i}", activation(activation_name)))
        if dropout:
            parts.append((f"dropout{i}", nn.Dropout(dropout)))
        inputs = width
    return parts


class MLP(Model):
    """[B, ...] with `inputs` numbers each -> [B, outputs] through hidden layers of `widths`.

    activation, init: names (see `supervised.layers`); norm: None, "layer" or "batch", before the activation; dropout: the
    share of each hidden layer that is put to zero in training. loss: what `fit` minimises unless told otherwise.
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
        head = nn.Linear(widths[-1] if len(widths) else inputs, check_size(outputs, "outputs"))
        super().__init__(initialise(trunk, init), initialise(head, init), loss)
