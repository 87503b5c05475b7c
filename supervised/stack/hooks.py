"""Detection of hooks on modules and parameters, which code that bypasses `Module.__call__` would not run."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from torch import nn
from torch.utils.hooks import RemovableHandle

KINDS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def hook_dicts(modules: Sequence[nn.Module]) -> list[Any]:
    """Return the dicts in which torch keeps the hooks of modules and their submodules; empty while there are none."""
    parts = [part for module in modules for part in module.modules()]
    return [vars(nn.modules.module)[f"_global{kind}"] for kind in KINDS] + [
        vars(part)[kind] for part in parts for kind in KINDS
    ]


class Hooks:
    """Checks whether a module or parameter has a hook, so that the module itself must be called."""

    def __init__(self, modules: Sequence[nn.Module], parameters: Collection[nn.Parameter]) -> None:
        self._dicts, self._parameters = hook_dicts(modules), parameters
        self._found, self._next_id = False, -1

    def present(self) -> bool:
        # Torch numbers all hooks of a process consecutively: an unchanged counter means no new hooks since the last check.
        if self._found or self._next_id != RemovableHandle.next_id:
            self._next_id = RemovableHandle.next_id
            self._found = any(self._dicts) or any(map(_has_hook, self._parameters))
        return self._found


def _has_hook(parameter: nn.Parameter) -> bool:
    """Return whether a parameter has a hook besides the `Arrival` that every parameter has."""
    hooks: Any = parameter._post_accumulate_grad_hooks
    return bool(parameter._backward_hooks) or len(hooks) > 1
