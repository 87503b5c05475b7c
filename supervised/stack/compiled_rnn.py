"""Recurrent layers over whole sequences as compiled functions, the gradient by hand: GRU (Cho et al. 2014) and tanh cells.

As in `supervised.stack.compiled_mlp`, members are computed one after another, products by BLAS, on the arrays of the stack:
the same as torch's cells up to rounding, and bit-identical for a member whatever others there are. Arrays are in the order of
time, [N, T, B, ...], so that what a step reads and writes is contiguous.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
from torch import nn

from supervised.stack.compiled_mlp import compiled


def tanh(x: Any) -> Any:
    """The tanh of a float32, off by 4e-7 at most: a quotient of polynomials (Eigen's), which a loop computes by SIMD vectors."""
    top = np.float32(7.90531110763549805)
    x = top if x > top else x  # written so that a NaN stays one
    x = -top if x < -top else x
    s = x * x
    p = np.float32(-2.76076847742355e-16) * s + np.float32(2.00018790482477e-13)
    p = p * s + np.float32(-8.60467152213735e-11)
    p = p * s + np.float32(5.12229709037114e-08)
    p = p * s + np.float32(1.48572235717979e-05)
    p = p * s + np.float32(6.37261928875436e-04)
    p = p * s + np.float32(4.89352455891786e-03)
    q = np.float32(1.19825839466702e-06) * s + np.float32(1.18534705686654e-04)
    q = q * s + np.float32(2.26843463243900e-03)
    q = q * s + np.float32(4.89352518554385e-03)
    return x * p / q


def block(flat: Any, begin: int, k: int, rows: int, columns: int) -> Any:
    """The k-th member's part of a block of matrices [N, rows, columns] that begins there."""
    size = rows * columns
    return flat[begin + k * size : begin + (k + 1) * size].reshape((rows, columns))


def enter(state: Any, resets: Any, k: int, t: int, now: Any) -> None:
    """The k-th member's states [B, H] after one step -> those that step t begins with, zeros in the rows of resets[k, t] [B]."""
    for b in range(now.shape[0]):
        if resets.shape[0] > 0 and resets[k, t, b]:
            now[b] = np.float32(0)
        else:
            now[b] = state[b]


TURNED = 8  # steps from which on it pays to lay out a matrix for the product that BLAS computes fastest


def turned(weight: Any, steps: int, into: Any) -> None:
    """A matrix [G, H] -> into [H, G], for sequences so long that `by_rows_of` uses it."""
    if steps >= TURNED:
        for c in range(weight.shape[1]):
            for g in range(weight.shape[0]):
                into[c, g] = weight[g, c]


def by_rows_of(state: Any, weight: Any, other: Any, steps: int, out: Any) -> None:
    """state [B, H] by weight [G, H], in `other` [H, G] for long sequences, -> out [B, G]."""
    if steps >= TURNED:
        np.dot(state, other, out)
    else:
        np.dot(state, weight.T, out)


def gru_row(by_x: Any, by_state: Any, b_x: Any, b_h: Any, old: Any, hidden: Any, new_state: Any) -> None:
    """One row of a step: by_x [3H] becomes the gates, hidden [H] what the new gate's part of the state is."""
    width = old.shape[0]
    half = np.float32(0.5)
    for c in range(2 * width):
        by_x[c] = half * tanh(half * (by_x[c] + by_state[c] + (b_x[c] + b_h[c]))) + half  # the sigmoid
    reset, update, new = by_x[:width], by_x[width : 2 * width], by_x[2 * width :]
    part, b_part, b_new = by_state[2 * width :], b_h[2 * width :], b_x[2 * width :]
    for c in range(width):
        hidden[c] = part[c] + b_part[c]
    for c in range(width):
        new[c] = tanh(new[c] + b_new[c] + reset[c] * hidden[c])
    for c in range(width):
        new_state[c] = new[c] + update[c] * (old[c] - new[c])


def gru_forward(
    flat: Any, at: Any, x: Any, state: Any, resets: Any, ends: Any, keep: bool, y: Any, before: Any, gates: Any,
    hidden: Any,
) -> None:  # fmt: skip
    """x [N, T, B, I] and state [N, B, H] -> the states y [N, T, B, H].

    at: where weight_ih, weight_hh, bias_ih and bias_hh begin in `flat`. resets bool [N, T, B]: whether the state is 0 before
    the step; empty: nowhere. ends [N]: so many steps of each member are read; behind them y is 0. What the gradient needs is
    written, of the last member alone unless it is to be kept: the states before the steps, the gates [N, T, B, 3H] (reset,
    update, new), and what the new gate's part of the state is, [N, T, B, H].
    """
    n, _, rows, inputs = x.shape
    width = state.shape[2]
    by_state, other = np.empty((rows, 3 * width), np.float32), np.empty((width, 3 * width), np.float32)
    for k in range(n):
        i = k if keep else 0
        w_x, w_h = block(flat, at[0], k, 3 * width, inputs), block(flat, at[1], k, 3 * width, width)
        turned(w_h, ends[k], other)
        b_x, b_h = block(flat, at[2], k, 1, 3 * width)[0], block(flat, at[3], k, 1, 3 * width)[0]
        end = ends[k]
        y[k, end:] = np.float32(0)
        np.dot(x[k, :end].reshape((end * rows, inputs)), w_x.T, gates[i, :end].reshape((end * rows, 3 * width)))
        last = state[k]
        for t in range(end):
            now = before[i, t]
            enter(last, resets, k, t, now)
            by_rows_of(now, w_h, other, end, by_state)
            last = y[k, t]
            for b in range(rows):
                gru_row(gates[i, t, b], by_state[b], b_x, b_h, now[b], hidden[i, t, b], last[b])


def gru_row_back(
    given: Any, gates: Any, old: Any, hidden: Any, slope: Any, by_new: Any, back: Any, arrived: Any
) -> None:
    """One row of a step backward. back [H]: the gradient by the state from later steps.

    slope [3H] and by_new [H] take the gradients by what state and x add to the gates, arrived [H] what goes to the state before
    past the product.
    """
    width = old.shape[0]
    one = np.float32(1)
    reset, update, new = gates[:width], gates[width : 2 * width], gates[2 * width :]
    d_reset, d_update, d_part = slope[:width], slope[width : 2 * width], slope[2 * width :]
    for c in range(width):
        arrived[c] = given[c] + back[c]
    for c in range(width):
        by_new[c] = arrived[c] * (one - update[c]) * (one - new[c] * new[c])
    for c in range(width):
        d_update[c] = arrived[c] * (old[c] - new[c]) * update[c] * (one - update[c])
    for c in range(width):
        d_reset[c] = by_new[c] * hidden[c] * reset[c] * (one - reset[c])
    for c in range(width):
        d_part[c] = by_new[c] * reset[c]
    for c in range(width):
        arrived[c] = arrived[c] * update[c]


def gru_backward(
    flat: Any, grad: Any, at: Any, x: Any, cuts: Any, begins: Any, ends: Any, dy: Any, dx: Any, y: Any, before: Any,
    gates: Any, hidden: Any,
) -> None:  # fmt: skip
    """dy [N, T, B, H], by the states after the steps, -> the gradients of the weights, which overwrite `grad`.

    begins, ends [N]: the steps of each member that are read. cuts bool [N, T, B]: where no gradient goes into the state before
    the step; empty: nowhere. None goes into the state before begins. dx [N, T, B, I]: takes that by x in these steps, unless
    it is empty.
    """
    n, steps, rows, inputs = x.shape
    width = dy.shape[3]
    all_slope = np.empty((steps, rows, 3 * width), np.float32)
    all_by_new = np.empty((steps, rows, width), np.float32)
    back, arrived = np.empty((rows, width), np.float32), np.empty((rows, width), np.float32)
    for k in range(n):
        w_h = block(flat, at[1], k, 3 * width, width)
        begin, end = begins[k], ends[k]
        some = end - begin
        slope, by_new = all_slope[:some], all_by_new[:some]
        back[:] = np.float32(0)
        for s in range(some - 1, -1, -1):
            t = begin + s
            for b in range(rows):
                gru_row_back(
                    *(dy[k, t, b], gates[k, t, b], before[k, t, b], hidden[k, t, b]),
                    *(slope[s, b], by_new[s, b], back[b], arrived[b]),
                )
            np.dot(slope[s], w_h, back)
            for b in range(rows):
                cut = cuts.shape[0] > 0 and cuts[k, t, b]
                for c in range(width):
                    back[b, c] = np.float32(0) if cut else back[b, c] + arrived[b, c]
        d = slope.reshape((some * rows, 3 * width))
        by_rows(
            d, before[k, begin:end], block(grad, at[1], k, 3 * width, width), block(grad, at[3], k, 1, 3 * width)[0]
        )
        for s in range(some):
            for b in range(rows):
                slope[s, b, 2 * width :] = by_new[s, b]
        by_rows(d, x[k, begin:end], block(grad, at[0], k, 3 * width, inputs), block(grad, at[2], k, 1, 3 * width)[0])
        if dx.shape[0] > 0:
            np.dot(d, block(flat, at[0], k, 3 * width, inputs), dx[k, begin:end].reshape((some * rows, inputs)))


def tanh_forward(
    flat: Any, at: Any, x: Any, state: Any, resets: Any, ends: Any, keep: bool, y: Any, before: Any
) -> None:
    """As `gru_forward`, of cells h' = tanh(W x + b + V h + c) (Elman 1990)."""
    n, _, rows, inputs = x.shape
    width = state.shape[2]
    by_state, bias = np.empty((rows, width), np.float32), np.empty(width, np.float32)
    other = np.empty((width, width), np.float32)
    for k in range(n):
        i = k if keep else 0
        w_x, w_h = block(flat, at[0], k, width, inputs), block(flat, at[1], k, width, width)
        b_x, b_h = block(flat, at[2], k, 1, width)[0], block(flat, at[3], k, 1, width)[0]
        for c in range(width):
            bias[c] = b_x[c] + b_h[c]
        end = ends[k]
        turned(w_h, end, other)
        y[k, end:] = np.float32(0)
        np.dot(x[k, :end].reshape((end * rows, inputs)), w_x.T, y[k, :end].reshape((end * rows, width)))
        last = state[k]
        for t in range(end):
            now = before[i, t]
            enter(last, resets, k, t, now)
            by_rows_of(now, w_h, other, end, by_state)
            last = y[k, t]
            for b in range(rows):
                out, by = last[b], by_state[b]
                for c in range(width):
                    out[c] = tanh(out[c] + by[c] + bias[c])


def tanh_backward(
    flat: Any, grad: Any, at: Any, x: Any, cuts: Any, begins: Any, ends: Any, dy: Any, dx: Any, y: Any, before: Any
) -> None:
    """As `gru_backward`, of the cells of `tanh_forward`."""
    n, steps, rows, inputs = x.shape
    width = dy.shape[3]
    all_slope = np.empty((steps, rows, width), np.float32)
    back = np.empty((rows, width), np.float32)
    one = np.float32(1)
    for k in range(n):
        w_h = block(flat, at[1], k, width, width)
        begin, end = begins[k], ends[k]
        some = end - begin
        slope = all_slope[:some]
        back[:] = np.float32(0)
        for s in range(some - 1, -1, -1):
            t = begin + s
            for b in range(rows):
                d, given, later, out = slope[s, b], dy[k, t, b], back[b], y[k, t, b]
                for c in range(width):
                    d[c] = (given[c] + later[c]) * (one - out[c] * out[c])
            np.dot(slope[s], w_h, back)
            for b in range(rows):
                if cuts.shape[0] > 0 and cuts[k, t, b]:
                    back[b] = np.float32(0)
        d = slope.reshape((some * rows, width))
        by_rows(d, before[k, begin:end], block(grad, at[1], k, width, width), block(grad, at[3], k, 1, width)[0])
        by_rows(d, x[k, begin:end], block(grad, at[0], k, width, inputs), block(grad, at[2], k, 1, width)[0])
        if dx.shape[0] > 0:
            np.dot(d, block(flat, at[0], k, width, inputs), dx[k, begin:end].reshape((some * rows, inputs)))


def by_rows(slope: Any, read: Any, weight: Any, bias: Any) -> None:
    """Gradients [R, G] by what a layer makes of `read` [T, B, I] -> those of its weight [G, I] and bias [G]."""
    np.dot(slope.T, read.reshape((slope.shape[0], weight.shape[1])), weight)
    bias[:] = np.float32(0)
    for r in range(slope.shape[0]):
        for c in range(bias.shape[0]):
            bias[c] += slope[r, c]


INNER = (tanh, block, enter, turned, by_rows_of, by_rows, gru_row_back)


@functools.cache
def parts() -> dict[str, Any]:
    """The compiled functions that those of the cells call."""
    plain = {function.__name__: compiled(function) for function in INNER}
    return {**plain, "gru_row": compiled(gru_row, tanh=plain["tanh"])}


class Kind(NamedTuple):
    """How a type of cell is computed. kept: what its gradient needs besides the states, in units of H for a row and step."""

    forward: Any
    backward: Any
    kept: tuple[int, ...]


KINDS: dict[type[nn.Module], Kind] = {
    nn.GRU: Kind(gru_forward, gru_backward, (1, 3, 1)),
    nn.RNN: Kind(tanh_forward, tanh_backward, (1,)),
}
