"""Members that answer (outputs, state), over sequences in which episodes begin: a state is set to zero where they do."""

from __future__ import annotations

import functools
import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from supervised.stack import manual_backward, sequences
from supervised.stack.hooks import Hooks
from supervised.stack.members import first_leaf, member_part, stacked_parts
from supervised.state import detached
from supervised.validate import ArgumentError, explained, integer, kind_of


class Unrolling(ABC):
    """What a stack of recurrent models can do beside a forward pass: `Stack` says what its attributes are."""

    seeds: tuple[int, ...]
    modules: list[nn.Module]
    _hooks: Hooks
    _sequence: sequences.CompiledSequence | None

    @abstractmethod
    def __call__(self, x: Any, *more: Any) -> Any:
        """A forward pass of all members."""

    @abstractmethod
    def run(self, k: int, *arguments: Any) -> Any:
        """A forward pass of the k-th member."""

    @abstractmethod
    def zero_grad(self) -> None:
        """Zero all gradients."""

    def _check_members(self, x: Any) -> None:
        first = x if isinstance(x, Tensor) else first_leaf(x)
        if first.shape[0] != len(self.seeds):
            raise ValueError(
                f"The stack has {len(self.seeds)} members, so its input begins so, not {list(first.shape)}."
            )

    @explained("x [N, B, T, ...], a state and resets bool [N, B, T]")
    @torch.no_grad()
    def unroll(self, x: Any, state: Any = None, *, resets: Tensor | None = None) -> tuple[Tensor, Any]:
        """Have members that answer (outputs, state) read on from a state -> the outputs and the state after, without a gradient.

        x: sequences [N, B, T, ...], or what the members read. state: as it was answered, [N, layers, B, H] or a pair of such;
        None: a new one. resets: bool [N, B, T], the steps before which a row's state is set to zero, where an episode begins;
        for members that answer at each step, [N, B, T, ...].
        """
        self._check_members(x)
        resets = checked_resets(x, resets, 0)
        if self._sequence is not None and self._fits(self._sequence, x, state, resets):
            return self._sequence(x, state, resets)
        return self._unrolled(x, state, resets, 0)

    @explained("x [N, B, T, ...], a state, resets bool [N, B, T] and burn_in, a number of steps below T")
    def unroll_vjp(
        self, x: Any, state: Any = None, *, resets: Tensor | None = None, burn_in: int = 0
    ) -> tuple[Tensor, Any, Callable[[Tensor], None]]:
        """As `unroll`; besides a function that backpropagates a gradient with respect to the outputs to the weights.

        That function overwrites `gradients`. No gradient goes into the state at the beginning, nor into the first `burn_in`
        steps (Kapturowski et al. 2019), whose part of the gradient is not read; burn_in too is for members that answer at each
        step. By autograd, member by member, or compiled and by hand (see `compiled` of the class).
        """
        burn_in = integer(burn_in, "burn_in", 0)
        self._check_members(x)
        resets = checked_resets(x, resets, burn_in)
        if self._sequence is not None and self._fits(self._sequence, x, state, resets):
            with torch.no_grad():
                return self._sequence.vjp(x, state, resets, burn_in)
        y, after = self._unrolled(x, state, resets, burn_in)
        return y.detach(), detached(after), self._by_autograd(y)

    def _by_autograd(self, y: Tensor) -> Callable[[Tensor], None]:
        """What backpropagates a gradient with respect to outputs y that autograd has followed, in place of `gradients`."""

        def backward(gradient: Tensor) -> None:
            manual_backward.check_gradient(gradient, y)
            self.zero_grad()
            torch.autograd.backward(y, gradient)

        return backward

    def _unrolled(self, x: Any, state: Any, resets: Tensor | None, burn_in: int) -> tuple[Tensor, Any]:
        """Member by member, by torch."""
        state = detached(state)
        if resets is None:
            answered: tuple[Tensor, Any] = self(x) if state is None else self(x, state)
            return answered
        pieces = [
            in_pieces(functools.partial(self.run, k), x[k], member_part(state, k), resets[k], burn_in)
            for k in range(len(self.modules))
        ]
        together: tuple[Tensor, Any] = stacked_parts(pieces)
        return together

    def _fits(self, sequence: sequences.CompiledSequence, *arguments: Any) -> bool:
        return sequence.fits(*arguments) and not self._hooks.present()


def checked_resets(x: Any, resets: Any, burn_in: int) -> Tensor | None:
    """resets bool [N, B, T]; none at all if only a burn-in is given, and None without either.

    Raises ArgumentError for resets or a burn-in that do not fit sequences x [N, B, T, ...].
    """
    if resets is None and not burn_in:
        return None
    if not isinstance(x, Tensor) or x.ndim < 3:
        raise ArgumentError(f"resets and burn_in are for sequences x [N, B, T, ...], not {kind_of(x)}.")
    if burn_in >= x.shape[2]:
        raise ArgumentError(f"burn_in is a number of steps below the {x.shape[2]} of x, not {burn_in}.")
    if resets is None:
        return torch.zeros(x.shape[:3], dtype=torch.bool, device=x.device)
    if not isinstance(resets, Tensor) or resets.dtype != torch.bool or resets.shape != x.shape[:3]:
        raise ArgumentError(
            f"resets is a bool tensor {list(x.shape[:3])}, as x begins [N, B, T], not {kind_of(resets)}."
        )
    return resets


def in_pieces(call: Callable[..., Any], x: Tensor, state: Any, resets: Tensor, burn_in: int) -> tuple[Tensor, Any]:
    """x [B, T, ...], cut where some row of resets [B, T] begins anew and behind the burn-in -> the outputs and the last state.

    call: (x, state) -> (outputs, state). No gradient goes into the burn-in. Raises ArgumentError for a model that does not answer
    at each step.
    """
    begins = sorted({0, burn_in, *resets.any(0).nonzero().flatten().tolist()})
    answers = []
    for begin, end in itertools.pairwise([*begins, x.shape[1]]):
        with torch.set_grad_enabled(torch.is_grad_enabled() and begin >= burn_in):
            answer, state = call(x[:, begin:end], _cleared(state, resets[:, begin]))
        if answer.ndim < 3 or answer.shape[:2] != (len(x), end - begin):
            raise ArgumentError(
                f"resets and burn_in are for models that answer at each step, [B, T, ...]; to {len(x)} rows of {end - begin}"
                f" steps this one answers {kind_of(answer)}."
            )
        answers.append(answer)
    return torch.cat(answers, 1), state


def _cleared(state: Any, rows: Tensor) -> Any:
    """A state [layers, B, H], or a tuple of such, with zeros in these rows [B]."""
    if isinstance(state, tuple):
        return tuple(_cleared(part, rows) for part in state)
    return None if state is None else torch.where(rows[:, None], 0.0, state)
