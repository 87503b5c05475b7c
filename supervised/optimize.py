"""Torch's optimizers over a stack."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from supervised.names import nearest
from supervised.stack import Stack

# Those of torch that treat each number by itself, so that members do not feel each other.
OPTIMIZERS = (
    "SGD", "Adam", "AdamW", "NAdam", "RAdam", "Adamax", "Adagrad", "Adadelta", "RMSprop", "Rprop", "ASGD",
)  # fmt: skip
FUSED = ("SGD", "Adam", "AdamW", "Adagrad")


def optimizer(
    stack: Stack, name: str = "Adam", learning_rate: float | Sequence[float] = 1e-3, **options: Any
) -> torch.optim.Optimizer:
    """torch.optim's `name` over all members of a stack; one learning rate, or one for each member.

    Raises ValueError for an unknown name (the nearest is given), for options that the optimizer does not take, and for a
    stack with nothing to train.
    """
    nearest(name, OPTIMIZERS, "optimizer")
    if not stack.gradients:
        raise ValueError("The model has nothing to train: no parameter of it needs a gradient.")
    if name in FUSED:
        options = {"fused": True, **options}
    try:
        made = getattr(torch.optim, name)(stack.groups(learning_rate), **options)
    except TypeError as error:
        raise ValueError(f"{name} cannot be made: {error}.") from error
    assert isinstance(made, torch.optim.Optimizer)
    # Torch's own would take the gradients out of the stack's memory.
    made.zero_grad = lambda set_to_none=True: stack.zero_grad()  # type: ignore[method-assign]
    return made
