"""Models that read sequences, compiled for all members: linear layers, recurrent cells, linear layers.

A model's file says by `register_sequence` what it is made of. What cannot be compiled goes member by member by torch: other
cells and layers, embeddings, dropout between layers, weights that are not trained.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from supervised.stack.compiled_mlp import CompiledMLP
from supervised.stack.compiled_rnn import KINDS, CompiledCell, Passed
from supervised.stack.manual_backward import (
    LinearRun,
    check_gradient,
    compiled_mlp,
    innermost,
    linear_run,
    trained_places,
)
from supervised.stack.memory import FlatMemory, Place
from supervised.stack.registry import alike, alike_within, known_as

NAMES = ("weight_ih_l", "weight_hh_l", "bias_ih_l", "bias_hh_l")


class Layout(NamedTuple):
    """What N models are made of, each part N times: layers before the cells, the cells, layers behind them.

    answers: at which steps a model answers: "all", at the "last", or "one" where it reads a single one, [B, I]. one_hot: whether
    it reads whole numbers, [B, T] or [B], as one-hot vectors.
    """

    before: Sequence[Sequence[nn.Module]]
    cells: Sequence[nn.Module]
    behind: Sequence[Sequence[nn.Module]]
    answers: str
    one_hot: bool = False


Maker = Callable[[Sequence[Any]], Layout | None]
M = TypeVar("M", bound=Maker)
SEQUENCES: dict[type[nn.Module], Maker] = {}


def register_sequence(*kinds: type[nn.Module]) -> Callable[[M], M]:
    """Register what models of these types are made of; the function returns None for those of other parts."""

    def register(make: M) -> M:
        SEQUENCES.update(dict.fromkeys(kinds, make))
        return make

    return register


class Plan(NamedTuple):
    """What is to be compiled."""

    memory: FlatMemory
    before: LinearRun
    cell: type[nn.Module]
    layers: tuple[tuple[list[int], int, int], ...]  # where the weights of each begin, its inputs and its width
    behind: LinearRun
    answers: str
    one_hot: bool
    trained: set[Place]

    def compile(self) -> CompiledSequence:
        """Needs numba."""
        return CompiledSequence(self)


def plan(memory: FlatMemory, modules: Sequence[nn.Module]) -> Plan | None:
    """How N models are compiled; None where some part of them cannot be."""
    kind = known_as(type(modules[0]), SEQUENCES)
    layout = SEQUENCES[kind](modules) if kind is not None and alike_within(modules) else None
    if layout is None or not alike(layout.cells, KINDS):
        return None
    groups = [*_innermost(layout.before), layout.cells, *_innermost(layout.behind)]
    parameters = [parameter for group in groups for parameter in group[0].parameters()]
    before, behind = (linear_run(memory, _innermost(part)) for part in (layout.before, layout.behind))
    first: Any = layout.cells[0]
    whole = not (first.bidirectional or first.dropout or first.proj_size) and first.bias and first.batch_first
    tanh = getattr(first, "nonlinearity", "tanh") == "tanh"
    once = len(set(map(id, parameters))) == len(parameters) and all(p.requires_grad for p in parameters)
    if before is None or behind is None or not (whole and tanh and once):
        return None
    layers = tuple(
        (
            [memory.begin_of(getattr(first, f"{name}{i}")) for name in NAMES],
            first.hidden_size if i else first.input_size,
            first.hidden_size,
        )
        for i in range(first.num_layers)
    )
    return Plan(
        memory, before, type(first), layers, behind, layout.answers, layout.one_hot, trained_places(memory, groups)
    )


def _innermost(parts: Sequence[Sequence[nn.Module]]) -> list[Sequence[nn.Module]]:
    return [group for part in parts for group in innermost(part)]


class CompiledSequence:
    """Tensors [N, B, T, I] -> [N, B, T, O] and the states after, [N, layers, B, H]; by compiled code, on the CPU."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.memory = plan, plan.memory
        self.before, self.behind = _mlp(plan.memory, plan.before), _mlp(plan.memory, plan.behind)
        self.cells = [CompiledCell(plan.memory, KINDS[plan.cell], *layer) for layer in plan.layers]
        self.inputs = self.before.inputs if self.before is not None else self.cells[0].inputs
        self.axes = 3 if plan.answers == "one" else 4

    def fits(self, x: Any, state: Any = None, resets: Tensor | None = None) -> bool:
        """Whether x and the state are what the models are compiled for; resets are where they answer at each step."""
        return (
            isinstance(x, Tensor)
            and x.ndim > 0
            and len(x) == self.memory.n
            and (self._are_vectors(x) if x.is_floating_point() else self._are_symbols(x))
            and x.numel() > 0
            and not torch.is_autocast_enabled("cpu")
            and (state is None or self._is_state(state, x))
            and (resets is None or self.plan.answers == "all")
        )

    def _are_vectors(self, x: Tensor) -> bool:
        return x.dtype == torch.float32 and x.ndim == self.axes and x.shape[-1] == self.inputs

    def _are_symbols(self, x: Tensor) -> bool:
        return self.plan.one_hot and x.dtype == torch.int64 and x.ndim == self.axes - 1

    def _is_state(self, state: Any, x: Tensor) -> bool:
        shape = len(x), len(self.cells), x.shape[1], self.cells[0].width
        return isinstance(state, Tensor) and state.dtype == torch.float32 and state.shape == shape

    def __call__(self, x: Tensor, state: Tensor | None = None, resets: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """As the models themselves, without a gradient. resets bool [N, B, T]: as in `Stack.unroll`."""
        found = self._run(x, state, resets, keep=False)
        return found.answer, found.state

    def vjp(
        self, x: Tensor, state: Tensor | None, resets: Tensor | None, burn_in: int
    ) -> tuple[Tensor, Tensor, Callable[[Tensor], None]]:
        """As `Stack.unroll_vjp`."""
        found = self._run(x, state, resets, keep=True)

        def backward(gradient: Tensor) -> None:
            check_gradient(gradient, found.answer)
            self._backward(found, gradient.numpy(), burn_in)
            self.memory.arrived = set(self.plan.trained)

        return found.answer, found.state, backward

    def _run(self, x: Tensor, state: Tensor | None, resets: Tensor | None, keep: bool) -> _Run:
        given = (x if x.is_floating_point() else F.one_hot(x, self.inputs).float()).detach().numpy()
        rows = np.ascontiguousarray((given if self.axes == 4 else given[:, :, None]).swapaxes(1, 2))  # [N, T, B, I]
        n, t, b, _ = rows.shape
        states = np.zeros((len(self.cells), n, b, self.cells[0].width), np.float32)
        if state is not None:
            states[:] = state.detach().numpy().swapaxes(0, 1)
        none = np.zeros((n, t, b), np.bool_) if resets is None else resets.numpy().swapaxes(1, 2)
        first = _Rows.of(self.before, rows, keep)
        passed: list[Passed] = []
        y = first.y
        for cell, begins in zip(self.cells, states, strict=True):
            y, found = cell.forward(y, begins, np.ascontiguousarray(none), keep)
            passed.append(found)
        after = np.stack([found.arrays[0][:, -1] for found in passed], 1)  # [N, layers, B, H]
        last = _Rows.of(self.behind, y if self.plan.answers == "all" else np.ascontiguousarray(y[:, -1:]), keep)
        answer = np.ascontiguousarray(last.y.swapaxes(1, 2)) if self.plan.answers == "all" else last.y[:, 0]
        return _Run(torch.from_numpy(answer), torch.from_numpy(after), first, passed, last)

    def _backward(self, run: _Run, gradient: np.ndarray, begin: int) -> None:
        """Write the gradients of all weights, from that by the answers."""
        n, t, b, width = run.passed[-1].arrays[0].shape
        if self.plan.answers == "all":
            slope = np.array(gradient.swapaxes(1, 2), order="C")  # a copy, in any case
            slope[:, :begin] = 0
            by = run.last.backward(slope, True)
        else:
            by = np.zeros((n, t, b, width), np.float32)
            by[:, -1:] = run.last.backward(np.ascontiguousarray(gradient[:, None]), True)
        by = np.ascontiguousarray(by[:, begin:])
        for i in reversed(range(len(self.cells))):
            by = self.cells[i].backward(by, run.passed[i], begin, i > 0 or self.before is not None)
        if self.before is not None:
            padded = np.zeros((n, t, b, by.shape[3]), np.float32)
            padded[:, begin:] = by
            run.first.backward(padded, False)


class _Rows(NamedTuple):
    """Linear layers over all rows of a sequence, [N, T, B, I] -> y [N, T, B, O]; without layers y is what was given."""

    mlp: CompiledMLP | None
    x: np.ndarray  # [N, T * B, I]
    y: np.ndarray

    @classmethod
    def of(cls, mlp: CompiledMLP | None, given: np.ndarray, keep: bool) -> _Rows:
        n, t, b, i = given.shape
        rows = given.reshape(n, t * b, i)
        return cls(mlp, rows, given if mlp is None else mlp.forward(rows, keep).reshape(n, t, b, -1))

    def backward(self, gradient: np.ndarray, needed: bool) -> np.ndarray:
        """Write the gradients of the layers' weights -> that by what was given, if it is needed."""
        if self.mlp is None:
            return gradient
        n, t, b, o = gradient.shape
        found = self.mlp.backward(gradient.reshape(n, t * b, o), self.x, self.y.reshape(n, t * b, o), needed)
        return found.reshape(n, t, b, -1) if needed else found


class _Run(NamedTuple):
    """A forward pass, as its gradient needs it."""

    answer: Tensor
    state: Tensor
    first: _Rows
    passed: list[Passed]
    last: _Rows


def _mlp(memory: FlatMemory, run: LinearRun) -> CompiledMLP | None:
    return compiled_mlp(memory, run) if run else None
