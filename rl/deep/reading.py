"""How networks process windows of episodes: recurrent ones from a state, feedforward ones each observation on its own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from rl.core.types import SequenceBatch, State
from rl.deep.array_protocol import Arrays
from rl.deep.asked import Asked
from rl.deep.heads.head import Outputs
from rl.deep.moving import mapped, tensors_of
from supervised import Stack


class Read(NamedTuple):
    """The outputs of the networks for windows, in the agent's array type."""

    outputs: Outputs  # [N, B, T, ...], for each step; next_y and next_choice are indexed by `bootstrap`
    bootstrap: np.ndarray  # int64 [N, B, T], the index into next_y and next_choice that each step bootstraps from
    backward: Callable[[Any], None]  # backpropagates the gradient of y to the weights


class Reading(ABC):
    """How a `RecurrentAgent` and its learner call their networks."""

    @abstractmethod
    def initial_state(self, n: int, rows: int) -> State:
        """Return the recurrent state at an episode's start: zeros [N, rows, ...] by name."""

    @abstractmethod
    def step(self, stack: Stack, x: Any, state: State) -> tuple[Any, State]:
        """Return outputs [N, B, *Y] and the next state for encoded observations [N, B, *F] and a state."""

    @abstractmethod
    def windows(self, asked: Asked, x: Any, batch: SequenceBatch) -> Read:
        """Return the outputs for windows. x: encoded observations [N, B, W, *F]; the batch's numbers are host arrays."""


class Single(Reading):
    """Feedforward networks, for which the steps of a window are independent transitions."""

    def __init__(self, arrays: Arrays, steps: int) -> None:
        """steps: the maximum length of a window."""
        self.arrays, self.steps = arrays, steps

    def initial_state(self, n: int, rows: int) -> State:
        return {}

    def step(self, stack: Stack, x: Any, state: State) -> tuple[Any, State]:
        return self.arrays.values(stack, x), {}

    def windows(self, asked: Asked, x: Any, batch: SequenceBatch) -> Read:
        # A layer such as batch-norm may combine all rows, so their number must not depend on the windows of other seeds: each
        # window repeats its last step up to the maximum length.
        n, b, t = batch.reward.shape
        t = max(t, self.steps)
        step = np.minimum(np.arange(t), batch.length[..., None] - 1)

        def flat(at: np.ndarray) -> Any:
            """Return the observations at indices [N, B, T] of the windows as rows [N, B * T, *F]."""
            seed, row = np.ogrid[:n, :b]
            return mapped(x, lambda part: part[seed[..., None], row[..., None], at].reshape(n, b * t, *part.shape[3:]))

        def by_step(y: Any) -> Any:
            return None if y is None else y.reshape(n, b, t, *y.shape[2:])

        next_x = flat(np.take_along_axis(batch.bootstrap, step, 2))
        found, back = asked.outputs(self.arrays, flat(step), next_x, b * t)
        each = np.tile(np.arange(t), (n, b, 1))
        return Read(Outputs(*map(by_step, found)), each, lambda gradient: back(gradient.reshape(found.y.shape)))


class Recurrent(Reading):
    """Networks that return (outputs, state). A state is [layers, B, ...], as in torch's cells, or a tuple of such tensors."""

    def __init__(self, arrays: Arrays, stack: Stack, example: Any) -> None:
        """example: encoded observations [N, B, T, *F]."""
        self.arrays = arrays
        with stack.eval_mode():
            _, state = stack.unroll(tensors_of(example))
        self.is_tuple = isinstance(state, tuple)
        parts = state if isinstance(state, tuple) else (state,)
        names = ("h", "c") if len(parts) <= 2 else tuple(f"part {i}" for i in range(len(parts)))
        # The axes of each part before and after the batch axis.
        self.shapes = {name: (part.shape[1], *part.shape[3:]) for name, part in zip(names, parts, strict=False)}

    def initial_state(self, n: int, rows: int) -> State:
        return {name: self.arrays.zeros((n, rows, *shape)) for name, shape in self.shapes.items()}

    def step(self, stack: Stack, x: Any, state: State) -> tuple[Any, State]:
        y, after = self._unroll(stack, mapped(x, lambda part: part[:, :, None]), self._inner(state), None)
        return y[:, :, 0], self._outer(after)

    def windows(self, asked: Asked, x: Any, batch: SequenceBatch) -> Read:
        online, passes, rows = asked.online, asked.passes, batch.reward.shape[1]
        state = None if batch.state is None else self._inner(batch.state)
        seen = np.maximum(batch.bootstrap.max((1, 2)) + 1, batch.length.max(1))
        lengths = seen.tolist()  # the number of observations in each seed's longest window
        next_y = choice = None
        # Without random draws, the pass that the loss is computed from also has the online network's outputs for next states.
        if passes.draws or asked.choosing is not online:
            next_y, choice = passes.following(
                asked.valuing, asked.choosing, rows, lambda stack: self._unroll(stack, x, state, lengths)[0]
            )
        elif asked.valuing is not online:
            next_y = self._unroll(asked.valuing, x, state, lengths)[0]
        fractions = passes.learned(online, rows)
        y, backward = self._vjp(online, x, state, batch.burn_in, lengths)
        next_y = y if next_y is None else next_y
        choice = y if choice is None else choice
        if fractions is not None:  # shared by all steps
            fractions = self.arrays.own(fractions[:, :, None].expand(-1, -1, batch.reward.shape[2], -1))
        return Read(Outputs(y, next_y, choice, choice if asked.own else None, fractions), batch.bootstrap, backward)

    def sequences(
        self, online: Stack, x: Any, state: State, started: np.ndarray, burn_in: int
    ) -> tuple[Any, Callable[[Any], None]]:
        """Return the outputs for sequences of several episodes, and the function that backpropagates their gradient.

        x: encoded observations [N, B, T, *F]. state: before the first one. started: bool [N, B, T], the observations that start
        an episode. burn_in: the number of first steps without a gradient.
        """
        resets = torch.from_numpy(np.ascontiguousarray(started)).to(online.device)
        inner = tensors_of(self._inner(self.arrays.own(state)))
        found, _, backward = online.unroll_vjp(tensors_of(x), inner, resets=resets, burn_in=burn_in)
        return self.arrays.own(found), lambda gradient: backward(tensors_of(gradient))

    def _unroll(self, stack: Stack, x: Any, state: Any, lengths: Sequence[int] | None) -> tuple[Any, Any]:
        code = stack.compiled_sequence()
        if code is not None and code.fits(x, state):
            return code.forward(x, state, lengths)
        y, after = self.arrays.unroll(stack, tensors_of(x), tensors_of(state), lengths)
        return self.arrays.own(y), self.arrays.own(after)

    def _vjp(
        self, stack: Stack, x: Any, state: Any, burn_in: np.ndarray, lengths: Sequence[int]
    ) -> tuple[Any, Callable[[Any], None]]:
        code = stack.compiled_sequence()
        if code is not None and code.fits(x, state):
            y, _, back = code.array_vjp(x, state, burn_in, lengths)
            return y, back
        rows = torch.from_numpy(burn_in).to(stack.device)
        found, _, backward = stack.unroll_vjp(tensors_of(x), tensors_of(state), burn_in=rows, lengths=lengths)
        return self.arrays.own(found), lambda gradient: backward(tensors_of(gradient))

    def _inner(self, state: State) -> Any:
        """Convert a state from [N, B, layers, ...] by name to the networks' [N, layers, B, ...]."""
        parts = tuple(state[name].swapaxes(1, 2) for name in self.shapes)
        return parts if self.is_tuple else parts[0]

    def _outer(self, state: Any) -> State:
        parts = state if isinstance(state, tuple) else (state,)
        return {name: part.swapaxes(1, 2) for name, part in zip(self.shapes, parts, strict=True)}
