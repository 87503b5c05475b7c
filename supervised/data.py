"""Data preparation: splits, scaling, CSV files, sliding windows, characters.

Errors in a file raise a DataError that gives line and column.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from supervised import streams, validate
from supervised.sources import Data, DataError, Source, as_data, source_of, tensor_of
from supervised.validate import choice, flag, integer, number, shown

__all__ = [
    "Characters",
    "Data",
    "DataError",
    "Table",
    "as_data",
    "next_characters",
    "read_csv",
    "scale",
    "split",
    "tensor_of",
    "windows",
]

if TYPE_CHECKING:
    from sklearn.base import TransformerMixin


def split(data: Any, *shares: float, seed: int = 0, shuffle: bool = True) -> tuple[Any, ...]:
    """Split data into the remainder and one part per share: `split(data, 0.1, 0.2)` returns 70, 10 and 20 %.

    Examples are assigned at random by `seed`. With shuffle=False they stay in order, as a time series requires: the last part
    is the latest. Parts of data in memory are `Data`; those of a Dataset or a numpy.memmap stay where they are. Raises
    DataError if a part would be empty.
    """
    whole = source_of(data)
    parts_ = [number(s, "A share of the data", 0.0, 1.0, above=True, below=True, error=DataError) for s in shares]
    seed, shuffle = integer(seed, "seed", 0), flag(shuffle, "shuffle")
    m = whole.size
    sizes = [round(share * m) for share in parts_]
    sizes.insert(0, m - sum(sizes))
    if min(sizes) < 1:
        raise DataError(f"{m} examples cannot be cut into parts of {', '.join(map(str, sizes))}.")
    order = np.arange(m)
    if shuffle:
        streams.generator(seed, "data").shuffle(order)
    parts: list[Source] = []
    begin = 0
    for size in sizes:
        parts.append(whole.part(order[begin : begin + size]))
        begin += size
    return tuple(parts)


def scale(how: str, train: Any, *others: Any) -> tuple[TransformerMixin, list[np.ndarray]]:
    """Scale columns with statistics of `train` [M, ...] alone; how: "standard" (mean 0, deviation 1) or "min_max" (0 to 1).

    Returns scikit-learn's fitted scaler, whose inverse_transform undoes the scaling, and [train, *others] scaled as float32.
    The other arrays may fall outside [0, 1]: fitting the scaler on them too would leak test data into training.
    """
    from sklearn.preprocessing import MinMaxScaler, StandardScaler

    kinds = {"standard": StandardScaler, "min_max": MinMaxScaler}
    choice(how, "scaling", kinds)
    arrays = [tensor_of(part, "The data to scale").numpy() for part in (train, *others)]
    for array in arrays:
        if array.ndim < 2 or array.shape[1:] != arrays[0].shape[1:]:
            raise DataError(
                f"All data to scale must have the same columns, [M, ...]; found {list(array.shape)} and"
                f" {list(arrays[0].shape)}."
            )
    scaler = kinds[how]().fit(arrays[0].reshape(len(arrays[0]), -1).astype(np.float64))
    scaled = [scaler.transform(a.reshape(len(a), -1)).reshape(a.shape).astype(np.float32) for a in arrays]
    return scaler, scaled


@dataclass(frozen=True)
class Table:
    """Named columns of numbers; `values` is float64 [rows, columns]."""

    names: tuple[str, ...]
    values: np.ndarray

    def columns(self, *names: str) -> np.ndarray:
        """Return the named columns, [rows, len(names)]. Raises ValueError for an unknown name, suggesting the closest."""
        for name in names:
            choice(name, "column", self.names)
        return self.values[:, [self.names.index(name) for name in names]]


def read_csv(path: str | Path, names: Sequence[str] | None = None) -> Table:
    """Read a CSV file of numbers, skipping empty lines and lines that begin with #.

    names: the column names; None: taken from the first row if it contains no number, else column0, column1, ... Raises
    DataError with line and column for text, missing values and NaN, with the line for rows of a different length, and if
    there are no rows.
    """
    path = validate.path(path, "path")
    if names is not None and not (isinstance(names, (list, tuple)) and all(isinstance(name, str) for name in names)):
        raise DataError(f"names must be a list of column names or None, not {shown(names)}.")
    rows: list[list[float]] = []
    width, header = None if names is None else len(names), None if names is None else tuple(names)
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            for cells in reader:
                line = reader.line_num
                if not any(cell.strip() for cell in cells) or cells[0].lstrip().startswith("#"):
                    continue
                if header is None and not rows and not any(_is_number(cell) for cell in cells):
                    header, width = tuple(cell.strip() for cell in cells), len(cells)
                    continue
                width = len(cells) if width is None else width
                if len(cells) != width:
                    raise DataError(f"{path}, line {line}: found {len(cells)} columns, expected {width}.")
                rows.append([_number(cell, path, line, i, header) for i, cell in enumerate(cells)])
    except FileNotFoundError as error:
        raise DataError(f"The file {path} does not exist.") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as CSV: {error}.") from error
    if not rows:
        raise DataError(f"{path} contains no rows of numbers.")
    header = header or tuple(f"column{i}" for i in range(len(rows[0])))
    if len(set(header)) < len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise DataError(f"{path}: two columns are named {twice!r}.")
    return Table(header, np.array(rows))


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _number(cell: str, path: Path, line: int, i: int, header: tuple[str, ...] | None) -> float:
    place = f"{path}, line {line}, column {header[i] if header else i}"
    if not _is_number(cell):
        raise DataError(f"{place}: {cell.strip()!r} is not a number." if cell.strip() else f"{place} is empty.")
    if not math.isfinite(float(cell)):
        raise DataError(f"{place}: {cell.strip()} is not a finite number.")
    return float(cell)


def windows(series: Any, length: int, target: Any = None, ahead: int = 1) -> Data:
    """Return the sliding windows x [M, length, ...] of a series [T, ...], and the values y [M, ...] `ahead` steps after each.

    target: the series [T, ...] that y is taken from; None: the same one. M = T - length - ahead + 1. Raises DataError if the
    series is too short for a single window.
    """
    values = tensor_of(series, "The series")
    goal = values if target is None else tensor_of(target, "The target series")
    if len(goal) != len(values):
        raise DataError(f"The series has {len(values)} steps and its target {len(goal)}; the numbers must be equal.")
    length, ahead = integer(length, "length", 1, error=DataError), integer(ahead, "ahead", 1, error=DataError)
    count = len(values) - length - ahead + 1
    if count < 1:
        raise DataError(
            f"A series of {len(values)} steps is too short for a window of {length} and a target {ahead} ahead: at least"
            f" {length + ahead} steps are needed."
        )
    x = values.unfold(0, length, 1)[:count].movedim(-1, 1).contiguous()
    return Data(x, goal[length + ahead - 1 :].contiguous())


class Characters:
    """The characters of a text, numbered in alphabetical order."""

    def __init__(self, text: str) -> None:
        if not isinstance(text, str):
            raise DataError(f"text must be a string, not {shown(text)}.")
        if not text:
            raise DataError("An empty text has no characters.")
        self.all = "".join(sorted(set(text)))

    def __len__(self) -> int:
        return len(self.all)

    def encode(self, text: str) -> Tensor:
        """Return the indices of a text's characters, int64 [T]. Raises DataError for an unknown character."""
        if not isinstance(text, str):
            raise DataError(f"text must be a string, not {shown(text)}.")
        for place, character in enumerate(text):
            if character not in self.all:
                raise DataError(
                    f"Character {place}, {character!r}, of the text is not among the {len(self)} known characters."
                )
        return torch.tensor([self.all.index(character) for character in text], dtype=torch.int64)

    def decode(self, numbers: Tensor) -> str:
        """Return the text for indices [T]. Raises DataError for an index out of range."""
        if not isinstance(numbers, Tensor) or numbers.ndim != 1 or numbers.is_floating_point():
            raise DataError(f"numbers must be a tensor of whole numbers [T], not {shown(numbers)}.")
        if len(numbers) and not 0 <= int(numbers.min()) <= int(numbers.max()) < len(self):
            raise DataError(f"numbers must be in 0..{len(self) - 1}, not {shown(numbers)}.")
        return "".join(self.all[int(number)] for number in numbers)

    def one_hot(self, text: str) -> Tensor:
        """Encode a text as one-hot vectors, float32 [T, characters]."""
        return torch.nn.functional.one_hot(self.encode(text), len(self)).float()


def next_characters(text: str, length: int | None = None) -> tuple[Characters, Data]:
    """Return data for next-character prediction: windows x [M, length], and y [M, length], the same shifted by one.

    length: None: one window over the whole text.
    """
    characters = Characters(text)
    numbers = characters.encode(text)
    length = len(text) - 1 if length is None else integer(length, "length", error=DataError)
    if not 1 <= length < len(text):
        raise DataError(
            f"A text of {len(text)} characters has windows of 1 to {len(text) - 1} characters, not {length}."
        )
    return characters, Data(numbers[:-1].unfold(0, length, 1).clone(), numbers[1:].unfold(0, length, 1).clone())
