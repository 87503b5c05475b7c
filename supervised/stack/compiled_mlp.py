"""A run of linear layers and ReLUs as one compiled function: for small networks several times faster than torch.

Members are computed one after another, each layer by BLAS, in preallocated memory. Results equal torch's up to rounding, and
those of a member are bit-identical whatever others there are. The arrays are those of the stack, so weights, gradients and
optimizer state stay where they are. Needs numba; without it, and on other devices, torch is used.
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

TINY = 1e-36  # between the smallest normal float32, 1.2e-38, and what a step could show

# "reassoc" lets a sum be taken by vectors; its order depends on the length alone. "contract" rounds a product and a sum once.
FAST: dict[str, Any] = {
    "clip_and_adam": {"reassoc", "nsz"},
    **{name: {"contract"} for name in ("tanh", "gru_row", "gru_row_back")},
}


def forward(
    flat: Any, weights: Any, biases: Any, sizes: Any, relus: Any, x: Any, ends: Any, kept: Any, keep: bool, y: Any
) -> None:
    """x [N, B, I] -> y [N, B, O]. kept [N or 1, layers, B * widest] takes what each layer but the last makes.

    ends [N]: so many rows of each member are read; in the others y is 0.
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
                        # Written so that a NaN stays one.
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
    """dy [N, B, O], by what the last linear layer makes, -> the gradients of all weights, which overwrite grad.

    begins, ends [N]: the rows of each member that are read. dx [N, B, I]: takes that by x in these rows, if it is not empty.
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
                            # Without a branch, which a processor would often guess wrong.
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
    """Each member's gradient norm into norms [N], its gradient clipped, and a step of Adam (Kingma and Ba 2015, algorithm 1).

    begins int64 [weights, N] and lengths [weights]: where each member's part of each weight lies. rates: the learning rate
    of each member. -> False, and nothing is changed, where a norm is NaN or infinite.

    Moments below TINY become 0. Those of a weight whose gradient stays 0, as a dead unit's does, would otherwise decay into
    denormal numbers, with which arithmetic is up to a hundred times slower; a step from them changes no weight.
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
            # Views of this part alone, so that the compiler can use vectors.
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
    """The function compiled by numba, cached on disk. Raises ImportError without numba.

    called: the compiled functions that it calls, by the names it calls them by; they lie in the same file.
    """
    import numba

    fast = FAST.get(function.__name__, False)
    copy = types.FunctionType(function.__code__, {**function.__globals__, **called}, function.__name__)
    found: Callable[..., Any] = numba.njit(copy, cache=True, nogil=True, error_model="numpy", fastmath=fast)
    return found


@functools.cache
def possible() -> bool:
    """Whether numba and the BLAS that it calls are available. Limits that BLAS to one thread, permanently."""
    try:
        import numba  # noqa: F401  (whether it is there)
        import scipy.linalg.cython_blas  # noqa: F401  (likewise)
        import threadpoolctl
    except ImportError:
        return False
    # Only scipy's own copy, which numba calls: not that of torch, nor of numpy.
    found = threadpoolctl.ThreadpoolController().lib_controllers
    for library in found:
        if library.user_api == "blas" and "scipy" in library.filepath:
            library.set_num_threads(1)
    return True


@functools.lru_cache(maxsize=256)
def every(n: int, rows: int) -> np.ndarray:
    """The same number for each of n members, int64 [N]; only to be read."""
    return np.full(n, rows)


class CompiledMLP:
    """Linear layers, each with or without a ReLU behind it, on numpy arrays."""

    def __init__(
        self,
        flat: Tensor,
        gradient: Tensor,
        weights: Sequence[int],
        biases: Sequence[int],
        sizes: Sequence[int],
        relus: Sequence[bool],
    ) -> None:
        """flat, gradient: of the stack. weights, biases: where each layer's begin in them (-1: no bias). sizes: of what goes
        in, between and out."""
        self.flat, self.gradient = flat.detach().numpy(), gradient.numpy()
        self.layout = np.array(weights), np.array(biases), np.array(sizes), np.array(relus)
        self.inputs, self.outputs, self.widest = sizes[0], sizes[-1], max(sizes)
        self.ends_in_relu = relus[-1]
        self._forward, self._backward = compiled(forward), compiled(backward)
        self._scratch = {True: np.zeros((0, 0, 0), np.float32), False: np.zeros((0, 0, 0), np.float32)}
        self._kept_for: np.ndarray | None = None  # the input that what is kept belongs to
        self._spare = np.zeros((2, 0), np.float32)

    def forward(self, x: np.ndarray, keep: bool, ends: np.ndarray | None = None) -> np.ndarray:
        """x float32 [N, B, I], contiguous, -> float32 [N, B, O]. keep: whether the gradient will be asked for.

        ends int64 [N]: so many rows of each member are read, and the others answered with zeros; None: all.
        """
        n, b, i = x.shape
        if i != self.inputs:
            raise ValueError(f"The network takes {self.inputs} numbers, not {i}.")
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
        """Write the gradients of all weights, from that by y = forward(x, True, ends) -> that by x; empty unless it is needed.

        begins int64 [N]: the gradient is read, and that by x written, from these rows of each member on.
        """
        n, b, _ = x.shape
        if self._kept_for is not x:  # another was computed meanwhile
            self.forward(x, True, ends)
        if self._spare.shape[1] != self._scratch[True].shape[2]:
            self._spare = np.zeros((2, self._scratch[True].shape[2]), np.float32)
        if self.ends_in_relu:  # the compiled function begins before it
            gradient = np.where(y <= 0, np.float32(0), gradient)
        slope = np.ascontiguousarray(gradient)
        dx = np.empty(x.shape if needed else (0, 0, 0), np.float32)
        rows = every(n, 0) if begins is None else begins, every(n, b) if ends is None else ends
        self._backward(self.flat, self.gradient, *self.layout, x, *rows, self._scratch[True], slope, self._spare, dx)
        return dx


class CompiledAdam:
    """Per-member clipping and Adam's step, compiled, in place on the state of a stack's torch optimizer."""

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
        """Clip and update -> each member's gradient norm before, [N], and whether all are finite; if not, nothing changed."""
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
        """The moments in the state of torch's Adam, created if it has none yet."""
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
