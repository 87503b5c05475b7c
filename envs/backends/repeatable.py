"""Check that an environment's randomness is determined by its seed.

Two environments are reset with the same seed and take the same actions, one after the other. Their results must be equal, and
the process-wide random generators must be unchanged.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import gymnasium as gym
import numpy as np

from envs.backends.member import ReplayableEnv, digest

EPISODES, STEPS = 2, 8  # for each environment
MOST_SECONDS = 1.0  # a slower environment is run only once
SEED = 0
MEND = "Draw from self.np_random, after super().reset(seed=seed)."


def why_not_repeatable(first: gym.Env[Any, Any], make: Callable[[], gym.Env[Any, Any]], began: float) -> str | None:
    """Return what is wrong with an environment's randomness, or None if no problem was found.

    first: an environment, which is run and closed before `make` creates the second. began: time.perf_counter() before the first
    was created. Exceptions of the environment are ignored here, since training will raise them again. The process-wide
    generators are restored.
    """
    with _shared_generators() as moved:
        try:
            one = _trace(first)
        except Exception:  # environments may raise anything
            one = None
        finally:
            first.close()
        names = moved()
        if names:
            return (
                f"draws from {' and '.join(names)}, shared by the whole process, so its randomness is not determined by its"
                f" seed: a run cannot be reproduced or resumed exactly. {MEND}"
            )
        if one is None or time.perf_counter() - began > MOST_SECONDS:
            return None
        try:
            second = make()
        except Exception:  # likewise
            return None
        try:
            other = _trace(second)
        except Exception:  # likewise
            return None
        finally:
            second.close()
    if one == other:
        return None
    return (
        "returns different results for the same seed and actions, so its randomness is not determined by its seed: a run cannot"
        f" be reproduced or resumed exactly. {MEND}"
    )


def _trace(env: gym.Env[Any, Any]) -> list[Any]:
    """Return the results of an environment from its first reset, always taking the first allowed action."""
    member = ReplayableEnv(env, SEED)
    found: list[Any] = []
    for _ in range(EPISODES):
        found.append(digest(member.reset()))
        for _ in range(STEPS):
            action = 0 if member.mask is None else int(member.mask.argmax())
            obs, *rest = member.step(action)
            found.append((digest(obs), *rest, member.discount))
            if rest[1] or rest[2]:
                break
    return found


@contextmanager
def _shared_generators() -> Iterator[Callable[[], list[str]]]:
    """Context manager that yields a function naming the process-wide generators that have changed, and restores them."""
    import torch

    plain, pytorch = random.getstate(), torch.random.get_rng_state()
    numpy: Any = np.random.get_state()  # noqa: NPY002  (the shared one is meant)

    def moved() -> list[str]:
        now: Any = np.random.get_state()  # noqa: NPY002  (the shared one is meant)
        found = {
            "random": random.getstate() != plain,
            "numpy.random": now[2] != numpy[2] or not np.array_equal(now[1], numpy[1]),
            "torch's default generator": not torch.equal(torch.random.get_rng_state(), pytorch),
        }
        return [name for name, has in found.items() if has]

    try:
        yield moved
    finally:
        random.setstate(plain)
        np.random.set_state(numpy)  # noqa: NPY002  (the shared one is meant)
        torch.random.set_rng_state(pytorch)
