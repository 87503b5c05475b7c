"""Whether an environment's randomness follows the seed that it is reset with.

Two environments, one after the other, are reset with the same seed and given the same actions. What they answer must be
the same, and the generators that all code of a process shares must not have moved.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from envs.backends.member import Member, digest

EPISODES, STEPS = 2, 8  # how far each environment is played
MOST_SECONDS = 1.0  # an environment that takes longer to make and play once is not played twice
SEED = 0
MEND = "Draw from self.np_random, after super().reset(seed=seed)."


def why_not_repeatable(first: gym.Env[Any, Any], make: Callable[[], gym.Env[Any, Any]], began: float) -> str | None:
    """What is wrong with an environment's randomness; None: nothing was found.

    first: an environment, which is played and closed before `make` makes the second. began: time.perf_counter() from before
    the first was made. What an environment raises here is not told: it will be raised again where it is trained in. The
    shared generators are left as they were.
    """
    with _shared_generators() as moved:
        try:
            one = _trace(first)
        except Exception:  # whatever an environment may raise
            one = None
        finally:
            first.close()
        names = moved()
        if names:
            return (
                f"draws from {' and '.join(names)}, which everything in a process shares, so its randomness does not follow its"
                f" seed: a run cannot be repeated, nor resumed to the bit. {MEND}"
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
        "answers otherwise each time, with the same seed and the same actions, so its randomness does not follow its seed: a"
        f" run cannot be repeated, nor resumed to the bit. {MEND}"
    )


def _trace(env: gym.Env[Any, Any]) -> list[Any]:
    """What an environment answers, from its first reset on, when the first action that is allowed is taken each time."""
    member = Member(env, SEED)
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
    """Which of the process's shared generators have moved since; in the end they are put back."""
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
