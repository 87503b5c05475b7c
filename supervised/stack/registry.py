"""Registry of layers that can be computed for all members at once, and of layers that draw no random numbers.

A layer's module registers it here, and `Stack` looks it up.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from supervised.stack.hooks import hook_dicts
from supervised.stack.memory import FlatMemory
from supervised.streams import Draws

Op = Callable[[Tensor], Tensor]


class Members(Protocol):
    """The attributes of a stack that a batched layer may use."""

    seeds: tuple[int, ...]
    device: torch.device
    memory: FlatMemory
    draws: Draws

    def batched_op(self, modules: Sequence[Any]) -> Op | None:
        """Return a function that computes N submodules at once, or None if some layer does not support it."""
        ...


Batched = Callable[[Members, Sequence[Any]], Op | None]
B = TypeVar("B", bound=Callable[..., Op | None])

BATCHED: dict[type[nn.Module], Batched] = {}
DETERMINISTIC: dict[type[nn.Module], None] = {}  # a set, in the form of BATCHED


def register_batched(*kinds: type[nn.Module]) -> Callable[[B], B]:
    """Register a function that computes modules of these types (not of their subclasses) for all members at once.

    It takes the stack and the N modules, and returns a function [N, B, ...] -> [N, B, ...], or None if results would not be
    bit-identical.
    """

    def register(function: B) -> B:
        BATCHED.update(dict.fromkeys(kinds, function))
        return function

    return register


def register_deterministic(*kinds: type[nn.Module]) -> None:
    """Register types of modules (not their subclasses) whose forward draws no random numbers, submodules excepted.

    A stack that consists of such modules only does not touch torch's generators.
    """
    DETERMINISTIC.update(dict.fromkeys(kinds))


def batched_op(members: Members, modules: Sequence[nn.Module]) -> Op | None:
    """Return a function that computes N modules at once, or None if their type is not registered, they differ, or have hooks."""
    kind = known_as(type(modules[0]), BATCHED)
    if kind is None or not _compute_alike(modules) or any(hook_dicts(modules)):
        return None
    return BATCHED[kind](members, modules)


def alike(modules: Sequence[nn.Module], kinds: Collection[type[nn.Module]]) -> bool:
    """Return whether N modules all compute as one of these types does, with the same settings."""
    return known_as(type(modules[0]), kinds) is not None and _compute_alike(modules)


def alike_within(modules: Sequence[nn.Module]) -> bool:
    """Return whether all submodules of N modules have the same settings and compute as their types do."""
    parts = [list(module.modules()) for module in modules]
    return len(set(map(len, parts))) == 1 and all(map(_compute_alike, zip(*parts, strict=True)))


def is_deterministic(module: nn.Module) -> bool:
    """Return whether a module and all its submodules are known to draw no random numbers."""
    return all(map(_draws_nothing, module.modules()))


def _draws_nothing(module: nn.Module) -> bool:
    kind = type(module)
    known = known_as(kind, DETERMINISTIC) is not None
    return known and kind.__call__ is nn.Module.__call__ and "forward" not in vars(module)


def known_as(kind: Any, known: Collection[type[nn.Module]]) -> type[nn.Module] | None:
    """Return the type in `known` whose forward method modules of this kind use, or None.

    A subclass with its base's forward counts as the base, except for torch's types, whose forward calls methods that a
    subclass may override.
    """
    base = next((b for b in kind.__mro__ if b in known and kind.forward is b.forward), None)
    return None if base is not kind and base is not None and base.__module__.startswith("torch.") else base


def _compute_alike(modules: Sequence[nn.Module]) -> bool:
    """Return whether these modules have equal types and settings, and none has a replaced forward or __call__."""
    kind, said, parts = type(modules[0]), modules[0].extra_repr(), len(modules[0]._modules)
    return kind.__call__ is nn.Module.__call__ and all(
        type(module) is kind
        and module.extra_repr() == said
        and len(module._modules) == parts
        and "forward" not in vars(module)
        for module in modules
    )
