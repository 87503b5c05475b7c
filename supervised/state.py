"""States as checkpoints hold them: tensors as arrays, and back; and whether what comes back is of the kind that went in."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

MOVED = {"lr", "betas", "momentum"}  # settings of an optimizer that a schedule moves; the others stay as they were made


def detached(state: Any) -> Any:
    """A state through which no gradient goes back."""
    if isinstance(state, tuple):
        return tuple(detached(part) for part in state)
    return state.detach() if isinstance(state, Tensor) else state


def to_tree(value: Any) -> Any:
    """Tensors as arrays, dict keys as strings: what a checkpoint can hold."""
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


def check_alike(saved: Any, fresh: Any, name: str) -> None:
    """Raise ValueError where a saved tree is not of the kind of a fresh one: keys, lengths, types. Numbers are not looked at."""
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
    """Put back what `to_tree(optimizer.state_dict())` gave. Raises ValueError when it is of another one, or damaged.

    Torch takes whatever it is given, and stumbles over it, if at all, at the next step.
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
        raise ValueError("the optimizer is of other parameters")
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
    """What an optimizer keeps of each parameter, and on which device it keeps it: one of its kind is asked.

    Counts of steps lie on the CPU where the optimizer reads them there; loaded onto the parameters' device, as torch's own
    `load_state_dict` does with some, they would be waited for at each step.
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
