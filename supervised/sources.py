"""What a fit takes its examples from: tensors in memory, or a dataset that stays where it is and is read batch by batch.

Inputs x are a tensor [M, ...], or a dict or tuple of such for a model of several inputs; targets y are one tensor [M, ...].
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

SAMPLE = 256  # examples of a stream that are looked at beforehand
CHUNK = 256  # examples of a stream that are judged at once, unless a DataLoader says otherwise
LOADING = ("num_workers", "pin_memory", "timeout", "worker_init_fn", "multiprocessing_context", "prefetch_factor")

Key = tuple[int, int, int]  # seed, epoch and place of an example


class DataError(ValueError):
    """Data are missing, damaged or of the wrong kind; the message says which and where."""


class Plan(NamedTuple):
    """How an epoch goes: examples a batch, examples in all, and whether their order is drawn anew."""

    size: int
    used: int
    shuffled: bool


class Data(NamedTuple):
    """Examples in memory: x [M, ...] (or a dict or tuple of such) and their targets y [M, ...].

    Pictures may stay uint8: a model reads them as 0..1.
    """

    x: Any
    y: Tensor

    @property
    def size(self) -> int:
        """How many examples there are."""
        return len(self.y)

    @property
    def known(self) -> Data | None:
        """All the examples, if they are in memory."""
        return self

    @property
    def sample(self) -> Data:
        """Examples to look at beforehand: all of them."""
        return self

    def tensors(self) -> list[Tensor]:
        """What the data are known again by."""
        return [*leaves(self.x), self.y]

    def to(self, device: torch.device) -> Data:
        """The same on a device. Raises ArgumentError where it has no room for them."""
        check_room(sum(part.nbytes for part in self.tensors() if part.device.type != device.type), device, "The data")
        return Data(over(lambda part: part.to(device), self.x), self.y.to(device))

    def part(self, index: np.ndarray) -> Data:
        """The examples of these places."""
        chosen = torch.from_numpy(index)
        return Data(over(lambda part: part[chosen], self.x), self.y[chosen])

    def adapted(self, adapt: Callable[[Data], Data]) -> Data:
        """The data as a model and its loss want them."""
        return adapt(self)

    def plan(self, batch_size: int | None) -> Plan:
        """How an epoch goes in batches of `batch_size` (None: of all)."""
        size = self.size if batch_size is None else min(batch_size, self.size)
        return Plan(size, self.size, size < self.size)

    def batches(self, order: Tensor, size: int, seeds: Sequence[int], epoch: int) -> Iterator[Data]:
        """The examples in the order [N, M] of each seed: x [N, B, ...] and y [N, B, ...] with B up to `size`."""
        for begin in range(0, order.shape[1], size):
            index = order[:, begin : begin + size]
            flat = index.flatten()
            yield Data(*(over(lambda t: t.index_select(0, flat).unflatten(0, index.shape), p) for p in self))  # noqa: B023  (called at once)

    def chunks(self, size: int) -> Iterator[Data]:
        """The examples as they lie, up to `size` at once."""
        for begin in range(0, self.size, size):
            yield Data(*(over(lambda t: t[begin : begin + size], part) for part in self))  # noqa: B023  (called at once)


class Reader(Protocol):
    """Where a stream reads: `reader.__getitems__(keys)` gives x and y of these examples, as `torch.utils.data` asks for them."""

    def __len__(self) -> int: ...

    def __getitems__(self, keys: Sequence[Key]) -> Any: ...


class Rows:
    """Arrays of which some lie in files (numpy.memmap); of those only the rows that are asked for are read."""

    def __init__(self, x: Any, y: Any) -> None:
        self.x, self.y = over(_array, x), _array(y)

    def __len__(self) -> int:
        return len(self.y)

    def __getitems__(self, keys: Sequence[Key]) -> Any:
        places = np.array([place for _, _, place in keys])
        return over(lambda part: np.asarray(part[places]), self.x), np.asarray(self.y[places])


class Examples:
    """A map-style Dataset. What it draws at random comes from seed, epoch and place of the example alone."""

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
    """Examples that stay where they are and are read batch by batch; it has what `Data` has.

    index: the places of those that belong to it. shuffled: whether each seed draws an order of its own. batch_size: None: as
    the recipe says. drop_last: leave out a last batch that is smaller. loading: of torch.utils.data.DataLoader.
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
        """How many examples there are."""
        return len(self.index)

    @property
    def known(self) -> Data | None:
        """None: the examples are not in memory."""
        return None

    @cached_property
    def sample(self) -> Data:
        """Up to 256 examples, evenly spaced, to look at beforehand."""
        places = np.linspace(0, self.size - 1, min(SAMPLE, self.size)).astype(np.int64)
        return next(self._read([self.index[places]], [0], 0))

    def tensors(self) -> list[Tensor]:
        """What the data are known again by: the sample, and how many there are."""
        return [*self.sample.tensors(), torch.tensor(self.size)]

    def to(self, device: torch.device) -> Stream:
        """The same, whose batches come to a device."""
        return dataclasses.replace(self, device=device)

    def part(self, index: np.ndarray) -> Stream:
        """The examples of these places."""
        return dataclasses.replace(self, index=self.index[index])

    def adapted(self, adapt: Callable[[Data], Data]) -> Stream:
        """The data as a model and its loss want them."""
        return dataclasses.replace(self, adapt=adapt)

    def plan(self, batch_size: int | None) -> Plan:
        """As `Data.plan`. Raises DataError where no batch is whole and smaller ones are dropped."""
        size = min(self.batch_size or batch_size or self.size, self.size)
        if self.drop_last and size < (self.batch_size or 0):
            raise DataError(
                f"{self.name}: drop_last leaves nothing of {self.size} examples in batches of {self.batch_size}."
            )
        return Plan(
            size, self.size - self.size % size if self.drop_last else self.size, self.shuffled and size < self.size
        )

    def batches(self, order: Tensor, size: int, seeds: Sequence[int], epoch: int) -> Iterator[Data]:
        """As `Data.batches`."""
        places = self.index[order.cpu().numpy()]
        columns = [places[:, begin : begin + size] for begin in range(0, places.shape[1], size)]
        for index, batch in zip(columns, self._read(columns, seeds, epoch), strict=True):
            yield Data(*(over(lambda t: t.unflatten(0, index.shape), part) for part in batch))  # noqa: B023  (called at once)

    def chunks(self, size: int) -> Iterator[Data]:
        """As `Data.chunks`."""
        size = min(size, self.batch_size or CHUNK)
        return self._read([self.index[begin : begin + size] for begin in range(0, self.size, size)], [0], 0)

    def _read(self, batches: Sequence[np.ndarray], seeds: Sequence[int], epoch: int) -> Iterator[Data]:
        """The examples of each batch of places [N, B] or [B], one seed's after another's."""
        keys = (
            [(seed, epoch, int(place)) for seed, row in zip(seeds, np.atleast_2d(batch), strict=True) for place in row]
            for batch in batches
        )
        loader: Iterable[Any] = DataLoader(
            self.reader,  # type: ignore[arg-type]  # it has what a DataLoader asks for
            batch_sampler=keys,
            collate_fn=_as_it_is,
            generator=torch.Generator().manual_seed(0),  # so that no random numbers of the user are drawn
            **self.loading,
        )
        found = iter(loader)
        for batch in batches:
            try:
                raw = next(found)
            except (TypeError, RuntimeError, ValueError) as error:
                if not _of_collate(error):
                    raise
                raise DataError(f"{self.name}: examples do not make a batch: {first_line(error)}") from error
            data = _checked(raw, batch.flatten(), self.name)
            data = data if self.adapt is None else self.adapt(data)
            yield data.to(self.device)


Source = Data | Stream


def source_of(data: Any, name: str = "The data") -> Source:
    """What a fit can take its examples from. Raises DataError for anything else, and for data that are wrong, with the place.

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
    """A pair of arrays, tensors or nested lists as `Data`, checked. x may be a dict or tuple of arrays.

    float64 becomes float32; bool becomes whole numbers. Raises DataError for no examples, for x and y of different
    lengths, for what is not numbers, and for NaN or infinite values, with the place of the first.
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
            f"{name}: a {type(dataset).__name__} cannot be asked for its examples by number, so no order of them could be"
            " repeated: give a Dataset with __len__ and __getitem__."
        )
    if len(dataset) == 0:
        raise DataError(f"{name} is empty: there is no example in it.")
    return Stream(Examples(dataset, collate), name, np.arange(len(dataset)), **more)


def _of_loader(loader: Any, name: str) -> Stream:
    """The dataset of a DataLoader, with its batch size, workers and collate_fn. The fit draws the orders."""
    sampler = loader.sampler
    drawn = (
        type(sampler) is RandomSampler and not sampler.replacement and sampler.num_samples == len(sampler.data_source)
    )
    if not isinstance(loader.dataset, IterableDataset) and not (
        loader.batch_size is not None and (drawn or type(sampler) is SequentialSampler)
    ):
        raise DataError(
            f"{name}: a DataLoader with a sampler or batch_sampler of its own ({type(sampler).__name__}) cannot be used: each"
            " seed draws an order of its own, which can be repeated. Give shuffle=True or False and a batch_size; to weigh"
            " classes, there is Recipe(class_weights=...)."
        )
    loading = {key: getattr(loader, key) for key in LOADING}
    more = {"shuffled": drawn, "batch_size": loader.batch_size, "drop_last": loader.drop_last, "loading": loading}
    return _of_dataset(loader.dataset, name, loader.collate_fn, **more)


def inputs_of(x: Any, name: str = "x") -> Source:
    """Inputs alone as a source, with zeros for targets."""
    parts = leaves(inputs(x))
    if any(isinstance(part, np.memmap) for part in parts):
        return source_of((x, np.zeros(len(parts[0]), np.float32)), name)
    found = tensors_of(x, name)
    data = Data(found, torch.zeros(len(leaves(found)[0])))
    check_lengths(*data, name)
    return data


def over(function: Callable[..., Any], x: Any, *more: Any) -> Any:
    """`function` of each tensor of inputs, which may be a dict or tuple; of others of the same structure likewise."""
    if isinstance(x, Mapping):
        return {key: over(function, part, *(other[key] for other in more)) for key, part in x.items()}
    if isinstance(x, tuple):
        return tuple(over(function, part, *(other[i] for other in more)) for i, part in enumerate(x))
    return function(x, *more)


def leaves(*trees: Any) -> list[Any]:
    """The tensors of inputs, one after another."""
    found: list[Any] = []
    for tree in trees:
        over(found.append, tree)
    return found


def inputs(x: Any) -> Any:
    """What stands for several inputs as a dict or tuple; a tuple of numbers or rows is an array."""
    if isinstance(x, Mapping):
        return {key: inputs(part) for key, part in x.items()}
    if isinstance(x, tuple) and x and all(isinstance(part, Mapping) or getattr(part, "ndim", 0) for part in x):
        return tuple(inputs(part) for part in x)
    return list(x) if isinstance(x, tuple) else x


def tensors_of(values: Any, name: str) -> Any:
    """Inputs as tensors, each as `tensor_of` has it. Raises DataError for anything else."""
    values = inputs(values)
    if isinstance(values, Mapping):
        if not values or not all(isinstance(key, str) for key in values):
            raise DataError(f"{name} is a dict without names of inputs; its keys are texts.")
        return {key: tensors_of(part, f"{name}[{key!r}]") for key, part in values.items()}
    if isinstance(values, tuple):
        return tuple(tensors_of(part, f"{name}[{i}]") for i, part in enumerate(values))
    return tensor_of(values, name)


def tensor_of(values: Any, name: str, rows: np.ndarray | None = None) -> Tensor:
    """Numbers with an axis of examples as a tensor: float32, uint8 or int64. Raises DataError for anything else.

    rows: the numbers of the examples, where they are a part of all.
    """
    try:
        tensor = values.detach() if isinstance(values, Tensor) else torch.from_numpy(np.array(values))
    except (TypeError, ValueError) as error:
        raise DataError(f"{name} must be numbers in a regular array: {error}.") from error
    if tensor.ndim == 0:
        raise DataError(f"{name} is a single number; its first axis must be that of the examples.")
    if tensor.is_complex():
        raise DataError(f"{name} is complex; a model takes real numbers.")
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
            raise DataError(f"{name} has numbers beyond float32 (up to {tensor.abs().max().item():.3g}): scale them.")
        return narrow
    return tensor if tensor.dtype == torch.uint8 else tensor.long()


def check_lengths(x: Any, y: Any, name: str) -> None:
    """Raise DataError unless all inputs and the targets are as many, and there are some."""
    for part in leaves(x):
        if len(part) != len(y):
            raise DataError(f"{name}: x has {len(part)} examples and y has {len(y)}; they must be as many.")
    if len(y) == 0:
        raise DataError(f"{name} is empty: there is no example in it.")


def _checked(raw: Any, rows: np.ndarray, name: str) -> Data:
    """What a reader gave as data. Raises DataError where it is no pair (x, y) of numbers."""
    raw = _tuples(raw)
    if not isinstance(raw, tuple) or len(raw) != 2:
        raise DataError(f"{name}: an example must be a pair (x, y), not {type(raw).__name__}.")
    x = over(lambda part: tensor_of(part, f"{name}: x", rows), raw[0])
    data = Data(x, tensor_of(raw[1], f"{name}: y", rows))
    check_lengths(*data, name)
    return data


def _tuples(tree: Any) -> Any:
    """Lists of tensors, which torch's collate makes of tuples, as tuples again."""
    if isinstance(tree, Mapping):
        return {key: _tuples(part) for key, part in tree.items()}
    return tuple(map(_tuples, tree)) if isinstance(tree, (list, tuple)) else tree


def _of_collate(error: Exception) -> bool:
    """Whether torch's own collate raised an error, rather than the user's dataset."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_code.co_filename.endswith("collate.py")


def _array(part: Any) -> Any:
    return part if isinstance(part, np.memmap) else np.asarray(part)


def _as_it_is(batch: Any) -> Any:
    return batch
