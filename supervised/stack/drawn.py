"""Layers that read random numbers drawn for them before a forward pass: noise, or quantile fractions.

A layer never draws itself: the training code decides when to draw, and so whether two passes share their numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


class Numbers:
    """The numbers [N, ...] read by N layers, one per member; None: nothing was drawn."""

    def __init__(self) -> None:
        self.value: Tensor | None = None


class Drawn(nn.Module):
    """A layer that reads numbers drawn for it. It has none until they are provided in `numbers`."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers, self.place = Numbers(), 0

    @property
    def drawn(self) -> Tensor | None:
        """The layer's own numbers, [...]."""
        return None if self.numbers.value is None else self.numbers.value[self.place]


def share(layers: Sequence[Drawn]) -> Numbers:
    """Make N layers, one per member, read from one `Numbers`, as the batched layer does -> the numbers."""
    numbers = layers[0].numbers
    for k, layer in enumerate(layers):
        layer.numbers, layer.place = numbers, k
    return numbers
