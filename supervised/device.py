"""Where and how to compute: the device, and what pays on it."""

from __future__ import annotations

import ctypes
import functools
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from supervised.shapes import ShapeError, layer_table
from supervised.validate import ArgumentError, first_line, shown

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
PRECISIONS = ("auto", "fp32", "bf16")
HEAVY = 100_000  # bytes of activations an example, from which on threads gain more than they wait for each other


def choose(device: str | torch.device = "auto") -> torch.device:
    """The device of that name; "auto": a CUDA GPU if there is one, else the CPU.

    Raises ValueError for a device that torch does not know or that this machine lacks.
    """
    if not isinstance(device, (str, torch.device)):
        raise ArgumentError(
            f"device is a name such as 'cpu', 'cuda' or 'auto', or a torch.device, not {shown(device)}."
        )
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        if chosen.type == "meta":
            raise RuntimeError("it holds no numbers")
        torch.zeros(1, device=chosen)
    except (RuntimeError, AssertionError, TypeError, NotImplementedError) as error:  # torch raises each for some device
        raise ArgumentError(f"The device {device!r} cannot be used here: {first_line(error)}") from error
    return chosen


def cpu_only(device: Any, what: str) -> None:
    """Raise ArgumentError for a device other than the CPU. what: whose place it is, as in "A table lives"."""
    if not isinstance(device, (str, torch.device)) or str(device) not in ("cpu", "auto"):
        raise ArgumentError(f'{what} on the CPU; device must be "cpu" or "auto", not {shown(device)}.')


@dataclass(frozen=True)
class Manner:
    """How a model is computed: bf16 or float32, pictures with their channels last in memory, and how many threads."""

    bf16: bool
    channels_last: bool
    threads: int

    def __str__(self) -> str:
        order = ", channels last" if self.channels_last else ""
        return f"{'bf16' if self.bf16 else 'float32'}{order}, {self.threads} thread{'s' * (self.threads > 1)}"


def manner(model: nn.Module, shape: Sequence[int], device: torch.device, precision: str, threads: int | None) -> Manner:
    """What pays for this model on this device, for examples of `shape`.

    Convolutions: bf16 where the processor has it (about half of float32's time with channels last, at the same accuracy),
    and all cores where there is enough to share out. Dense layers gain from neither (bf16 costs them conversions, two
    threads wait for each other), and stay in float32 on one.
    """
    if precision == "bf16" and not has_bf16(device):
        raise ArgumentError(
            f'precision="bf16": this machine\'s {device.type.upper()} does not compute in bf16. "auto" takes bf16 where it'
            ' pays; or use "fp32".'
        )
    convolutional = any(isinstance(module, CONVOLUTIONS) for module in model.modules())
    bf16 = convolutional and has_bf16(device) if precision == "auto" else precision == "bf16"
    if threads is None:
        threads = cores() if convolutional and device.type == "cpu" and _heavy(model, shape) else 1
    return Manner(bf16, convolutional and (bf16 or device.type == "cpu"), threads)


def _heavy(model: nn.Module, shape: Sequence[int]) -> bool:
    try:
        return sum(layer.activation_bytes for layer in layer_table(model, shape)) > HEAVY
    except ShapeError:  # it is told of where the data are tried
        return False


def has_bf16(device: torch.device) -> bool:
    """Whether the device computes in bf16 itself, rather than by conversions."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        found = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
        return bool(found is not None and found() and _cpu_has("avx512_bf16", "amx_bf16"))
    return False


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def available_memory() -> int | None:
    """The bytes that this process may still take: what the system has free, or what its group is allowed; None: unknown."""
    found = []
    try:
        with open("/proc/meminfo") as file:
            found += [int(line.split()[1]) * 1024 for line in file if line.startswith("MemAvailable")]
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        used = Path("/sys/fs/cgroup/memory.current").read_text().strip()
        found += [] if limit == "max" else [int(limit) - int(used)]
    except (OSError, ValueError):
        pass
    return min(found, default=None)


@functools.cache
def _cpu_has(*flags: str) -> bool:
    try:
        with open("/proc/cpuinfo") as file:
            words = next((set(line.split()) for line in file if line.startswith("flags")), set())
    except OSError:
        return False
    return bool(words & set(flags))


@functools.cache
def keep_memory() -> None:
    """Have glibc keep freed memory for the next tensor, for this process's life.

    It hands large blocks back to the kernel at once, which then clears each page anew: a third of the time of a step.
    """
    if sys.platform == "linux":
        try:
            mallopt = ctypes.CDLL(None).mallopt
        except (OSError, AttributeError):  # another C library
            return
        mallopt(-3, 1 << 30)  # M_MMAP_THRESHOLD
        mallopt(-1, 1 << 30)  # M_TRIM_THRESHOLD
