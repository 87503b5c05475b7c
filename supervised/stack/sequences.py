"""Registry of sequence models that can be compiled: linear layers, recurrent cells, and further layers applied to each step.

A model's module describes its parts by `register_sequence`. Everything else is computed by torch, member by member: other
cells and layers, embeddings, dropout between layers, weights that are not trained.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

from torch import nn

from supervised.stack.compiled_chain import linear_run
from supervised.stack.compiled_rnn import KINDS
from supervised.stack.compiled_sequence import Plan
from supervised.stack.manual_backward import innermost, trained_places
from supervised.stack.memory import FlatMemory
from supervised.stack.registry import alike, alike_within, known_as
from supervised.stack.row_layers import row_layers

NAMES = ("weight_ih_l", "weight_hh_l", "bias_ih_l", "bias_hh_l")


class Layout(NamedTuple):
    """The parts of N models, N modules per part: layers before the cells, the cells, layers after them.

    answers: the steps with an output: "all", the "last", or "one" for a model that reads a single step, [B, I]. one_hot: whether
    whole numbers, [B, T] or [B], are read as one-hot vectors.
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
    """Register a function that returns the layout of models of these types, or None for unsupported ones."""

    def register(make: M) -> M:
        SEQUENCES.update(dict.fromkeys(kinds, make))
        return make

    return register


def layout_of(modules: Sequence[nn.Module]) -> Layout | None:
    """Return the layout of N modules, or None if their type is not registered or not supported."""
    kind = known_as(type(modules[0]), SEQUENCES)
    return SEQUENCES[kind](modules) if kind is not None else None


def plan(memory: FlatMemory, modules: Sequence[nn.Module]) -> Plan | None:
    """Return a plan to compile N models, or None if some part cannot be compiled."""
    layout = layout_of(modules) if alike_within(modules) else None
    if layout is None or not alike(layout.cells, KINDS):
        return None
    before, behind = _innermost(layout.before), _innermost(layout.behind)
    flattens = bool(before) and _flattens(before[0])
    before = before[int(flattens) :]
    groups = [*before, layout.cells, *behind]
    parameters = [parameter for group in groups for parameter in group[0].parameters()]
    run, layers = linear_run(memory, before), row_layers(memory, behind)
    first: Any = layout.cells[0]
    whole = not (first.bidirectional or first.dropout or first.proj_size) and first.bias and first.batch_first
    tanh = getattr(first, "nonlinearity", "tanh") == "tanh"
    once = len(set(map(id, parameters))) == len(parameters) and all(p.requires_grad for p in parameters)
    if run is None or layers is None or not (whole and tanh and once):
        return None
    cells = tuple(
        (
            [memory.begin_of(getattr(first, f"{name}{i}")) for name in NAMES],
            first.hidden_size if i else first.input_size,
            first.hidden_size,
        )
        for i in range(first.num_layers)
    )
    return Plan(
        memory,
        run,
        flattens,
        type(first),
        cells,
        layers,
        layout.answers,
        layout.one_hot,
        trained_places(memory, groups),
    )


def _innermost(parts: Sequence[Sequence[nn.Module]]) -> list[Sequence[nn.Module]]:
    return [group for part in parts for group in innermost(part)]


def _flattens(group: Sequence[Any]) -> bool:
    """Return whether these are Flattens that turn the input of a step into a vector."""
    return alike(group, (nn.Flatten,)) and (group[0].start_dim, group[0].end_dim) == (1, -1)
