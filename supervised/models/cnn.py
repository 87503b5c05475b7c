"""Convolutional networks for images and game frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from supervised.models import layers
from supervised.models.layers import Model, check_weights, initialize, linear, named
from supervised.models.mlp import NORMS, dense
from supervised.shapes import ShapeError, conv_output, pool_output
from supervised.stack import register_deterministic
from supervised.validate import ArgumentError, choice, flag, integer, integers, number, optional, shown

BLOCKS = ("plain", "vgg", "residual")
POOLS = ("max", "average", "fractional")
FRACTION = 0.7  # ratio of output to input size in fractional pooling


class Image(nn.Module):
    """Reshapes [B, ...] to [B, C, H, W], so that images may come with or without a channel axis."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.shape = shape
        self.channels_last = False  # memory format that is faster on some devices; set by `fit`

    def forward(self, x: Tensor) -> Tensor:
        """Forward pass [B, ...] with C * H * W numbers per example -> [B, C, H, W]."""
        x = x if x.shape[1:] == self.shape else x.reshape(len(x), *self.shape)
        return x.to(memory_format=torch.channels_last) if self.channels_last else x


class Residual(nn.Module):
    """A residual block, two convolutions with a skip connection: activation(x + f(x)) (He et al. 2016, figure 2).

    If the number of channels or the size changes, the skip connection is a 1x1 convolution.
    """

    def __init__(
        self,
        inputs: int,
        channels: int,
        kernel: int,
        stride: int,
        activation_name: str,
        norm: str | None,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.inner = named(
            [
                *_conv("1", inputs, channels, kernel, stride, norm, bias),
                (f"{activation_name}1", layers.activation(activation_name)),
                *_conv("2", channels, channels, kernel, 1, norm, bias),
            ]
        )
        same = inputs == channels and stride == 1
        self.past = nn.Identity() if same else named(_conv("", inputs, channels, 1, stride, norm, bias))
        self.out = layers.activation(activation_name)

    def forward(self, x: Tensor) -> Tensor:
        """Forward pass [B, inputs, H, W] -> [B, channels, H / stride, W / stride]."""
        y: Tensor = self.out(self.past(x) + self.inner(x))
        return y


register_deterministic(Image, Residual)


def _conv(
    name: str,
    inputs: int,
    channels: int,
    kernel: int,
    stride: int,
    norm: str | None,
    bias: bool,
    padding: int | None = None,
) -> list[tuple[str, nn.Module]]:
    same = (kernel - 1) // 2 if padding is None else padding
    conv = nn.Conv2d(inputs, channels, kernel, stride, same, bias=bias and norm != "batch")
    if norm is None:
        return [(f"conv{name}", conv)]
    # With one group, GroupNorm is layer normalization over channels and positions.
    return [
        (f"conv{name}", conv),
        (f"norm{name}", nn.GroupNorm(1, channels) if norm == "layer" else nn.BatchNorm2d(channels)),
    ]


class CNN(Model):
    """A convolutional network, images [B, C, H, W] (or [B, H, W] with one channel) -> [B, outputs].

    One stage for each of `channels`: a block, pooling, dropout. Then global pooling or flattening, dense layers of `widths`,
    and the head.
    shape: (C, H, W). block: "plain" (one convolution), "vgg" (two: Simonyan and Zisserman 2015) or "residual" (two with a
    skip connection). kernel, stride, padding: one for all stages, or one per stage; padding None keeps the size at stride 1.
    pool: "max", "average", "fractional" (Graham 2014) or None; 2x2 windows that may extend beyond the border, as with the
    lectures' "SAME". norm: "batch" (or True), batch norm after each convolution, or "layer", layer normalization before each
    activation, that of dense layers too. bias: of the convolutions; unused with batch norm. global_pool: None, "max" or "average"
    over the remaining positions.
    dropout, dense_dropout: probabilities of zeroing an element in training, after each stage and each dense layer.
    Sizes that are not divisible by the stride are rounded down, as in torch. Raises ShapeError if a filter is larger than its
    padded input.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        outputs: int,
        channels: Sequence[int] = (32, 64),
        *,
        block: str = "plain",
        kernel: int | Sequence[int] = 3,
        stride: int | Sequence[int] = 1,
        padding: int | Sequence[int] | None = None,
        pool: str | None = "max",
        global_pool: str | None = None,
        widths: Sequence[int] = (),
        activation: str = "relu",
        init: str = "torch",
        norm: bool | str | None = False,
        bias: bool = True,
        dropout: float = 0.0,
        dense_dropout: float = 0.0,
        loss: str = "cross_entropy",
    ) -> None:
        shape, channels = _shape(shape), integers(channels, "channels", 1)
        choice(block, "block", BLOCKS)
        choice(activation, "activation", layers.ACTIVATIONS)
        for value, name, known in ((pool, "pooling", POOLS), (global_pool, "global pooling", POOLS[:2])):
            optional(choice, value, name, known)
        dropout = number(dropout, "dropout", 0.0, 1.0, below=True)
        kind, bias = _norm(norm), flag(bias, "bias")
        kernels, strides = _each(kernel, channels, "kernel", 1), _each(stride, channels, "stride", 1)
        paddings = [None] * len(channels) if padding is None else _each(padding, channels, "padding", 0)
        blocks = _Blocks(block, activation, kind, bias)
        c, h, w = shape
        parts: list[tuple[str, nn.Module]] = [("image", Image(shape))]
        for i, (k, s, p, out) in enumerate(zip(kernels, strides, paddings, channels, strict=True), 1):
            made, h, w = blocks.stage(i, (c, h, w), out, k, s, p)
            parts, c = parts + made, out
            if pool is not None:
                layer, h, w = _pool(pool, h, w)
                parts.append((f"pool{i}", layer))
            if dropout:
                parts.append((f"dropout{i}", nn.Dropout(dropout)))
        if global_pool is not None:
            parts.append(("global", nn.AdaptiveMaxPool2d(1) if global_pool == "max" else nn.AdaptiveAvgPool2d(1)))
            h = w = 1
        parts.append(("flatten", nn.Flatten()))
        inner = "layer" if kind == "layer" else None
        parts += [(f"dense_{key}", layer) for key, layer in dense(c * h * w, widths, activation, inner, dense_dropout)]
        trunk = initialize(named(parts), init)
        head = initialize(linear([c * h * w, *integers(widths, "widths", 1)][-1], outputs), init)
        super().__init__(trunk, head, loss)


class _Blocks(NamedTuple):
    """The settings that the convolutions of all stages share."""

    kind: str
    activation: str
    norm: str | None
    bias: bool

    def stage(
        self, i: int, shape: tuple[int, int, int], outputs: int, kernel: int, stride: int, padding: int | None
    ) -> tuple[list[tuple[str, nn.Module]], int, int]:
        """Return the named layers of stage i for inputs of `shape`, and the height and width of their outputs."""
        c, h, w = shape
        check_weights(channels=outputs, inputs=c, kernel=kernel, rows=kernel)
        if self.kind != "plain" and (padding is not None or kernel % 2 == 0):
            raise ShapeError(
                f"A {self.kind} block keeps the size: its kernel must be odd and its padding None, not {kernel} and {padding}."
            )
        pad = (kernel - 1) // 2 if padding is None else padding
        try:
            h, w = (conv_output(n, kernel, stride, pad, floor=True) for n in (h, w))
        except ShapeError as error:
            raise ShapeError(f"Stage {i} of the CNN: {error}") from error
        if self.kind == "residual":
            block = Residual(c, outputs, kernel, stride, self.activation, self.norm, self.bias)
            return [(f"residual{i}", block)], h, w
        parts: list[tuple[str, nn.Module]] = []
        for j in "ab" if self.kind == "vgg" else ("",):
            last = stride if j in ("", "b") else 1
            parts += _conv(f"{i}{j}", c, outputs, kernel, last, self.norm, self.bias, pad)
            parts.append((f"{self.activation}{i}{j}", layers.activation(self.activation)))
            c = outputs
        return parts, h, w


def _norm(norm: Any) -> str | None:
    """Return the name of a normalization; True is "batch"."""
    if norm is None or isinstance(norm, str):
        return None if norm is None else choice(norm, "norm", NORMS)
    return "batch" if flag(norm, "norm") else None


def _shape(shape: Any) -> tuple[int, int, int]:
    if not isinstance(shape, (tuple, list)) or len(shape) != 3:
        raise ShapeError(f"The shape of an image must be (channels, height, width), not {shown(shape)}.")
    c, h, w = (
        integer(size, f"The {name} of an image", 1)
        for size, name in zip(shape, ("channels", "height", "width"), strict=True)
    )
    return c, h, w


def _each(value: Any, channels: Sequence[int], name: str, low: int) -> list[Any]:
    """Return a whole number of at least `low` for each stage, given one for all or a list."""
    if not isinstance(value, (list, tuple)):
        return [integer(value, name, low)] * len(channels)
    if len(value) != len(channels):
        raise ArgumentError(
            f"There are {len(value)} values of {name} for {len(channels)} stages: give one, or one per stage."
        )
    return list(integers(value, name, low))


def _pool(name: str, h: int, w: int) -> tuple[nn.Module, int, int]:
    if min(h, w) < 2:
        raise ShapeError(f"A feature map of {h}x{w} is too small for 2x2 pooling: use fewer stages.")
    if name == "fractional":
        return nn.FractionalMaxPool2d(2, output_ratio=FRACTION), int(h * FRACTION), int(w * FRACTION)
    kind = nn.MaxPool2d if name == "max" else nn.AvgPool2d
    return kind(2, ceil_mode=True), pool_output(h, 2, ceil=True), pool_output(w, 2, ceil=True)
