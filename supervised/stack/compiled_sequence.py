"""N sequence models as compiled code: linear layers, recurrent cells, and further layers applied to each step."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from supervised.stack.compiled_cell import CompiledCell, Passed
from supervised.stack.compiled_chain import LinearRun, compiled_mlp
from supervised.stack.compiled_mlp import every
from supervised.stack.compiled_rnn import KINDS
from supervised.stack.manual_backward import check_gradient
from supervised.stack.memory import FlatMemory, Place
from supervised.stack.reading import PLAIN, Reading
from supervised.stack.row_layers import Extent, RowLayer, RowLayers

NOWHERE = np.zeros((0, 0, 0), np.bool_)
Backward = Callable[[np.ndarray], None]


class Plan(NamedTuple):
    """What to compile."""

    memory: FlatMemory
    before: LinearRun
    flattens: bool  # whether the input of a step is flattened
    cell: type[nn.Module]
    layers: tuple[tuple[list[int], int, int], ...]  # for each: the offsets of its weights, its inputs and its width
    behind: Sequence[Callable[[], RowLayer]]
    answers: str
    one_hot: bool
    trained: set[Place]

    def compile(self) -> CompiledSequence:
        """Compile the models. Requires numba."""
        return CompiledSequence(self)


class CompiledSequence:
    """Maps x [N, B, T, I] to y [N, B, T, O] and the final states [N, layers, B, H]; for CPU tensors and numpy arrays.

    Models with an output at the last step only return y [N, B, O], as do those that read a single step, x [N, B, I].
    """

    def __init__(self, plan: Plan) -> None:
        self.plan, self.memory = plan, plan.memory
        self.before = RowLayers([compiled_mlp(plan.memory, plan.before)] if plan.before else [])
        self.behind = RowLayers([make() for make in plan.behind])
        self.cells = [CompiledCell(plan.memory, KINDS[plan.cell], *layer) for layer in plan.layers]
        self.inputs = plan.before[0].linear.inputs if plan.before else self.cells[0].inputs
        self.axes = 3 if plan.answers == "one" else 4

    def fits(self, x: Any, state: Any = None, resets: Any = None) -> bool:
        """Return whether the compiled code supports x and the state, tensors or float32 arrays.

        resets, and the other parts of a `Reading`, require models with an output at each step.
        """
        return (
            isinstance(x, (np.ndarray, Tensor))
            and x.ndim >= self.axes - 1
            and len(x) == self.memory.n
            and (self._are_vectors(x) or self._are_symbols(x))
            and 0 not in x.shape
            and not torch.is_autocast_enabled("cpu")
            and (state is None or self._is_state(state, x))
            and (resets is None or self.plan.answers == "all")
        )

    def _are_vectors(self, x: Any) -> bool:
        axes = x.ndim >= self.axes if self.plan.flattens else x.ndim == self.axes
        return axes and x.dtype in (np.float32, torch.float32) and math.prod(x.shape[self.axes - 1 :]) == self.inputs

    def _are_symbols(self, x: Any) -> bool:
        return self.plan.one_hot and x.dtype == torch.int64 and x.ndim == self.axes - 1

    def _is_state(self, state: Any, x: Any) -> bool:
        shape = len(x), len(self.cells), x.shape[1], self.cells[0].width
        return (
            isinstance(state, (np.ndarray, Tensor))
            and state.dtype in (np.float32, torch.float32)
            and state.shape == shape
        )

    def __call__(self, x: Tensor, state: Tensor | None = None, reading: Reading = PLAIN) -> tuple[Tensor, Tensor]:
        """Run the models without a gradient. reading: the arguments of `Stack.unroll`."""
        found = self._run(self._array(x), None if state is None else _array(state), reading, keep=False)
        return torch.from_numpy(np.ascontiguousarray(found.y)), torch.from_numpy(found.state)

    def vjp(self, x: Tensor, state: Tensor | None, reading: Reading) -> tuple[Tensor, Tensor, Callable[[Tensor], None]]:
        """Like `Stack.unroll_vjp`."""
        y, after, back = self._vjp(self._array(x), None if state is None else _array(state), reading)
        answer = torch.from_numpy(np.ascontiguousarray(y))

        def backward(gradient: Tensor) -> None:
            check_gradient(gradient, answer)
            back(gradient.numpy())

        return answer, torch.from_numpy(after), backward

    def forward(
        self, x: np.ndarray, state: np.ndarray | None = None, lengths: Sequence[int] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Like `Stack.unroll`, for arrays that `fits` accepts. A view of a time-major array is not copied; y may be a view."""
        found = self._run(x, state, PLAIN if lengths is None else Reading(lengths=tuple(lengths)), keep=False)
        return found.y, found.state

    def array_vjp(
        self,
        x: np.ndarray,
        state: np.ndarray | None = None,
        burn_in: np.ndarray | None = None,
        lengths: Sequence[int] | None = None,
    ) -> tuple[np.ndarray, np.ndarray, Backward]:
        """Like `Stack.unroll_vjp`, for arrays that `fits` accepts. burn_in: int64 [N, B]."""
        burns = None if burn_in is None else torch.from_numpy(np.ascontiguousarray(burn_in))
        return self._vjp(x, state, Reading(None, burns, None if lengths is None else tuple(lengths)))

    def _vjp(
        self, x: np.ndarray, state: np.ndarray | None, reading: Reading
    ) -> tuple[np.ndarray, np.ndarray, Backward]:
        found = self._run(x, state, reading, keep=True)

        def backward(gradient: np.ndarray) -> None:
            check_gradient(gradient, found.y)
            self._backward(found, gradient)
            self.memory.arrived = set(self.plan.trained)

        return found.y, found.state, backward

    def _array(self, x: Tensor) -> np.ndarray:
        return _array(x if x.is_floating_point() else F.one_hot(x, self.inputs).float())

    def _run(self, x: np.ndarray, state: np.ndarray | None, reading: Reading, keep: bool) -> Pass:
        rows = np.ascontiguousarray(x[:, None] if self.axes == 3 else x.swapaxes(1, 2))  # [N, T, B, ...]
        n, t, b = rows.shape[:3]
        ends = every(n, t) if reading.lengths is None else np.array(reading.lengths)
        rows_read = every(n, t * b) if reading.lengths is None else ends * b
        resets = NOWHERE if reading.resets is None else np.ascontiguousarray(reading.resets.numpy().swapaxes(1, 2))
        first = self.before.forward(rows.reshape(n, t * b, -1), keep, rows_read)
        y, passed = first[-1].reshape(n, t, b, -1), []
        for i, cell in enumerate(self.cells):
            begin = np.zeros((n, b, cell.width), np.float32) if state is None else np.ascontiguousarray(state[:, i])
            y, found = cell.forward(y, begin, resets, ends, keep)
            passed.append(found)
        after = np.empty((n, len(self.cells), b, self.cells[0].width), np.float32)
        for i, found in enumerate(passed):
            states = found.arrays[0]
            after[:, i] = states[:, -1] if reading.lengths is None else states[np.arange(n), ends - 1]
        if self.plan.answers == "all":
            last = self.behind.forward(y.reshape(n, t * b, -1), keep, rows_read)
            answer = last[-1].reshape(n, t, b, -1).swapaxes(1, 2)
            if reading.lengths is not None:
                last[-1].reshape(n, t, b, -1)[_behind(ends, t)] = 0
        else:
            last = self.behind.forward(np.ascontiguousarray(y[:, -1]), keep, every(n, b))
            answer = last[-1]
        return Pass(answer, after, first, passed, last, ends, resets, reading)

    def _backward(self, run: Pass, gradient: np.ndarray) -> None:
        """Write the gradients of all weights, given the gradient with respect to the outputs."""
        n, t, b, width = run.cells[-1].arrays[0].shape
        begins, cuts = run.begins(), run.cuts()
        steps, rows = Extent(begins, run.ends), Extent(begins * b, run.ends * b)
        if self.plan.answers == "all":
            slope = np.ascontiguousarray(run.read(gradient.swapaxes(1, 2)))
            by = self.behind.backward(slope.reshape(n, t * b, -1), run.last, rows, True).reshape(n, t, b, width)
        else:
            by = np.zeros((n, t, b, width), np.float32)
            whole = Extent(every(n, 0), every(n, b))
            by[:, -1] = self.behind.backward(np.ascontiguousarray(gradient), run.last, whole, True)
        for i in reversed(range(len(self.cells))):
            by = self.cells[i].backward(by, run.cells[i], cuts, *steps, i > 0 or bool(self.before.layers))
        if self.before.layers:
            self.before.backward(by.reshape(n, t * b, -1), run.first, rows, False)


class Pass(NamedTuple):
    """What the backward pass needs of a forward pass. Arrays are time-major, [N, T, B, ...], except y and the state."""

    y: np.ndarray
    state: np.ndarray
    first: list[np.ndarray]
    cells: list[Passed]
    last: list[np.ndarray]
    ends: np.ndarray
    resets: np.ndarray
    reading: Reading

    def begins(self) -> np.ndarray:
        """Return the first step of each member with a gradient in any row, int64 [N]; at least one step remains."""
        burn_in = self.reading.burn_in
        return every(len(self.y), 0) if burn_in is None else np.minimum(burn_in.numpy().min(1), self.ends - 1)

    def cuts(self) -> np.ndarray:
        """Return the steps before which the gradient is stopped, bool [N, T, B]; empty: none."""
        if self.reading.burn_in is None:
            return self.resets
        cut = np.arange(self.y.shape[2])[None, :, None] == self.reading.burn_in.numpy()[:, None]
        found: np.ndarray = cut | self.resets if self.resets.size else cut
        return found

    def read(self, gradient: np.ndarray) -> np.ndarray:
        """Zero the gradient [N, T, B, O] during each row's burn-in. Steps after `ends` are not read by any layer."""
        if self.reading.burn_in is None:
            return gradient
        burns = np.arange(gradient.shape[1])[None, :, None] < self.reading.burn_in.numpy()[:, None]
        return np.where(burns[..., None], np.float32(0), gradient)


def _behind(ends: np.ndarray, steps: int) -> np.ndarray:
    """Return the steps that are not read, bool [N, T]."""
    found: np.ndarray = np.arange(steps) >= ends[:, None]
    return found


def _array(x: Tensor) -> np.ndarray:
    found: np.ndarray = x.detach().numpy()
    return found
