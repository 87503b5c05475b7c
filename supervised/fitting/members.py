"""The members of a fit: creating them, freezing layers, and setting the training mode."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from supervised.device import choose
from supervised.models.cnn import Image
from supervised.stack import Stack
from supervised.validate import function


def stack_of(model: Any, seeds: tuple[int, ...], frozen: Sequence[str], device: str, compiled: bool = False) -> Stack:
    """Create the stack of members. model: a function () -> nn.Module; or a module, which is fitted in place, with one seed.

    Raises ValueError for a module with several seeds, and for names in `frozen` that match no parameter.
    """
    where = choose(device)
    if isinstance(model, nn.Module):
        if len(seeds) != 1:
            raise ValueError(
                f"A module is fitted in place, so with one seed, not {len(seeds)}: pass a function that creates one instead."
            )
        return Stack.of([freeze(model, frozen)], seeds, where, compiled)
    function(model, "The model", (), "a torch.nn.Module, or a function () -> torch.nn.Module")

    def make() -> nn.Module:
        made = model()
        return freeze(made, frozen) if isinstance(made, nn.Module) else made

    return Stack(make, seeds, where, compiled)


def freeze(module: nn.Module, names: Sequence[str]) -> nn.Module:
    """Exclude the layers of these names (and their submodules) from training -> the module.

    Raises ValueError for a name that matches no parameter.
    """
    for name in names:
        found = [p for key, p in module.named_parameters() if key == name or key.startswith(f"{name}.")]
        if not found:
            known = ", ".join(key for key, _ in module.named_parameters())
            raise ValueError(f"freeze names {name!r}, which matches none of the model's parameters: {known}.")
        for parameter in found:
            parameter.requires_grad_(False)
    return module


def train(module: nn.Module, frozen: Sequence[str]) -> nn.Module:
    """Put a module into training mode, except frozen layers (so that batch norm keeps its averages) -> the module."""
    module.train()
    parts = dict(module.named_modules())
    for name in frozen:
        if name in parts:
            parts[name].eval()
    return module


def set_channels_last(stack: Stack, channels_last: bool) -> None:
    """Set whether every member uses the channels_last memory format for images."""
    for module in stack.modules:
        for part in module.modules():
            if isinstance(part, Image):
                part.channels_last = channels_last
