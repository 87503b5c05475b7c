"""The bookkeeping of windows: where they start, how long they are, and what each step bootstraps from.

A window starts at every `every`-th step of an episode, counted from its start, and has up to `steps` steps. It ends with its
episode at the latest, and can be sampled once it is complete: after the n - 1 further steps that its last return needs, or at the
end of the episode. Scalar functions, compiled by `rl.core.jit`; `rl.deep.replay.ring_buffer` describes the memory layout.
"""

from __future__ import annotations

from typing import Any

from rl.deep.replay.ring_buffer import TERMINATED, TRUNCATED, append_entry, drop_overwritten, enqueue
from supervised.validate import ArgumentError, integer, optional

UNLIMITED = 2**30  # steps; longer than any episode


def windows(sequence_steps: Any, every_steps: Any, burn_in_steps: Any) -> tuple[int, int, int]:
    """Return the length of windows, the number of steps between their starts, and the number of burn-in steps.

    Raises ArgumentError for numbers out of range, and if some steps would not be learned from in any window.
    """
    steps = optional(integer, sequence_steps, "sequence_steps", 1)
    every = optional(integer, every_steps, "every_steps", 1)
    burn_in = integer(burn_in_steps, "burn_in_steps", 0)
    if steps is None:
        if every is not None or burn_in:
            raise ArgumentError(
                "every_steps and burn_in_steps apply to windows within episodes: with sequence_steps=None a window is a whole"
                " episode."
            )
        return UNLIMITED, UNLIMITED, 0
    every = max(steps // 2, 1) if every is None else every
    if every + burn_in > steps:
        raise ArgumentError(
            f"With windows of {steps} steps that start every {every} steps and have {burn_in} burn-in steps, some steps are never"
            " learned from: every_steps + burn_in_steps must be at most sequence_steps."
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
    """Like `ring_buffer.append`, for windows. age [R * length]: the number of steps of the episode before an entry.

    A window that starts within an episode is skipped if it has no step after its burn-in.
    """
    whole = steps + n_step - 1
    for r in range(newest.shape[0]):
        if not append_entry(newest, since, fresh, kind, terminated, truncated, valid, length, at, following, r):
            continue
        drop_overwritten(newest, starts, head, tail, total, least, length, frames, r)
        taken = since[r]  # steps of this episode
        age[at[r]] = taken - 1
        begin = newest[r] - taken  # the entry at the episode's start
        if terminated[r] or truncated[r]:
            offset = max(taken - whole, 0)
            offset = (offset + every - 1) // every * every
            while offset < taken:
                # The start of an episode longer than the ring has been overwritten.
                kept = begin + offset - frames + 1 > newest[r] - length
                if kept and (offset == 0 or taken - offset > burn_in):
                    enqueue(starts, tail, total, least, highest, newest.shape[0], length, r, begin + offset)
                offset += every
            fresh[r] = True
            since[r] = 0
        elif taken >= whole and (taken - whole) % every == 0:
            enqueue(starts, tail, total, least, highest, newest.shape[0], length, r, begin + taken - whole)


def window_lengths(index: Any, kind: Any, length: int, steps: int, found: Any) -> None:
    """Write the lengths in steps of the windows that start at entries index [N, B] to found, int64 [N, B]."""
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
    """Compute n-step returns of windows [N, B] with lengths [N, B]. Return the number of observations that the longest one reads.

    Writes returns and discount [N, B, T] of each step; bootstrap int64 [N, B, T], the index within the window of the observation
    that the step bootstraps from; and entries int64 [N, W, B] of the observations, each window padded with its last one. Padding
    steps are not written. scale: see `n_step_return`.
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
