"""Torch optimizers over a stack."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from supervised.names import OPTIMIZERS
from supervised.schedules import Curve, Schedule, value_at
from supervised.stack.stack import Stack
from supervised.state import from_tree, memory_places, to_tree
from supervised.validate import ArgumentError, choice, first_line, instance, number

FUSED = ("SGD", "Adam", "AdamW", "Adagrad")


def optimizer(
    stack: Stack, name: str = "Adam", learning_rate: float | Sequence[float] = 1e-3, **options: Any
) -> torch.optim.Optimizer:
    """Create the torch.optim optimizer `name` over all members of a stack, with one learning rate or one per member.

    Raises ValueError for an unknown name (suggesting the closest), for options that the optimizer does not take, and for a
    stack with nothing to train.
    """
    choice(name, "optimizer", OPTIMIZERS)
    _check_trainable(instance(stack, "stack", Stack, "a Stack"))
    if name in FUSED:
        options = {"fused": True, **options}
    try:
        made = getattr(torch.optim, name)(stack.groups(_rates(learning_rate)), **options)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ArgumentError(f"{name} cannot be created: {first_line(error)}") from error
    assert isinstance(made, torch.optim.Optimizer)
    # Torch's own would detach the gradients from the stack's memory.
    made.zero_grad = lambda *_, **__: stack.zero_grad()  # type: ignore[method-assign]  # (deliberate)
    _leave_idle_alone(stack, made)
    return made


def _leave_idle_alone(stack: Stack, optimizer: torch.optim.Optimizer) -> None:
    """Make each step skip the parameters that received no gradient, and their optimizer state."""
    kept: list[tuple[Tensor, Tensor]] = []
    taken_out: list[Tensor] = []  # parameters whose gradient is None during the step

    def before(*_: Any) -> None:
        kept.clear()  # the previous step may have failed
        taken_out.clear()
        idle = stack.memory.idle()
        if idle and stack.batched:  # the optimizer sees one vector: restore its idle parts after the step
            memory = [
                value for value in optimizer.state.get(stack.flat, {}).values() if value.shape == stack.flat.shape
            ]
            parts = [
                stack.memory.part(vector, name, k) for vector in (stack.flat.detach(), *memory) for name, k in idle
            ]
            kept.extend((part, part.clone()) for part in parts)
        taken_out.extend([] if stack.batched else [stack.memory.parameter(name, k) for name, k in idle])
        for parameter in taken_out:
            parameter.grad = None

    def after(*_: Any) -> None:
        for part, saved in kept:
            part.copy_(saved)
        if taken_out:
            stack.memory.put_back_gradients()

    optimizer.register_step_pre_hook(before)
    optimizer.register_step_post_hook(after)


def lbfgs(stack: Stack, learning_rate: float | Sequence[float] = 1.0, **options: Any) -> list[torch.optim.Optimizer]:
    """Create one torch.optim.LBFGS per member, since it couples all its parameters (Liu and Nocedal 1989).

    Uses a strong-Wolfe line search by default. Raises ValueError for options that it does not take.
    """
    _check_trainable(stack)
    rates = learning_rate if isinstance(learning_rate, Sequence) else [learning_rate] * len(stack.seeds)
    try:
        return [
            torch.optim.LBFGS(group["params"], group["lr"], **{"line_search_fn": "strong_wolfe", **options})
            for group in stack.groups(rates)
        ]
    except (TypeError, ValueError, RuntimeError) as error:
        raise ArgumentError(f"LBFGS cannot be created: {first_line(error)}") from error


class Scheduled(torch.optim.lr_scheduler.LRScheduler):
    """Multiplies learning rates by the value of a curve at the optimizer's step."""

    def __init__(self, optimizer: torch.optim.Optimizer, curve: Curve) -> None:
        self.curve = curve
        super().__init__(optimizer)

    def get_lr(self) -> list[float | Tensor]:
        return [rate * value_at(self.curve, self.last_epoch) for rate in self.base_lrs]


def schedule(optimizer: torch.optim.Optimizer, name: str | Schedule, steps: int, **options: Any) -> Any:
    """Create the torch.optim.lr_scheduler `name`, or one from a schedule whose value multiplies the learning rate.

    steps: the number of steps of the whole fit. Raises ValueError for options that the schedule does not take.
    """
    if not isinstance(name, str):
        return Scheduled(optimizer, name.curve(steps))
    known: dict[str, dict[str, Any]] = {
        "OneCycleLR": {"max_lr": [group["lr"] for group in optimizer.param_groups], "total_steps": steps + 1},
        "CosineAnnealingLR": {"T_max": steps},
        "LinearLR": {"start_factor": 1.0, "end_factor": 0.0, "total_iters": steps},
        "PolynomialLR": {"total_iters": steps},
    }
    try:
        return getattr(torch.optim.lr_scheduler, name)(optimizer, **{**known.get(name, {}), **options})
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"The schedule {name} cannot be created: {first_line(error)}") from error


def state_by_seed(stack: Stack, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Return the state of an optimizer with members as the first axis, so that members can be extracted or inserted."""
    if not stack.batched:
        groups = optimizer.param_groups
        return {"members": [to_tree([dict(optimizer.state.get(p, {})) for p in group["params"]]) for group in groups]}
    found: dict[str, Any] = {}
    for name, value in optimizer.state.get(stack.flat, {}).items():
        if value.shape == stack.flat.shape:
            found[name] = {
                key: block.cpu().numpy().copy() for key, block in stack.memory.blocks(value.detach()).items()
            }
        else:
            found[name] = np.full(len(stack.seeds), float(value), np.float32)
    return found


def load_state_by_seed(stack: Stack, optimizer: torch.optim.Optimizer, saved: Mapping[str, Any]) -> None:
    """Load a state returned by `state_by_seed`. Raises ValueError if it does not fit."""
    fits, places = True, memory_places(optimizer)
    if not stack.batched:
        for group, parts in zip(optimizer.param_groups, saved["members"], strict=True):
            for parameter, part in zip(group["params"], parts, strict=True):
                found = from_tree(part)
                fits &= all(value.shape in ((), parameter.shape) for value in found.values())
                optimizer.state[parameter] = {
                    key: value.to(places.get(key, stack.device)) for key, value in found.items()
                }
    else:
        kept: dict[str, Tensor] = {}
        for name, value in saved.items():
            if isinstance(value, Mapping):
                kept[name] = torch.zeros_like(stack.flat.detach())
                blocks = stack.memory.blocks(kept[name])
                fits &= value.keys() == blocks.keys()
                for key in blocks.keys() & value.keys():
                    fits &= value[key].shape == blocks[key].shape
                    if fits:
                        blocks[key].copy_(torch.from_numpy(value[key]))
            else:
                kept[name] = torch.tensor(float(value[0]), device=places.get(name, stack.device))
        optimizer.state[stack.flat] = kept
    if not fits:
        raise ValueError("The saved state of the optimizer does not fit the model.")


def _rates(value: Any) -> float | list[float]:
    """Check one learning rate, or one per seed."""
    if isinstance(value, (list, tuple)) or getattr(value, "ndim", 0) == 1:
        return [number(rate, "learning_rate", 0.0) for rate in value]
    return number(value, "learning_rate", 0.0)


def _check_trainable(stack: Stack) -> None:
    if not stack.gradients:
        raise ValueError("The model has nothing to train: none of its parameters requires a gradient.")
