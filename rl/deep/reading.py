"""How networks read windows of episodes: recurrent ones on from a state, others each observation for itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from rl.core.types import SequenceBatch, State
from rl.deep.arrays import Arrays
from rl.deep.asked import Asked
from rl.deep.heads.head import Outputs
from rl.deep.moving import mapped, tensors_of
from supervised import Stack


class Read(NamedTuple):
    """What the networks say of windows, in arrays of the agent's kind."""

    outputs: Outputs  # [N, B, T, ...] at each step of a window; next_y and next_choice along `bootstrap`
    bootstrap: np.ndarray  # int64 [N, B, T], where along next_y and next_choice each step's future begins
    backward: Callable[[Any], None]  # takes the gradient by y back to the weights


class Reading(ABC):
    """What a recurrent agent and its learner ask of their networks."""

    @abstractmethod
    def initial_state(self, n: int, rows: int) -> State:
        """What is remembered when an episode begins: zeros [N, rows, ...] by name."""

    @abstractmethod
    def step(self, stack: Stack, x: Any, state: State) -> tuple[Any, State]:
        """Encoded observations [N, B, *F] and a state -> outputs [N, B, *Y] and the state after."""

    @abstractmethod
    def windows(self, asked: Asked, x: Any, batch: SequenceBatch) -> Read:
        """What the networks say of windows: x [N, B, W, *F], encoded; the numbers of the batch in arrays of the host."""


class Single(Reading):
    """Networks without a state. A window is so many transitions."""

    def __init__(self, arrays: Arrays, steps: int) -> None:
        """steps: of the longest window that the replay can hold."""
        self.arrays, self.steps = arrays, steps

    def initial_state(self, n: int, rows: int) -> State:
        return {}

    def step(self, stack: Stack, x: Any, state: State) -> tuple[Any, State]:
        return self.arrays.values(stack, x), {}

    def windows(self, asked: Asked, x: Any, batch: SequenceBatch) -> Read:
        # A layer may take all rows together (batch-norm), so their number must not depend on the windows of other seeds: each
        # window repeats its last step until it is as long as a window can be.
        n, b, t = batch.reward.shape
        t = max(t, self.steps)
        step = np.minimum(np.arange(t), batch.length[..., None] - 1)

        def flat(at: np.ndarray) -> Any:
            """The observations at [N, B, T] of the windows as rows [N, B * T, *F]."""
            seed, row = np.ogrid[:n, :b]
            return mapped(x, lambda part: part[seed[..., None], row[..., None], at].reshape(n, b * t, *part.shape[3:]))

        def by_step(y: Any) -> Any:
            return None if y is None else y.reshape(n, b, t, *y.shape[2:])

        next_x = flat(np.take_along_axis(batch.bootstrap, step, 2))
        found, back = asked.outputs(self.arrays, flat(step), next_x, b * t)
        each = np.tile(np.arange(t), (n, b, 1))
        return Read(Outputs(*map(by_step, found)), each, lambda gradient: back(gradient.reshape(found.y.shape)))


class Recurrent(Reading):
    """Networks that answer (outputs, state). A state is [layers, B, ...], as those of torch's cells, or a tuple of such."""

    def __init__(self, arrays: Arrays, stack: Stack, example: Any) -> None:
        """example: encoded observations [N, B, T, *F]."""
        self.arrays = arrays
        with stack.eval_mode():
            _, state = stack.unroll(tensors_of(example))
        self.is_tuple = isinstance(state, tuple)
        parts = state if isinstance(state, tuple) else (state,)
        names = ("h", "c") if len(parts) <= 2 else tuple(f"part {i}" for i in range(len(parts)))
        # Of each part: what stands before and behind the axis of the batch.
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
        lengths = seen.tolist()  # observations of each seed's longest window
        next_y = choice = None
        # Where nothing is drawn, the pass that is learned from also says what the online network makes of what follows.
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
        if fractions is not None:  # at each step the same
            fractions = self.arrays.own(fractions[:, :, None].expand(-1, -1, batch.reward.shape[2], -1))
        return Read(Outputs(y, next_y, choice, choice if asked.own else None, fractions), batch.bootstrap, backward)

    def _unroll(self, stack: Stack, x: Any, state: Any, lengths: Sequence[int] | None) -> tuple[Any, Any]:
        code = stack.compiled_sequence()
        if code is not None and code.fits(x, state):
            return code.forward(x, state, lengths)
        y, after = self.arrays.reading(stack, tensors_of(x), tensors_of(state), lengths)
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
        """By name, [N, B, layers, ...] -> as the networks take it, [N, layers, B, ...]."""
        parts = tuple(state[name].swapaxes(1, 2) for name in self.shapes)
        return parts if self.is_tuple else parts[0]

    def _outer(self, state: Any) -> State:
        parts = state if isinstance(state, tuple) else (state,)
        return {name: part.swapaxes(1, 2) for name, part in zip(self.shapes, parts, strict=True)}
