"""Recurrent networks: RNN, LSTM and GRU over sequences, in the five shapes that a sequence task can have.

A recurrent model answers (outputs, state), as torch's own do: the state goes into the next call, to read on where it
stopped (truncated back-propagation, free-running text, an agent that remembers).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from supervised.models.layers import Model, check_weights, initialise, linear
from supervised.stack.registry import alike
from supervised.stack.sequences import Layout, register_sequence
from supervised.validate import ArgumentError, choice, instance, integer, number, optional, shown

CELLS: dict[str, Any] = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
SHAPES = ("one-to-one", "one-to-many", "many-to-one", "many-to-many", "sequence-to-sequence")
LONGEST = 1_000_000  # steps of what is written
State = Any  # [layers, B, hidden], for an LSTM a pair of them


class RecurrentTrunk(nn.Module):
    """Sequences [B, T, inputs], or whole numbers [B, T] below `inputs`, -> features [B, T, hidden] and the state after.

    Whole numbers become one-hot vectors, or rows of a table of `embedding` learned columns (Mikolov et al. 2013).
    """

    def __init__(self, inputs: int, hidden: int, cell: str, layers: int, dropout: float, embedding: int | None) -> None:
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
        check_weights(inputs=inputs, embedding=embedding or 1)
        check_weights(inputs=embedding or inputs, hidden=hidden, gates=4)
        check_weights(layers=layers, hidden=hidden, inner=hidden, gates=8)
        self.inputs, self.features = inputs, hidden
        self.embedding = None if embedding is None else nn.Embedding(inputs, embedding)
        self.cell = CELLS[cell](embedding or inputs, hidden, layers, batch_first=True, dropout=dropout)

    def forward(self, x: Tensor, state: State = None) -> tuple[Tensor, State]:
        """[B, T, inputs] or whole numbers [B, T] -> (features [B, T, hidden], state)."""
        if not x.is_floating_point():
            x = (
                F.one_hot(x, self.inputs).to(self.cell.weight_ih_l0.dtype)
                if self.embedding is None
                else self.embedding(x)
            )
        features, state = self.cell(x, state)
        return features, state


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
    columns of a learned table instead of one-hot vectors. steps: how long what is written is.
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
        init: str = "torch",
        loss: str = "cross_entropy",
    ) -> None:
        choice(shape, "shape", SHAPES)
        writes = shape in ("one-to-many", "sequence-to-sequence")
        if writes != (steps is not None):
            raise ArgumentError(
                f"A {shape} model {'needs' if writes else 'has no'} steps, the length of what it writes."
            )
        steps = optional(integer, steps, "steps", 1, LONGEST)
        hidden, layers = integer(hidden, "hidden", 1), integer(layers, "layers", 1)
        outputs = integer(outputs, "outputs", 1)
        if shape == "one-to-many":
            trunk: nn.Module = linear(inputs, hidden)
        else:
            trunk = RecurrentTrunk(inputs, hidden, cell, layers, dropout, embedding)
        super().__init__(trunk, linear(hidden, outputs), loss)
        self.shape, self.steps, self.layers, self.is_lstm = shape, steps, layers, cell == "lstm"
        self.inputs, self.outputs = inputs, outputs
        self.writer = RecurrentTrunk(outputs, hidden, cell, layers, dropout, None) if writes else None
        initialise(self, init)

    def forward(self, x: Tensor, state: State = None) -> tuple[Tensor, State]:  # type: ignore[override]  # a state too
        """[B, ...] -> (outputs, state); for the shapes see the class."""
        if self.shape == "one-to-many":
            first = torch.tanh(self.trunk(x)).expand(self.layers, -1, -1).contiguous()
            return self._write((first, torch.zeros_like(first)) if self.is_lstm else first, len(x))
        if self.shape == "one-to-one":
            features, state = self.trunk(x[:, None], state)
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


ANSWERS = {"one-to-one": "one", "many-to-one": "last", "many-to-many": "all"}


@register_sequence(RNN)
def _layout(models: Sequence[RNN]) -> Layout | None:
    trunks: list[Any] = [model.trunk for model in models]
    if len({model.shape for model in models}) > 1 or models[0].shape not in ANSWERS:
        return None
    if not alike(trunks, (RecurrentTrunk,)) or trunks[0].embedding is not None:
        return None
    cells, heads = [trunk.cell for trunk in trunks], [model.head for model in models]
    return Layout([], cells, [heads], ANSWERS[models[0].shape], one_hot=True)


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
