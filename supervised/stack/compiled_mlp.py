"""Consecutive linear layers, layer normalizations and ReLUs as one compiled function, several times faster than torch for small
networks.

Members are computed one after another, each layer by BLAS, in preallocated memory. Results equal torch's up to rounding, and
a member's results do not depend on which others there are. The functions work on the stack's own arrays of weights and
gradients. Requires numba; without it, and on devices other than the CPU, torch is used.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from supervised.stack.mlp_kernels import SMALL, backward, by_weight, forward, norm_rows, norm_rows_back

# "reassoc" allows vectorized sums, whose order depends only on the length. "contract" allows fused multiply-add, "arcp" a
# product with the reciprocal instead of a division. NaN and infinity propagate.
SUMS, ROWS, FUSED = {"reassoc", "nsz"}, {"reassoc", "nsz", "contract", "arcp"}, {"contract"}
FAST: dict[str, Any] = {
    "clip_and_step": SUMS,
    **dict.fromkeys(("norm_rows", "norm_rows_back"), ROWS),
    **dict.fromkeys(("tanh", "gru_row", "gru_row_back"), FUSED),
}


@functools.cache
def compiled(function: Callable[..., Any], **called: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function by numba, with a cache on disk. Raises ImportError without numba.

    called: the functions that it calls, by name, from `inlined`; they are in the same file.
    """
    return _compiled(function, called, cache=True, nogil=True)


@functools.cache
def inlined(function: Callable[..., Any], **called: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function that is inlined into the compiled functions that call it.

    Without inlining, the process that compiles the callers would call a separately optimized copy, while processes that read the
    cache would call the copy that was optimized along with the caller; the two round differently.
    """
    return _compiled(function, called, forceinline=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)


def _compiled(
    function: Callable[..., Any], called: dict[str, Callable[..., Any]], **options: Any
) -> Callable[..., Any]:
    import numba

    fast = FAST.get(function.__name__, False)
    copy = types.FunctionType(function.__code__, {**function.__globals__, **called}, function.__name__)
    found: Callable[..., Any] = numba.njit(copy, error_model="numpy", fastmath=fast, **options)
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


def parts() -> dict[str, Callable[..., Any]]:
    """Return the functions that `forward` and `backward` of mlp_kernels call."""
    return {function.__name__: inlined(function) for function in (by_weight, norm_rows, norm_rows_back)}


class Layer(NamedTuple):
    """A linear layer, optionally followed by a layer normalization and a ReLU; offsets in the stack's vectors, -1: none."""

    weight: int
    bias: int
    outputs: int
    relu: bool
    scale: int = -1  # of the normalization, which requires a bias of the linear layer
    shift: int = -1
    eps: float = 0.0


class CompiledMLP:
    """Linear layers, each optionally followed by a layer normalization and a ReLU, on numpy arrays."""

    def __init__(self, flat: Tensor, gradient: Tensor, inputs: int, layers: Sequence[Layer]) -> None:
        """flat, gradient: the stack's vectors. The last layer has no normalization."""
        self.flat, self.gradient = flat.detach().numpy(), gradient.numpy()
        weights, biases, outputs, relus, scales, shifts, epsilons = zip(*layers, strict=True)
        sizes = inputs, *outputs
        self.layout = tuple(map(np.array, (weights, biases, sizes, relus, scales, shifts)))
        self.epsilons = np.array(epsilons, np.float32)
        self.normalizes = max(scales) >= 0
        self.inputs, self.outputs, self.widest = sizes[0], sizes[-1], max(sizes)
        self.ends_in_relu = relus[-1]
        self._forward, self._backward = compiled(forward, **parts()), compiled(backward, **parts())
        self._scratch = {True: np.zeros((0, 0, 0), np.float32), False: np.zeros((0, 0, 0), np.float32)}
        self._kept_for: np.ndarray | None = None  # the input that the stored activations belong to
        self._spare, self._copy = np.zeros((2, 0), np.float32), np.zeros(SMALL, np.float32)

    def forward(self, x: np.ndarray, keep: bool, ends: np.ndarray | None = None) -> np.ndarray:
        """Forward pass of a contiguous float32 array [N, B, I] -> float32 [N, B, O]. keep: store what `backward` needs.

        ends int64 [N]: the number of rows to read of each member, the others giving zeros; None: all.
        """
        n, b, i = x.shape
        if i != self.inputs:
            raise ValueError(f"The network takes {self.inputs} inputs, not {i}.")
        y = np.empty((n, b, self.outputs), np.float32)
        size = b * (2 * self.widest + 1) if self.normalizes else b * self.widest
        shape = n if keep else 1, len(self.layout[0]), size
        if self._scratch[keep].shape != shape:
            self._scratch[keep] = np.zeros(shape, np.float32)
        ends = every(n, b) if ends is None else ends
        self._forward(self.flat, *self.layout, self.epsilons, x, ends, self._scratch[keep], keep, self._copy, y)
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
        if self._spare.shape[1] != b * self.widest:
            self._spare = np.zeros((2, b * self.widest), np.float32)
        if self.ends_in_relu:  # not part of the compiled function
            gradient = np.where(y <= 0, np.float32(0), gradient)
        slope = np.ascontiguousarray(gradient)
        dx = np.empty(x.shape if needed else (0, 0, 0), np.float32)
        rows = every(n, 0) if begins is None else begins, every(n, b) if ends is None else ends
        self._backward(self.flat, self.gradient, *self.layout, x, *rows, self._scratch[True], slope, self._spare, dx)
        return dx
