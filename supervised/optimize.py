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
    _check_trainable(stack)
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


def lbfgs(stack: Stack, learning_rate: float | Sequence[float] = 1.0, **options: Any) -> list[torch.optim.Optimizer]:
    """torch.optim.LBFGS for each member by itself, for it looks at all its numbers together (Liu and Nocedal 1989).

    With a line search unless told otherwise. Raises ValueError for options that it does not take.
    """
    _check_trainable(stack)
    rates = learning_rate if isinstance(learning_rate, Sequence) else [learning_rate] * len(stack.seeds)
    try:
        return [
            torch.optim.LBFGS(group["params"], group["lr"], **{"line_search_fn": "strong_wolfe", **options})
            for group in stack.groups(rates)
        ]
    except TypeError as error:
        raise ValueError(f"LBFGS cannot be made: {error}.") from error


def schedule(optimizer: torch.optim.Optimizer, name: str, steps: int, **options: Any) -> Any:
    """torch.optim.lr_scheduler's `name`; those that span a whole fit are told its steps.

    Raises ValueError for options that the schedule does not take.
    """
    known: dict[str, dict[str, Any]] = {
        "OneCycleLR": {"max_lr": [group["lr"] for group in optimizer.param_groups], "total_steps": steps + 1},
        "CosineAnnealingLR": {"T_max": steps},
        "LinearLR": {"start_factor": 1.0, "end_factor": 0.0, "total_iters": steps},
        "PolynomialLR": {"total_iters": steps},
    }
    try:
        return getattr(torch.optim.lr_scheduler, name)(optimizer, **{**known.get(name, {}), **options})
    except (TypeError, ValueError) as error:
        raise ValueError(f"The schedule {name} cannot be made: {error}.") from error


def _check_trainable(stack: Stack) -> None:
    if not stack.gradients:
        raise ValueError("The model has nothing to train: no parameter of it needs a gradient.")
