"""Adam and RAdam as compiled functions: clipping and the step of all members in one call, on the stack's own arrays.

Results equal those of torch's optimizers up to rounding. Requires numba, as `supervised.stack.compiled_mlp`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from supervised.stack.compiled_mlp import compiled
from supervised.stack.memory import FlatMemory

TINY = 1e-36  # above the smallest normal float32, 1.2e-38, and too small to affect a step


def gradient_norms(grad: Any, begins: Any, lengths: Any, norms: Any) -> bool:
    """Write the norm of each member's gradient to norms [N]. Returns whether all are finite.

    begins int64 [weights, N] and lengths [weights]: the location of each member's part of each weight.
    """
    for k in range(norms.shape[0]):
        total = np.float32(0)
        for w in range(lengths.shape[0]):
            part = np.float32(0)
            for j in range(begins[w, k], begins[w, k] + lengths[w]):
                part += grad[j] * grad[j]
            total += part
        norms[k] = np.sqrt(total)
    return bool(np.isfinite(norms).all())


def adam_step(
    flat: Any,
    grad: Any,
    first: Any,
    second: Any,
    begins: Any,
    lengths: Any,
    norms: Any,
    max_norm: float,
    sizes: Any,
    beta1: float,
    beta2: float,
    correction: Any,
    eps: Any,
) -> None:
    """Clip each member's gradient, update its moments m and v, and subtract size * m / (sqrt(v) * correction + eps).

    sizes float32 [N]. Moments below TINY are set to 0. Otherwise those of weights whose gradient stays 0, as in dead units,
    would decay to denormal numbers, which make arithmetic up to a hundred times slower without changing any weight.
    """
    b1, b2 = np.float32(beta1), np.float32(beta2)
    a1, a2 = np.float32(1 - beta1), np.float32(1 - beta2)
    tiny = np.float32(TINY)
    for k in range(norms.shape[0]):
        size = sizes[k]
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
                x[j] -= size * m / (np.sqrt(v) * correction + eps)


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

    Writes the gradient norms before clipping to norms [N]. rates [N]: the learning rate of each member. Returns False, and
    changes nothing else, if a norm is NaN or infinite.
    """
    if not gradient_norms(grad, begins, lengths, norms):
        return False
    sizes = (rates / (1.0 - beta1**step)).astype(np.float32)
    correction = np.float32(1.0 / np.sqrt(1.0 - beta2**step))
    adam_step(
        flat, grad, first, second, begins, lengths, norms, max_norm, sizes, beta1, beta2, correction, np.float32(eps)
    )
    return True


def clip_and_radam(
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
    """As `clip_and_adam`, for RAdam (Liu et al. 2020, algorithm 2) in the form of torch.optim.RAdam.

    With beta2 = 0.999 its first five steps have momentum but no adaptive rates. eps is added to sqrt(v) before its bias is
    corrected, as in torch.
    """
    if not gradient_norms(grad, begins, lengths, norms):
        return False
    sizes = rates / (1.0 - beta1**step)
    correction, added = np.float32(0), np.float32(1)  # divides by 1
    decay = beta2**step
    longest = 2.0 / (1.0 - beta2) - 1.0
    length = longest - 2.0 * step * decay / (1.0 - decay)
    if length > 5.0:
        top = (length - 4.0) * (length - 2.0) * longest
        rectification = np.sqrt(top / ((longest - 4.0) * (longest - 2.0) * length))
        sizes = sizes * (rectification * np.sqrt(1.0 - decay))
        correction, added = np.float32(1), np.float32(eps)
    adam_step(
        flat, grad, first, second, begins, lengths, norms, max_norm, sizes.astype(np.float32), beta1, beta2, correction,
        added,
    )  # fmt: skip
    return True


class CompiledAdam:
    """Compiled per-member clipping and Adam step, in place on the state of a stack's torch optimizer."""

    function: Callable[..., bool] = staticmethod(clip_and_adam)

    def __init__(self, memory: FlatMemory, optimizer: torch.optim.Optimizer) -> None:
        self.memory, self.optimizer = memory, optimizer
        self.flat, self.gradient = memory.flat.detach().numpy(), memory.gradient.numpy()
        n = memory.n
        self.begins = memory.starts.reshape(-1, n)
        self.lengths = np.array([block[0].numel() for block in memory.gradients.values()])
        self.norms = np.zeros(n, np.float32)
        self.rates = np.zeros(n)
        self.kernel = compiled(self.function, gradient_norms=compiled(gradient_norms), adam_step=compiled(adam_step))
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
        """Return the moments in the state of the torch optimizer, created if necessary."""
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


class CompiledRAdam(CompiledAdam):
    """Likewise for RAdam."""

    function = staticmethod(clip_and_radam)


COMPILED = {"Adam": CompiledAdam, "RAdam": CompiledRAdam}  # by the names of `supervised.optimizer`


def compiled_optimizer(memory: FlatMemory, optimizer: torch.optim.Optimizer) -> CompiledAdam | None:
    """Return the compiled counterpart of a stack's torch optimizer, or None if there is none."""
    found = COMPILED.get(type(optimizer).__name__)
    return None if found is None else found(memory, optimizer)
