"""One member over sequences in which episodes begin, by torch: its state is set to zero where they do."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from supervised.validate import ArgumentError, kind_of


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
