"""How a stack reads sequences: episode starts, burn-in and lengths, and their implementation by torch."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from supervised.stack.members import first_leaf, member_part
from supervised.validate import ArgumentError, integer, integers, kind_of


class Reading(NamedTuple):
    """Resets, burn-in and lengths of sequences [N, B, T, ...]; see `Stack.unroll_vjp`."""

    resets: Tensor | None = None  # bool [N, B, T]
    burn_in: Tensor | None = None  # int64 [N, B]
    lengths: tuple[int, ...] | None = None

    @property
    def steps(self) -> Reading | None:
        """The reading itself, or None if all of its fields are None."""
        return self if any(part is not None for part in self) else None

    def of_member(self, k: int) -> Reading:
        """Return the k-th member's part, resets [B, T] and burn_in [B]."""
        length = None if self.lengths is None else self.lengths[k : k + 1]
        return Reading(member_part(self.resets, k), member_part(self.burn_in, k), length)


PLAIN = Reading()


def checked(x: Any, resets: Any, burn_in: Any, lengths: Any) -> Reading:
    """Check the arguments of `Stack.unroll_vjp`. Raises ArgumentError unless they fit sequences x [N, B, T, ...]."""
    many = isinstance(burn_in, Tensor) and burn_in.ndim > 0
    burn_in = burn_in if many else integer(burn_in, "burn_in", 0)
    if resets is None and lengths is None and not many and not burn_in:
        return PLAIN
    n, b, t = _shape(x)
    if resets is not None and (
        not isinstance(resets, Tensor) or resets.dtype != torch.bool or resets.shape != (n, b, t)
    ):
        raise ArgumentError(f"resets must be a bool tensor {[n, b, t]}, the [N, B, T] of x, not {kind_of(resets)}.")
    if lengths is not None:
        lengths = integers(lengths, "lengths", 1, t)
        if len(lengths) != n:
            raise ArgumentError(f"lengths must have one number of steps for each of {n} members, not {len(lengths)}.")
    return Reading(resets, _burn_in(burn_in, n, b, t, first_leaf(x).device), lengths)


def _shape(x: Any) -> tuple[int, int, int]:
    """Return N, B and T of sequences, or of a dict of sequences."""
    parts = list(x.values()) if isinstance(x, Mapping) else [x]
    if not parts or not all(isinstance(part, Tensor) and part.ndim >= 3 for part in parts):
        raise ArgumentError(f"resets, burn_in and lengths require sequences x [N, B, T, ...], not {kind_of(x)}.")
    if len({part.shape[:3] for part in parts}) > 1:
        said = " and ".join(str(list(part.shape)) for part in parts)
        raise ArgumentError(f"All sequences of x must have the same first axes, [N, B, T, ...], not {said}.")
    n, b, t = parts[0].shape[:3]
    return n, b, t


def _burn_in(burn_in: Any, n: int, b: int, t: int, device: torch.device) -> Tensor | None:
    """Return burn_in as int64 [N, B], or None if it is 0."""
    if isinstance(burn_in, int):
        burn_in = torch.full((n, b), burn_in, device=device)
    elif burn_in.dtype != torch.int64 or burn_in.shape != (n, b):
        raise ArgumentError(
            f"burn_in must be a number of steps, or an int64 tensor {[n, b]} with one for each row, not {kind_of(burn_in)}."
        )
    least, most = (int(burn_in.min()), int(burn_in.max())) if burn_in.numel() else (0, 0)
    if least < 0:
        raise ArgumentError(f"burn_in must be at least 0, not {least}.")
    if most >= t:
        raise ArgumentError(f"burn_in must be less than the {t} steps of x, not {most}.")
    return burn_in if most else None


def in_pieces(call: Callable[..., Any], x: Any, state: Any, reading: Reading) -> tuple[Tensor, Any]:
    """Run one member on x [B, T, ...] in pieces, cut at each reset and end of a burn-in -> the outputs and the last state.

    call: (x, state) -> (outputs, state). Raises ArgumentError for a model without an output at each step.
    """
    first = first_leaf(x)
    rows, steps = first.shape[:2]
    end = steps if reading.lengths is None else reading.lengths[0]
    resets = (
        torch.zeros(rows, steps, dtype=torch.bool, device=first.device) if reading.resets is None else reading.resets
    )
    burn_in = torch.zeros(rows, dtype=torch.int64, device=first.device) if reading.burn_in is None else reading.burn_in
    cuts = {0, *burn_in.tolist(), *resets.any(0).nonzero().flatten().tolist()}
    answers = []
    for begin, until in itertools.pairwise([*sorted(cut for cut in cuts if cut < end), end]):
        learns = burn_in <= begin
        with torch.set_grad_enabled(torch.is_grad_enabled() and bool(learns.any())):
            cut = _stopped(state, burn_in == begin) if begin else state
            answer, state = call(_steps(x, begin, until), _cleared(cut, resets[:, begin]))
        if answer.ndim < 3 or answer.shape[:2] != (rows, until - begin):
            raise ArgumentError(
                f"resets, burn_in and lengths require models with an output at each step, [B, T, ...]; for {rows} rows of"
                f" {until - begin} steps this one returned {kind_of(answer)}."
            )
        learnt = learns.view(-1, *[1] * (answer.ndim - 1))
        answers.append(answer if learns.all() else torch.where(learnt, answer, answer.detach()))
    if end < steps:
        answers.append(answers[0].new_zeros(rows, steps - end, *answers[0].shape[2:]))
    return torch.cat(answers, 1), state


def _steps(x: Any, begin: int, end: int) -> Any:
    """Return the steps begin..end of sequences [B, T, ...], or of a dict of sequences."""
    return {name: part[:, begin:end] for name, part in x.items()} if isinstance(x, Mapping) else x[:, begin:end]


def _cleared(state: Any, rows: Tensor) -> Any:
    """Zero these rows [B] of a state [layers, B, H], or of a tuple of states."""
    if isinstance(state, tuple):
        return tuple(_cleared(part, rows) for part in state)
    return None if state is None else torch.where(rows[:, None], 0.0, state)


def _stopped(state: Any, rows: Tensor) -> Any:
    """Detach these rows [B] of a state [layers, B, H], or of a tuple of states."""
    if isinstance(state, tuple):
        return tuple(_stopped(part, rows) for part in state)
    return None if state is None else torch.where(rows[:, None], state.detach(), state)
