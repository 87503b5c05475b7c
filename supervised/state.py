"""States as checkpoints hold them: tensors as arrays, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor


def detached(state: Any) -> Any:
    """A state through which no gradient goes back."""
    if isinstance(state, tuple):
        return tuple(detached(part) for part in state)
    return state.detach() if isinstance(state, Tensor) else state


def to_tree(value: Any) -> Any:
    """Tensors as arrays, NaN as None, dict keys as strings: what a checkpoint can hold."""
    if isinstance(value, Tensor):
        return value.detach().cpu().numpy()
    if isinstance(value, Mapping):
        return {str(key): to_tree(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_tree(part) for part in value]
    return value


def from_tree(tree: Any) -> Any:
    """Arrays as tensors again."""
    if isinstance(tree, np.ndarray):
        return torch.from_numpy(tree.copy())
    if isinstance(tree, dict):
        return {key: from_tree(part) for key, part in tree.items()}
    return [from_tree(part) for part in tree] if isinstance(tree, list) else tree


def optimizer_state(tree: Any) -> dict[str, Any]:
    """What an optimizer's state_dict was before `to_tree`: its parameters are numbered."""
    found = from_tree(tree)
    return {"state": {int(key): part for key, part in found["state"].items()}, "param_groups": found["param_groups"]}
