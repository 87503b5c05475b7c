"""The device to compute on, and the precision, memory format and number of threads that suit it."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from supervised import determinism
from supervised.shapes import ShapeError, layer_table
from supervised.validate import ArgumentError, first_line, shown

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
PRECISIONS = ("auto", "fp32", "tf32", "bf16")
HEAVY = 100_000  # activation bytes per example above which several threads are faster than one


def choose(device: str | torch.device = "auto") -> torch.device:
    """Return the device of that name; "auto": a CUDA GPU if available, else the CPU.

    Raises ValueError for a device that is unknown to torch or not available on this machine.
    """
    if not isinstance(device, (str, torch.device)):
        raise ArgumentError(
            f"device must be a name such as 'cpu', 'cuda' or 'auto', or a torch.device, not {shown(device)}."
        )
    if device == "auto":
        return best()
    try:
        chosen = torch.device(device)
        if chosen.type == "meta":
            raise RuntimeError("tensors on it have no data")
        torch.zeros(1, device=chosen)
    except (
        RuntimeError,
        AssertionError,
        TypeError,
        NotImplementedError,
    ) as error:  # each is raised by torch for some device
        raise ArgumentError(f"The device {device!r} cannot be used here: {first_line(error)}") from error
    return chosen


def best() -> torch.device:
    """Return the device that "auto" stands for."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def cpu_only(device: Any, what: str) -> None:
    """Raise ArgumentError for a device other than the CPU. what: the beginning of the message, such as "A table lives"."""
    if not isinstance(device, (str, torch.device)) or str(device) not in ("cpu", "auto"):
        raise ArgumentError(f'{what} on the CPU; device must be "cpu" or "auto", not {shown(device)}.')


@dataclass(frozen=True)
class ComputePlan:
    """How a model is computed: precision (bf16, TF32 or float32), channels_last memory format, threads, compiled or not."""

    bf16: bool
    channels_last: bool
    threads: int
    tf32: bool = False
    compiled: bool = False

    def __str__(self) -> str:
        precision = "bf16" if self.bf16 else "TF32" if self.tf32 else "float32"
        order = ", channels last" if self.channels_last else ""
        code = ", compiled" if self.compiled else ""
        return f"{precision}{order}, {self.threads} thread{'s' * (self.threads > 1)}{code}"

    @contextlib.contextmanager
    def at_work(self, device: torch.device) -> Iterator[None]:
        """Context manager that sets the planned number of threads and, on a CUDA device, TF32 on or off."""
        with determinism.threads(self.threads), _products_of_float32(device, self.tf32):
            yield

    def autocast(self, device: torch.device) -> contextlib.AbstractContextManager[Any]:
        """Context manager for a forward pass, in bf16 if so planned: `with plan.autocast(device): ...`."""
        return torch.autocast(device.type, torch.bfloat16) if self.bf16 else contextlib.nullcontext()


def compute_plan(
    model: nn.Module, shape: Sequence[int], device: torch.device, precision: str, threads: int | None
) -> ComputePlan:
    """Choose the fastest plan for a model on a device, for examples of `shape`.

    precision: "auto" uses bf16 for convolutions if the device supports it (on the CPU with channels_last it takes about half
    of float32's time, at the same accuracy), else "fp32". "fp32" is float32 without TF32. "tf32", on CUDA devices only, rounds
    the factors of float32 products to a 10-bit mantissa. threads: None: all cores for convolutions that are large enough, else
    one. Dense layers benefit from neither: bf16 adds conversions, threads add synchronization.

    Raises ArgumentError for a precision that the device does not support.
    """
    has = {"bf16": has_bf16, "tf32": has_tf32}
    if precision in has and not has[precision](device):
        raise ArgumentError(
            f"precision={precision!r}: this machine's {device.type.upper()} does not support"
            f' {precision.replace("tf", "TF")}. Use "fp32", or "auto", which uses bf16 where that is faster.'
        )
    convolutional = any(isinstance(module, CONVOLUTIONS) for module in model.modules())
    bf16 = convolutional and has_bf16(device) if precision == "auto" else precision == "bf16"
    if threads is None:
        threads = cores() if convolutional and device.type == "cpu" and _heavy(model, shape) else 1
    return ComputePlan(bf16, convolutional and (bf16 or device.type == "cpu"), threads, precision == "tf32")


def exact_floats(device: torch.device) -> contextlib.AbstractContextManager[None]:
    """Context manager that disables TF32 in matrix products, convolutions and recurrent cells of a CUDA device.

    By default torch uses TF32 (10 of 23 mantissa bits) for cuDNN's convolutions and recurrent cells. The backward pass must be
    inside the context too. Has no effect on other devices.
    """
    return _products_of_float32(device, tf32=False)


@contextlib.contextmanager
def _products_of_float32(device: torch.device, tf32: bool) -> Iterator[None]:
    """Context manager that enables or disables TF32 for float32 products on a CUDA device and restores torch's settings."""
    if device.type != "cuda":
        yield
        return
    # Set the older names (allow_tf32) first, then the newer ones of each operation, which take precedence: torch raises an
    # error when an older name that contradicts a newer one is read, as torch.backends.cudnn.flags does.
    backends: Any = torch.backends
    newer = (backends.cudnn.conv, backends.cudnn.rnn, backends.cuda.matmul, backends.mkldnn.matmul)
    values = [operation.fp32_precision for operation in newer]
    products, convolutions = torch.get_float32_matmul_precision(), _cudnn_tf32()
    try:
        torch.set_float32_matmul_precision("high" if tf32 else "highest")
        if convolutions is not None:
            backends.cudnn.allow_tf32 = tf32
        for operation in newer[:3]:
            operation.fp32_precision = "tf32" if tf32 else "ieee"
        yield
    finally:
        torch.set_float32_matmul_precision(products)
        if convolutions is not None:
            backends.cudnn.allow_tf32 = convolutions
        for operation, value in zip(newer, values, strict=True):
            operation.fp32_precision = value


def _cudnn_tf32() -> bool | None:
    """Return torch.backends.cudnn.allow_tf32, or None where reading it raises because it contradicts the newer names."""
    try:
        return torch.backends.cudnn.allow_tf32
    except RuntimeError:
        return None


def _heavy(model: nn.Module, shape: Sequence[int]) -> bool:
    try:
        return sum(layer.activation_bytes for layer in layer_table(model, shape)) > HEAVY
    except ShapeError:  # reported by check_data
        return False


def has_bf16(device: torch.device) -> bool:
    """Return whether the device supports bf16 natively, rather than by conversion."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        found = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
        return bool(found is not None and found() and _cpu_has("avx512_bf16", "amx_bf16"))
    return False


def has_tf32(device: torch.device) -> bool:
    """Return whether the device supports TF32: CUDA devices since Ampere."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)


def check_room(size: int, device: torch.device, what: str) -> None:
    """Raise ArgumentError if a CUDA device has less than `size` bytes free. what: what they hold, such as "The data"."""
    if device.type != "cuda":
        return
    free = torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    if size > free:  # free includes torch's cached, unused memory
        raise ArgumentError(
            f'{what} take {size / 1e9:.3g} GB, but {device} has {free / 1e9:.3g} GB free. Use fewer examples or device="cpu";'
            " images stored as uint8 take a quarter of the memory."
        )


def cores() -> int:
    """Return the number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def available_memory() -> int | None:
    """Return the bytes this process can still allocate, limited by the system and by its cgroup; None if unknown."""
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
    """Make glibc keep freed memory for the next tensor, for the lifetime of this process.

    By default it returns large blocks to the kernel at once, and clearing the new pages takes a third of a training step.
    """
    if sys.platform == "linux":
        try:
            mallopt = ctypes.CDLL(None).mallopt
        except (OSError, AttributeError):  # another C library
            return
        mallopt(-3, 1 << 30)  # M_MMAP_THRESHOLD
        mallopt(-1, 1 << 30)  # M_TRIM_THRESHOLD
