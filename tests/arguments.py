"""Every public callable with a valid call, and what becomes of it when one argument is replaced."""

from __future__ import annotations

import ast
import functools
import math
import signal
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

ROOT = Path(__file__).parent.parent
OURS = tuple(str(ROOT / name) for name in ("rl", "supervised", "envs"))
SECONDS = 20


class Case(NamedTuple):
    """A callable, and arguments with which it works."""

    name: str
    call: Callable[..., Any]
    valid: dict[str, Any]
    long: tuple[str, ...] = ()  # arguments that may be as large as one has time for


class Thing:
    """An object that is nothing of what is wanted."""


WRONG: dict[str, Callable[[], Any]] = {
    "None": lambda: None,
    "text": lambda: "x",
    "empty text": lambda: "",
    "bytes": lambda: b"x",
    "list": lambda: [1, 2],
    "empty list": lambda: [],
    "nested list": lambda: [[1], [2, 3]],
    "dict": lambda: {},
    "dict of text": lambda: {"a": "b"},
    "set": lambda: {1},
    "nan": lambda: math.nan,
    "inf": lambda: math.inf,
    "-inf": lambda: -math.inf,
    "-1": lambda: -1,
    "0": lambda: 0,
    "0.5": lambda: 0.5,
    "1e300": lambda: 1e300,
    "2**40": lambda: 2**40,
    "2**70": lambda: 2**70,
    "10**5000": lambda: 10**5000,
    "True": lambda: True,
    "complex": lambda: 1j,
    "array": lambda: np.array([1.0, 2.0]),
    "empty array": lambda: np.array([]),
    "array of objects": lambda: np.array([None, "x"], dtype=object),
    "tensor": lambda: torch.zeros(2, 3),
    "tensor of whole numbers": lambda: torch.full((2, 1), -7),
    "0-d tensor": lambda: torch.tensor(math.nan),
    "object": Thing,
    "class": lambda: Thing,
    "function": lambda: lambda *a, **k: None,
    "time span": lambda: np.timedelta64(3, "s"),
}

ENDLESS = ("2**40",)

INTEGERS: list[Callable[[Any], Any]] = [
    *(np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64),
    *(lambda v, t=t: np.array(v, t) for t in (np.int8, np.int64, np.uint8)),
    *(
        lambda v, t=t: torch.tensor(v, dtype=t)
        for t in (torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8)
    ),
]
FLOATS: list[Callable[[Any], Any]] = [
    *(np.float16, np.float32, np.float64, np.longdouble),
    *(lambda v, t=t: np.array(v, t) for t in (np.float32, np.float64)),
    *(lambda v, t=t: torch.tensor(v, dtype=t) for t in (torch.float16, torch.bfloat16, torch.float32, torch.float64)),
    lambda v: torch.tensor(v, requires_grad=True),
]
FLAGS: list[Callable[[Any], Any]] = [np.bool_, lambda v: np.array(v), lambda v: torch.tensor(v)]


def scalars(value: Any) -> list[Callable[[Any], Any]]:
    """What makes other scalars of a valid one: types of numpy and torch that stand for the same number."""
    if isinstance(value, bool):
        return FLAGS
    if isinstance(value, int):
        return INTEGERS
    return [*FLOATS, *INTEGERS] if isinstance(value, float) and value.is_integer() else FLOATS


def replaced(case: Case) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Each argument in turn in the place of each wrong value -> (argument, what it is, the arguments)."""
    for argument in case.valid:
        for what, make in WRONG.items():
            if not (argument in case.long and what in ENDLESS):
                yield argument, what, {**case.valid, argument: make()}


class TooLong(BaseException):
    pass


def attempt(case: Case, arguments: dict[str, Any]) -> BaseException | None:
    """Call it -> what it raised."""

    def stop(*_: Any) -> None:
        raise TooLong

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            case.call(**arguments)
    except (Exception, TooLong) as error:
        return error
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    return None


def fault(error: BaseException) -> str | None:
    """Why an error is no sentence of ours; None if it is one."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    said = f"{type(error).__name__}: {_said(error)[:100]} ({frame.filename.split('site-packages/')[-1]}:{frame.lineno})"
    if not isinstance(error, (TypeError, ValueError, FloatingPointError)):
        return f"another type: {said}"
    if not frame.filename.startswith(OURS):
        return f"raised elsewhere: {said}"
    if not any(begin <= (frame.lineno or 0) <= end for begin, end in raises(frame.filename)):
        return f"not raised, but fallen into: {said}"
    if not _said(error).strip().endswith((".", ")", "?")) or len(_said(error)) < 20:
        return f"no sentence: {said}"
    return None


def _said(error: BaseException) -> str:
    try:
        return str(error)
    except ValueError:  # a KeyError of a number of too many digits
        return "cannot be printed"


@functools.cache
def raises(file: str) -> list[tuple[int, int]]:
    """The lines of each raise statement of a file."""
    tree = ast.parse(Path(file).read_text())
    return [(n.lineno, n.end_lineno or n.lineno) for n in ast.walk(tree) if isinstance(n, ast.Raise)]


def names(error: BaseException, argument: str) -> bool:
    """Whether the message speaks of the argument."""
    text = str(error).lower().replace("_", " ")
    return any(word in text for word in argument.lower().split("_") if len(word) > 2) or argument in str(error)
