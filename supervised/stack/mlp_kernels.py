"""The functions that `supervised.stack.compiled_mlp` compiles: linear layers, layer normalizations and ReLUs.

They lie in one file, since numba's cache of a compiled function is renewed when that function's file changes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

SMALL = 64 * 64  # weights of a layer up to which BLAS is faster at x times the transposed copy than at x times W.T
MANY = 16  # rows from which the copy pays


def by_weight(x: Any, weight: Any, y: Any, copy: Any) -> None:
    """Write x [R, I] times the transpose of weight [O, I] to y [R, O]. copy [SMALL]: memory for a transposed weight."""
    o, i = weight.shape
    if x.shape[0] < MANY or i * o > SMALL or i < 8 or o < 8:
        np.dot(x, weight.T, y)
        return
    turned = copy[: i * o].reshape((i, o))
    for a in range(o):
        for b in range(i):
            turned[b, a] = weight[a, b]
    np.dot(x, turned, y)


def norm_rows(y: Any, bias: Any, scale: Any, shift: Any, eps: Any, floor: Any, normal: Any, factors: Any) -> None:
    """Layer normalization (Ba et al. 2016) of each row of y [R, O] + bias, and a ReLU if floor is 0 (none: NaN), in place.

    normal [R, O] receives the rows with mean 0 and variance 1, factors [R] the reciprocals of their standard deviations.
    """
    rows, columns = y.shape
    share = np.float32(1) / np.float32(columns)
    for r in range(rows):
        total = np.float32(0)
        for c in range(columns):
            value = y[r, c] + bias[c]
            y[r, c] = value
            total += value
        mean = total * share
        square = np.float32(0)
        for c in range(columns):
            value = y[r, c] - mean
            normal[r, c] = value
            square += value * value
        factor = np.float32(1) / np.sqrt(square * share + eps)
        factors[r] = factor
        for c in range(columns):
            value = normal[r, c] * factor
            normal[r, c] = value
            value = value * scale[c] + shift[c]
            y[r, c] = floor if value < floor else value  # written so that NaN propagates


def norm_rows_back(
    dy: Any, y: Any, normal: Any, factors: Any, scale: Any, floor: Any, dscale: Any, dshift: Any, dbias: Any
) -> None:
    """Backward pass of `norm_rows`: replace dy [R, O] by the gradient with respect to its input, and write the others."""
    rows, columns = dy.shape
    share = np.float32(1) / np.float32(columns)
    for c in range(columns):
        dscale[c] = np.float32(0)
        dshift[c] = np.float32(0)
        dbias[c] = np.float32(0)
    for r in range(rows):
        total = np.float32(0)
        along = np.float32(0)  # the sum of the products with `normal`
        for c in range(columns):
            g = np.float32(0) if y[r, c] <= floor else dy[r, c]
            dshift[c] += g
            dscale[c] += g * normal[r, c]
            g *= scale[c]
            dy[r, c] = g
            total += g
            along += g * normal[r, c]
        total *= share
        along *= share
        for c in range(columns):
            g = factors[r] * (dy[r, c] - total - normal[r, c] * along)
            dy[r, c] = g
            dbias[c] += g


def forward(
    flat: Any,
    weights: Any,
    biases: Any,
    sizes: Any,
    relus: Any,
    scales: Any,
    shifts: Any,
    epsilons: Any,
    x: Any,
    ends: Any,
    kept: Any,
    keep: bool,
    copy: Any,
    y: Any,
) -> None:
    """Forward pass x [N, B, I] -> y [N, B, O].

    kept [N or 1, layers, size]: for all layers but the last the outputs, and for those with a normalization what `norm_rows`
    writes; each of them at a multiple of B * widest. ends [N]: the number of rows to read of each member; in the others y is 0.
    copy [SMALL]: memory for `by_weight`.
    """
    layers = weights.shape[0]
    room = x.shape[1] * sizes.max()
    for k in range(x.shape[0]):
        at, rows = k if keep else 0, ends[k]
        before = x[k, :rows]
        y[k, rows:] = np.float32(0)
        for layer in range(layers):
            i, o = sizes[layer], sizes[layer + 1]
            begin = weights[layer] + k * i * o
            after = y[k, :rows] if layer == layers - 1 else kept[at, layer, : rows * o].reshape((rows, o))
            by_weight(before, flat[begin : begin + i * o].reshape((o, i)), after, copy)
            if scales[layer] >= 0:
                bias = flat[biases[layer] + k * o : biases[layer] + k * o + o]
                scale = flat[scales[layer] + k * o : scales[layer] + k * o + o]
                shift = flat[shifts[layer] + k * o : shifts[layer] + k * o + o]
                normal = kept[at, layer, room : room + rows * o].reshape((rows, o))
                floor = np.float32(0) if relus[layer] else np.float32(np.nan)
                norm_rows(after, bias, scale, shift, epsilons[layer], floor, normal, kept[at, layer, 2 * room :])
            else:
                floor = np.float32(0) if relus[layer] else np.float32(np.nan)
                if biases[layer] >= 0:
                    bias = flat[biases[layer] + k * o : biases[layer] + k * o + o]
                    for r in range(rows):
                        for c in range(o):
                            value = after[r, c] + bias[c]
                            after[r, c] = floor if value < floor else value  # written so that NaN propagates
                elif relus[layer]:
                    for r in range(rows):
                        for c in range(o):
                            after[r, c] = floor if after[r, c] < floor else after[r, c]
            before = after


def backward(
    flat: Any,
    grad: Any,
    weights: Any,
    biases: Any,
    sizes: Any,
    relus: Any,
    scales: Any,
    shifts: Any,
    x: Any,
    begins: Any,
    ends: Any,
    kept: Any,
    dy: Any,
    spare: Any,
    dx: Any,
) -> None:
    """Write the gradients of all weights to grad, given dy [N, B, O], that of the last linear layer's outputs.

    begins, ends [N]: the range of rows of each member. dx [N, B, I] receives the gradient with respect to x in this range,
    unless it is empty.
    """
    layers = weights.shape[0]
    room = x.shape[1] * sizes.max()
    for k in range(x.shape[0]):
        first, end = begins[k], ends[k]
        rows = end - first
        after = dy[k, first:end]
        for layer in range(layers - 1, -1, -1):
            i, o = sizes[layer], sizes[layer + 1]
            begin = weights[layer] + k * i * o
            before = x[k, first:end] if layer == 0 else kept[k, layer - 1, first * i : end * i].reshape((rows, i))
            np.dot(after.T, before, grad[begin : begin + i * o].reshape((o, i)))
            if biases[layer] >= 0 and scales[layer] < 0:
                bias = grad[biases[layer] + k * o : biases[layer] + k * o + o]
                bias[:] = np.float32(0)
                for r in range(rows):
                    for c in range(o):
                        bias[c] += after[r, c]
            if layer > 0:
                down = spare[layer % 2, : rows * i].reshape((rows, i))
                np.dot(after, flat[begin : begin + i * o].reshape((o, i)), down)
                if scales[layer - 1] >= 0:
                    part = slice(scales[layer - 1] + k * i, scales[layer - 1] + k * i + i)
                    shift = slice(shifts[layer - 1] + k * i, shifts[layer - 1] + k * i + i)
                    bias = slice(biases[layer - 1] + k * i, biases[layer - 1] + k * i + i)
                    normal = kept[k, layer - 1, room + first * i : room + end * i].reshape((rows, i))
                    factors = kept[k, layer - 1, 2 * room + first : 2 * room + end]
                    floor = np.float32(0) if relus[layer - 1] else np.float32(np.nan)
                    norm_rows_back(
                        down, before, normal, factors, flat[part], floor, grad[part], grad[shift], grad[bias]
                    )
                elif relus[layer - 1]:
                    for r in range(rows):
                        for c in range(i):
                            # Branch-free, since a branch would often be mispredicted.
                            down[r, c] = down[r, c] if before[r, c] > 0 else np.float32(0)
                after = down
            elif dx.shape[0] > 0:
                np.dot(after, flat[begin : begin + i * o].reshape((o, i)), dx[k, first:end])
