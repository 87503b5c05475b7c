"""A recurrent layer of N members on numpy arrays, computed by the functions in `compiled_rnn`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from supervised.stack.compiled_mlp import compiled
from supervised.stack.compiled_rnn import Kind, parts
from supervised.stack.memory import FlatMemory


class Passed(NamedTuple):
    """The intermediate results of a forward pass that the backward pass needs."""

    x: np.ndarray
    arrays: tuple[np.ndarray, ...]  # the states after each step, and further arrays depending on the type of cell


class CompiledCell:
    """One recurrent layer of all members."""

    def __init__(self, memory: FlatMemory, kind: Kind, begins: Sequence[int], inputs: int, width: int) -> None:
        """begins: the offsets of weight_ih, weight_hh, bias_ih and bias_hh in the stack's memory."""
        self.flat, self.gradient = memory.flat.detach().numpy(), memory.gradient.numpy()
        self.begins, self.inputs, self.width, self.kept = np.array(begins), inputs, width, kind.kept
        self._forward, self._backward = compiled(kind.forward, **parts()), compiled(kind.backward, **parts())
        self._scratch_for: tuple[int, int] | None = None
        self._scratch: list[np.ndarray] = []

    def forward(
        self, x: np.ndarray, state: np.ndarray, resets: np.ndarray, ends: np.ndarray, keep: bool
    ) -> tuple[np.ndarray, Passed]:
        """Compute the states after each step, [N, T, B, H], from x [N, T, B, I], state [N, B, H] and resets bool [N, T, B].

        All arrays are contiguous. resets may be empty: none. ends int64 [N]: the number of steps to read of each member; the
        states after them are 0.
        """
        n, steps, rows, inputs = x.shape
        if inputs != self.inputs:
            raise ValueError(f"The cells take {self.inputs} inputs, not {inputs}.")
        y = np.empty((n, steps, rows, self.width), np.float32)
        kept = self._room(n, steps, rows) if keep else self._room_of_one(steps, rows)
        self._forward(self.flat, self.begins, x, state, resets, ends, keep, y, *kept)
        return y, Passed(x, (y, *kept))

    def _room(self, n: int, steps: int, rows: int) -> list[np.ndarray]:
        return [np.empty((n, steps, rows, size * self.width), np.float32) for size in self.kept]

    def _room_of_one(self, steps: int, rows: int) -> list[np.ndarray]:
        """Return scratch memory, reused by all passes without a gradient."""
        if self._scratch_for != (steps, rows):
            self._scratch_for, self._scratch = (steps, rows), self._room(1, steps, rows)
        return self._scratch

    def backward(
        self,
        gradient: np.ndarray,
        passed: Passed,
        cuts: np.ndarray,
        begins: np.ndarray,
        ends: np.ndarray,
        needed: bool,
    ) -> np.ndarray:
        """Write the gradients of the layer's weights, given the gradient with respect to the states, [N, T, B, H].

        cuts bool [N, T, B]: the steps before which no gradient flows into the state; empty: none. begins, ends int64 [N]: the
        range of steps of each member. Returns the gradient with respect to x in this range, or an empty array unless `needed`.
        """
        dx = np.empty(passed.x.shape if needed else (0, 0, 0, 0), np.float32)
        self._backward(
            self.flat, self.gradient, self.begins, passed.x, cuts, begins, ends, gradient, dx, *passed.arrays
        )
        return dx
