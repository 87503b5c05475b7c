"""The one validator: whole numbers, numbers, flags, choices, seeds and paths.

Each check takes a value and the name of the argument, and returns the value as plain Python: scalars of numpy and torch,
0-d arrays and 0-d tensors are accepted wherever a number is. What is not allowed raises an ArgumentError, a sentence that
names the argument, what was given and what is allowed.
"""

from __future__ import annotations

import difflib
import dis
import functools
import inspect
import itertools
import math
import numbers
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numpy as np
import torch
from torch import Tensor

T = TypeVar("T")
P = ParamSpec("P")

LARGEST = 2**63 - 1  # the largest int64
MOST_SEEDS = 100_000
MOST_ENVS = 1_000_000  # environments of all seeds together
FOREIGN = (
    "numpy",
    "torch",
    "numba",
    "gymnasium",
    "scipy",
    "sklearn",
)  # what they raise is no sentence for a user of this project
LONGEST = 80  # characters of a value in a message


class ArgumentError(TypeError, ValueError):
    """An argument has the wrong type or a value that is not allowed; `except` either of the two bases catches it."""


def integer(
    value: Any,
    name: str,
    low: int = -LARGEST,
    high: int = LARGEST,
    *,
    none: bool = False,
    floats: bool = False,
    error: type[ValueError] = ArgumentError,
) -> int:
    """`value` as an int in [low, high]. none: say in messages that None is allowed; floats: accept 1e6 for 1 000 000.

    Raises `error` for anything else, bools included.
    """
    if type(value) is int and low <= value <= high:
        return value  # by far the most often
    plain = unwrap(value)
    if floats and isinstance(plain, float) and plain.is_integer():
        plain = int(plain)
    if not is_whole(plain) or not low <= plain <= high:
        start = "" if low == -LARGEST else f" from {low} on"
        end = f", {high:,} at most" if high < LARGEST or (is_whole(plain) and plain > high) else ""
        raise error(f"{name} is a whole number{start}{end}{' or None' if none else ''}, not {shown(value)}.")
    return int(plain)


def integers(value: Any, name: str, low: int = -LARGEST, high: int = LARGEST, **more: Any) -> tuple[int, ...]:
    """`value`, a list, tuple, range, array or tensor of whole numbers in [low, high], as a tuple of ints.

    Raises ArgumentError, or the `error` of `integer`, for anything else.
    """
    if not isinstance(value, (list, tuple, range)) and getattr(value, "ndim", 0) != 1:
        error = more.get("error", ArgumentError)
        raise error(
            f"{name} is a list of whole numbers{'' if low == -LARGEST else f' from {low} on'}, not {shown(value)}."
        )
    return tuple(integer(one, f"{name}[{i}]", low, high, **more) for i, one in enumerate(value))


def number(
    value: Any,
    name: str,
    low: float = -math.inf,
    high: float = math.inf,
    *,
    above: bool = False,
    below: bool = False,
    none: bool = False,
    error: type[ValueError] = ArgumentError,
) -> float:
    """`value` as a finite float in [low, high]. above: low itself is excluded; below: high itself; none: as in `integer`.

    Raises `error` for anything else, bools, NaN and infinity included.
    """
    found = value if type(value) is float else as_float(value)
    inside = (low < found if above else low <= found) and (found < high if below else found <= high)
    if not (math.isfinite(found) and inside):
        if math.isfinite(low) and math.isfinite(high):
            what = f"must lie in {'(' if above else '['}{low:g}, {high:g}{')' if below else ']'}"
        elif math.isfinite(low):
            what = f"is a number {'above' if above else 'from'} {low:g}{'' if above else ' on'}"
        elif math.isfinite(high):
            what = f"is a number {'below' if below else 'up to'} {high:g}"
        else:
            what = "must be a finite number"
        raise error(f"{name} {what}{' or be None' if none else ''}, not {shown(value)}.")
    return found


def flag(value: Any, name: str, *, none: bool = False) -> bool:
    """`value` as a bool: True or False, numpy's too. none: as in `integer`.

    Raises ArgumentError for anything else, 0 and 1 included.
    """
    if value is True or value is False:
        return value
    plain = unwrap(value)
    if not isinstance(plain, bool):
        raise ArgumentError(f"{name} is True or False{' or None' if none else ''}, not {shown(value)}.")
    return plain


def choice(value: Any, name: str, known: Iterable[str], *, none: bool = False) -> str:
    """`value`, one of the known names. Raises ArgumentError for any other, with the nearest one; none: as in `integer`."""
    known = list(known)
    if isinstance(value, str) and value in known:
        return str(value)
    close = (
        difflib.get_close_matches(str(value).lower(), [k.lower() for k in known], 1) if isinstance(value, str) else []
    )
    hint = next((f" Did you mean {k!r}?" for k in known if close and k.lower() == close[0]), "")
    raise ArgumentError(
        f"There is no {name} {shown(value)}.{hint} There are {', '.join(known)}{' and None' if none else ''}."
    )


def seeds_of(seeds: Any) -> tuple[int, ...]:
    """The seeds of a count (0..n-1), or of a list, range, array or tensor of different whole numbers in [0, 2**63).

    Raises ArgumentError for anything else, for no seed at all and for more than 100 000.
    """
    plain = unwrap(seeds)
    if is_whole(plain):
        plain = range(min(max(int(plain), 0), MOST_SEEDS + 1))
    if isinstance(plain, (str, bytes, Mapping, set, frozenset)) or not isinstance(plain, Iterable):
        raise ArgumentError(f"seeds is a count or a list of whole numbers, not {shown(seeds)}.")
    try:
        found = list(itertools.islice(plain, MOST_SEEDS + 1))
    except TypeError:  # an array without an axis
        raise ArgumentError(f"seeds is a count or a list of whole numbers, not {shown(seeds)}.") from None
    if not found:
        raise ArgumentError(f"At least one seed is needed, not {shown(seeds)}.")
    if len(found) > MOST_SEEDS:
        raise ArgumentError(f"At most {MOST_SEEDS:,} seeds can run at once, not {shown(seeds)}.")
    numbers_ = tuple(integer(seed, "A seed", 0) for seed in found)
    double = sorted(seed for seed, count in Counter(numbers_).items() if count > 1)
    if double:
        raise ArgumentError(f"Each seed can run once; {', '.join(map(str, double[:5]))} was given more than once.")
    return numbers_


def envs_per_seed(value: Any, seeds: int) -> int:
    """`value` as an int from 1 on, with at most 1 000 000 environments in all. seeds: how many there are.

    Raises ArgumentError for anything else.
    """
    found = integer(value, "envs_per_seed", 1)
    if found * seeds > MOST_ENVS:
        raise ArgumentError(
            f"envs_per_seed is at most {MOST_ENVS // seeds:,} with {seeds:,} seed{'s' * (seeds > 1)} ({MOST_ENVS:,}"
            f" environments in all), not {shown(value)}."
        )
    return found


def path(value: Any, name: str, what: str = "a file") -> Path:
    """`value`, a text or path object, as a Path. what: it is the path of. Raises ArgumentError for anything else."""
    found = os.fspath(value) if isinstance(value, (str, os.PathLike)) else None
    if not isinstance(found, str) or not found or "\0" in found:
        raise ArgumentError(f"{name} is the path of {what}, not {shown(value)}.")
    return Path(found)


def instance(value: Any, name: str, kinds: type[T] | tuple[type[T], ...], what: str, *, none: bool = False) -> T:
    """`value`, of one of the types. what: what is allowed, in words; none: as in `integer`.

    Raises ArgumentError for anything else.
    """
    if not isinstance(value, kinds):
        raise ArgumentError(f"{name} is {what}{' or None' if none else ''}, not {shown(value)}.")
    return value


def function(value: Any, name: str, takes: tuple[str, ...], what: str) -> Any:
    """`value`, a function that can be called with arguments as those named in `takes`. what: what is allowed, in words.

    Raises ArgumentError for anything else, such as a class whose constructor takes other arguments.
    """
    if not callable(value):
        raise ArgumentError(f"{name} is {what}, not {shown(value)}.")
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):  # of a builtin, which does not tell
        return value
    try:
        signature.bind(*takes)
    except TypeError:
        called = getattr(value, "__name__", type(value).__name__)
        raise ArgumentError(
            f"{name} is {what}, called with {', '.join(takes) or 'no argument'}; {called} takes"
            f" {', '.join(signature.parameters) or 'none'}."
        ) from None
    return value


def optional(check: Callable[..., T], value: Any, name: str, *limits: Any, **more: Any) -> T | None:
    """None where `value` is None, else what `check` returns."""
    return None if value is None else check(value, name, *limits, none=True, **more)


def store(owner: Any, check: Callable[..., Any], *names: str, none: bool = False, **limits: Any) -> None:
    """Replace fields of a frozen dataclass by what `check(value, name, **limits)` returns. none: None may stay."""
    for name in names:
        value = getattr(owner, name)
        if none and value is None:
            continue
        object.__setattr__(owner, name, check(value, name, **limits, **({"none": True} if none else {})))


def explained(takes: str, name: str = "") -> Callable[[Callable[P, T]], Callable[P, T]]:
    """A decorator: where a function fails on its arguments, an ArgumentError says what it takes and what it was given.

    takes: the arguments and their shapes, in words. name: of the function, where it is another. What a raise statement of this
    project or of a user raises passes through. All of it costs a call while nothing is wrong.
    """

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> T:
            try:
                return function(*args, **kwargs)
            except Exception as error:  # whatever numpy, torch or numba raise at wrong arguments
                if isinstance(error, torch.OutOfMemoryError) or is_told(error):
                    raise
                given = _given(function, args, kwargs)
                said = first_line(error)
                raise ArgumentError(
                    f"{name or function.__qualname__} takes {takes}; it was given {given}. {said}"
                ) from error

        return call

    return decorate


def unwrap(value: Any) -> Any:
    """A real scalar of numpy or torch, a 0-d array or a 0-d tensor as Python's bool, int or float; all else as it is."""
    if isinstance(value, Tensor):
        real = value.ndim == 0 and not value.is_complex() and value.device.type != "meta"
        return value.item() if real else value
    if not isinstance(value, (np.generic, np.ndarray)) or value.ndim or value is np.ma.masked:
        return value
    kind = value.dtype.kind
    return float(value) if kind == "f" else value.item() if kind in "biu" else value


def unwrapped(tree: Any) -> Any:
    """Dicts, lists and tuples with every scalar in them unwrapped."""
    if isinstance(tree, dict):
        return {key: unwrapped(value) for key, value in tree.items()}
    if type(tree) in (list, tuple):
        return type(tree)(map(unwrapped, tree))
    return unwrap(tree)


def is_whole(plain: Any) -> bool:
    """Whether an unwrapped value is a whole number; a bool is none, nor is a numpy time span."""
    return isinstance(plain, numbers.Integral) and not isinstance(plain, (bool, np.timedelta64))


def as_float(value: Any) -> float:
    """A real number as a float; NaN for anything else, bools included, and for what is too large."""
    plain = unwrap(value)
    if isinstance(plain, (bool, np.timedelta64)) or not isinstance(plain, numbers.Real):
        return math.nan
    try:
        return float(plain)
    except OverflowError:
        return math.nan


def shown(value: Any) -> str:
    """A value in a message: its repr on one line, shortened."""
    try:
        text = " ".join(repr(value).split())
    except Exception:  # whatever a user's object raises; also a whole number of too many digits
        text = "a number of too many digits" if isinstance(value, int) else f"an object of type {type(value).__name__}"
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


def first_line(error: Exception) -> str:
    """What an error says, without the trace that torch and numba add, as a sentence."""
    try:
        said = (str(error).strip().splitlines() or [""])[0]
    except ValueError:  # a number of too many digits
        said = ""
    return f"{said or type(error).__name__}{'' if said.endswith('.') else '.'}"


def kind_of(value: Any) -> str:
    """A value in a message: type and shape of an array or tensor, the parts of a named tuple, the repr of anything else."""
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        parts = ", ".join(f"{name}={kind_of(part)}" for name, part in zip(value._fields, value, strict=True))
        return f"{type(value).__name__}({parts})"
    if isinstance(value, dict):
        return f"a dict of {', '.join(map(shown, value)) or 'nothing'}"
    if isinstance(value, (Tensor, np.ndarray)) and value.ndim:
        return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
    return shown(value)


def _given(function: Callable[..., Any], args: Any, kwargs: Any) -> str:
    """The arguments of a call by name, without `self`."""
    try:
        bound = inspect.signature(function).bind(*args, **kwargs).arguments
    except TypeError as error:  # too many arguments, or one that it does not have
        return f"other arguments ({error})"
    return ", ".join(f"{name}={kind_of(value)}" for name, value in bound.items() if name != "self")


def is_told(error: Exception) -> bool:
    """Whether an error was raised by a raise statement of this project or of a user, and so says what it has to say."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return False
    frame = trace.tb_frame
    raised = frame.f_code.co_code[trace.tb_lasti] == dis.opmap["RAISE_VARARGS"]
    return raised and frame.f_globals.get("__name__", "").split(".")[0] not in FOREIGN
