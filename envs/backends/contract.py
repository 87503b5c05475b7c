"""What `reset` and `step` of an environment must return, and the sentences for what does not."""

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
# Modules of Gymnasium, and of its wrappers here, that read what an environment returns.
READERS = (
    *("gymnasium.wrappers.", "gymnasium.vector.", "gymnasium.core.", "gymnasium.utils.passive_env_checker."),
    "envs.last.",
)
NUMERIC = "biuf"  # kinds of dtypes that hold real numbers


class Breach(ValueError):
    """An environment broke Gymnasium's interface; the message says how, without naming the environment.

    row: which row of a vector environment it was; None: all together.
    """

    def __init__(self, message: str, row: int | None = None) -> None:
        super().__init__(message)
        self.row = row


def reset_result(result: Any) -> tuple[Any, Mapping[str, Any]]:
    """(observation, info) as `reset` returned it. Raises Breach for anything else."""
    if not isinstance(result, (tuple, list)) or len(result) != 2:
        raise Breach(f"{RESET}; it returned {_kind(result)}. Write: return observation, {{}}")
    if not isinstance(result[1], Mapping):
        raise Breach(f"{RESET}; the second value is {_kind(result[1])}. Write: return observation, {{}}")
    return result[0], result[1]


def step_result(result: Any) -> Any:
    """The five values of `step` as it returned them. Raises Breach for anything but a tuple or list of five."""
    if isinstance(result, (tuple, list)) and len(result) == 5:
        return result
    mend = ""
    if isinstance(result, (tuple, list)) and len(result) == 4:
        mend = " That is the interface of gym before 0.26: return observation, reward, done, False, info instead."
    raise Breach(f"{STEP}; it returned {_kind(result)}.{mend}")


def info_fault(info: Any) -> Breach:
    """What is wrong with an `info` of `step` that is not a dict."""
    return Breach(f"{STEP}; info is {_kind(info)}.")


def as_flag(value: Any, name: str) -> bool:
    """`terminated` or `truncated` as a bool: bools, and single numbers that are 0 or 1. Raises Breach for anything else."""
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    array = numbers_in(value)
    if array is None or array.ndim or array not in (0, 1):
        raise Breach(f"{STEP}; {name} must be True or False, not {_kind(value)}.")
    return bool(array)


def as_reward(value: Any) -> float:
    """A reward as a float. Raises Breach for what is not one finite number."""
    number = math.nan
    if isinstance(value, (float, int, np.floating, np.integer, numbers.Real)):
        number = float(value)
    else:
        array = numbers_in(value)
        if array is not None and array.ndim == 0:
            number = float(array)
    if not -1e300 < number < 1e300:
        raise Breach(f"it gave the reward {value!r}; rewards must be finite numbers, one a step.")
    return number


def as_rewards(reward: Any, rows: int) -> np.ndarray:
    """The rewards of `rows` environments as float64 [R] of one's own. Raises Breach for what are not finite numbers."""
    array = numbers_in(reward)
    if array is None or array.shape != (rows,):
        raise Breach(f"its rewards must be {rows} numbers, not {reward!r}.")
    if not np.isfinite(array).all():
        row = int(np.flatnonzero(~np.isfinite(array))[0])
        raise Breach(f"it gave the reward {array[row]}; rewards must be finite numbers.", row)
    return np.array(array, np.float64)


def as_flags(flags: Any, name: str, rows: int) -> np.ndarray:
    """`terminated` or `truncated` of `rows` environments as bool [R]. Raises Breach for anything else than 0 and 1."""
    array = numbers_in(flags)
    if array is None or array.shape != (rows,) or not np.isin(array, (0, 1)).all():
        raise Breach(f"{name} must be {rows} bools, not {flags!r}.")
    return array.astype(np.bool_)


def recorded_return(episode: Any) -> float | None:
    """The return in info["episode"], as RecordEpisodeStatistics gives it; None where there is none."""
    array = numbers_in(episode["r"]) if isinstance(episode, Mapping) and "r" in episode else None
    return float(array.reshape(())) if array is not None and array.size == 1 else None


def numbers_in(value: Any) -> np.ndarray | None:
    """Anything that is a real number or an array of them (lists, tensors, arrays of objects), as an array; else None."""
    try:
        array = np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)
        if array.dtype == object:
            array = np.asarray(array.tolist())
    except (TypeError, ValueError):
        return None
    return array if array.dtype.kind in NUMERIC else None


def interface_fault(error: Exception, env: Any) -> str | None:
    """What an exception out of `reset` or `step` says about the environment's interface; None: it is the environment's own.

    Recognized are a `reset` without `seed` or `options`, and results that Gymnasium's own wrappers could not take.
    """
    if isinstance(error, TypeError):
        for layer in layers(env):
            for name in ("seed", "options"):
                if f"argument '{name}'" in str(error) and not _takes(layer.reset, name):
                    return f"its {type(layer).__name__}.reset takes no {name}. Declare it as {SIGNATURE}."
    unreadable = isinstance(
        error, (TypeError, ValueError, AttributeError, AssertionError)
    ) or "five element tuple" in str(error)
    if unreadable and _raised_in(error).startswith(READERS):
        return f"Gymnasium could not take what it returned ({type(error).__name__}: {error}). {RESET}; {STEP}."
    return None


def raised_by_environment(error: BaseException) -> bool:
    """Whether an exception came out of an environment's own `reset` or `step`."""
    return any(note.startswith(NOTE) for note in getattr(error, "__notes__", ()))


def layers(env: gym.Env[Any, Any]) -> list[gym.Env[Any, Any]]:
    """An environment's wrappers, from the outermost in, and the environment itself at the end."""
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
    """The name of the module whose code raised an exception."""
    trace = error.__traceback__
    name = ""
    while trace is not None:
        name = trace.tb_frame.f_globals.get("__name__", "")
        trace = trace.tb_next
    return f"{name}."


def _kind(value: Any) -> str:
    """A short description of a value in an error message."""
    if isinstance(value, (tuple, list)):
        return f"a {type(value).__name__} of {len(value)} values"
    shape = getattr(value, "shape", None)
    if shape is not None and tuple(shape):
        return f"an array of shape {list(shape)}"
    return repr(value)
