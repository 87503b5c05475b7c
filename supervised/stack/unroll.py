"""Unrolling recurrent members over sequences in which episodes begin, where their state is reset to zero."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from supervised.stack import manual_backward, reading
from supervised.stack.compiled_sequence import CompiledSequence
from supervised.stack.hooks import Hooks
from supervised.stack.members import first_leaf, member_part, stacked_parts
from supervised.stack.reading import Reading
from supervised.state import detached
from supervised.validate import explained


class Unrolling(ABC):
    """The methods of `Stack` for recurrent models."""

    seeds: tuple[int, ...]
    modules: list[nn.Module]
    _hooks: Hooks
    _sequence: CompiledSequence | None

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
                f"The stack has {len(self.seeds)} members, so x must be [{len(self.seeds)}, ...], not {list(first.shape)}."
            )

    @explained("x [N, B, T, ...], a state, resets bool [N, B, T] and lengths, a number of steps for each member")
    @torch.no_grad()
    def unroll(
        self, x: Any, state: Any = None, *, resets: Tensor | None = None, lengths: Sequence[int] | Tensor | None = None
    ) -> tuple[Tensor, Any]:
        """Run members that return (outputs, state) from a given state -> the outputs and the new state, without a gradient.

        x: sequences [N, B, T, ...], a dict of sequences, or whatever input the members take. state: as returned before,
        [N, layers, B, H] or a pair of such tensors; None: the initial state. resets: bool [N, B, T], the steps before which a
        row's state is reset to zero, where an episode begins. lengths: the number of steps to read of each member, N numbers
        from 1 to T; later outputs are zeros, and the new state is that after the last step read. A member's results then do not
        depend on T. resets and lengths require members with an output at each step, [N, B, T, ...].
        """
        self._check_members(x)
        read = reading.checked(x, resets, 0, lengths)
        if self._sequence is not None and self._fits(self._sequence, x, state, read.steps):
            return self._sequence(x, state, read)
        return self._unrolled(x, state, read)

    @explained(
        "x [N, B, T, ...], a state, resets bool [N, B, T], burn_in, a number of steps below T or int64 [N, B], and"
        " lengths, a number of steps for each member"
    )
    def unroll_vjp(
        self,
        x: Any,
        state: Any = None,
        *,
        resets: Tensor | None = None,
        burn_in: int | Tensor = 0,
        lengths: Sequence[int] | Tensor | None = None,
    ) -> tuple[Tensor, Any, Callable[[Tensor], None]]:
        """Like `unroll`, and also return a function that backpropagates a gradient with respect to the outputs to the weights.

        That function overwrites `gradients`. No gradient flows into the initial state, nor into the first `burn_in` steps
        (Kapturowski et al. 2019), a number for all rows or one for each, int64 [N, B]. The gradient at these steps, and at those
        after `lengths`, is ignored. burn_in too requires members with an output at each step. Gradients are computed by autograd,
        member by member, or by compiled code (see `compiled` of the class).
        """
        self._check_members(x)
        read = reading.checked(x, resets, burn_in, lengths)
        if self._sequence is not None and self._fits(self._sequence, x, state, read.steps):
            with torch.no_grad():
                return self._sequence.vjp(x, state, read)
        y, after = self._unrolled(x, state, read)
        return y.detach(), detached(after), self._by_autograd(y)

    def compiled_sequence(self) -> CompiledSequence | None:
        """Return the compiled code for sequences in numpy arrays, or None if there is none or a hook would not be called."""
        return None if self._sequence is None or self._hooks.present() else self._sequence

    def _by_autograd(self, y: Tensor) -> Callable[[Tensor], None]:
        """Return a function that backpropagates a gradient with respect to y by autograd and overwrites `gradients`."""

        def backward(gradient: Tensor) -> None:
            manual_backward.check_gradient(gradient, y)
            self.zero_grad()
            if not y.requires_grad:  # every row is still within its burn-in
                return
            torch.autograd.backward(y, gradient)

        return backward

    def _unrolled(self, x: Any, state: Any, read: Reading) -> tuple[Tensor, Any]:
        """Unroll member by member, by torch."""
        state = detached(state)
        if read.steps is None:
            answered: tuple[Tensor, Any] = self(x) if state is None else self(x, state)
            return answered
        pieces = [
            reading.in_pieces(
                functools.partial(self.run, k), member_part(x, k), member_part(state, k), read.of_member(k)
            )
            for k in range(len(self.modules))
        ]
        together: tuple[Tensor, Any] = stacked_parts(pieces)
        return together

    def _fits(self, sequence: CompiledSequence, *arguments: Any) -> bool:
        return sequence.fits(*arguments) and not self._hooks.present()
