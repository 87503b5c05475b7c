"""Data sources of a fit: tensors in memory, or a dataset that is read batch by batch.

Inputs x are a tensor [M, ...], or a dict or tuple of tensors for a model with several inputs; targets y are one tensor
[M, ...].
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    TensorDataset,
    default_collate,
)

from supervised.device import check_room
from supervised.streams import PURPOSES
from supervised.validate import first_line, instance

SAMPLE = 256  # examples of a stream that are inspected before training
CHUNK = 256  # batch size in evaluating a stream, unless a DataLoader sets one
LOADING = ("num_workers", "pin_memory", "timeout", "worker_init_fn", "multiprocessing_context", "prefetch_factor")

Key = tuple[int, int, int]  # seed, epoch and index of an example


class DataError(ValueError):
    """Raised when data are missing, damaged or of the wrong kind; the message says which and where."""


class Plan(NamedTuple):
    """The layout of an epoch: examples per batch, examples in total, and whether they are shuffled."""

    size: int
    used: int
    shuffled: bool


class Data(NamedTuple):
    """Examples in memory: inputs x [M, ...] (or a dict or tuple of tensors) and targets y [M, ...].

    Images may stay uint8; they are scaled to [0, 1] when a model reads them.
    """

    x: Any
    y: Tensor

    @property
    def size(self) -> int:
        """The number of examples."""
        return len(self.y)

    @property
    def known(self) -> Data | None:
        """All examples if they are in memory, else None."""
        return self

    @property
    def sample(self) -> Data:
        """Examples to inspect before training: all of them."""
        return self

    def tensors(self) -> list[Tensor]:
        """Return the tensors that identify the data."""
        return [*leaves(self.x), self.y]

    def to(self, device: torch.device) -> Data:
        """Move the data to a device. Raises ArgumentError if it has too little memory."""
        check_room(sum(part.nbytes for part in self.tensors() if part.device.type != device.type), device, "The data")
        return Data(over(lambda part: part.to(device), self.x), self.y.to(device))

    def part(self, index: np.ndarray) -> Data:
        """Return the examples with these indices."""
        chosen = torch.from_numpy(index)
        return Data(over(lambda part: part[chosen], self.x), self.y[chosen])

    def adapted(self, adapt: Callable[[Data], Data]) -> Data:
        """Return the data as converted by `adapt` for a model and its loss."""
        return adapt(self)

    def plan(self, batch_size: int | None) -> Plan:
        """Return the layout of an epoch with batches of `batch_size` (None: a single batch)."""
        size = self.size if batch_size is None else min(batch_size, self.size)
        return Plan(size, self.size, size < self.size)

    def batches(self, order: Tensor, size: int, seeds: Sequence[int], epoch: int) -> Iterator[Data]:
        """Yield batches x [N, B, ...] and y [N, B, ...], B up to `size`, in each seed's order of examples [N, M]."""
        for begin in range(0, order.shape[1], size):
            index = order[:, begin : begin + size]
            flat = index.flatten()
            yield Data(*(over(lambda t: t.index_select(0, flat).unflatten(0, index.shape), p) for p in self))  # noqa: B023  (called at once)

    def chunks(self, size: int) -> Iterator[Data]:
        """Yield the examples in their stored order, up to `size` at a time."""
        for begin in range(0, self.size, size):
            yield Data(*(over(lambda t: t[begin : begin + size], part) for part in self))  # noqa: B023  (called at once)


class Reader(Protocol):
    """The source of a stream's examples: `__getitems__(keys)` returns x and y of a batch, as `torch.utils.data` requires."""

    def __len__(self) -> int: ...

    def __getitems__(self, keys: Sequence[Key]) -> Any: ...


class Rows:
    """Arrays, some of them memory-mapped (numpy.memmap); only the requested rows are read from disk."""

    def __init__(self, x: Any, y: Any) -> None:
        self.x, self.y = over(_array, x), _array(y)

    def __len__(self) -> int:
        return len(self.y)

    def __getitems__(self, keys: Sequence[Key]) -> Any:
        places = np.array([place for _, _, place in keys])
        return over(lambda part: np.asarray(part[places]), self.x), np.asarray(self.y[places])


class Examples:
    """A map-style Dataset whose random draws depend only on seed, epoch and index of the example."""

    def __init__(self, dataset: Any, collate: Callable[[list[Any]], Any]) -> None:
        self.dataset, self.collate = dataset, collate

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitems__(self, keys: Sequence[Key]) -> Any:
        return self.collate([self._one(key) for key in keys])

    def _one(self, key: Key) -> Any:
        seed, epoch, place = key
        sequence = np.random.SeedSequence(seed, spawn_key=(PURPOSES["augment"], epoch, place))
        before = torch.get_rng_state()
        try:
            torch.default_generator.manual_seed(int(sequence.generate_state(1, np.uint64)[0] >> 1))
            return self.dataset[place]
        finally:
            torch.set_rng_state(before)


@dataclass(frozen=True, eq=False)
class Stream:
    """Examples that are read batch by batch; has the interface of `Data`.

    index: the indices of the examples that belong to it. shuffled: whether each seed draws its own order. batch_size: None:
    that of the recipe. drop_last: omit a smaller last batch. loading: further arguments of torch.utils.data.DataLoader.
    """

    reader: Reader
    name: str
    index: np.ndarray
    shuffled: bool = True
    batch_size: int | None = None
    drop_last: bool = False
    loading: Mapping[str, Any] = field(default_factory=dict)
    adapt: Callable[[Data], Data] | None = None
    device: torch.device = torch.device("cpu")  # noqa: RUF009  (it does not change)

    @property
    def size(self) -> int:
        """The number of examples."""
        return len(self.index)

    @property
    def known(self) -> Data | None:
        """None: the examples are not in memory."""
        return None

    @cached_property
    def sample(self) -> Data:
        """Up to 256 evenly spaced examples, to inspect before training."""
        places = np.linspace(0, self.size - 1, min(SAMPLE, self.size)).astype(np.int64)
        return next(self._read([self.index[places]], [0], 0))

    def tensors(self) -> list[Tensor]:
        """Return the tensors that identify the data: the sample, and the number of examples."""
        return [*self.sample.tensors(), torch.tensor(self.size)]

    def to(self, device: torch.device) -> Stream:
        """Return the stream with its batches moved to a device."""
        return dataclasses.replace(self, device=device)

    def part(self, index: np.ndarray) -> Stream:
        """Return the examples with these indices."""
        return dataclasses.replace(self, index=self.index[index])

    def adapted(self, adapt: Callable[[Data], Data]) -> Stream:
        """Return the data as converted by `adapt` for a model and its loss."""
        return dataclasses.replace(self, adapt=adapt)

    def plan(self, batch_size: int | None) -> Plan:
        """Like `Data.plan`. Raises DataError if drop_last leaves no batch."""
        size = min(self.batch_size or batch_size or self.size, self.size)
        if self.drop_last and size < (self.batch_size or 0):
            raise DataError(
                f"{self.name}: drop_last leaves nothing of {self.size} examples in batches of {self.batch_size}."
            )
        return Plan(
            size, self.size - self.size % size if self.drop_last else self.size, self.shuffled and size < self.size
        )

    def batches(self, order: Tensor, size: int, seeds: Sequence[int], epoch: int) -> Iterator[Data]:
        """Like `Data.batches`."""
        places = self.index[order.cpu().numpy()]
        columns = [places[:, begin : begin + size] for begin in range(0, places.shape[1], size)]
        for index, batch in zip(columns, self._read(columns, seeds, epoch), strict=True):
            yield Data(*(over(lambda t: t.unflatten(0, index.shape), part) for part in batch))  # noqa: B023  (called at once)

    def chunks(self, size: int) -> Iterator[Data]:
        """Like `Data.chunks`."""
        size = min(size, self.batch_size or CHUNK)
        return self._read([self.index[begin : begin + size] for begin in range(0, self.size, size)], [0], 0)

    def _read(self, batches: Sequence[np.ndarray], seeds: Sequence[int], epoch: int) -> Iterator[Data]:
        """Yield the examples of each batch of indices, [N, B] or [B], seed after seed."""
        keys = (
            [(seed, epoch, int(place)) for seed, row in zip(seeds, np.atleast_2d(batch), strict=True) for place in row]
            for batch in batches
        )
        loader: Iterable[Any] = DataLoader(
            self.reader,  # type: ignore[arg-type]  # it has the methods a DataLoader calls
            batch_sampler=keys,
            collate_fn=_as_it_is,
            generator=torch.Generator().manual_seed(0),  # leaves the global generator alone
            **self.loading,
        )
        found = iter(loader)
        for batch in batches:
            try:
                raw = next(found)
            except (TypeError, RuntimeError, ValueError) as error:
                if not _of_collate(error):
                    raise
                raise DataError(
                    f"{self.name}: the examples cannot be collated into a batch: {first_line(error)}"
                ) from error
            data = _checked(raw, batch.flatten(), self.name)
            data = data if self.adapt is None else self.adapt(data)
            yield data.to(self.device)


Source = Data | Stream


def source_of(data: Any, name: str = "The data") -> Source:
    """Return data as a source for a fit. Raises DataError for unsupported or invalid data, naming the place of the error.

    data: a pair (x, y) of arrays, tensors or nested lists, where x may also be a dict or tuple of arrays, and arrays may be
    numpy.memmaps; a TensorDataset (x, y); any other map-style torch.utils.data.Dataset of pairs (x, y); a DataLoader of one.
    """
    instance(name, "name", str, "a text")
    if isinstance(data, Stream):
        return data
    if isinstance(data, DataLoader):
        return _of_loader(data, name)
    if isinstance(data, TensorDataset):
        *x, y = data.tensors
        return _in_memory((x[0] if len(x) == 1 else tuple(x), y), name)
    if isinstance(data, Dataset):
        return _of_dataset(data, name)
    if (
        isinstance(data, (tuple, list))
        and len(data) == 2
        and any(isinstance(p, np.memmap) for p in leaves(data[0], data[1]))
    ):
        rows = Rows(inputs(data[0]), data[1])
        check_lengths(rows.x, rows.y, name)
        return Stream(rows, name, np.arange(len(rows)))
    return _in_memory(data, name)


def as_data(data: Any, name: str = "The data") -> Data:
    """Convert a pair (x, y) of arrays, tensors or nested lists to `Data`. x may be a dict or tuple of arrays.

    float64 becomes float32, bool becomes int64. Raises DataError for no examples, for x and y of different lengths, for
    anything that is not numeric, and for NaN or infinite values, with the index of the first.
    """
    return _in_memory(data, instance(name, "name", str, "a text"))


def _in_memory(data: Any, name: str) -> Data:
    if not isinstance(data, (tuple, list)) or len(data) != 2:
        raise DataError(
            f"{name} must be a pair (x, y), a torch.utils.data.Dataset or a DataLoader, not {type(data).__name__}."
        )
    x, y = tensors_of(data[0], f"{name}: x"), tensor_of(data[1], f"{name}: y")
    check_lengths(x, y, name)
    return Data(x, y)


def _of_dataset(dataset: Any, name: str, collate: Callable[[list[Any]], Any] = default_collate, **more: Any) -> Stream:
    if isinstance(dataset, IterableDataset) or not hasattr(dataset, "__len__"):
        raise DataError(
            f"{name}: a {type(dataset).__name__} cannot be indexed, so the order of its examples could not be reproduced:"
            " pass a Dataset with __len__ and __getitem__."
        )
    if len(dataset) == 0:
        raise DataError(f"{name} is empty: it has no examples.")
    return Stream(Examples(dataset, collate), name, np.arange(len(dataset)), **more)


def _of_loader(loader: Any, name: str) -> Stream:
    """Return a DataLoader's dataset with its batch size, workers and collate_fn; the fit shuffles."""
    sampler = loader.sampler
    drawn = (
        type(sampler) is RandomSampler and not sampler.replacement and sampler.num_samples == len(sampler.data_source)
    )
    if not isinstance(loader.dataset, IterableDataset) and not (
        loader.batch_size is not None and (drawn or type(sampler) is SequentialSampler)
    ):
        raise DataError(
            f"{name}: a DataLoader with a custom sampler or batch_sampler ({type(sampler).__name__}) cannot be used: each"
            " seed draws its own, reproducible order. Use shuffle=True or False and a batch_size; to weight classes, use"
            " Recipe(class_weights=...)."
        )
    loading = {key: getattr(loader, key) for key in LOADING}
    more = {"shuffled": drawn, "batch_size": loader.batch_size, "drop_last": loader.drop_last, "loading": loading}
    return _of_dataset(loader.dataset, name, loader.collate_fn, **more)


def inputs_of(x: Any, name: str = "x") -> Source:
    """Return inputs without targets as a source, with zeros as targets."""
    parts = leaves(inputs(x))
    if any(isinstance(part, np.memmap) for part in parts):
        return source_of((x, np.zeros(len(parts[0]), np.float32)), name)
    found = tensors_of(x, name)
    data = Data(found, torch.zeros(len(leaves(found)[0])))
    check_lengths(*data, name)
    return data


def over(function: Callable[..., Any], x: Any, *more: Any) -> Any:
    """Apply `function` to each tensor of inputs, a tensor or a dict or tuple, and to the matching tensors of `more`."""
    if isinstance(x, Mapping):
        return {key: over(function, part, *(other[key] for other in more)) for key, part in x.items()}
    if isinstance(x, tuple):
        return tuple(over(function, part, *(other[i] for other in more)) for i, part in enumerate(x))
    return function(x, *more)


def leaves(*trees: Any) -> list[Any]:
    """Return the tensors of inputs as a flat list."""
    found: list[Any] = []
    for tree in trees:
        over(found.append, tree)
    return found


def inputs(x: Any) -> Any:
    """Return several inputs as a dict or tuple, and a single one unchanged; a tuple of numbers or rows becomes a list."""
    if isinstance(x, Mapping):
        return {key: inputs(part) for key, part in x.items()}
    if isinstance(x, tuple) and x and all(isinstance(part, Mapping) or getattr(part, "ndim", 0) for part in x):
        return tuple(inputs(part) for part in x)
    return list(x) if isinstance(x, tuple) else x


def tensors_of(values: Any, name: str) -> Any:
    """Convert inputs to tensors by `tensor_of`. Raises DataError for anything that is not numeric."""
    values = inputs(values)
    if isinstance(values, Mapping):
        if not values or not all(isinstance(key, str) for key in values):
            raise DataError(f"{name} must be a dict of named inputs: not empty, with strings as keys.")
        return {key: tensors_of(part, f"{name}[{key!r}]") for key, part in values.items()}
    if isinstance(values, tuple):
        return tuple(tensors_of(part, f"{name}[{i}]") for i, part in enumerate(values))
    return tensor_of(values, name)


def tensor_of(values: Any, name: str, rows: np.ndarray | None = None) -> Tensor:
    """Convert numbers [M, ...] to a tensor of float32, uint8 or int64. Raises DataError for anything else.

    rows: the indices of the examples, for messages, if they are a subset.
    """
    try:
        tensor = values.detach() if isinstance(values, Tensor) else torch.from_numpy(np.array(values))
    except (TypeError, ValueError) as error:
        raise DataError(f"{name} must be numbers in a regular array: {error}.") from error
    if tensor.ndim == 0:
        raise DataError(f"{name} is a single number; its first axis must be the examples.")
    if tensor.is_complex():
        raise DataError(f"{name} is complex; models take real numbers.")
    if tensor.dtype == torch.bool:
        return tensor.long()
    if tensor.is_floating_point():
        found = torch.isfinite(tensor)
        if not found.all():
            place = tuple(int(i) for i in (~found).nonzero()[0])
            said = place if rows is None else (int(rows[place[0]]), *place[1:])
            raise DataError(
                f"{name}[{', '.join(map(str, said))}] is {tensor[place].item()}; all must be finite numbers."
            )
        narrow = tensor.float()
        if not torch.isfinite(narrow).all():
            raise DataError(f"{name} exceeds the range of float32 (up to {tensor.abs().max().item():.3g}): scale it.")
        return narrow
    return tensor if tensor.dtype == torch.uint8 else tensor.long()


def check_lengths(x: Any, y: Any, name: str) -> None:
    """Raise DataError unless all inputs and the targets have the same length, at least 1."""
    for part in leaves(x):
        if len(part) != len(y):
            raise DataError(f"{name}: x has {len(part)} examples and y has {len(y)}; the numbers must be equal.")
    if len(y) == 0:
        raise DataError(f"{name} is empty: it has no examples.")


def _checked(raw: Any, rows: np.ndarray, name: str) -> Data:
    """Convert a reader's batch to data. Raises DataError unless it is a pair (x, y) of numbers."""
    raw = _tuples(raw)
    if not isinstance(raw, tuple) or len(raw) != 2:
        raise DataError(f"{name}: an example must be a pair (x, y), not {type(raw).__name__}.")
    x = over(lambda part: tensor_of(part, f"{name}: x", rows), raw[0])
    data = Data(x, tensor_of(raw[1], f"{name}: y", rows))
    check_lengths(*data, name)
    return data


def _tuples(tree: Any) -> Any:
    """Turn lists back into tuples, which torch's default collate turns into lists."""
    if isinstance(tree, Mapping):
        return {key: _tuples(part) for key, part in tree.items()}
    return tuple(map(_tuples, tree)) if isinstance(tree, (list, tuple)) else tree


def _of_collate(error: Exception) -> bool:
    """Return whether an error was raised by torch's collate function rather than by the user's dataset."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_code.co_filename.endswith("collate.py")


def _array(part: Any) -> Any:
    return part if isinstance(part, np.memmap) else np.asarray(part)


def _as_it_is(batch: Any) -> Any:
    return batch
