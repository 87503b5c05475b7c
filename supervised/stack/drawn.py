"""Layers that read numbers which somebody draws for them before a forward pass: noise, or the fractions of quantiles.

A layer draws nothing itself: who trains it says when new numbers come, so that two passes share them or do not, as meant.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


class Numbers:
    """What N layers, one of each member, read: [N, ...]; None: nothing was drawn."""

    def __init__(self) -> None:
        self.value: Tensor | None = None


class Drawn(nn.Module):
    """A layer that reads numbers drawn for it. Alone it has none until `numbers` are shared with it."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers, self.place = Numbers(), 0

    @property
    def drawn(self) -> Tensor | None:
        """The layer's own numbers, [...]."""
        return None if self.numbers.value is None else self.numbers.value[self.place]


def share(layers: Sequence[Drawn]) -> Numbers:
    """Let N layers, one of each member, read from the same numbers, and the batched layer too -> the numbers."""
    numbers = layers[0].numbers
    for k, layer in enumerate(layers):
        layer.numbers, layer.place = numbers, k
    return numbers
