"""Conversion of states between tensors and the arrays of a checkpoint, and checks of loaded states."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

MOVED = {"lr", "betas", "momentum"}  # settings of an optimizer that schedules change


def detached(state: Any) -> Any:
    """Detach a state, a tensor or a tuple of tensors."""
    if isinstance(state, tuple):
        return tuple(detached(part) for part in state)
    return state.detach() if isinstance(state, Tensor) else state


def to_tree(value: Any) -> Any:
    """Convert tensors to arrays and dict keys to strings, as checkpoints require."""
    if isinstance(value, Tensor):
        return value.detach().cpu().numpy()
    if isinstance(value, Mapping):
        return {str(key): to_tree(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_tree(part) for part in value]
    return value


def from_tree(tree: Any) -> Any:
    """Convert the arrays of `to_tree` back to tensors."""
    if isinstance(tree, np.ndarray):
        return torch.from_numpy(tree.copy())
    if isinstance(tree, dict):
        return {key: from_tree(part) for key, part in tree.items()}
    return [from_tree(part) for part in tree] if isinstance(tree, list) else tree


def check_alike(saved: Any, fresh: Any, name: str) -> None:
    """Raise ValueError unless a saved tree matches a fresh one in keys, lengths and types; values are not compared."""
    if isinstance(fresh, Mapping):
        good = isinstance(saved, Mapping) and saved.keys() == fresh.keys()
        for key in fresh if good else ():
            check_alike(saved[key], fresh[key], f"{name}.{key}")
    elif isinstance(fresh, list):
        good = isinstance(saved, list) and len(saved) == len(fresh)
        for i in range(len(fresh) if good else 0):
            check_alike(saved[i], fresh[i], f"{name}.{i}")
    elif isinstance(fresh, (int, float)) and not isinstance(fresh, bool):
        good = isinstance(saved, (int, float)) and not isinstance(saved, bool) and abs(saved) < 2**63
    else:
        good = type(saved) is type(fresh)
    if not good:
        raise ValueError(f"{name} is {saved!r}")


def load_optimizer(optimizer: torch.optim.Optimizer, tree: Any) -> None:
    """Load what `to_tree(optimizer.state_dict())` returned.

    Raises ValueError if it is damaged or belongs to a different optimizer.
    Torch itself accepts almost anything and fails, if at all, at the next step.
    """
    fresh = to_tree(optimizer.state_dict())
    check_alike(tree["param_groups"], fresh["param_groups"], "param_groups")
    for mine, theirs in zip(fresh["param_groups"], tree["param_groups"], strict=True):
        for name in mine.keys() - MOVED:
            if mine[name] != theirs[name]:
                raise ValueError(f"{name} of the optimizer was {theirs[name]!r} and is now {mine[name]!r}")
    found = {int(key): from_tree(part) for key, part in tree["state"].items()}
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    if found and found.keys() != set(range(1 if isinstance(optimizer, torch.optim.LBFGS) else len(parameters))):
        raise ValueError("the optimizer belongs to other parameters")
    places = {} if isinstance(optimizer, torch.optim.LBFGS) or not found else memory_places(optimizer)
    for key, state in found.items():
        if isinstance(optimizer, torch.optim.LBFGS):
            _check_lbfgs(state, sum(p.numel() for p in parameters))
            continue
        if not isinstance(state, dict) or state.keys() != found[0].keys() or state.keys() != places.keys():
            raise ValueError(f"the optimizer's state of parameter {key} is incomplete")
        for name, value in state.items():
            if not isinstance(value, Tensor) or value.shape not in ((), parameters[key].shape):
                raise ValueError(f"{name} of the optimizer does not fit parameter {key}")
    optimizer.load_state_dict({"state": found, "param_groups": from_tree(tree["param_groups"])})
    for kept in optimizer.state.values():
        kept.update({name: value.to(places[name]) for name, value in kept.items() if name in places})


def memory_places(optimizer: torch.optim.Optimizer) -> dict[str, torch.device]:
    """Return the name and device of each state tensor that an optimizer keeps per parameter, found by stepping a copy of it.

    Some optimizers read step counts on the CPU. Torch's `load_state_dict` moves some of these to the parameters' device, which
    would force a synchronization at each step.
    """
    device = optimizer.param_groups[0]["params"][0].device
    parameter = torch.nn.Parameter(torch.zeros(1, device=device))
    parameter.grad = torch.zeros_like(parameter)
    taken = inspect.signature(type(optimizer)).parameters
    twin = type(optimizer)(
        [parameter], **{k: v for k, v in optimizer.param_groups[0].items() if k in taken and k != "params"}
    )
    twin.step()
    return {name: value.device for name, value in twin.state[parameter].items()}


def _check_lbfgs(state: Any, size: int) -> None:
    vectors = [state.get(name) for name in ("d", "prev_flat_grad")] + state["old_dirs"] + state["old_stps"]
    numbers = [
        *state["ro"],
        *(n for n in state.get("al", []) if n is not None),
        state["t"],
        state["H_diag"],
        state["prev_loss"],
    ]
    good = all(isinstance(v, Tensor) and v.shape == (size,) for v in vectors)
    good &= all(isinstance(n, (int, float)) or (isinstance(n, Tensor) and n.ndim == 0) for n in numbers)
    good &= all(type(state[name]) is int for name in ("func_evals", "n_iter"))
    if not good or not len(state["old_dirs"]) == len(state["old_stps"]) == len(state["ro"]):
        raise ValueError("the state of LBFGS is damaged")
