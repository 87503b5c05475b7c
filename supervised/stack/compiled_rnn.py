"""Recurrent layers over whole sequences as compiled functions, the gradient by hand: GRU (Cho et al. 2014) and tanh cells.

As in `supervised.stack.compiled_mlp`, members are computed one after another, products by BLAS, on the arrays of the stack:
the same as torch's cells up to rounding, and bit-identical for a member whatever others there are. Arrays are in the order of
time, [N, T, B, ...], so that what a step reads and writes is contiguous.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from torch import nn

from supervised.stack.compiled_mlp import compiled
from supervised.stack.memory import FlatMemory


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


def enter(state: Any, resets: Any, now: Any) -> None:
    """The states [B, H] after one step -> those that the next one begins with, zeros in the rows of `resets` [B]."""
    for b in range(now.shape[0]):
        if resets[b]:
            now[b] = np.float32(0)
        else:
            now[b] = state[b]


def gru_forward(
    flat: Any, at: Any, x: Any, state: Any, resets: Any, keep: bool, y: Any, before: Any, gates: Any, hidden: Any
) -> None:
    """x [N, T, B, I] and state [N, B, H] -> the states y [N, T, B, H].

    at: where weight_ih, weight_hh, bias_ih and bias_hh begin in `flat`. resets bool [N, T, B]: whether the state is 0 before
    the step. What the gradient needs is written, of the last member alone unless it is to be kept: the states before the
    steps, the gates [N, T, B, 3H] (reset, update, new), and what the new gate's part of the state is, [N, T, B, H].
    """
    n, steps, rows, inputs = x.shape
    width = state.shape[2]
    g = 3 * width
    by_state = np.empty((rows, g), np.float32)
    bias = np.empty(2 * width, np.float32)
    half = np.float32(0.5)
    for k in range(n):
        i = k if keep else 0
        w_x = flat[at[0] + k * g * inputs : at[0] + (k + 1) * g * inputs].reshape((g, inputs))
        w_h = flat[at[1] + k * g * width : at[1] + (k + 1) * g * width].reshape((g, width))
        b_x, b_h = flat[at[2] + k * g : at[2] + (k + 1) * g], flat[at[3] + k * g : at[3] + (k + 1) * g]
        for c in range(2 * width):
            bias[c] = b_x[c] + b_h[c]
        np.dot(x[k].reshape((steps * rows, inputs)), w_x.T, gates[i].reshape((steps * rows, g)))
        last = state[k]
        for t in range(steps):
            now = before[i, t]
            enter(last, resets[k, t], now)
            np.dot(now, w_h.T, by_state)
            last = y[k, t]
            for b in range(rows):
                both, by = gates[i, t, b, : 2 * width], by_state[b, : 2 * width]
                for c in range(2 * width):
                    both[c] = half * tanh(half * (both[c] + by[c] + bias[c])) + half  # the sigmoid
                part, by_n, b_n = hidden[i, t, b], by_state[b, 2 * width :], b_h[2 * width :]
                for c in range(width):
                    part[c] = by_n[c] + b_n[c]
                new, reset, b_i = gates[i, t, b, 2 * width :], gates[i, t, b, :width], b_x[2 * width :]
                for c in range(width):
                    new[c] = tanh(new[c] + b_i[c] + reset[c] * part[c])
                update, out, old = gates[i, t, b, width : 2 * width], last[b], now[b]
                for c in range(width):
                    out[c] = new[c] + update[c] * (old[c] - new[c])


def gru_backward(
    flat: Any, grad: Any, at: Any, x: Any, resets: Any, begin: int, dy: Any, dx: Any, y: Any, before: Any, gates: Any,
    hidden: Any,
) -> None:  # fmt: skip
    """dy [N, T - begin, B, H], by the states from step `begin` on, -> the gradients of the weights, which overwrite `grad`.

    No gradient goes into earlier steps, nor into the first state. dx [N, T - begin, B, I]: takes that by x, if it is not empty.
    """
    n, steps, rows, inputs = x.shape
    width = dy.shape[3]
    g, some = 3 * width, (steps - begin) * rows
    slope = np.empty((steps - begin, rows, g), np.float32)  # by what the state adds to the gates
    by_new = np.empty((steps - begin, rows, width), np.float32)  # by what x adds to the new gate
    back, arrived = np.empty((rows, width), np.float32), np.empty((rows, width), np.float32)
    one = np.float32(1)
    for k in range(n):
        w_x = flat[at[0] + k * g * inputs : at[0] + (k + 1) * g * inputs].reshape((g, inputs))
        w_h = flat[at[1] + k * g * width : at[1] + (k + 1) * g * width].reshape((g, width))
        back[:] = np.float32(0)
        for t in range(steps - 1, begin - 1, -1):
            s = t - begin
            for b in range(rows):
                d, given, later = arrived[b], dy[k, s, b], back[b]
                for c in range(width):
                    d[c] = given[c] + later[c]
                new, update, reset = gates[k, t, b, 2 * width :], gates[k, t, b, width : 2 * width], gates[k, t, b, :width]
                d_new, d_update, d_reset = by_new[s, b], slope[s, b, width : 2 * width], slope[s, b, :width]
                old, part, d_part = before[k, t, b], hidden[k, t, b], slope[s, b, 2 * width :]
                for c in range(width):
                    d_new[c] = d[c] * (one - update[c]) * (one - new[c] * new[c])
                for c in range(width):
                    d_update[c] = d[c] * (old[c] - new[c]) * update[c] * (one - update[c])
                for c in range(width):
                    d_reset[c] = d_new[c] * part[c] * reset[c] * (one - reset[c])
                for c in range(width):
                    d_part[c] = d_new[c] * reset[c]
                for c in range(width):
                    d[c] = d[c] * update[c]
            np.dot(slope[s], w_h, back)
            for b in range(rows):
                later, d = back[b], arrived[b]
                if resets[k, t, b]:
                    later[:] = np.float32(0)
                else:
                    for c in range(width):
                        later[c] += d[c]
        d_state, d_input = slope.reshape((some, g)), by_new.reshape((some, width))
        earlier = before[k].reshape((steps * rows, width))[begin * rows :]
        np.dot(d_state.T, earlier, grad[at[1] + k * g * width : at[1] + (k + 1) * g * width].reshape((g, width)))
        add_up(d_state, grad[at[3] + k * g : at[3] + (k + 1) * g])
        for r in range(some):
            d_state[r, 2 * width :] = d_input[r]
        read = x[k].reshape((steps * rows, inputs))[begin * rows :]
        np.dot(d_state.T, read, grad[at[0] + k * g * inputs : at[0] + (k + 1) * g * inputs].reshape((g, inputs)))
        add_up(d_state, grad[at[2] + k * g : at[2] + (k + 1) * g])
        if dx.shape[0] > 0:
            np.dot(d_state, w_x, dx[k].reshape((some, inputs)))


def tanh_forward(flat: Any, at: Any, x: Any, state: Any, resets: Any, keep: bool, y: Any, before: Any) -> None:
    """As `gru_forward`, of cells h' = tanh(W x + b + V h + c) (Elman 1990)."""
    n, steps, rows, inputs = x.shape
    width = state.shape[2]
    by_state, bias = np.empty((rows, width), np.float32), np.empty(width, np.float32)
    for k in range(n):
        i = k if keep else 0
        w_x = flat[at[0] + k * width * inputs : at[0] + (k + 1) * width * inputs].reshape((width, inputs))
        w_h = flat[at[1] + k * width * width : at[1] + (k + 1) * width * width].reshape((width, width))
        b_x, b_h = flat[at[2] + k * width : at[2] + (k + 1) * width], flat[at[3] + k * width : at[3] + (k + 1) * width]
        for c in range(width):
            bias[c] = b_x[c] + b_h[c]
        np.dot(x[k].reshape((steps * rows, inputs)), w_x.T, y[k].reshape((steps * rows, width)))
        last = state[k]
        for t in range(steps):
            now = before[i, t]
            enter(last, resets[k, t], now)
            np.dot(now, w_h.T, by_state)
            last = y[k, t]
            for b in range(rows):
                out, by = last[b], by_state[b]
                for c in range(width):
                    out[c] = tanh(out[c] + by[c] + bias[c])


def tanh_backward(
    flat: Any, grad: Any, at: Any, x: Any, resets: Any, begin: int, dy: Any, dx: Any, y: Any, before: Any
) -> None:
    """As `gru_backward`, of the cells of `tanh_forward`."""
    n, steps, rows, inputs = x.shape
    width = dy.shape[3]
    some = (steps - begin) * rows
    slope = np.empty((steps - begin, rows, width), np.float32)
    back = np.empty((rows, width), np.float32)
    one = np.float32(1)
    for k in range(n):
        w_x = flat[at[0] + k * width * inputs : at[0] + (k + 1) * width * inputs].reshape((width, inputs))
        w_h = flat[at[1] + k * width * width : at[1] + (k + 1) * width * width].reshape((width, width))
        back[:] = np.float32(0)
        for t in range(steps - 1, begin - 1, -1):
            s = t - begin
            for b in range(rows):
                d, given, later, out = slope[s, b], dy[k, s, b], back[b], y[k, t, b]
                for c in range(width):
                    d[c] = (given[c] + later[c]) * (one - out[c] * out[c])
            np.dot(slope[s], w_h, back)
            for b in range(rows):
                if resets[k, t, b]:
                    back[b] = np.float32(0)
        d_state = slope.reshape((some, width))
        earlier, read = before[k].reshape((steps * rows, width)), x[k].reshape((steps * rows, inputs))
        by_w_h = grad[at[1] + k * width * width : at[1] + (k + 1) * width * width].reshape((width, width))
        np.dot(d_state.T, earlier[begin * rows :], by_w_h)
        by_w_x = grad[at[0] + k * width * inputs : at[0] + (k + 1) * width * inputs].reshape((width, inputs))
        np.dot(d_state.T, read[begin * rows :], by_w_x)
        for part in range(2, 4):
            add_up(d_state, grad[at[part] + k * width : at[part] + (k + 1) * width])
        if dx.shape[0] > 0:
            np.dot(d_state, w_x, dx[k].reshape((some, inputs)))


def add_up(rows: Any, total: Any) -> None:
    """The sum of rows [R, C] into `total` [C]."""
    total[:] = np.float32(0)
    for r in range(rows.shape[0]):
        row = rows[r]
        for c in range(total.shape[0]):
            total[c] += row[c]


class Kind(NamedTuple):
    """How a type of cell is computed. kept: what its gradient needs besides the states, in units of H for a row and step."""

    forward: Any
    backward: Any
    kept: tuple[int, ...]


KINDS: dict[type[nn.Module], Kind] = {
    nn.GRU: Kind(gru_forward, gru_backward, (1, 3, 1)),
    nn.RNN: Kind(tanh_forward, tanh_backward, (1,)),
}


class Passed(NamedTuple):
    """A forward pass, as its gradient needs it."""

    x: np.ndarray
    resets: np.ndarray
    arrays: tuple[np.ndarray, ...]  # the states after the steps, and what is kept besides


class CompiledCell:
    """One recurrent layer of all members."""

    def __init__(self, memory: FlatMemory, kind: Kind, begins: Sequence[int], inputs: int, width: int) -> None:
        """begins: where weight_ih, weight_hh, bias_ih and bias_hh begin in the memory of the stack."""
        self.flat, self.gradient = memory.flat.detach().numpy(), memory.gradient.numpy()
        self.begins, self.inputs, self.width, self.kept = np.array(begins), inputs, width, kind.kept
        self._forward = compiled(kind.forward, tanh=tanh, enter=enter)
        self._backward = compiled(kind.backward, add_up=add_up)

    def forward(self, x: np.ndarray, state: np.ndarray, resets: np.ndarray, keep: bool) -> tuple[np.ndarray, Passed]:
        """x [N, T, B, I], state [N, B, H] and resets bool [N, T, B] -> the states after each step, [N, T, B, H]."""
        n, *steps_rows, _ = x.shape
        y = np.empty((n, *steps_rows, self.width), np.float32)
        kept = [np.empty((n if keep else 1, *steps_rows, size * self.width), np.float32) for size in self.kept]
        self._forward(self.flat, self.begins, x, state, resets, keep, y, *kept)
        return y, Passed(x, resets, (y, *kept))

    def backward(self, gradient: np.ndarray, passed: Passed, begin: int, needed: bool) -> np.ndarray:
        """Write the gradients of the layer's weights, from that by the states from step `begin` on, [N, T - begin, B, H].

        -> that by x from there on; an empty array unless it is needed.
        """
        dx = np.empty((*gradient.shape[:3], self.inputs) if needed else (0, 0, 0, 0), np.float32)
        self._backward(self.flat, self.gradient, self.begins, passed.x, passed.resets, begin, gradient, dx, *passed.arrays)
        return dx
