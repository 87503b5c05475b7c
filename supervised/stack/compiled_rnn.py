"""Recurrent layers over whole sequences as compiled functions with manual gradients: GRU (Cho et al. 2014) and tanh cells.

As in `supervised.stack.compiled_mlp`, members are computed one after another, products by BLAS, on the stack's arrays: results
equal those of torch's cells up to rounding, and a member's results do not depend on which others there are. Arrays are
time-major, [N, T, B, ...], so that each step reads and writes contiguous memory.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
from torch import nn

from supervised.stack.compiled_mlp import inlined


def tanh(x: Any) -> Any:
    """Compute the tanh of a float32 with an error of at most 4e-7: Eigen's rational approximation, which vectorizes."""
    top = np.float32(7.90531110763549805)
    x = top if x > top else x  # written so that NaN propagates
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
    """Return the k-th member's matrix in the block [N, rows, columns] that starts at `begin`."""
    size = rows * columns
    return flat[begin + k * size : begin + (k + 1) * size].reshape((rows, columns))


def enter(state: Any, resets: Any, k: int, t: int, now: Any) -> None:
    """Copy the k-th member's states [B, H] to `now`, those that step t starts from, and zero the rows of resets[k, t] [B]."""
    for b in range(now.shape[0]):
        if resets.shape[0] > 0 and resets[k, t, b]:
            now[b] = np.float32(0)
        else:
            now[b] = state[b]


TURNED = 8  # sequence length from which a transposed copy of the weights is faster


def turned(weight: Any, steps: int, into: Any) -> None:
    """Transpose a matrix [G, H] into [H, G], for sequences long enough that `by_rows_of` uses it."""
    if steps >= TURNED:
        for c in range(weight.shape[1]):
            for g in range(weight.shape[0]):
                into[c, g] = weight[g, c]


def by_rows_of(state: Any, weight: Any, other: Any, steps: int, out: Any) -> None:
    """Multiply state [B, H] by weight [G, H], or for long sequences by its transpose `other` [H, G] -> out [B, G]."""
    if steps >= TURNED:
        np.dot(state, other, out)
    else:
        np.dot(state, weight.T, out)


def gru_row(by_x: Any, by_state: Any, b_x: Any, b_h: Any, old: Any, hidden: Any, new_state: Any) -> None:
    """Compute one row of a step: overwrite by_x [3H] with the gates, and hidden [H] with the state's part of the new gate."""
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
    """Forward pass x [N, T, B, I], state [N, B, H] -> the states y [N, T, B, H].

    at: the offsets of weight_ih, weight_hh, bias_ih and bias_hh in `flat`. resets bool [N, T, B]: whether the state is reset to
    0 before the step; empty: nowhere. ends [N]: the number of steps to read of each member, after which y is 0. With `keep` it
    stores what the backward pass needs: the states before each step, the gates [N, T, B, 3H] (reset, update, new), and the
    state's part of the new gate, [N, T, B, H]; without, these arrays are scratch memory for a single member.
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
    """Backpropagate through one row of a step. back [H]: the gradient with respect to the state from later steps.

    Writes the gradients with respect to the pre-activations of the gates to slope [3H] (the state's part) and by_new [H] (x's
    part of the new gate), and to arrived [H] the gradient that reaches the previous state directly.
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
    flat: Any, grad: Any, at: Any, x: Any, cuts: Any, begins: Any, ends: Any, dy: Any, dx: Any, _y: Any, before: Any,
    gates: Any, hidden: Any,
) -> None:  # fmt: skip
    """Write the gradients of the weights to `grad`, given dy [N, T, B, H], those of the states after each step.

    begins, ends [N]: the range of steps of each member; no gradient flows into the state before `begins`. cuts bool [N, T, B]:
    whether to stop the gradient before the step; empty: nowhere. dx [N, T, B, I] receives the gradient with respect to x in
    this range, unless it is empty.
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
    """Like `gru_forward`, for cells h' = tanh(W x + b + V h + c) (Elman 1990)."""
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
    """Like `gru_backward`, for the cells of `tanh_forward`."""
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
    """Write the gradients of weight [G, I] and bias [G], given those of a layer's outputs [R, G] and its inputs [T, B, I]."""
    np.dot(slope.T, read.reshape((slope.shape[0], weight.shape[1])), weight)
    bias[:] = np.float32(0)
    for r in range(slope.shape[0]):
        for c in range(bias.shape[0]):
            bias[c] += slope[r, c]


INNER = (tanh, block, enter, turned, by_rows_of, by_rows, gru_row_back)


@functools.cache
def parts() -> dict[str, Any]:
    """Return the functions that the cells' functions call."""
    plain = {function.__name__: inlined(function) for function in INNER}
    return {**plain, "gru_row": inlined(gru_row, tanh=plain["tanh"])}


class Kind(NamedTuple):
    """The functions of a type of cell. kept: the sizes of the arrays its backward pass needs, in units of H per row and step."""

    forward: Any
    backward: Any
    kept: tuple[int, ...]


KINDS: dict[type[nn.Module], Kind] = {
    nn.GRU: Kind(gru_forward, gru_backward, (1, 3, 1)),
    nn.RNN: Kind(tanh_forward, tanh_backward, (1,)),
}
