"""Consecutive linear layers and ReLUs as one compiled function, for small networks several times faster than torch.

Members are computed one after another, each layer by BLAS, in preallocated memory. Results equal torch's up to rounding, and
a member's results do not depend on which others there are. The functions work on the stack's own arrays of weights, gradients
and optimizer state. Requires numba; without it, and on devices other than the CPU, torch is used.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from supervised.stack.memory import FlatMemory

TINY = 1e-36  # above the smallest normal float32, 1.2e-38, and too small to affect a step

# "reassoc" allows vectorized sums, whose order depends only on the length. "contract" allows fused multiply-add.
FAST: dict[str, Any] = {
    "clip_and_adam": {"reassoc", "nsz"},
    **{name: {"contract"} for name in ("tanh", "gru_row", "gru_row_back")},
}


def forward(
    flat: Any, weights: Any, biases: Any, sizes: Any, relus: Any, x: Any, ends: Any, kept: Any, keep: bool, y: Any
) -> None:
    """Forward pass x [N, B, I] -> y [N, B, O].

    kept [N or 1, layers, B * widest] receives the outputs of all layers but the last. ends [N]: the number of rows to read of
    each member; in the others y is 0.
    """
    layers = weights.shape[0]
    for k in range(x.shape[0]):
        at, rows = k if keep else 0, ends[k]
        before = x[k, :rows]
        y[k, rows:] = np.float32(0)
        for layer in range(layers):
            i, o = sizes[layer], sizes[layer + 1]
            begin = weights[layer] + k * i * o
            after = y[k, :rows] if layer == layers - 1 else kept[at, layer, : rows * o].reshape((rows, o))
            np.dot(before, flat[begin : begin + i * o].reshape((o, i)).T, after)
            if biases[layer] >= 0:
                bias = flat[biases[layer] + k * o : biases[layer] + k * o + o]
                for r in range(rows):
                    for c in range(o):
                        after[r, c] += bias[c]
            if relus[layer]:
                for r in range(rows):
                    for c in range(o):
                        # Written so that NaN propagates.
                        after[r, c] = np.float32(0) if after[r, c] < 0 else after[r, c]
            before = after


def backward(
    flat: Any,
    grad: Any,
    weights: Any,
    biases: Any,
    sizes: Any,
    relus: Any,
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
    for k in range(x.shape[0]):
        first, end = begins[k], ends[k]
        rows = end - first
        after = dy[k, first:end]
        for layer in range(layers - 1, -1, -1):
            i, o = sizes[layer], sizes[layer + 1]
            begin = weights[layer] + k * i * o
            before = x[k, first:end] if layer == 0 else kept[k, layer - 1, first * i : end * i].reshape((rows, i))
            np.dot(after.T, before, grad[begin : begin + i * o].reshape((o, i)))
            if biases[layer] >= 0:
                bias = grad[biases[layer] + k * o : biases[layer] + k * o + o]
                bias[:] = np.float32(0)
                for r in range(rows):
                    for c in range(o):
                        bias[c] += after[r, c]
            if layer > 0:
                down = spare[layer % 2, : rows * i].reshape((rows, i))
                np.dot(after, flat[begin : begin + i * o].reshape((o, i)), down)
                if relus[layer - 1]:
                    for r in range(rows):
                        for c in range(i):
                            # Branch-free, since a branch would often be mispredicted.
                            down[r, c] = down[r, c] if before[r, c] > 0 else np.float32(0)
                after = down
            elif dx.shape[0] > 0:
                np.dot(after, flat[begin : begin + i * o].reshape((o, i)), dx[k, first:end])


def clip_and_adam(
    flat: Any,
    grad: Any,
    first: Any,
    second: Any,
    begins: Any,
    lengths: Any,
    norms: Any,
    max_norm: float,
    rates: Any,
    beta1: float,
    beta2: float,
    eps: float,
    step: float,
) -> bool:
    """Clip each member's gradient and take a step of Adam (Kingma and Ba 2015, algorithm 1).

    Writes the gradient norms before clipping to norms [N]. begins int64 [weights, N] and lengths [weights]: the location of
    each member's part of each weight. rates: the learning rate of each member. Returns False, and changes nothing else, if a
    norm is NaN or infinite.

    Moments below TINY are set to 0. Otherwise those of weights whose gradient stays 0, as in dead units, would decay to
    denormal numbers, which make arithmetic up to a hundred times slower without changing any weight.
    """
    for k in range(norms.shape[0]):
        total = np.float32(0)
        for w in range(lengths.shape[0]):
            part = np.float32(0)
            for j in range(begins[w, k], begins[w, k] + lengths[w]):
                part += grad[j] * grad[j]
            total += part
        norms[k] = np.sqrt(total)
    for k in range(norms.shape[0]):
        if not np.isfinite(norms[k]):
            return False
    b1, b2 = np.float32(beta1), np.float32(beta2)
    a1, a2 = np.float32(1 - beta1), np.float32(1 - beta2)
    correction = np.float32(1.0 / np.sqrt(1.0 - beta2**step))
    e = np.float32(eps)
    tiny = np.float32(TINY)
    for k in range(norms.shape[0]):
        size = np.float32(rates[k] / (1.0 - beta1**step))
        scale = np.float32(1)
        if norms[k] > max_norm:
            scale = np.float32(max_norm / (norms[k] + 1e-6))
        for w in range(lengths.shape[0]):
            # Views of this part, so that the compiler can vectorize the loop.
            span = slice(begins[w, k], begins[w, k] + lengths[w])
            x, g1, m1, v1 = flat[span], grad[span], first[span], second[span]
            for j in range(x.shape[0]):
                g = g1[j] * scale
                m = b1 * m1[j] + a1 * g
                v = b2 * v1[j] + a2 * g * g
                m = m if abs(m) > tiny else np.float32(0)
                v = v if v > tiny else np.float32(0)
                m1[j] = m
                v1[j] = v
                x[j] -= size * m / (np.sqrt(v) * correction + e)
    return True


@functools.cache
def compiled(function: Callable[..., Any], **called: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function by numba, with a cache on disk. Raises ImportError without numba.

    called: the compiled functions that it calls, by name; they are in the same file.
    """
    import numba

    fast = FAST.get(function.__name__, False)
    copy = types.FunctionType(function.__code__, {**function.__globals__, **called}, function.__name__)
    found: Callable[..., Any] = numba.njit(copy, cache=True, nogil=True, error_model="numpy", fastmath=fast)
    return found


@functools.cache
def possible() -> bool:
    """Return whether numba and its BLAS are available. Permanently limits that BLAS to one thread."""
    try:
        import numba  # noqa: F401  (only a check)
        import scipy.linalg.cython_blas  # noqa: F401  (only a check)
        import threadpoolctl
    except ImportError:
        return False
    # Only scipy's copy of BLAS, the one that numba calls; those of torch and numpy keep their threads.
    found = threadpoolctl.ThreadpoolController().lib_controllers
    for library in found:
        if library.user_api == "blas" and "scipy" in library.filepath:
            library.set_num_threads(1)
    return True


@functools.lru_cache(maxsize=256)
def every(n: int, rows: int) -> np.ndarray:
    """Return the same number for each of n members, int64 [N]; the array is shared and must not be modified."""
    return np.full(n, rows)


class CompiledMLP:
    """Linear layers, each optionally followed by a ReLU, on numpy arrays."""

    def __init__(
        self,
        flat: Tensor,
        gradient: Tensor,
        weights: Sequence[int],
        biases: Sequence[int],
        sizes: Sequence[int],
        relus: Sequence[bool],
    ) -> None:
        """flat, gradient: the stack's vectors. weights, biases: the offset of each layer's in them (-1: no bias). sizes: the
        number of inputs, then the outputs of each layer."""
        self.flat, self.gradient = flat.detach().numpy(), gradient.numpy()
        self.layout = np.array(weights), np.array(biases), np.array(sizes), np.array(relus)
        self.inputs, self.outputs, self.widest = sizes[0], sizes[-1], max(sizes)
        self.ends_in_relu = relus[-1]
        self._forward, self._backward = compiled(forward), compiled(backward)
        self._scratch = {True: np.zeros((0, 0, 0), np.float32), False: np.zeros((0, 0, 0), np.float32)}
        self._kept_for: np.ndarray | None = None  # the input that the stored activations belong to
        self._spare = np.zeros((2, 0), np.float32)

    def forward(self, x: np.ndarray, keep: bool, ends: np.ndarray | None = None) -> np.ndarray:
        """Forward pass of a contiguous float32 array [N, B, I] -> float32 [N, B, O]. keep: store what `backward` needs.

        ends int64 [N]: the number of rows to read of each member, the others giving zeros; None: all.
        """
        n, b, i = x.shape
        if i != self.inputs:
            raise ValueError(f"The network takes {self.inputs} inputs, not {i}.")
        y = np.empty((n, b, self.outputs), np.float32)
        shape = n if keep else 1, len(self.layout[0]), b * self.widest
        if self._scratch[keep].shape != shape:
            self._scratch[keep] = np.zeros(shape, np.float32)
        ends = every(n, b) if ends is None else ends
        self._forward(self.flat, *self.layout, x, ends, self._scratch[keep], keep, y)
        if keep:
            self._kept_for = x
        return y

    def backward(
        self,
        gradient: np.ndarray,
        x: np.ndarray,
        y: np.ndarray,
        needed: bool = False,
        begins: np.ndarray | None = None,
        ends: np.ndarray | None = None,
    ) -> np.ndarray:
        """Write the gradients of all weights, given the gradient with respect to y = forward(x, True, ends).

        begins int64 [N]: the first row of each member with a gradient. Returns the gradient with respect to x, or an empty array
        unless `needed`.
        """
        n, b, _ = x.shape
        if self._kept_for is not x:  # overwritten by another forward pass
            self.forward(x, True, ends)
        if self._spare.shape[1] != self._scratch[True].shape[2]:
            self._spare = np.zeros((2, self._scratch[True].shape[2]), np.float32)
        if self.ends_in_relu:  # not part of the compiled function
            gradient = np.where(y <= 0, np.float32(0), gradient)
        slope = np.ascontiguousarray(gradient)
        dx = np.empty(x.shape if needed else (0, 0, 0), np.float32)
        rows = every(n, 0) if begins is None else begins, every(n, b) if ends is None else ends
        self._backward(self.flat, self.gradient, *self.layout, x, *rows, self._scratch[True], slope, self._spare, dx)
        return dx


class CompiledAdam:
    """Compiled per-member clipping and Adam step, in place on the state of a stack's torch optimizer."""

    def __init__(self, memory: FlatMemory, optimizer: torch.optim.Optimizer) -> None:
        self.memory, self.optimizer = memory, optimizer
        self.flat, self.gradient = memory.flat.detach().numpy(), memory.gradient.numpy()
        n = memory.n
        self.begins = memory.starts.reshape(-1, n)
        self.lengths = np.array([block[0].numel() for block in memory.gradients.values()])
        self.norms = np.zeros(n, np.float32)
        self.rates = np.zeros(n)
        self.kernel = compiled(clip_and_adam)
        self.moments: tuple[np.ndarray, np.ndarray] | None = None
        self.steps = 0.0

    def step(self, max_norm: float) -> tuple[Tensor, bool]:
        """Clip and update -> each member's gradient norm before clipping, [N], and whether all are finite (else no update)."""
        if self.moments is None:
            self.moments = self._memory()
        group = self.optimizer.param_groups[0]
        self.rates[:] = group["lr"]
        good = self.kernel(
            *(self.flat, self.gradient, *self.moments, self.begins, self.lengths, self.norms, max_norm, self.rates),
            *(*group["betas"], group["eps"], self.steps + 1.0),
        )
        self.steps += bool(good)
        return torch.from_numpy(self.norms.copy()), bool(good)

    def _memory(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the moments in the state of torch's Adam, created if necessary."""
        state = self.optimizer.state[self.memory.flat]
        if not state:
            zeros = torch.zeros_like(self.memory.flat.detach())
            state.update(step=torch.tensor(0.0), exp_avg=zeros, exp_avg_sq=zeros.clone())
        self.steps = float(state["step"])
        return state["exp_avg"].numpy(), state["exp_avg_sq"].numpy()

    def close(self) -> None:
        """Write the number of steps back to the torch optimizer, whose state is looked up again at the next step."""
        if self.moments is not None:
            self.optimizer.state[self.memory.flat]["step"].fill_(self.steps)
            self.moments = None
