"""Argument checks: whole numbers, numbers, flags, choices, seeds and paths.

Each check takes a value and the argument's name and returns the value as plain Python. Numpy and torch scalars, 0-d arrays
and 0-d tensors are accepted wherever a number is. Anything else raises an ArgumentError with the argument's name, what was
given and what is allowed.
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
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeGuard, TypeVar

import numpy as np

if TYPE_CHECKING:
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
)  # packages whose error messages do not name this project's arguments
LONGEST = 80  # maximum characters of a value in a message


class ArgumentError(TypeError, ValueError):
    """Raised for an argument of the wrong type or with a value that is not allowed; both a TypeError and a ValueError."""


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
    """Return `value` as an int in [low, high]. none: mention None in messages; floats: accept 1e6 for 1 000 000.

    Raises `error` for anything else, bools included.
    """
    if type(value) is int and low <= value <= high:
        return value  # the common case
    plain = unwrap(value)
    if floats and isinstance(plain, float) and plain.is_integer():
        plain = int(plain)
    if not is_whole(plain) or not low <= plain <= high:
        ends = [] if low == -LARGEST else [f"at least {low:,}"]
        ends += [f"at most {high:,}"] if high < LARGEST or (is_whole(plain) and plain > high) else []
        limits = f" of {' and '.join(ends)}" if ends else ""
        raise error(f"{name} must be a whole number{limits}{' or None' if none else ''}, not {shown(value)}.")
    return int(plain)


def integers(value: Any, name: str, low: int = -LARGEST, high: int = LARGEST, **more: Any) -> tuple[int, ...]:
    """Return `value`, a list, tuple, range, array or tensor of whole numbers in [low, high], as a tuple of ints.

    Raises ArgumentError, or the `error` of `integer`, for anything else.
    """
    if not isinstance(value, (list, tuple, range)) and getattr(value, "ndim", 0) != 1:
        error = more.get("error", ArgumentError)
        limit = "" if low == -LARGEST else f" of at least {low:,}"
        raise error(f"{name} must be a list of whole numbers{limit}, not {shown(value)}.")
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
    """Return `value` as a finite float in [low, high]. above, below: exclude low, or high; none: as in `integer`.

    Raises `error` for anything else, bools, NaN and infinity included.
    """
    found = value if type(value) is float else as_float(value)
    inside = (low < found if above else low <= found) and (found < high if below else found <= high)
    if not (math.isfinite(found) and inside):
        if math.isfinite(low) and math.isfinite(high):
            what = f"lie in {'(' if above else '['}{low:g}, {high:g}{')' if below else ']'}"
        elif math.isfinite(low):
            what = f"be a number {'above' if above else 'of at least'} {low:g}"
        elif math.isfinite(high):
            what = f"be a number {'below' if below else 'of at most'} {high:g}"
        else:
            what = "be a finite number"
        raise error(f"{name} must {what}{' or be None' if none else ''}, not {shown(value)}.")
    return found


def flag(value: Any, name: str, *, none: bool = False) -> bool:
    """Return `value`, True or False (numpy's too), as a bool. none: as in `integer`.

    Raises ArgumentError for anything else, 0 and 1 included.
    """
    if value is True or value is False:
        return value
    plain = unwrap(value)
    if not isinstance(plain, bool):
        raise ArgumentError(f"{name} must be True or False{' or None' if none else ''}, not {shown(value)}.")
    return plain


def choice(value: Any, name: str, known: Iterable[str], *, none: bool = False) -> str:
    """Return `value` if it is one of the known names, else raise ArgumentError with the closest one; none: as in `integer`."""
    known = list(known)
    if isinstance(value, str) and value in known:
        return str(value)
    close = (
        difflib.get_close_matches(str(value).lower(), [k.lower() for k in known], 1) if isinstance(value, str) else []
    )
    hint = next((f" Did you mean {k!r}?" for k in known if close and k.lower() == close[0]), "")
    raise ArgumentError(
        f"There is no {name} {shown(value)}.{hint} Choose one of {', '.join(known)}{' or None' if none else ''}."
    )


def seeds_of(seeds: Any) -> tuple[int, ...]:
    """Return the seeds given as a count (0..n-1) or as a list, range, array or tensor of distinct integers in [0, 2**63).

    Raises ArgumentError for anything else, for no seeds and for more than 100 000.
    """
    plain = unwrap(seeds)
    if is_whole(plain):
        plain = range(min(max(int(plain), 0), MOST_SEEDS + 1))
    if isinstance(plain, (str, bytes, Mapping, set, frozenset)) or not isinstance(plain, Iterable):
        raise ArgumentError(f"seeds must be a count or a list of whole numbers, not {shown(seeds)}.")
    try:
        found = list(itertools.islice(plain, MOST_SEEDS + 1))
    except TypeError:  # an array without an axis
        raise ArgumentError(f"seeds must be a count or a list of whole numbers, not {shown(seeds)}.") from None
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
    """Return `value` as an int of at least 1, with at most 1 000 000 environments in total. seeds: the number of seeds.

    Raises ArgumentError for anything else.
    """
    found = integer(value, "envs_per_seed", 1)
    if found * seeds > MOST_ENVS:
        raise ArgumentError(
            f"envs_per_seed must be at most {MOST_ENVS // seeds:,} with {seeds:,} seed{'s' * (seeds > 1)} ({MOST_ENVS:,}"
            f" environments in all), not {shown(value)}."
        )
    return found


def path(value: Any, name: str, what: str = "a file") -> Path:
    """Return `value`, a string or path object, as a Path. what: what it is the path of. Raises ArgumentError otherwise."""
    found = os.fspath(value) if isinstance(value, (str, os.PathLike)) else None
    if not isinstance(found, str) or not found or "\0" in found:
        raise ArgumentError(f"{name} must be the path of {what}, not {shown(value)}.")
    return Path(found)


def instance(value: Any, name: str, kinds: type[T] | tuple[type[T], ...], what: str, *, none: bool = False) -> T:
    """Return `value` if it is an instance of `kinds`, else raise ArgumentError.

    what: what is allowed, in words; none: as in `integer`.
    """
    if not isinstance(value, kinds):
        raise ArgumentError(f"{name} must be {what}{' or None' if none else ''}, not {shown(value)}.")
    return value


def function(value: Any, name: str, takes: tuple[str, ...], what: str) -> Any:
    """Return `value` if it can be called with the positional arguments named in `takes`. what: what is allowed, in words.

    Raises ArgumentError for anything else, such as a class whose constructor takes other arguments.
    """
    if not callable(value):
        raise ArgumentError(f"{name} must be {what}, not {shown(value)}.")
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):  # a builtin without a signature
        return value
    try:
        signature.bind(*takes)
    except TypeError:
        called = getattr(value, "__name__", type(value).__name__)
        raise ArgumentError(
            f"{name} must be {what}, called with {', '.join(takes) or 'no argument'}; {called} takes"
            f" {', '.join(signature.parameters) or 'none'}."
        ) from None
    return value


def optional(check: Callable[..., T], value: Any, name: str, *limits: Any, **more: Any) -> T | None:
    """Return None if `value` is None, else the result of `check`."""
    return None if value is None else check(value, name, *limits, none=True, **more)


def store(owner: Any, check: Callable[..., Any], *names: str, none: bool = False, **limits: Any) -> None:
    """Replace fields of a frozen dataclass by the results of `check(value, name, **limits)`. none: allow None."""
    for name in names:
        value = getattr(owner, name)
        if none and value is None:
            continue
        object.__setattr__(owner, name, check(value, name, **limits, **({"none": True} if none else {})))


def explained(takes: str, name: str = "") -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Decorate a function so that failures inside numpy, torch or numba become an ArgumentError with its arguments.

    takes: the expected arguments and their shapes, in words. name: the function's name in the message, if not its own. Errors
    raised by this project or by the user's code pass through. The only cost without an error is an extra call.
    """

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> T:
            try:
                return function(*args, **kwargs)
            except Exception as error:  # numpy, torch and numba raise all kinds for wrong arguments
                if isinstance(error, loaded("torch", "OutOfMemoryError")) or is_told(error):
                    raise
                given = _given(function, args, kwargs)
                said = first_line(error)
                raise ArgumentError(
                    f"{name or function.__qualname__} takes {takes}; it was given {given}. {said}"
                ) from error

        return call

    return decorate


def unwrap(value: Any) -> Any:
    """Convert a real numpy scalar, 0-d array or 0-d tensor to Python's bool, int or float; return anything else unchanged."""
    if is_tensor(value):
        real = value.ndim == 0 and not value.is_complex() and value.device.type != "meta"
        return value.item() if real else value
    if not isinstance(value, (np.generic, np.ndarray)) or value.ndim or value is np.ma.masked:
        return value
    kind = value.dtype.kind
    return float(value) if kind == "f" else value.item() if kind in "biu" else value


def unwrapped(tree: Any) -> Any:
    """Unwrap every scalar in nested dicts, lists and tuples."""
    if isinstance(tree, dict):
        return {key: unwrapped(value) for key, value in tree.items()}
    if type(tree) in (list, tuple):
        return type(tree)(map(unwrapped, tree))
    return unwrap(tree)


def is_tensor(value: Any) -> TypeGuard[Tensor]:
    """Return whether a value is a torch.Tensor, without importing torch."""
    return isinstance(value, loaded("torch", "Tensor"))


def loaded(module: str, name: str) -> Any:
    """Return a class of a module, or (), of which nothing is an instance, as long as nobody has imported the module."""
    return getattr(sys.modules.get(module), name, ())


def is_whole(plain: Any) -> bool:
    """Return whether an unwrapped value is a whole number; bools and numpy's timedeltas are not."""
    return isinstance(plain, numbers.Integral) and not isinstance(plain, (bool, np.timedelta64))


def as_float(value: Any) -> float:
    """Return a real number as a float, or NaN for anything else, bools and numbers that overflow included."""
    plain = unwrap(value)
    if isinstance(plain, (bool, np.timedelta64)) or not isinstance(plain, numbers.Real):
        return math.nan
    try:
        return float(plain)
    except OverflowError:
        return math.nan


def shown(value: Any) -> str:
    """Format a value for a message: its repr on one line, shortened."""
    try:
        text = " ".join(repr(value).split())
    except Exception:  # a user's __repr__, or an int with too many digits
        text = (
            "a number with too many digits" if isinstance(value, int) else f"an object of type {type(value).__name__}"
        )
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, ending in a period; torch and numba append stack traces."""
    try:
        said = (str(error).strip().splitlines() or [""])[0]
    except ValueError:  # an int with too many digits
        said = ""
    return f"{said or type(error).__name__}{'' if said.endswith('.') else '.'}"


def kind_of(value: Any) -> str:
    """Format a value for a message: dtype and shape of arrays and tensors, the fields of named tuples, else the repr."""
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        parts = ", ".join(f"{name}={kind_of(part)}" for name, part in zip(value._fields, value, strict=True))
        return f"{type(value).__name__}({parts})"
    if isinstance(value, dict):
        return f"a dict of {', '.join(map(shown, value)) or 'nothing'}"
    if (is_tensor(value) or isinstance(value, np.ndarray)) and value.ndim:
        return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
    return shown(value)


def _given(function: Callable[..., Any], args: Any, kwargs: Any) -> str:
    """Format the arguments of a call by name, without `self`."""
    try:
        bound = inspect.signature(function).bind(*args, **kwargs).arguments
    except TypeError as error:  # too many arguments, or an unknown one
        return f"other arguments ({error})"
    return ", ".join(f"{name}={kind_of(value)}" for name, value in bound.items() if name != "self")


def is_told(error: Exception) -> bool:
    """Return whether an error comes from a raise statement in this project or in the user's code, not from a FOREIGN package."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return False
    frame = trace.tb_frame
    raised = frame.f_code.co_code[trace.tb_lasti] == dis.opmap["RAISE_VARARGS"]
    return raised and frame.f_globals.get("__name__", "").split(".")[0] not in FOREIGN
