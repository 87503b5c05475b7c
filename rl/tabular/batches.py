"""Checks of the batches that `TabularAgent.update` learns from: states, actions and masks."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from rl.core.registry import name_of
from rl.core.types import Batch, check_parts
from supervised.validate import ArgumentError, kind_of


def states_of(obs: Any, n: int, size: int) -> np.ndarray:
    """Return state indices as int64 [N, B]. Raises ValueError for indices outside 0..size - 1 or another number of seeds."""
    states = np.asarray(obs.cpu() if isinstance(obs, Tensor) else obs)
    if states.ndim != 2 or states.shape[0] != n or states.dtype.kind not in "iu":
        raise ValueError(
            f"A table takes state indices, whole numbers [N, B] with N = {n} seeds, not"
            f" {states.dtype} {list(states.shape)}."
        )
    if states.size and not (states.min() >= 0 and states.max() < size):
        raise ValueError(f"State indices must be in 0..{size - 1}; got {states.min()} to {states.max()}.")
    return states.astype(np.int64)


def check(states: Any, action: Any, reward: Any, discount: Any, next_states: Any, actions: int) -> None:
    """Raise ValueError for a batch with wrong shapes or out-of-range values, before anything is learned."""
    parts = {"action": action, "reward": reward, "discount": discount, "next_obs": next_states}
    for name, part in parts.items():
        if part.shape != states.shape:
            raise ValueError(f"A batch's {name} must be {list(states.shape)}, like its obs, not {list(part.shape)}.")
    if action.dtype.kind not in "iu" or (action.size and not 0 <= action.min() <= action.max() < actions):
        raise ValueError(f"A batch's actions must be whole numbers from 0 to {actions - 1}.")
    if not np.isfinite(reward).all() or not ((discount >= 0) & (discount <= 1)).all():
        raise ValueError("A batch's rewards must be finite and its discounts must be in [0, 1].")


def masks_of(mask: Tensor, discount: np.ndarray, actions: int) -> np.ndarray:
    """Return a batch's masks as bool [N, B, A]; after a termination every action counts as allowed."""
    shape = (*discount.shape, actions)
    if mask.dtype != torch.bool or mask.shape != shape:
        raise ValueError(f"A batch's next_mask must be bool {list(shape)}, not {mask.dtype} {list(mask.shape)}.")
    allowed: np.ndarray = mask.cpu().numpy() | (discount == 0)[..., None]
    if not allowed.any(-1).all():
        place = np.argwhere(~allowed.any(-1))[0].tolist()
        raise ValueError(f"A batch's next_mask at {place} allows no action; at least one must be allowed.")
    return allowed


def check_learnable(batch: Batch, config: Any, n: int, size: int, actions: int) -> None:
    """Raise ValueError for a rule that cannot learn from batches, and for batch fields that the rule does not support."""
    check_parts(batch, n, actions)
    if config.needs_next_action or config.episode_arrays(size, actions):
        raise ValueError(
            f"{name_of(config)} learns from whole episodes or from the next action, which a batch does not contain:"
            " train it with rl.train, or step by step with run.advance()."
        )
    if batch.next_mask is not None and not config.respects_masks:
        raise ValueError(f"The rule of {name_of(config)} does not respect action masks.")
    if batch.weight is not None and not config.takes_weights:
        raise ValueError(f"{name_of(config)} does not support importance weights.")
    if batch.weight is not None and (batch.weight.shape != batch.action.shape or not batch.weight.isfinite().all()):
        raise ArgumentError(f"A batch's weight must be finite {list(batch.action.shape)}, not {kind_of(batch.weight)}.")
