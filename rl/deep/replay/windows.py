"""The bookkeeping of windows: where in episodes they begin, how long they are, what each of their steps bootstraps from.

A window begins at every `every`-th step of an episode, counted from its start, and holds up to `steps` steps. It ends where
its episode ends, and can be sampled once its steps are complete: with the n - 1 steps behind it that its last return needs, or
with the ending. Scalar functions that `rl.core.jit` compiles; `rl.deep.replay.ring_buffer` says where everything lies.
"""

from __future__ import annotations

from typing import Any

from rl.deep.replay.ring_buffer import TERMINATED, TRUNCATED, drop_overwritten, enqueue, enter
from supervised.validate import ArgumentError, integer, optional

UNLIMITED = 2**30  # steps: longer than any episode


def windows(sequence_steps: Any, every_steps: Any, burn_in_steps: Any) -> tuple[int, int, int]:
    """How long windows are, how many steps lie between their beginnings, and how many of them are burned in.

    Raises ArgumentError, in a sentence, for what is out of range or leaves steps that no window learns from.
    """
    steps = optional(integer, sequence_steps, "sequence_steps", 1)
    every = optional(integer, every_steps, "every_steps", 1)
    burn_in = integer(burn_in_steps, "burn_in_steps", 0)
    if steps is None:
        if every is not None or burn_in:
            raise ArgumentError(
                "every_steps and burn_in_steps are for windows within episodes: with sequence_steps=None a window is a whole"
                " episode."
            )
        return UNLIMITED, UNLIMITED, 0
    every = max(steps // 2, 1) if every is None else every
    if every + burn_in > steps:
        raise ArgumentError(
            f"Windows of {steps} steps that begin every {every} steps, {burn_in} of them burned in, leave steps that nothing is"
            " learned from: every_steps + burn_in_steps is sequence_steps at most."
        )
    return steps, every, burn_in


def append_windows(
    newest: Any,
    since: Any,
    fresh: Any,
    kind: Any,
    starts: Any,
    head: Any,
    tail: Any,
    total: Any,
    least: Any,
    highest: Any,
    terminated: Any,
    truncated: Any,
    valid: Any,
    length: int,
    frames: int,
    n_step: int,
    at: Any,
    following: Any,
    age: Any,
    steps: int,
    every: int,
    burn_in: int,
) -> None:
    """As `ring_buffer.append`, for windows. age [R * length]: how many steps of its episode lie before an entry.

    A window that begins within an episode is left out if it holds nothing behind its burn-in.
    """
    whole = steps + n_step - 1
    for r in range(newest.shape[0]):
        if not enter(newest, since, fresh, kind, terminated, truncated, valid, length, at, following, r):
            continue
        drop_overwritten(newest, starts, head, tail, total, least, length, frames, r)
        taken = since[r]  # steps of this episode
        age[at[r]] = taken - 1
        begin = newest[r] - taken  # the entry of the episode's start
        if terminated[r] or truncated[r]:
            offset = max(taken - whole, 0)
            offset = (offset + every - 1) // every * every
            while offset < taken:
                # An episode that is longer than the ring has lost its start.
                kept = begin + offset - frames + 1 > newest[r] - length
                if kept and (offset == 0 or taken - offset > burn_in):
                    enqueue(starts, tail, total, least, highest, newest.shape[0], length, r, begin + offset)
                offset += every
            fresh[r] = True
            since[r] = 0
        elif taken >= whole and (taken - whole) % every == 0:
            enqueue(starts, tail, total, least, highest, newest.shape[0], length, r, begin + taken - whole)


def window_lengths(index: Any, kind: Any, length: int, steps: int, found: Any) -> None:
    """How many steps the windows hold that begin at the entries index [N, B] -> found int64 [N, B]."""
    for k in range(index.shape[0]):
        for b in range(index.shape[1]):
            base = index[k, b] // length * length
            place = index[k, b] - base
            count = 1
            while count < min(steps, length) and kind[base + (place + count - 1) % length] < TERMINATED:
                count += 1
            found[k, b] = count


def fold_windows(
    index: Any,
    lengths: Any,
    reward: Any,
    kind: Any,
    length: int,
    n_step: int,
    gamma: float,
    returns: Any,
    discount: Any,
    bootstrap: Any,
    entries: Any,
    scale: Any = None,
) -> int:
    """Fold the rewards of windows [N, B] with lengths [N, B] -> how many observations the longest of them reads.

    returns and discount [N, B, T]: of each step, up to n steps on; bootstrap int64 [N, B, T]: the observation of the window,
    counted from its first, at which the future begins. entries int64 [N, W, B]: where the observations lie, the last one of
    each window once more where it has no more. What lies behind a window's steps is left as it is. scale: as of
    `n_step_return`.
    """
    most = 0
    for k in range(index.shape[0]):
        for b in range(index.shape[1]):
            base = index[k, b] // length * length
            place = index[k, b] - base
            last = 0
            for t in range(lengths[k, b]):
                total = 0.0
                factor = 1.0
                for i in range(n_step):
                    entry = base + (place + t + i) % length
                    total += factor * float(reward[entry])
                    factor *= gamma
                    if scale is not None:
                        factor *= float(scale[entry])
                    last = t + i + 1
                    if kind[entry] == TERMINATED:
                        factor = 0.0
                        break
                    if kind[entry] == TRUNCATED:
                        break
                returns[k, b, t] = total
                discount[k, b, t] = factor
                bootstrap[k, b, t] = last
            for w in range(entries.shape[1]):
                entries[k, w, b] = base + (place + min(w, last)) % length
            most = max(most, last + 1)
    return most
