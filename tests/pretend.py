"""CUDA code without a GPU: real numbers, computed on the CPU, and a complaint wherever a GPU would complain.

    with pretend() as gpu:  # in a test: the fixture `gpu`
        run = rl.train("CartPole-v1", rl.DQN(), steps=2_000, device="cuda")
    print(gpu.table())

A tensor "on the GPU" is an ordinary CPU tensor whose storage is noted in `Storages`. `Calls` answers what Python asks of a
tensor (`device`, `to`, `numpy`, factories with device=); `Operations` sees each operation that torch then carries out, those
of a backward pass too: it raises where devices mix, notes where the outcome lies, and counts launches, copies and waits by
the line that asked for them. Which operations wait, only view, draw random numbers or take a number of the host is read from
torch's own schemas and tags.

Limits. It knows devices, not CUDA: no kernels, numerics, memory or speed; a count of launches is a lower bound. Copies and
kernels are finished at once, so reading a pinned buffer too early goes unnoticed. One GPU, one thread, one process; dense
tensors alone; torch.save, pickle and dlpack forget where a tensor was. A generator's state names a state that this process
keeps: another process cannot read it. Graphs cannot be captured. Code is about twenty times slower.

`on_gpu` counts the waits on a real GPU with the same words.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode, _get_current_function_mode_stack
from torch.utils._python_dispatch import TorchDispatchMode

ROOT = str(Path(__file__).parent.parent)
GPU, HOST = torch.device("cuda", 0), torch.device("cpu")
LAUNCH, WAIT = "launch", "waits"
TO_HOST = "copy to host, waits"


class Tally:
    """How often what happened, by kind and line."""

    pretended: bool
    tolerance: dict[str, float]  # within which numbers equal the CPU's, for torch.testing.assert_close

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()

    def note(self, kind: str, what: str = "") -> None:
        """Count one event of the line of the project that is under way."""
        self.counts[kind, f"{_line()}  {what}".rstrip()] += 1

    def totals(self) -> dict[str, int]:
        """How often each kind: "launch", "copy to gpu, pageable", "copy to host, waits", ...; what never happened is 0."""
        found: Counter[str] = Counter()
        for (kind, _), count in self.counts.items():
            found[kind] += count
        return found

    def waits(self) -> int:
        """How often the host waited for the GPU, in whatever way: the one count that a real GPU gives too."""
        return sum(count for (kind, _), count in self.counts.items() if kind.endswith(WAIT))

    def table(self, *kinds: str, per: float = 1, most: int = 40) -> str:
        """The `most` frequent lines as text, of some kinds or all; per: what counts are divided by, such as steps."""
        rows = [(kind, count, where) for (kind, where), count in self.counts.items() if not kinds or kind in kinds]
        rows.sort(key=lambda row: (row[0], -row[1]))
        return "\n".join(f"{count / per:10.4g}  {kind:22}  {where}" for kind, count, where in rows[:most])

    def clear(self) -> None:
        """Forget all counts."""
        self.counts.clear()


def _line() -> str:
    """The innermost line of the project (not of this file) that is being carried out."""
    frame: Any = sys._getframe(2)
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith(ROOT) and "site-packages" not in file and file != __file__:
            return f"{file[len(ROOT) + 1 :]}:{frame.f_lineno}"
        frame = frame.f_back
    return "elsewhere"


class Storages:
    """Which storages lie elsewhere than in the host's ordinary memory: on the "gpu", or "pinned" on the host."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[str, StorageWeakRef]] = {}
        self._prune_at = 10_000

    def where(self, tensor: Tensor) -> str | None:
        tensor = _unwrapped(tensor)
        if tensor.layout is not torch.strided:
            return None
        found = self._known.get(tensor.untyped_storage()._cdata)
        return None if found is None else found[0]

    def put(self, tree: Any, where: str | None) -> None:
        """Say where every tensor in a tree lies; None: in ordinary memory."""
        for tensor in map(_unwrapped, _tensors(tree)):
            if tensor.layout is torch.strided:
                storage = tensor.untyped_storage()
                if where is None:
                    self._known.pop(storage._cdata, None)
                else:  # the weak reference keeps the address from being used again
                    self._known[storage._cdata] = where, StorageWeakRef(storage)
        if len(self._known) > self._prune_at:
            self._known = {at: known for at, known in self._known.items() if not known[1].expired()}
            self._prune_at = 2 * len(self._known) + 10_000


class Gpu(Tally):
    """The pretended GPU: what lies on it, and what was counted."""

    pretended = True
    tolerance: ClassVar[dict[str, float]] = {"rtol": 0.0, "atol": 0.0}

    def __init__(self, memory: int) -> None:
        super().__init__()
        self.storages, self.memory = Storages(), memory
        self.makes = False  # whether what is made from no tensor is made on the GPU
        self.muted = False
        self.random = Generator(GPU)

    def has(self, tensor: Any) -> bool:
        """Whether it is a tensor on the GPU."""
        return isinstance(tensor, Tensor) and self.storages.where(tensor) == "gpu"

    def device(self, tensor: Tensor) -> torch.device:
        return GPU if self.has(tensor) else HOST

    def note(self, kind: str, what: str = "") -> None:
        if not self.muted:
            super().note(kind, what)

    def note_copy(self, tensor: Tensor, to_gpu: bool, non_blocking: bool, pinned: bool) -> None:
        """Count a copy between host and GPU. pinned: whether the host's side is."""
        direction = "copy to gpu" if to_gpu else "copy to host"
        free = "pageable" if to_gpu else WAIT  # CUDA waits for what goes to pageable memory whatever it was told
        self.note(f"{direction}, {('pinned' if pinned else free) if non_blocking else WAIT}", _kind_of(tensor))

    @contextlib.contextmanager
    def set(self, **flags: bool) -> Iterator[None]:
        """Set `makes` or `muted` meanwhile."""
        before = {name: getattr(self, name) for name in flags}
        vars(self).update(flags)
        try:
            yield
        finally:
            vars(self).update(before)

    def copy(self, tensor: Tensor, to_gpu: bool, non_blocking: bool, **how: Any) -> Tensor:
        """A copy on the other device, counted."""
        pinned = non_blocking and (not to_gpu or self.storages.where(tensor) == "pinned")
        if tensor.numel():
            self.note_copy(tensor, to_gpu, non_blocking, pinned)
        with self.set(muted=True):
            made = Tensor.to(tensor, copy=True, **how)
        self.storages.put(made, "gpu" if to_gpu else "pinned" if pinned else None)
        return made


class Moved(torch.autograd.Function):
    """A tensor moved to the other device; its gradient moves back."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, gpu: Gpu, to_gpu: bool, non_blocking: bool, how: dict[str, Any]) -> Tensor:
        ctx.gpu, ctx.to_gpu, ctx.dtype = gpu, to_gpu, tensor.dtype
        return gpu.copy(tensor, to_gpu, non_blocking, **how)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return ctx.gpu.copy(gradient, not ctx.to_gpu, False, dtype=ctx.dtype), None, None, None, None


class Calls(TorchFunctionMode):
    """What Python asks of tensors: where they are, moves, factories, and ways to the host."""

    def __init__(self, gpu: Gpu) -> None:
        super().__init__()
        self.gpu = gpu
        self.answers: dict[Any, Callable[..., Any]] = {
            Tensor.device.__get__: gpu.device,
            Tensor.is_cuda.__get__: gpu.has,
            Tensor.is_cpu.__get__: lambda t: not gpu.has(t),
            Tensor.get_device: lambda t: 0 if gpu.has(t) else -1,
            Tensor.is_pinned: lambda t, device=None: gpu.storages.where(t) == "pinned",
            Tensor.to: self.to,
            Tensor.cpu: lambda t, **how: self.to(t, HOST, **how),
            Tensor.cuda: lambda t, device=None, non_blocking=False: self.to(t, GPU, non_blocking=non_blocking),
            Tensor.pin_memory: self.pin,
            Tensor.numpy: self.on_host(Tensor.numpy),
            Tensor.__array__: self.on_host(Tensor.__array__),
            Tensor.tolist: self.tolist,
            Tensor.grad.__set__: self.set_gradient,
            Tensor.__deepcopy__: self.deepcopy,
            torch.as_tensor: self.converted(torch.as_tensor, copy=False),
            torch.asarray: self.converted(torch.asarray, copy=False),
            torch.tensor: self.converted(torch.tensor, copy=True),
            F.one_hot: self.one_hot,
        }

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        answer = self.answers.get(function)
        return answer(*args, **(kwargs or {})) if answer else self.call(function, *args, **(kwargs or {}))

    def call(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        """Carry out a call of torch; what it makes lies where device= says, else where its tensors lie."""
        wanted = None if kwargs.get("device") is None else _is_gpu(kwargs["device"])
        if wanted:
            kwargs["device"] = HOST
        pinned = kwargs.pop("pin_memory", False)
        makes = any(map(self.gpu.has, _tensors((args, kwargs)))) if wanted is None else wanted
        _check_generator(kwargs.get("generator"), makes)
        with self.gpu.set(makes=makes):
            made = function(*args, **kwargs)
        if wanted is not None or pinned:
            self.gpu.storages.put(made, "gpu" if wanted else "pinned" if pinned else None)
        return made

    def to(self, tensor: Tensor, *args: Any, copy: bool = False, **kwargs: Any) -> Tensor:
        other = args[0] if args and isinstance(args[0], Tensor) else kwargs.pop("other", None)
        if other is not None:
            args = (self.gpu.device(other), other.dtype, *args[1:])
        device, dtype, non_blocking, memory_format = torch._C._nn._parse_to(*args, **kwargs)
        given = {"dtype": dtype, "memory_format": memory_format}
        how = {name: value for name, value in given.items() if value is not None}
        to_gpu = self.gpu.has(tensor) if device is None else _is_gpu(device)
        if device is not None and device.type not in ("cpu", "cuda"):
            return Tensor.to(tensor, device, **how)  # torch says what it lacks
        if to_gpu == self.gpu.has(tensor):
            return Tensor.to(tensor, copy=copy, **how) if how or copy else tensor
        return Moved.apply(tensor, self.gpu, to_gpu, non_blocking, how)

    def pin(self, tensor: Tensor, device: Any = None) -> Tensor:
        if self.gpu.has(tensor):
            raise RuntimeError(f"cannot pin 'torch.cuda.{_kind_of(tensor)}' only dense CPU tensors can be pinned")
        made = tensor.clone()
        self.gpu.storages.put(made, "pinned")
        return made

    def on_host(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def answer(tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
            if self.gpu.has(tensor) and not kwargs.get("force"):
                raise TypeError(
                    "can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy the tensor to host memory"
                    " first."
                )
            return function(tensor, *args, **kwargs)

        return answer

    def tolist(self, tensor: Tensor) -> Any:
        if self.gpu.has(tensor):
            self.gpu.note(TO_HOST, "tolist")
        return Tensor.tolist(tensor)

    def set_gradient(self, tensor: Tensor, gradient: Tensor | None) -> None:
        if gradient is not None and self.gpu.has(gradient) != self.gpu.has(tensor):
            raise RuntimeError("assigned grad has data located on a different device")
        Tensor.grad.__set__(tensor, gradient)

    def deepcopy(self, tensor: Tensor, memo: Any) -> Tensor:
        made = Tensor.__deepcopy__(tensor, memo)
        self.gpu.storages.put(made, self.gpu.storages.where(tensor))
        return made

    def converted(self, function: Any, copy: bool) -> Callable[..., Any]:
        """torch.tensor and its like, of a tensor or of plain numbers."""

        def answer(data: Any, *, device: Any = None, dtype: Any = None, **how: Any) -> Any:
            if isinstance(data, Tensor):
                return self.to(
                    data.detach() if copy else data,
                    self.gpu.device(data) if device is None else device,
                    dtype,
                    copy=copy,
                )
            if device is not None and _is_gpu(device):
                return self.to(function(data, dtype=dtype, **how), GPU)
            return function(data, dtype=dtype, **how)

        return answer

    def one_hot(self, tensor: Tensor, num_classes: int = -1) -> Tensor:
        if not self.gpu.has(tensor) or num_classes == -1:
            return F.one_hot(tensor, num_classes)
        made = self.call(torch.zeros, *tensor.shape, num_classes, dtype=torch.int64, device=GPU)
        return made.scatter_(-1, tensor[..., None], 1)  # as CUDA does, without the CPU's look at the numbers


class Operations(TorchDispatchMode):
    """Each operation that torch carries out, those of a backward pass too."""

    def __init__(self, gpu: Gpu) -> None:
        super().__init__()
        self.gpu = gpu

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        with torch._C.DisableTorchFunction():
            return self.carry_out(op, args, kwargs or {})

    def carry_out(self, op: Any, args: Any, kwargs: Any) -> Any:
        gpu, nature = self.gpu, nature_of(op)
        tensors = _tensors((args, kwargs))
        guests = [tensor for tensor in tensors if not gpu.has(tensor)]
        if len(guests) == len(tensors) if tensors else not gpu.makes:
            return op(*args, **kwargs)
        if nature.name == "copy_":
            return self.copy_(op, *args, **kwargs)
        if nature.indexes:
            self.index(nature.name, args)
        elif guests:
            _check_guests(nature, tensors, guests)
        if nature.waits:
            gpu.note(WAIT, "a number is read" if nature.reads else nature.name)
        if not nature.free:
            gpu.note(LAUNCH, nature.name)
        draws = nature.draws and kwargs.get("generator") is None
        made = self.draw(op, args, kwargs) if draws else op(*args, **kwargs)
        gpu.storages.put(made, "gpu")
        return made

    def draw(self, op: Any, args: Any, kwargs: Any) -> Any:
        """Carry out an operation with random numbers of the GPU's own generator."""
        with torch.random.fork_rng(devices=[]):
            torch.set_rng_state(self.gpu.random.full_state())
            made = op(*args, **kwargs)
            self.gpu.random.set_full_state(torch.get_rng_state())
        return made

    def copy_(self, op: Any, to: Tensor, source: Tensor, non_blocking: bool = False) -> Any:
        to_gpu, from_gpu = self.gpu.has(to), self.gpu.has(source)
        if to_gpu == from_gpu:
            self.gpu.note(LAUNCH, "copy_")
        elif to.numel():
            pinned = self.gpu.storages.where(source if to_gpu else to) == "pinned"
            self.gpu.note_copy(to, to_gpu, non_blocking, pinned)
        return op(to, source, non_blocking)

    def index(self, name: str, args: Any) -> None:
        """The rules of indexing: indices of the host are copied; a bool mask is counted first, and the host waits for that."""
        gpu, (tensor, indices, *value) = self.gpu, args
        indices = [index for index in indices if index is not None]
        if not gpu.has(tensor):
            raise RuntimeError("indices should be either on cpu or on the same device as the indexed tensor (cpu)")
        if value and value[0].ndim and not gpu.has(value[0]):
            raise RuntimeError(
                f"Expected all tensors to be on the same device, but found cuda:0 and cpu! (aten::{name})"
            )
        if (
            value
            and not gpu.has(value[0])
            and len(indices) == 1
            and indices[0].dtype == torch.bool
            and gpu.has(indices[0])
        ):
            return  # a number of the host under a mask: CUDA fills, and need not count
        for index in indices:
            if not gpu.has(index):
                gpu.note_copy(index, True, False, False)
            if index.dtype in (torch.bool, torch.uint8):
                gpu.note(WAIT, f"{name} by a bool mask")


@dataclass(frozen=True)
class Nature:
    """What torch's schemas and tags tell of an operation."""

    name: str
    indexes: bool
    reads: bool  # a number, into Python
    waits: bool  # the host must know what came out, or how much
    free: bool  # launches nothing: views, memory that is left as it is
    draws: bool  # random numbers
    takes_number: bool  # a 0-dimensional tensor of the host may stand beside tensors of the GPU
    mutable: bool


@functools.cache
def nature_of(op: Any) -> Nature:
    name, tags, outcomes = op.overloadpacket.__name__, set(op.tags), [out.alias_info for out in op._schema.returns]
    indexes, reads = name.strip("_").startswith("index_put") or name == "index", name == "_local_scalar_dense"
    views = any(alias is not None and not alias.is_write for alias in outcomes)
    moves_nothing = name.startswith(("empty", "new_empty")) or name in (
        *("_unsafe_view", "set_", "resize_", "is_same_size", "is_pinned", "_has_compatible_shallow_copy_type"),
        *("detach_", "squeeze_", "unsqueeze_", "t_", "transpose_", "as_strided_"),
    )
    return Nature(
        name,
        indexes,
        reads,
        waits=not indexes and bool(tags & {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}),
        free=views or reads or moves_nothing,
        draws=torch.Tag.nondeterministic_seeded in tags,
        takes_number=torch.Tag.pointwise in tags
        or name.startswith("_foreach_")
        or name.rstrip("_") in ("fill", "masked_fill", "index_fill"),
        mutable=op._schema.is_mutable,
    )


def _check_guests(nature: Nature, tensors: list[Tensor], guests: list[Tensor]) -> None:
    """Raise as CUDA does where tensors of the host stand beside some of the GPU."""
    into_host = nature.mutable and tensors[0] is guests[0]
    if nature.takes_number and not into_host and all(guest.ndim == 0 for guest in guests):
        return
    places = ", ".join(f"{'cpu' if any(t is g for g in guests) else 'cuda'} {_kind_of(t)}" for t in tensors)
    raise RuntimeError(
        "Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu!"
        f" (aten::{nature.name}: {places})"
    )


class Generator(torch.Generator):
    """A generator that says of which device it is; one of the GPU has CUDA's states of 16 bytes."""

    _states: ClassVar[dict[bytes, Tensor]] = {}  # by the 16 bytes that stand for them

    def __new__(cls, device: Any = "cpu") -> Any:
        made = super().__new__(cls, "cpu")
        made._device = GPU if _is_gpu(device) else HOST
        return made

    @property
    def device(self) -> torch.device:  # type: ignore[override]  # an attribute there
        return self._device

    def full_state(self) -> Tensor:
        return super().get_state()

    def set_full_state(self, state: Tensor) -> Generator:
        super().set_state(state)
        return self

    def get_state(self) -> Tensor:
        state = self.full_state()
        if self._device == HOST:
            return state
        name = hashlib.blake2b(state.numpy().tobytes(), digest_size=16).digest()
        self._states[name] = state
        return torch.frombuffer(bytearray(name), dtype=torch.uint8).clone()

    def set_state(self, state: Tensor) -> Generator:
        if self._device == HOST:
            return self.set_full_state(state)
        if state.numel() != 16:
            raise RuntimeError("RNG state is wrong size")
        name = state.numpy().tobytes()
        if name not in self._states:
            raise RuntimeError(
                "This state of a pretended GPU's generator is of another process, which alone can read it."
            )
        return self.set_full_state(self._states[name])


def _check_generator(generator: Any, on_gpu: bool) -> None:
    if generator is not None and (generator.device == GPU) != on_gpu:
        wanted = "cuda" if on_gpu else "cpu"
        raise RuntimeError(f"Expected a '{wanted}' device type for generator but found '{generator.device.type}'")


def _is_gpu(device: Any) -> bool:
    device = torch.device("cuda", device) if isinstance(device, int) else torch.device(device)
    if device.type == "cuda" and device.index not in (None, 0):
        raise RuntimeError("CUDA error: invalid device ordinal")
    return device.type == "cuda"


def _tensors(tree: Any) -> list[Tensor]:
    """The tensors in nested tuples, lists and dicts."""
    if isinstance(tree, Tensor):
        return [tree]
    parts = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, (tuple, list)) else ()
    return [tensor for part in parts for tensor in _tensors(part)]


def _unwrapped(tensor: Tensor) -> Tensor:
    """The tensor that torch.func (vmap, grad) has wrapped."""
    while torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        tensor = torch._C._functorch.get_unwrapped(tensor)
    return tensor


def _kind_of(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"


class Event:
    """A torch.cuda.Event of a GPU that has always finished."""

    def __init__(self, gpu: Gpu) -> None:
        self.gpu, self.time = gpu, 0.0

    def record(self, stream: Any = None) -> None:
        self.time = time.perf_counter()

    def wait(self, stream: Any = None) -> None:
        """Has a stream wait, not the host."""

    def query(self) -> bool:
        return True

    def synchronize(self) -> None:
        self.gpu.note(WAIT, "Event.synchronize")

    def elapsed_time(self, end: Event) -> float:
        return 1000 * (end.time - self.time)


class Stream:
    """A torch.cuda.Stream of a GPU that has always finished."""

    def __init__(self, gpu: Gpu) -> None:
        self.gpu = gpu

    def wait_stream(self, other: Any) -> None:
        """Has this stream wait, not the host."""

    wait_event = wait_stream

    def record_event(self, event: Any = None) -> Event:
        event = event or Event(self.gpu)
        event.record()
        return event

    def query(self) -> bool:
        return True

    def synchronize(self) -> None:
        self.gpu.note(WAIT, "Stream.synchronize")


@contextlib.contextmanager
def pretend(memory: int = 80 * 2**30, capability: tuple[int, int] = (9, 0)) -> Iterator[Gpu]:
    """A GPU meanwhile, as far as torch's Python is asked; memory: its bytes, all of them free, as mem_get_info tells."""
    gpu = Gpu(memory)
    calls = Calls(gpu)
    with contextlib.ExitStack() as stack:
        for name, value in _patches(gpu, calls, capability).items():
            stack.enter_context(mock.patch(name, value))
        stack.enter_context(Operations(gpu))
        stack.enter_context(calls)
        yield gpu


def _patches(gpu: Gpu, calls: Calls, capability: tuple[int, int]) -> dict[str, Any]:
    """What torch would ask CUDA, answered."""
    fixed = {
        "is_available": True,
        "device_count": 1,
        "current_device": 0,
        "is_initialized": True,
        "is_bf16_supported": True,
        "is_current_stream_capturing": False,
        "get_sync_debug_mode": 0,
        "get_device_name": "a pretended GPU",
        "get_device_capability": capability,
        "mem_get_info": (gpu.memory, gpu.memory),
        "_lazy_init": None,
        "set_sync_debug_mode": None,
        "empty_cache": None,
        "memory_allocated": 0,
        "memory_reserved": 0,
        "max_memory_allocated": 0,
        "max_memory_reserved": 0,
        "reset_peak_memory_stats": None,
    }
    return {
        **{f"torch.cuda.{name}": mock.Mock(return_value=value) for name, value in fixed.items()},
        "torch.cuda.synchronize": lambda device=None: gpu.note(WAIT, "synchronize"),
        "torch.cuda.get_rng_state": lambda device="cuda": gpu.random.get_state(),
        "torch.cuda.set_rng_state": lambda state, device="cuda": gpu.random.set_state(state),
        "torch.cuda.manual_seed": gpu.random.manual_seed,
        "torch.cuda.manual_seed_all": gpu.random.manual_seed,
        "torch.cuda.Event": lambda **how: Event(gpu),
        "torch.cuda.Stream": lambda **how: Stream(gpu),
        "torch.cuda.current_stream": lambda device=None: Stream(gpu),
        "torch.cuda.stream": lambda stream: contextlib.nullcontext(),
        "torch.Generator": Generator,
        "torch.amp.autocast_mode.autocast.__init__": _autocast,
        "torch.is_autocast_enabled": _of_cpu(torch.is_autocast_enabled),
        "torch.get_autocast_dtype": _of_cpu(torch.get_autocast_dtype),
        "torch._C._group_tensors_by_device_and_dtype": _grouping(gpu),
        "torch.autograd._engine_run_backward": _backward(calls),
    }


def _of_cpu(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of a device's type that takes "cuda" for "cpu", whose kernels are at work."""
    return lambda *types: function(*("cpu" if kind == "cuda" else kind for kind in types))


_init = torch.amp.autocast_mode.autocast.__init__


def _autocast(self: Any, device_type: str, *args: Any, **kwargs: Any) -> None:
    _init(self, "cpu" if device_type == "cuda" else device_type, *args, **kwargs)


def _grouping(gpu: Gpu) -> Callable[..., Any]:
    """What optimizers and clip_grad_norm_ ask C++ for: tensors by device, which C++ knows only as it really is."""
    group = torch._C._group_tensors_by_device_and_dtype

    def grouped(lists: Any, with_indices: bool = False) -> Any:
        found = group(lists, with_indices)
        return {(gpu.device(parts[0][0][0]), dtype): parts for (_, dtype), parts in found.items()}

    return grouped


def _backward(calls: Calls) -> Callable[..., Any]:
    """The backward pass with `Calls` at work: torch leaves it out while it carries out a call, such as Tensor.backward."""
    run = torch.autograd._engine_run_backward

    def backward(*args: Any, **kwargs: Any) -> Any:
        active = any(mode is calls for mode in _get_current_function_mode_stack())
        with contextlib.nullcontext() if active else calls:
            return run(*args, **kwargs)

    return backward


class RealGpu(Tally):
    """A real GPU. Of the kinds it counts only "waits", of whatever sort, as torch warns of them."""

    pretended = False
    tolerance: ClassVar[dict[str, float]] = {"rtol": 1e-3, "atol": 1e-4}

    def has(self, tensor: Any) -> bool:
        """Whether it is a tensor on the GPU."""
        return isinstance(tensor, Tensor) and tensor.is_cuda


@contextlib.contextmanager
def on_gpu() -> Iterator[RealGpu]:
    """Count on a real GPU. Raises RuntimeError where there is none."""
    if not torch.cuda.is_available():
        raise RuntimeError("There is no GPU that torch can use.")
    gpu = RealGpu()

    def show(message: Warning | str, *rest: Any, **more: Any) -> None:
        if "synchronizing CUDA operation" in str(message):
            gpu.note(WAIT)

    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = show
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield gpu
        finally:
            torch.cuda.set_sync_debug_mode(before)
