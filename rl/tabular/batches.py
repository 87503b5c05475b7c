"""Batches of transitions for a table: states, actions and masks, checked before anything is learned."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from rl.core.registry import name_of
from rl.core.types import Batch, check_parts
from supervised.validate import ArgumentError, kind_of


def states_of(obs: Any, n: int, size: int) -> np.ndarray:
    """State indices as int64 [N, B]. Raises ValueError for others than 0..size - 1, and for another number of seeds."""
    states = np.asarray(obs.cpu() if isinstance(obs, Tensor) else obs)
    if states.ndim != 2 or states.shape[0] != n or states.dtype.kind not in "iu":
        raise ValueError(
            f"A table takes state indices, whole numbers [N, B] with N = {n} seeds, not"
            f" {states.dtype} {list(states.shape)}."
        )
    if states.size and not (states.min() >= 0 and states.max() < size):
        raise ValueError(f"State indices lie in 0..{size - 1}; got {states.min()} to {states.max()}.")
    return states.astype(np.int64)


def check(states: Any, action: Any, reward: Any, discount: Any, next_states: Any, actions: int) -> None:
    """Raise ValueError for a batch whose numbers are not what they must be, before anything is learned."""
    parts = {"action": action, "reward": reward, "discount": discount, "next_obs": next_states}
    for name, part in parts.items():
        if part.shape != states.shape:
            raise ValueError(f"A batch's {name} is {list(states.shape)}, as its obs, not {list(part.shape)}.")
    if action.dtype.kind not in "iu" or (action.size and not 0 <= action.min() <= action.max() < actions):
        raise ValueError(f"A batch's actions are whole numbers from 0 to {actions - 1}.")
    if not np.isfinite(reward).all() or not ((discount >= 0) & (discount <= 1)).all():
        raise ValueError("A batch's rewards are finite numbers, its discounts lie in [0, 1].")


def masks_of(mask: Tensor, discount: np.ndarray, actions: int) -> np.ndarray:
    """A batch's masks bool [N, B, A]; after a termination every action counts as allowed."""
    shape = (*discount.shape, actions)
    if mask.dtype != torch.bool or mask.shape != shape:
        raise ValueError(f"A batch's next_mask is bool {list(shape)}, not {mask.dtype} {list(mask.shape)}.")
    allowed: np.ndarray = mask.cpu().numpy() | (discount == 0)[..., None]
    if not allowed.any(-1).all():
        place = np.argwhere(~allowed.any(-1))[0].tolist()
        raise ValueError(f"A batch's next_mask at {place} allows no action; at least one must be allowed.")
    return allowed


def check_learnable(batch: Batch, description: Any, n: int, size: int, actions: int) -> None:
    """Raise ValueError for a batch with parts that the rule does not know, and where the rule does not learn from batches."""
    check_parts(batch, n, actions)
    if description.needs_next_action or description.episode_arrays(size, actions):
        raise ValueError(
            f"{name_of(description)} learns from whole episodes, or from what it does next, which a batch does not"
            " tell: train it by rl.train, or step by step with run.advance()."
        )
    if batch.next_mask is not None and not description.respects_masks:
        raise ValueError(f"The rule of {name_of(description)} does not respect action masks.")
    if batch.weight is not None and not description.takes_weights:
        raise ValueError(f"{name_of(description)} knows no weights.")
    if batch.weight is not None and (batch.weight.shape != batch.action.shape or not batch.weight.isfinite().all()):
        raise ArgumentError(f"A batch's weight is finite {list(batch.action.shape)}, not {kind_of(batch.weight)}.")
