"""Gymnasium's interface of `reset` and `step`, and error messages for violations."""

from __future__ import annotations

import inspect
import math
import numbers
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np

RESET = "reset must return (observation, info), with info a dict"
STEP = "step must return (observation, reward, terminated, truncated, info), with info a dict"
SIGNATURE = "def reset(self, *, seed=None, options=None)"
NOTE = "Raised by the environment "
# Modules of Gymnasium, and wrappers here, that process what an environment returns.
READERS = (
    *("gymnasium.wrappers.", "gymnasium.vector.", "gymnasium.core.", "gymnasium.utils.passive_env_checker."),
    "envs.last.",
)
NUMERIC = "biuf"  # dtype kinds of real numbers


class Breach(ValueError):
    """Raised for a violation of Gymnasium's interface; the message says which, without naming the environment.

    row: the row of a vector environment; None: all rows.
    """

    def __init__(self, message: str, row: int | None = None) -> None:
        super().__init__(message)
        self.row = row


def reset_result(result: Any) -> tuple[Any, Mapping[str, Any]]:
    """Return the result of `reset`, (observation, info). Raises Breach for anything else."""
    if not isinstance(result, (tuple, list)) or len(result) != 2:
        raise Breach(f"{RESET}; it returned {_kind(result)}. Write: return observation, {{}}")
    if not isinstance(result[1], Mapping):
        raise Breach(f"{RESET}; the second value is {_kind(result[1])}. Write: return observation, {{}}")
    return result[0], result[1]


def step_result(result: Any) -> Any:
    """Return the result of `step`, five values. Raises Breach for anything but a tuple or list of five."""
    if isinstance(result, (tuple, list)) and len(result) == 5:
        return result
    mend = ""
    if isinstance(result, (tuple, list)) and len(result) == 4:
        mend = " That is the interface of gym before 0.26; return observation, reward, done, False, info instead."
    raise Breach(f"{STEP}; it returned {_kind(result)}.{mend}")


def info_fault(info: Any) -> Breach:
    """Return the error for an `info` of `step` that is not a dict."""
    return Breach(f"{STEP}; info is {_kind(info)}.")


def as_flag(value: Any, name: str) -> bool:
    """Convert `terminated` or `truncated`, a bool or a single 0 or 1, to a bool. Raises Breach for anything else."""
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    array = numbers_in(value)
    if array is None or array.ndim or array not in (0, 1):
        raise Breach(f"{STEP}; {name} must be True or False, not {_kind(value)}.")
    return bool(array)


def as_reward(value: Any) -> float:
    """Convert a reward to a float. Raises Breach unless it is a single finite number."""
    number = math.nan
    if isinstance(value, (float, int, np.floating, np.integer, numbers.Real)):
        number = float(value)
    else:
        array = numbers_in(value)
        if array is not None and array.ndim == 0:
            number = float(array)
    if not -1e300 < number < 1e300:
        raise Breach(f"it returned the reward {value!r}; rewards must be finite numbers, one per step.")
    return number


def as_rewards(reward: Any, rows: int) -> np.ndarray:
    """Copy the rewards of `rows` environments to float64 [R]. Raises Breach unless they are finite numbers."""
    array = numbers_in(reward)
    if array is None or array.shape != (rows,):
        raise Breach(f"its rewards must be {rows} numbers, not {reward!r}.")
    if not np.isfinite(array).all():
        row = int(np.flatnonzero(~np.isfinite(array))[0])
        raise Breach(f"it returned the reward {array[row]}; rewards must be finite numbers.", row)
    return np.array(array, np.float64)


def as_flags(flags: Any, name: str, rows: int) -> np.ndarray:
    """Convert `terminated` or `truncated` of `rows` environments to bool [R]. Raises Breach for anything but 0 and 1."""
    array = numbers_in(flags)
    if array is None or array.shape != (rows,) or not np.isin(array, (0, 1)).all():
        raise Breach(f"{name} must be {rows} bools, not {flags!r}.")
    return array.astype(np.bool_)


def recorded_return(episode: Any) -> float | None:
    """Return the episode return in info["episode"], as RecordEpisodeStatistics writes it, or None."""
    array = numbers_in(episode["r"]) if isinstance(episode, Mapping) and "r" in episode else None
    return float(array.reshape(())) if array is not None and array.size == 1 else None


def numbers_in(value: Any) -> np.ndarray | None:
    """Convert a real number, or a list, tensor or array of real numbers, to an array; return None for anything else."""
    try:
        array = np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)
        if array.dtype == object:
            array = np.asarray(array.tolist())
    except (TypeError, ValueError):
        return None
    return array if array.dtype.kind in NUMERIC else None


def interface_fault(error: Exception, env: Any) -> str | None:
    """Return the violation of the interface behind an exception in `reset` or `step`; None: it is the environment's own.

    Recognizes a `reset` without `seed` or `options`, and results that Gymnasium's own wrappers could not process.
    """
    if isinstance(error, TypeError):
        for layer in layers(env):
            for name in ("seed", "options"):
                if f"argument '{name}'" in str(error) and not _takes(layer.reset, name):
                    return f"its {type(layer).__name__}.reset has no argument {name}. Declare it as {SIGNATURE}."
    unreadable = isinstance(
        error, (TypeError, ValueError, AttributeError, AssertionError)
    ) or "five element tuple" in str(error)
    if unreadable and _raised_in(error).startswith(READERS):
        return f"Gymnasium could not process what it returned ({type(error).__name__}: {error}). {RESET}; {STEP}."
    return None


def raised_by_environment(error: BaseException) -> bool:
    """Return whether an exception was raised by an environment's own `reset` or `step`."""
    return any(note.startswith(NOTE) for note in getattr(error, "__notes__", ()))


def layers(env: gym.Env[Any, Any]) -> list[gym.Env[Any, Any]]:
    """Return an environment's wrappers, outermost first, and finally the environment itself."""
    found = [env]
    while isinstance(env, gym.Wrapper):
        env = env.env
        found.append(env)
    return found


def _takes(function: Any, name: str) -> bool:
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return True
    return name in parameters or any(p.kind == p.VAR_KEYWORD for p in parameters.values())


def _raised_in(error: BaseException) -> str:
    """Return the name of the module that raised an exception."""
    trace = error.__traceback__
    name = ""
    while trace is not None:
        name = trace.tb_frame.f_globals.get("__name__", "")
        trace = trace.tb_next
    return f"{name}."


def _kind(value: Any) -> str:
    """Describe a value briefly for an error message."""
    if isinstance(value, (tuple, list)):
        return f"a {type(value).__name__} of {len(value)} values"
    shape = getattr(value, "shape", None)
    if shape is not None and tuple(shape):
        return f"an array of shape {list(shape)}"
    return repr(value)
