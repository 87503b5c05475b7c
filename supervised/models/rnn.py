"""Recurrent networks: RNN, LSTM and GRU over sequences, in the five shapes that a sequence task can have.

A recurrent model answers (outputs, state), as torch's own do: the state goes into the next call, to read on where it
stopped (truncated back-propagation, free-running text, an agent that remembers).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from supervised.models.layers import Model, check_weights, initialise, linear
from supervised.stack.manual_backward import PARTS
from supervised.stack.registry import Members, Op, alike, register_batched, register_deterministic
from supervised.stack.sequences import Layout, layout_of, register_sequence
from supervised.validate import ArgumentError, choice, instance, integer, number, optional, shown

CELLS: dict[str, Any] = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
SHAPES = ("one-to-one", "one-to-many", "many-to-one", "many-to-many", "sequence-to-sequence")
# The gates that chrono initialization sets: which of torch's, and the sign. Torch's order is i, f, g, o and r, z, n.
GATES = {"LSTM": ((0, -1), (1, 1)), "GRU": ((1, 1),)}
LONGEST = 1_000_000  # steps of what is written
State = Any  # [layers, B, hidden], for an LSTM a pair of them


class RecurrentTrunk(nn.Module):
    """Sequences [B, T, inputs], or whole numbers [B, T] below `inputs`, -> features [B, T, hidden] and the state after.

    Whole numbers become one-hot vectors, or rows of a table of `embedding` learned columns (Mikolov et al. 2013). before: a
    module that reads each step before the cells, rows [B * T, ...] -> [B * T, inputs]; x is then what it reads, [B, T, ...] or a
    dict of such, whole numbers as they are.
    """

    def __init__(
        self,
        inputs: int,
        hidden: int,
        cell: str,
        layers: int,
        dropout: float,
        embedding: int | None,
        before: nn.Module | None = None,
    ) -> None:
        super().__init__()
        choice(cell, "cell", CELLS)
        inputs, hidden, layers = (
            integer(inputs, "inputs", 1),
            integer(hidden, "hidden", 1),
            integer(layers, "layers", 1),
        )
        embedding = optional(integer, embedding, "embedding", 1)
        dropout = number(dropout, "dropout", 0.0, 1.0, below=True)
        if dropout and layers == 1:
            raise ArgumentError("dropout lies between the layers of a recurrent model: it needs two layers or more.")
        before = optional(instance, before, "before", nn.Module, "a torch.nn.Module")
        if embedding is not None and before is not None:
            raise ArgumentError(
                "embedding and before exclude each other: an embedding reads whole numbers, and what lies before the cells"
                " makes vectors. Put an nn.Embedding into before."
            )
        check_weights(inputs=inputs, embedding=embedding or 1)
        check_weights(inputs=embedding or inputs, hidden=hidden, gates=4)
        check_weights(layers=layers, hidden=hidden, inner=hidden, gates=8)
        self.inputs, self.features = inputs, hidden
        self.embedding = None if embedding is None else nn.Embedding(inputs, embedding)
        self.cell = CELLS[cell](embedding or inputs, hidden, layers, batch_first=True, dropout=dropout)
        self.before = before

    def forward(self, x: Any, state: State = None) -> tuple[Tensor, State]:
        """[B, T, inputs], whole numbers [B, T], or what `before` reads -> (features [B, T, hidden], state)."""
        if self.before is not None:
            x = self._read(self.before, x)
        elif not x.is_floating_point():
            x = (
                F.one_hot(x, self.inputs).to(self.cell.weight_ih_l0.dtype)
                if self.embedding is None
                else self.embedding(x)
            )
        features, state = self.cell(x, state)
        return features, state

    def _read(self, before: nn.Module, x: Any) -> Tensor:
        """[B, T, ...] -> what `before` makes of each step, [B, T, inputs]."""
        batch, steps = (next(iter(x.values())) if isinstance(x, Mapping) else x).shape[:2]
        found: Tensor = before(on_each(lambda part: part.flatten(0, 1), x))
        if found.shape != (batch * steps, self.inputs):
            raise ArgumentError(
                f"before makes {self.inputs} numbers (inputs) of each of {batch * steps} rows, not {list(found.shape)}."
            )
        return found.reshape(batch, steps, self.inputs)


def on_each(function: Callable[[Tensor], Tensor], x: Any) -> Any:
    """A function of a tensor, or of each in a dict of tensors."""
    return {name: function(part) for name, part in x.items()} if isinstance(x, Mapping) else function(x)


class Recurrent(Model):
    """A trunk that reads sequences, [B, T, ...] -> (features, state), and a head for each step: it answers (outputs, state)."""

    def forward(self, x: Any, state: State = None) -> tuple[Tensor, State]:  # type: ignore[override]  # a state too
        """[B, T, ...] and a state -> (outputs [B, T, outputs], the state after)."""
        features, state = self.trunk(x, state)
        return self.head(features), state


class RNN(Model):
    """A recurrent model; called, it answers (outputs, state).

    shape:
      "one-to-one"            [B, inputs] -> [B, outputs]: one step; the state makes it remember from call to call
      "one-to-many"           [B, inputs] -> [B, steps, outputs]: x sets the first state, then each output is the next input
      "many-to-one"           [B, T, inputs] -> [B, outputs]: what the last step says
      "many-to-many"          [B, T, inputs] -> [B, T, outputs]: an answer at each step
      "sequence-to-sequence"  [B, T, inputs] -> [B, steps, outputs]: one network reads, another writes (Sutskever et al. 2014)
    Instead of vectors, inputs may be whole numbers below `inputs`: characters, words. cell: "rnn", "lstm" (Hochreiter and
    Schmidhuber 1997) or "gru" (Cho et al. 2014). layers: so many on top of each other, `dropout` between them. embedding:
    columns of a learned table instead of one-hot vectors. steps: how long what is written is. before: a module that reads
    each step before the cells (a CNN, an MLP), rows [rows, ...] -> [rows, inputs]; x is then [B, T, ...], or [B, ...] for
    one-to-one, or a dict of such, as it reads them. It is a part of `trunk`; `init` leaves its weights alone.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        hidden: int = 64,
        *,
        cell: str = "lstm",
        shape: str = "many-to-many",
        layers: int = 1,
        steps: int | None = None,
        embedding: int | None = None,
        dropout: float = 0.0,
        before: nn.Module | None = None,
        init: str = "torch",
        loss: str = "cross_entropy",
    ) -> None:
        choice(shape, "shape", SHAPES)
        writes = shape in ("one-to-many", "sequence-to-sequence")
        if writes and before is not None:
            raise ArgumentError(f"A {shape} model, which reads what it writes, has nothing before its cells.")
        if writes != (steps is not None):
            raise ArgumentError(
                f"A {shape} model {'needs' if writes else 'has no'} steps, the length of what it writes."
            )
        steps = optional(integer, steps, "steps", 1, LONGEST)
        hidden, layers = integer(hidden, "hidden", 1), integer(layers, "layers", 1)
        outputs = integer(outputs, "outputs", 1)
        if shape == "one-to-many":
            trunk: nn.Module = linear(inputs, hidden)
            first: list[nn.Module] = [trunk]
        else:
            trunk = RecurrentTrunk(inputs, hidden, cell, layers, dropout, embedding, before)
            first = [part for part in (trunk.embedding, trunk.cell) if part is not None]
        super().__init__(trunk, linear(hidden, outputs), loss)
        self.shape, self.steps, self.layers, self.is_lstm = shape, steps, layers, cell == "lstm"
        self.inputs, self.outputs = inputs, outputs
        self.writer = RecurrentTrunk(outputs, hidden, cell, layers, dropout, None) if writes else None
        for part in [*first, self.head, *([] if self.writer is None else [self.writer])]:
            initialise(part, init)

    def forward(self, x: Any, state: State = None) -> tuple[Tensor, State]:  # type: ignore[override]  # a state too
        """[B, ...] -> (outputs, state); for the shapes see the class."""
        if self.shape == "one-to-many":
            first = torch.tanh(self.trunk(x)).expand(self.layers, -1, -1).contiguous()
            return self._write((first, torch.zeros_like(first)) if self.is_lstm else first, len(x))
        if self.shape == "one-to-one":
            features, state = self.trunk(on_each(lambda part: part[:, None], x), state)
            return self.head(features[:, 0]), state
        features, state = self.trunk(x, state)
        if self.shape == "many-to-one":
            return self.head(features[:, -1]), state
        if self.shape == "many-to-many":
            return self.head(features), state
        return self._write(state, len(x))

    def _write(self, state: State, batch: int) -> tuple[Tensor, State]:
        assert self.writer is not None
        assert self.steps is not None
        said = torch.zeros(batch, 1, self.outputs, device=(state[0] if self.is_lstm else state).device)
        outputs = []
        for _ in range(self.steps):
            features, state = self.writer(said, state)
            outputs.append(self.head(features))
            said = outputs[-1].softmax(-1) if self.loss == "cross_entropy" else outputs[-1]
        return torch.cat(outputs, 1), state


class Followed(nn.Module):
    """A network, and a module `behind` that reads its outputs; the state that a recurrent network answers besides stays.

    network: (x, *state) -> (y, state), or -> y. behind: y -> the outputs. Called (x, *state) -> (behind(y), state), or behind(y).
    """

    def __init__(self, network: nn.Module, behind: nn.Module) -> None:
        super().__init__()
        self.network = instance(network, "network", nn.Module, "a torch.nn.Module")
        self.behind = instance(behind, "behind", nn.Module, "a torch.nn.Module")

    def forward(self, x: Any, *state: State) -> Any:
        """As `network`, its outputs as `behind` makes them."""
        answer = self.network(x, *state)
        if isinstance(answer, tuple):
            y, after = answer
            return self.behind(y), after
        return self.behind(answer)


PARTS[Followed] = lambda followed: [followed.network, followed.behind]
register_deterministic(Followed)


@register_batched(Followed)
def _followed(members: Members, modules: Sequence[Followed]) -> Op | None:
    network, behind = members.batched_op([m.network for m in modules]), members.batched_op([m.behind for m in modules])
    return None if network is None or behind is None else lambda x: behind(network(x))


ANSWERS = {"one-to-one": "one", "many-to-one": "last", "many-to-many": "all"}


@register_sequence(RNN)
def _layout(models: Sequence[RNN]) -> Layout | None:
    if len({model.shape for model in models}) > 1 or models[0].shape not in ANSWERS:
        return None
    return _of_trunks(models, ANSWERS[models[0].shape])


@register_sequence(Recurrent)
def _recurrent_layout(models: Sequence[Recurrent]) -> Layout | None:
    return _of_trunks(models, "all")


def _of_trunks(models: Sequence[Model], answers: str) -> Layout | None:
    trunks: list[Any] = [model.trunk for model in models]
    if not alike(trunks, (RecurrentTrunk,)) or trunks[0].embedding is not None:
        return None
    cells, heads = [trunk.cell for trunk in trunks], [model.head for model in models]
    before = [] if trunks[0].before is None else [[trunk.before for trunk in trunks]]
    return Layout(before, cells, [heads], answers, one_hot=not before)


@register_sequence(Followed)
def _followed_layout(models: Sequence[Followed]) -> Layout | None:
    layout = layout_of([model.network for model in models])
    return None if layout is None else layout._replace(behind=[*layout.behind, [model.behind for model in models]])


def chrono(module: nn.Module, longest_steps: int) -> nn.Module:
    """Begin the gates of every nn.LSTM and nn.GRU in `module` with memories of 1 to `longest_steps` steps -> the module.

    Chrono initialization (Tallec and Ollivier 2018, section 3, equation 16): for each unit u ~ U(1, longest_steps - 1). In an
    LSTM the bias of the forget gate becomes log u and that of the input gate -log u. In a GRU of torch, h' = (1 - z) n + z h,
    where z keeps the state, the bias of the update gate becomes log u. These are in `bias_ih`; the same parts of `bias_hh` become
    0, and all other biases stay. Draws from torch's global generator of the CPU. Raises ArgumentError where there are no such
    gates (nn.RNN has none), or where they have no biases.
    """
    instance(module, "module", nn.Module, "a torch.nn.Module")
    longest_steps = integer(longest_steps, "longest_steps", 3)
    cells: list[Any] = [part for part in module.modules() if isinstance(part, (nn.LSTM, nn.GRU))]
    if not cells:
        raise ArgumentError(
            f"Chrono initialization is for the gates of an nn.LSTM or nn.GRU; {type(module).__name__} has none."
        )
    if not all(cell.bias for cell in cells):
        raise ArgumentError(
            "Chrono initialization sets the biases of gates, and these cells were made with bias=False."
        )
    with torch.no_grad():
        for cell in cells:
            directions = ("", "_reverse") if cell.bidirectional else ("",)
            for layer, direction in itertools.product(range(cell.num_layers), directions):
                memory = torch.empty(cell.hidden_size).uniform_(1, longest_steps - 1).log()
                for gate, sign in GATES[cell.mode]:
                    part = slice(gate * cell.hidden_size, (gate + 1) * cell.hidden_size)
                    getattr(cell, f"bias_ih_l{layer}{direction}")[part] = sign * memory
                    getattr(cell, f"bias_hh_l{layer}{direction}")[part] = 0
    return module


@torch.no_grad()
def free_running(model: RNN, first: Tensor, steps: int) -> Tensor:
    """Let a many-to-many model of characters write: whole numbers [B, T] to begin with -> [B, steps], each the likeliest next.

    The model reads what it was given, then its own last answer, and so on.
    """
    if instance(model, "model", RNN, "an RNN").shape != "many-to-many":
        raise ArgumentError(f"Only a many-to-many model writes freely, not a {model.shape} one.")
    steps = integer(steps, "steps", 1, LONGEST)
    if not isinstance(first, Tensor) or first.ndim != 2 or first.is_floating_point() or not first.numel():
        raise ArgumentError(f"first is a tensor of whole numbers [B, T], not {shown(first)}.")
    if first.min() < 0 or first.max() >= model.inputs:
        raise ArgumentError(f"first holds whole numbers from 0 to {model.inputs - 1}, not {shown(first)}.")
    was_training = model.training
    model.eval()
    try:
        logits, state = model(first)
        written = [logits[:, -1:].argmax(-1)]
        while len(written) < steps:
            logits, state = model(written[-1], state)
            written.append(logits.argmax(-1))
    finally:
        model.train(was_training)
    return torch.cat(written, 1)
