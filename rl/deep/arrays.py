"""The arrays that a Q-network computes with: numpy arrays on the host or tensors on a device, chosen once per agent.

On the host, small networks of linear layers, layer normalizations and ReLUs run without torch (`CompiledChain` of
`supervised.stack.compiled_chain`), all others in torch on the same memory. On a device everything stays there until `host`
copies it back, which synchronizes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from rl.core.observations import Part
from rl.deep.array_protocol import Arrays, InEval
from rl.deep.normalize import RunningMoments
from rl.deep.on_device import OnDevice
from rl.deep.on_host import OnHost
from supervised import Stack

# Layers that behave differently in eval mode.
MODE_DEPENDENT = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.BatchNorm1d, nn.BatchNorm2d)


def of_device(
    device: torch.device, parts: tuple[Part, ...], moments: RunningMoments | None, module: nn.Module
) -> Arrays:
    """Return the arrays of an agent whose networks, modules like this one, are on the device."""
    in_eval = in_eval_of(module)
    return OnHost(parts, moments, in_eval) if device.type == "cpu" else OnDevice(parts, moments, in_eval, device)


def in_eval_of(module: nn.Module) -> InEval:
    """Return how to call stacks of such modules in eval mode; the mode is not switched if no layer depends on it."""
    return _in_evaluation_mode if any(map(_is_mode_dependent, module.modules())) else _as_they_are


def _is_mode_dependent(part: nn.Module) -> bool:
    between = isinstance(part, nn.RNNBase) and part.dropout > 0  # dropout between recurrent layers
    return between or isinstance(part, MODE_DEPENDENT)


def _in_evaluation_mode(stack: Stack, ask: Callable[[], Any]) -> Any:
    with stack.eval_mode():
        return ask()


def _as_they_are(_stack: Stack, ask: Callable[[], Any]) -> Any:
    with torch.no_grad():
        return ask()
