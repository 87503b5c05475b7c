"""Recurrent networks: RNN, LSTM and GRU, for the five kinds of sequence tasks.

A recurrent model returns (outputs, state), as torch's modules do. Pass the state to the next call to continue a sequence
(truncated backpropagation through time, text generation, agents with memory).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from supervised import names
from supervised.models.layers import Model, check_weights, initialize, linear
from supervised.stack.manual_backward import PARTS
from supervised.stack.registry import Members, Op, alike, register_batched, register_deterministic
from supervised.stack.sequences import Layout, layout_of, register_sequence
from supervised.validate import ArgumentError, choice, instance, integer, number, optional, shown

CELLS: dict[str, Any] = {name: getattr(nn, name.upper()) for name in names.CELLS}
SHAPES = ("one-to-one", "one-to-many", "many-to-one", "many-to-many", "sequence-to-sequence")
# The gates that chrono initialization sets, (index in torch's order, sign). Torch's order is i, f, g, o and r, z, n.
GATES = {"LSTM": ((0, -1), (1, 1)), "GRU": ((1, 1),)}
LONGEST = 1_000_000  # maximum length of a generated sequence
State = Any  # [layers, B, hidden], or a pair of them for an LSTM


class RecurrentTrunk(nn.Module):
    """Maps sequences [B, T, inputs], or whole numbers [B, T] below `inputs`, to features [B, T, hidden] and the new state.

    Whole numbers become one-hot vectors, or learned embeddings of size `embedding` (Mikolov et al. 2013). before: a module
    applied to each step before the cells, [B * T, ...] -> [B * T, inputs]; x is then its input, [B, T, ...] or a dict of
    tensors, with whole numbers unchanged.
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
            raise ArgumentError(
                "dropout is applied between the layers of a recurrent model, so it needs at least two layers."
            )
        before = optional(instance, before, "before", nn.Module, "a torch.nn.Module")
        if embedding is not None and before is not None:
            raise ArgumentError(
                "embedding and before are mutually exclusive: an embedding reads whole numbers, and `before` returns vectors."
                " Use an nn.Embedding inside `before`."
            )
        check_weights(inputs=inputs, embedding=embedding or 1)
        check_weights(inputs=embedding or inputs, hidden=hidden, gates=4)
        check_weights(layers=layers, hidden=hidden, inner=hidden, gates=8)
        self.inputs, self.features = inputs, hidden
        self.embedding = None if embedding is None else nn.Embedding(inputs, embedding)
        self.cell = CELLS[cell](embedding or inputs, hidden, layers, batch_first=True, dropout=dropout)
        self.before = before

    def forward(self, x: Any, state: State = None) -> tuple[Tensor, State]:
        """Forward pass of [B, T, inputs], whole numbers [B, T], or the input of `before` -> (features [B, T, hidden], state)."""
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
        """Apply `before` to each step, [B, T, ...] -> [B, T, inputs]."""
        batch, steps = (next(iter(x.values())) if isinstance(x, Mapping) else x).shape[:2]
        found: Tensor = before(on_each(lambda part: part.flatten(0, 1), x))
        if found.shape != (batch * steps, self.inputs):
            raise ArgumentError(
                f"before must return {[batch * steps, self.inputs]}, `inputs` numbers per row, not {list(found.shape)}."
            )
        return found.reshape(batch, steps, self.inputs)


def on_each(function: Callable[[Tensor], Tensor], x: Any) -> Any:
    """Apply a function to a tensor, or to each tensor in a dict."""
    return {name: function(part) for name, part in x.items()} if isinstance(x, Mapping) else function(x)


class Recurrent(Model):
    """A trunk for sequences, [B, T, ...] -> (features, state), and a head applied to each step; returns (outputs, state)."""

    def forward(self, x: Any, state: State = None) -> tuple[Tensor, State]:  # type: ignore[override]  # a state too
        """Forward pass of [B, T, ...] from a state -> (outputs [B, T, outputs], the new state)."""
        features, state = self.trunk(x, state)
        return self.head(features), state


class RNN(Model):
    """A recurrent model that returns (outputs, state).

    shape:
      "one-to-one"            [B, inputs] -> [B, outputs]: a single step; the state carries memory between calls
      "one-to-many"           [B, inputs] -> [B, steps, outputs]: x sets the initial state, then each output is the next input
      "many-to-one"           [B, T, inputs] -> [B, outputs]: the output at the last step
      "many-to-many"          [B, T, inputs] -> [B, T, outputs]: an output at each step
      "sequence-to-sequence"  [B, T, inputs] -> [B, steps, outputs]: an encoder and a decoder (Sutskever et al. 2014)
    Instead of vectors, inputs may be whole numbers below `inputs`, such as characters or words. cell: "rnn", "lstm" (Hochreiter
    and Schmidhuber 1997) or "gru" (Cho et al. 2014). layers: the number of stacked layers, with `dropout` between them.
    embedding: the size of learned embeddings, instead of one-hot vectors. steps: the length of the generated sequence. before:
    a module applied to each step before the cells (a CNN, an MLP), [rows, ...] -> [rows, inputs]; x is then its input,
    [B, T, ...], or [B, ...] for one-to-one, or a dict of tensors. It is part of `trunk`; `init` does not change its weights.
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
            raise ArgumentError(f"A {shape} model reads its own outputs, so it cannot have a module before its cells.")
        if writes != (steps is not None):
            raise ArgumentError(
                f"A {shape} model {'needs' if writes else 'has no'} steps, the length of the generated sequence."
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
            initialize(part, init)

    def forward(self, x: Any, state: State = None) -> tuple[Tensor, State]:  # type: ignore[override]  # a state too
        """Forward pass [B, ...] -> (outputs, state); for the shapes see the class."""
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
    """A network followed by a module `behind` that reads its outputs; the state of a recurrent network is passed through.

    network: (x, *state) -> (y, state), or y. behind: y -> outputs. Returns (behind(y), state), or behind(y).
    """

    def __init__(self, network: nn.Module, behind: nn.Module) -> None:
        super().__init__()
        self.network = instance(network, "network", nn.Module, "a torch.nn.Module")
        self.behind = instance(behind, "behind", nn.Module, "a torch.nn.Module")

    def forward(self, x: Any, *state: State) -> Any:
        """Call `network` and apply `behind` to its outputs."""
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
    """Initialize the gates of every nn.LSTM and nn.GRU in `module` for memories of 1 to `longest_steps` steps -> the module.

    Chrono initialization (Tallec and Ollivier 2018, section 3, equation 16): draw u ~ U(1, longest_steps - 1) for each unit. In
    an LSTM the bias of the forget gate becomes log u and that of the input gate -log u. In torch's GRU, h' = (1 - z) n + z h,
    where z keeps the state, the bias of the update gate becomes log u. These go into `bias_ih`; the same parts of `bias_hh`
    become 0, and all other biases are unchanged. Draws from torch's global CPU generator. Raises ArgumentError if there are no
    such gates (nn.RNN has none), or if they have no biases.
    """
    instance(module, "module", nn.Module, "a torch.nn.Module")
    longest_steps = integer(longest_steps, "longest_steps", 3)
    cells: list[Any] = [part for part in module.modules() if isinstance(part, (nn.LSTM, nn.GRU))]
    if not cells:
        raise ArgumentError(
            f"Chrono initialization requires the gates of an nn.LSTM or nn.GRU; {type(module).__name__} has none."
        )
    if not all(cell.bias for cell in cells):
        raise ArgumentError(
            "Chrono initialization sets the biases of gates, but these cells were created with bias=False."
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
    """Generate a sequence greedily with a many-to-many model: a prompt of whole numbers [B, T] -> [B, steps].

    The model reads the prompt, then its own last prediction, and so on.
    """
    if instance(model, "model", RNN, "an RNN").shape != "many-to-many":
        raise ArgumentError(f"Only a many-to-many model can generate sequences, not a {model.shape} one.")
    steps = integer(steps, "steps", 1, LONGEST)
    if not isinstance(first, Tensor) or first.ndim != 2 or first.is_floating_point() or not first.numel():
        raise ArgumentError(f"first must be a tensor of whole numbers [B, T], not {shown(first)}.")
    if first.min() < 0 or first.max() >= model.inputs:
        raise ArgumentError(f"first must contain whole numbers from 0 to {model.inputs - 1}, not {shown(first)}.")
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
