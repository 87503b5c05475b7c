"""The members of a stack, ordinary modules: created from their seeds, checked for equality of structure, copied, grouped."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from supervised.streams import torch_seed
from supervised.validate import ArgumentError, function, shown


def check_make(make: Any, name: str) -> None:
    """Raise ArgumentError unless `make` is a function without arguments (that returns a module)."""
    what = "a function () -> torch.nn.Module"
    if isinstance(make, nn.Module):
        raise ArgumentError(
            f"{name} must be {what}, not an existing module ({shown(make)}): it is called once for each seed."
        )
    function(make, name, (), what)


def make_member(make: Callable[[], nn.Module], seed: int) -> nn.Module:
    """Call `make` with torch's global generator seeded by `seed`, and restore the generator."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(torch_seed(seed, "weights"))
        module = make()
    if not isinstance(module, nn.Module):
        raise TypeError(
            f"The function that creates the model must return a torch.nn.Module, not {type(module).__name__}."
        )
    return module


def owned(module: nn.Module) -> nn.Module:
    """Copy a module so that its tensors own their memory; copy.deepcopy alone would copy everything they are views of."""
    named = [*module.named_parameters(), *module.named_buffers()]
    memo: dict[int, Any] = {
        id(tensor): nn.Parameter(tensor.detach().clone(), tensor.requires_grad)
        if isinstance(tensor, nn.Parameter)
        else tensor.detach().clone()
        for _, tensor in named
    }
    return copy.deepcopy(module, memo)


def parameter_groups(
    modules: Sequence[nn.Module], flat: nn.Parameter | None, learning_rate: float | Sequence[float]
) -> list[dict[str, Any]]:
    """Return torch's parameter groups. flat: the vector of all parameters, to form one group; None: one group per member."""
    if isinstance(learning_rate, Sequence):
        if len(learning_rate) != len(modules):
            raise ValueError(
                f"There are {len(learning_rate)} learning rates for {len(modules)} seeds: give one, or one per seed."
            )
    elif flat is not None:
        return [{"params": [flat], "lr": learning_rate}]
    else:
        learning_rate = [learning_rate] * len(modules)
    return [
        {"params": [p for p in module.parameters() if p.requires_grad], "lr": rate}
        for module, rate in zip(modules, learning_rate, strict=True)
    ]


def check_state(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Raise ValueError unless a saved state has the expected names and shapes."""
    missing, foreign = expected.keys() - state.keys(), state.keys() - expected.keys()
    if missing or foreign:
        said = [f"lacks {', '.join(sorted(missing))}"] * bool(missing)
        said += [f"has {', '.join(sorted(foreign))}, which the model does not"] * bool(foreign)
        raise ValueError(f"The saved weights belong to a different model: the saved state {' and '.join(said)}.")
    for name, value in expected.items():
        if state[name].shape != value.shape:
            raise ValueError(
                f"The saved weights belong to a different model: {name} is {list(state[name].shape)} in the file and"
                f" {list(value.shape)} in the model."
            )


def check_alike(modules: Sequence[nn.Module], seeds: Sequence[int]) -> None:
    """Raise ValueError unless there is one module per seed, and they differ only in the values of their weights."""
    if not modules or len(modules) != len(seeds):
        raise ValueError(
            f"A stack needs at least one seed, and a module for each: {len(modules)} for {len(seeds)} seeds."
        )
    if len({id(module) for module in modules}) < len(modules):
        raise ValueError(
            "The function that creates the model returned the same module twice; it must create a new one each time."
        )
    owners: dict[int, int] = {}
    for k, module in enumerate(modules):
        for name, parameter in module.named_parameters():
            if owners.setdefault(id(parameter), k) != k:
                raise ValueError(
                    f"Two members share the parameter {name}; each must have its own, created in the function."
                )
    for name, parameter in modules[0].named_parameters():
        if nn.parameter.is_lazy(parameter):
            raise ValueError(f"{name} of the model has no shape yet: run a lazy module on one input first.")
    shapes = [{n: (p.shape, p.dtype, p.requires_grad) for n, p in m.named_parameters()} for m in modules]
    shapes = [
        s | {n: (b.shape, b.dtype, False) for n, b in m.named_buffers()} for s, m in zip(shapes, modules, strict=True)
    ]
    for seed, found in zip(seeds, shapes, strict=True):
        for name in {**shapes[0], **found}:
            if found.get(name) != shapes[0].get(name):
                raise ValueError(
                    f"The models of seeds {seeds[0]} and {seed} differ in {name}: all members must have the same architecture."
                )
    _check_tied(modules, seeds)
    kinds = {kind for shape, kind, trained in shapes[0].values() if trained}
    if len(kinds) > 1 or not all(kind.is_floating_point for kind in kinds):
        names = ", ".join(sorted(str(kind) for kind in kinds))
        raise ValueError(f"All trainable parameters of a model must have the same floating-point dtype, not {names}.")


def _check_tied(modules: Sequence[nn.Module], seeds: Sequence[int]) -> None:
    """Raise ValueError if members tie different weights, or if two distinct parameters share memory."""
    ties = [_ties(module) for module in modules]
    for seed, found in zip(seeds, ties, strict=True):
        for name, other in sorted(found.items() ^ ties[0].items()):
            raise ValueError(
                f"The models of seeds {seeds[0]} and {seed} tie their weights differently: {name} is {other} in one of them."
            )
    spans = sorted((*_span(p), name) for name, p in modules[0].named_parameters() if p.numel())
    for (_, end, one), (begin, _, other) in itertools.pairwise(spans):
        if begin < end:
            raise ValueError(
                f"{' and '.join(sorted((one, other)))} of the model share memory but are two parameters: assign one"
                " nn.Parameter to both modules to tie them, or clone one."
            )


def _ties(module: nn.Module) -> dict[str, str]:
    """Return the first name of each parameter, by all of its names."""
    first: dict[int, str] = {}
    return {name: first.setdefault(id(p), name) for name, p in module.named_parameters(remove_duplicate=False)}


def _span(tensor: Tensor) -> tuple[int, int]:
    """Return the addresses at which a tensor begins and ends, gaps included."""
    begin = tensor.data_ptr()
    reach = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return begin, begin + (reach + 1) * tensor.element_size()


def first_leaf(x: Any) -> Tensor:
    """Return the first tensor of nested dicts and tuples."""
    while isinstance(x, (Mapping, tuple)):
        x = next(iter(x.values() if isinstance(x, Mapping) else x))
    leaf: Tensor = x
    return leaf


def member_part(argument: Any, k: int) -> Any:
    """Return the k-th member's part of an argument [N, ...], or of tensors in tuples and dicts."""
    if isinstance(argument, tuple):
        return tuple(member_part(part, k) for part in argument)
    if isinstance(argument, Mapping):
        return {name: member_part(part, k) for name, part in argument.items()}
    return argument[k] if isinstance(argument, Tensor) else argument


def stacked_parts(outputs: list[Any]) -> Any:
    """Stack the members' outputs, [N, ...]."""
    if isinstance(outputs[0], tuple):
        return tuple(stacked_parts(list(parts)) for parts in zip(*outputs, strict=True))
    return torch.stack(outputs) if isinstance(outputs[0], Tensor) else outputs[0]
