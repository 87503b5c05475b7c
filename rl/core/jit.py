"""Specialization of plain Python functions, and their compilation with numba.

`specialize(loop, learn=rule)` copies `loop`, and all the functions it calls, with the global name `learn` bound to `rule` (or to
a number); `compiled` compiles that copy with those functions inlined. So a new rule needs no change here. numba caches machine
code on disk by function name only, so the name of a copy ends in a hash of all the bytecode involved: the cache never returns the
machine code of an earlier version of a rule.
"""

from __future__ import annotations

import functools
import hashlib
import types
import warnings
from collections.abc import Callable, Mapping
from typing import Any

Function = Callable[..., Any]
Replacement = Function | int  # what a global name is bound to

# Without numba's runtime there is no reference counting of arrays and generators, which is 8 times faster; but rules must not
# create arrays.
OUTER: dict[str, Any] = {"cache": True, "nogil": True, "_nrt": False, "error_model": "numpy", "no_cfunc_wrapper": True}
# Inlined by LLVM, since numba is slow at passing tuples of arrays between functions; its own inlining ("inline") produces the
# same machine code but takes four times as long. Only compiled code calls these functions, so they need no Python or C wrappers.
INNER: dict[str, Any] = {
    "forceinline": True,
    "_nrt": False,
    "error_model": "numpy",
    "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True,
}

_compiled: dict[tuple[Any, ...], Function] = {}  # the functions compiled by this process; see `_build`


@functools.cache
def have_numba() -> bool:
    """Return whether numba can be imported; if not, warn once about the cost."""
    try:
        import numba  # noqa: F401  (whether it is there)
    except ImportError:
        warnings.warn(
            "numba is not installed: tables and replays run uncompiled, with the same results. Tabular agents are hundreds of"
            " times slower (like an ordinary Python loop), networks several times. Install it with `pip install numba`.",
            RuntimeWarning,
            stacklevel=3,
        )
        return False
    return True


@functools.cache
def specialize(function: Function, **replacements: Replacement) -> Function:
    """Return a copy of `function`, and of all the functions it calls, with the names in `replacements` bound to new values."""
    return _build(function, replacements, {}, {}, lambda copy, _outermost: copy)


@functools.cache
def compiled(function: Function, **replacements: Replacement) -> Function | None:
    """Return the compiled result of `specialize`, or None without numba. The compiled function releases the GIL."""
    if not have_numba():
        return None
    import numba

    def finish(copy: Function, outermost: bool) -> Function:
        finished: Function = numba.njit(copy, **(OUTER if outermost else INNER))
        return _replacing_stale_code(finished)

    return _build(function, replacements, {}, _compiled, finish)


def _replacing_stale_code(function: Function) -> Function:
    """Compile again where cached machine code names a class that is no longer there, since it was renamed or moved."""
    cache = getattr(function, "_cache", None)
    load = getattr(cache, "load_overload", None)
    if load is None:
        return function

    def load_or_discard(*arguments: Any) -> Any:
        try:
            return load(*arguments)
        except (AttributeError, ImportError):  # of unpickling the types of arguments
            cache.flush()  # type: ignore[union-attr]  # it has a load_overload
            return None

    cache.load_overload = load_or_discard  # type: ignore[union-attr]
    return function


def entry(function: Function, *arguments: Any) -> Function:
    """Return the machine code of a compiled function for arguments of these types; other functions are returned unchanged.

    Calling it skips numba's dispatcher, whose type lookup takes ten times as long as the call itself for tuples of arrays. The
    types of later arguments are not checked.
    """
    compile_for = getattr(function, "compile", None)
    if compile_for is None:
        return function
    import numba

    type_of: Function = numba.typeof
    code: Function = compile_for(tuple(type_of(argument) for argument in arguments))
    return code


def _build(
    function: Function,
    replacements: dict[str, Replacement],
    done: dict[Any, Function],
    shared: dict[tuple[Any, ...], Function],
    finish: Callable[[Function, bool], Function],
) -> Function:
    """Copy the functions that `function` calls, then `function` itself, passing each copy to `finish(copy, outermost)`.

    done: the functions of this call. shared: the results of all calls, so that code shared by two kernels is compiled once.
    """
    if function not in done:
        outermost = not done
        done[function] = function  # recursive functions are not specialized
        calls = _calls(function, replacements)
        inner = {name: _build(target, replacements, done, shared, finish) for name, target in calls.items()}
        name = f"{function.__qualname__}_{_fingerprint(function, replacements)}"
        numbers = {key: value for key, value in replacements.items() if isinstance(value, int)}
        key = (outermost, function, name, *inner.values())
        if key not in shared:
            shared[key] = finish(_copy(function, {**numbers, **inner}, name), outermost)
        done[function] = shared[key]
    return done[function]


def _copy(function: Function, replacements: Mapping[str, Replacement], name: str) -> Function:
    namespace = {**function.__globals__, **replacements}
    copy = types.FunctionType(function.__code__, namespace, function.__name__, function.__defaults__)
    copy.__qualname__, copy.__module__ = name, function.__module__
    return copy


def _calls(function: Function, replacements: dict[str, Replacement]) -> dict[str, Function]:
    """Return the Python functions that `function` references by global name."""
    found: dict[str, Function] = {}
    for name in function.__code__.co_names:
        target = replacements.get(name, function.__globals__.get(name))
        if isinstance(target, types.FunctionType):
            found[name] = target
    return found


def _fingerprint(function: Function, replacements: dict[str, Replacement]) -> str:
    """Return a hash of the bytecode of `function` and all the functions it calls, and of the constants that they read."""
    parts = [repr((OUTER, INNER))]
    waiting, seen = [function], {function}
    while waiting:
        current = waiting.pop()
        code = current.__code__
        parts.append(f"{code.co_code.hex()} {code.co_consts!r} {code.co_names!r}")
        for name in code.co_names:
            constant = replacements.get(name, current.__globals__.get(name))
            if isinstance(constant, (int, float)):
                parts.append(f"{name}={constant!r}")
        for target in _calls(current, replacements).values():
            if target not in seen:
                seen.add(target)
                waiting.append(target)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]
