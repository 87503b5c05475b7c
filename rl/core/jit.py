"""One source, two executors: a plain Python function, and the same function compiled by numba.

`specialise(loop, learn=rule)` makes a copy of `loop`, and of all the functions it calls, in which `learn` means `rule`
(or a number); `compiled` compiles that copy, with those functions inlined. Nothing is written twice, and a new rule
needs no change here. numba keeps machine code on disk by the function's name alone, so the name given here ends in a
hash of all the byte code that went in: an edited rule is never answered with the machine code of the old one.
"""

from __future__ import annotations

import functools
import hashlib
import types
import warnings
from collections.abc import Callable, Mapping
from typing import Any

Function = Callable[..., Any]
Replacement = Function | int  # what a global name shall mean

# Without numba's run time no array or generator is counted at each use: 8 times faster. A rule may make no new array.
OUTER: dict[str, Any] = {"cache": True, "nogil": True, "_nrt": False, "error_model": "numpy", "no_cfunc_wrapper": True}
# Inlined by LLVM, since numba hands tuples of arrays from call to call slowly; its own inlining ("inline") makes the same machine
# code in four times the time. Only compiled code calls these, so they get no entry points for Python and C.
INNER: dict[str, Any] = {
    "forceinline": True,
    "_nrt": False,
    "error_model": "numpy",
    "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True,
}

_compiled: dict[tuple[Any, ...], Function] = {}  # what this process has compiled; see `_build`


@functools.cache
def have_numba() -> bool:
    """Whether numba can be imported; says once, in a sentence, what its absence costs."""
    try:
        import numba  # noqa: F401  (whether it is there)
    except ImportError:
        warnings.warn(
            "numba is not installed: tables and replays run by the same functions uncompiled, tables hundreds of times slower"
            " (as fast as a usual loop), networks several times. `pip install numba` helps.",
            RuntimeWarning,
            stacklevel=3,
        )
        return False
    return True


@functools.cache
def specialise(function: Function, **replacements: Replacement) -> Function:
    """A copy of `function`, and of all it calls, in which the names in `replacements` mean those functions."""
    return _build(function, replacements, {}, {}, lambda copy, outermost: copy)


@functools.cache
def compiled(function: Function, **replacements: Replacement) -> Function | None:
    """`specialise`, compiled; None when numba is absent. The compiled function releases the interpreter's lock."""
    if not have_numba():
        return None
    import numba

    def finish(copy: Function, outermost: bool) -> Function:
        finished: Function = numba.njit(copy, **(OUTER if outermost else INNER))
        return finished

    return _build(function, replacements, {}, _compiled, finish)


def entry(function: Function, *arguments: Any) -> Function:
    """The machine code of a compiled function for arguments of these types; a function that is not compiled, as it is.

    A call goes straight to it. numba would look up the types of all arguments first, which takes ten times as long as the call
    where there are tuples of arrays. Nothing checks the types of later arguments.
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
    """Copy `function` after the functions that it calls; `finish(copy, outermost)` compiles, or leaves as it is.

    done: the functions of this call. shared: the results of all calls, so that what two kernels have in common is compiled once.
    """
    if function not in done:
        outermost = not done
        done[function] = function  # a function that calls itself is left to Python
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
    """The Python functions that `function` names among its globals."""
    found: dict[str, Function] = {}
    for name in function.__code__.co_names:
        target = replacements.get(name, function.__globals__.get(name))
        if isinstance(target, types.FunctionType):
            found[name] = target
    return found


def _fingerprint(function: Function, replacements: dict[str, Replacement]) -> str:
    """A hash of the byte code of `function` and of all it calls, and of the constants that they read."""
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
