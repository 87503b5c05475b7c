"""Adam and RAdam as compiled functions: clipping and the step of all members in one call, on the stack's own arrays.

Results equal those of torch's optimizers up to rounding. Requires numba, as `supervised.stack.compiled_mlp`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from supervised.stack.compiled_mlp import compiled
from supervised.stack.memory import FlatMemory

TINY = 1e-36  # above the smallest normal float32, 1.2e-38, and too small to affect a step


def clip_and_step(
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
    correction: float,
    eps: float,
) -> bool:
    """Clip each member's gradient, update its moments m and v, and subtract size * m / (sqrt(v) * correction + eps).

    Writes the gradient norms before clipping to norms [N]. begins int64 [weights, N] and lengths [weights]: the location of
    each member's part of each weight. sizes [N]: of each member's step. Returns False, and changes nothing else, if a norm is
    NaN or infinite.

    Moments below TINY are set to 0. Otherwise those of weights whose gradient stays 0, as in dead units, would decay to
    denormal numbers, which make arithmetic up to a hundred times slower without changing any weight.
    """
    for k in range(norms.shape[0]):
        total = np.float32(0)
        for w in range(lengths.shape[0]):
            part = np.float32(0)
            # A view that is indexed from 0, so that the compiler can vectorize the loop; so are those below.
            g1 = grad[begins[w, k] : begins[w, k] + lengths[w]]
            for j in range(g1.shape[0]):
                part += g1[j] * g1[j]
            total += part
        norms[k] = np.sqrt(total)
    for k in range(norms.shape[0]):
        if not np.isfinite(norms[k]):
            return False
    b1, b2 = np.float32(beta1), np.float32(beta2)
    a1, a2 = np.float32(1 - beta1), np.float32(1 - beta2)
    c, e = np.float32(correction), np.float32(eps)
    tiny = np.float32(TINY)
    for k in range(norms.shape[0]):
        size = np.float32(sizes[k])
        scale = np.float32(1)
        if norms[k] > max_norm:
            scale = np.float32(max_norm / (norms[k] + 1e-6))
        for w in range(lengths.shape[0]):
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
                x[j] -= size * m / (np.sqrt(v) * c + e)
    return True


class Step(NamedTuple):
    """A step in the form size * m / (sqrt(v) * correction + eps)."""

    sizes: np.ndarray  # float64 [N]
    correction: float
    eps: float


def adam_step(rates: np.ndarray, beta1: float, beta2: float, eps: float, step: float) -> Step:
    """Return the given step, 1, 2, ..., of Adam (Kingma and Ba 2015, algorithm 1). rates [N]: the learning rates."""
    return Step(rates / (1.0 - beta1**step), 1.0 / math.sqrt(1.0 - beta2**step), eps)


def radam_step(rates: np.ndarray, beta1: float, beta2: float, eps: float, step: float) -> Step:
    """Return the given step of RAdam (Liu et al. 2020, algorithm 2), with eps where torch.optim.RAdam adds it.

    Where the variance of 1 / sqrt(v) has no finite approximation, in the first five steps with beta2 = 0.999, v is not used.
    """
    decay = beta2**step
    longest = 2.0 / (1.0 - beta2) - 1.0
    length = longest - 2.0 * step * decay / (1.0 - decay)
    sizes = rates / (1.0 - beta1**step)
    if length <= 5.0:
        return Step(sizes, 0.0, 1.0)
    share = (length - 4.0) * (length - 2.0) * longest / ((longest - 4.0) * (longest - 2.0) * length)
    return Step(sizes * math.sqrt(share * (1.0 - decay)), 1.0, eps)


STEPS: dict[type[torch.optim.Optimizer], Callable[..., Step]] = {
    torch.optim.Adam: adam_step,
    torch.optim.RAdam: radam_step,
}


class CompiledAdam:
    """Compiled per-member clipping and step of Adam or RAdam, in place on the state of a stack's torch optimizer."""

    def __init__(self, memory: FlatMemory, optimizer: torch.optim.Optimizer) -> None:
        self.memory, self.optimizer, self.step_of = memory, optimizer, STEPS[type(optimizer)]
        self.flat, self.gradient = memory.flat.detach().numpy(), memory.gradient.numpy()
        n = memory.n
        self.begins = memory.starts.reshape(-1, n)
        self.lengths = np.array([block[0].numel() for block in memory.gradients.values()])
        self.norms = np.zeros(n, np.float32)
        self.rates = np.zeros(n)
        self.kernel = compiled(clip_and_step)
        self.moments: tuple[np.ndarray, np.ndarray] | None = None
        self.steps = 0.0

    @classmethod
    def of(cls, memory: FlatMemory, optimizer: torch.optim.Optimizer) -> CompiledAdam | None:
        """Return the compiled form of a stack's torch optimizer, or None if there is none."""
        return cls(memory, optimizer) if type(optimizer) in STEPS else None

    def step(self, max_norm: float) -> tuple[Tensor, bool]:
        """Clip and update -> each member's gradient norm before clipping, [N], and whether all are finite (else no update)."""
        if self.moments is None:
            self.moments = self._memory()
        group = self.optimizer.param_groups[0]
        self.rates[:] = group["lr"]
        sizes, correction, eps = self.step_of(self.rates, *group["betas"], group["eps"], self.steps + 1.0)
        good = self.kernel(
            *(self.flat, self.gradient, *self.moments, self.begins, self.lengths, self.norms, max_norm, sizes),
            *(*group["betas"], correction, eps),
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
