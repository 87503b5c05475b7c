"""The bookkeeping of a replay: what each entry holds, and which can be sampled. Scalar functions, compiled by `rl.core.jit`.

Each of the R = N * E environments has a ring of L entries, one for each observation, with the action taken there and its outcome,
or without an action at the end of an episode. Entries of an environment are numbered consecutively from 0; entry i of
environment r is stored at r * L + i % L. `starts` is a queue, for each environment, of the entries that can be sampled.
"""

from __future__ import annotations

from typing import Any

from rl.deep.replay.sum_tree import set_priority

NO_STEP, GOES_ON, TERMINATED, TRUNCATED = 0, 1, 2, 3  # kinds of entries
PRIORITIZED = 0  # compile-time constant of the appending functions, replaced by `jit`


def start_episode(newest: Any, fresh: Any, kind: Any, length: int, frames: int, at: Any) -> None:
    """Allocate entries for the first observations of new episodes, and write their indices to at, int64 [R, frames].

    Environments within an episode get the index of the spare entry at the end, which is never read.
    """
    for r in range(newest.shape[0]):
        for f in range(frames):
            at[r, f] = kind.shape[0] - 1
            if fresh[r]:
                newest[r] += 1
                at[r, f] = r * length + newest[r] % length
                kind[at[r, f]] = NO_STEP
        fresh[r] = False


def append(
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
) -> None:
    """Append a step of each environment, and write the entries of its two observations to at and following, int64 [R]."""
    for r in range(newest.shape[0]):
        if not append_entry(newest, since, fresh, kind, terminated, truncated, valid, length, at, following, r):
            continue
        drop_overwritten(newest, starts, head, tail, total, least, length, frames, r)
        over = terminated[r] or truncated[r]
        now = newest[r] - 1
        count = min(since[r], n_step)  # the number of steps whose window was incomplete, including this one
        first = now - count + 1
        last = now if over else (first if count == n_step else first - 1)
        for start in range(first, last + 1):
            enqueue(starts, tail, total, least, highest, newest.shape[0], length, r, start)
        if over:
            fresh[r] = True
            since[r] = 0


def append_entry(
    newest: Any,
    since: Any,
    fresh: Any,
    kind: Any,
    terminated: Any,
    truncated: Any,
    valid: Any,
    length: int,
    at: Any,
    following: Any,
    r: int,
) -> bool:
    """Append a step of environment r and return whether it was valid; if not, a new episode starts."""
    at[r] = kind.shape[0] - 1
    following[r] = kind.shape[0] - 1
    if not valid[r]:
        fresh[r] = True
        since[r] = 0
        return False
    base = r * length
    now = newest[r]
    at[r] = base + now % length
    following[r] = base + (now + 1) % length
    kind[at[r]] = TERMINATED if terminated[r] else (TRUNCATED if truncated[r] else GOES_ON)
    kind[following[r]] = NO_STEP
    newest[r] = now + 1
    since[r] += 1
    return True


def drop_overwritten(
    newest: Any, starts: Any, head: Any, tail: Any, total: Any, least: Any, length: int, frames: int, r: int
) -> None:
    """Remove the samples of environment r with an overwritten frame.

    This must precede the enqueuing of new samples, which may reuse their entries.
    """
    base, per_tree = r * length, newest.shape[0] // total.shape[0]
    while head[r] < tail[r] and starts[base + head[r] % length] - frames + 1 <= newest[r] - length:
        if PRIORITIZED:
            gone = starts[base + head[r] % length]
            set_priority(total, least, r // per_tree, r % per_tree * length + gone % length, 0.0)
        head[r] += 1


def enqueue(
    starts: Any, tail: Any, total: Any, least: Any, highest: Any, rows: int, length: int, r: int, start: int
) -> None:
    """Make an entry of environment r available for sampling, with the highest priority so far. rows: R."""
    starts[r * length + tail[r] % length] = start
    tail[r] += 1
    if PRIORITIZED:
        per_tree = rows // total.shape[0]
        set_priority(total, least, r // per_tree, r % per_tree * length + start % length, highest[r // per_tree])


def sample_uniform(u: Any, starts: Any, head: Any, tail: Any, length: int, index: Any) -> None:
    """Sample entries uniformly from numbers u [N, B] in [0, 1), and write them to index, int64 [N, B]."""
    envs = head.shape[0] // u.shape[0]
    for k in range(u.shape[0]):
        count = 0
        for r in range(k * envs, k * envs + envs):
            count += tail[r] - head[r]
        # Of the first environment, since divisions are slow: the queue's place, and the entry that is stored at 0. All of its
        # samples lie within `length` entries.
        first = head[k * envs] % length
        oldest = starts[k * envs * length + first]
        zero = oldest - oldest % length
        for b in range(u.shape[1]):
            rank = min(int(u[k, b] * count), count - 1)
            r = k * envs
            while rank >= tail[r] - head[r]:
                rank -= tail[r] - head[r]
                r += 1
            place = (first if r == k * envs else head[r] % length) + rank
            place = place if place < length else place - length
            entry = starts[r * length + place]
            entry = entry - zero if r == k * envs else entry % length
            index[k, b] = r * length + (entry if entry < length else entry - length)


def n_step_return(
    index: Any,
    reward: Any,
    kind: Any,
    length: int,
    n_step: int,
    gamma: float,
    returns: Any,
    discount: Any,
    end: Any,
    scale: Any = None,
) -> None:
    """Compute n-step returns from each entry [N, B]: the return, the discount of the bootstrap value, and its entry.

    Writes returns, discount and end. scale: per-step discounts, float32 like the rewards; None: all 1.
    """
    for k in range(index.shape[0]):
        for b in range(index.shape[1]):
            base = index[k, b] // length * length
            place = index[k, b] - base
            total = 0.0
            factor = 1.0
            for _ in range(n_step):
                entry = base + place
                total += factor * float(reward[entry])
                factor *= gamma
                if scale is not None:
                    factor *= float(scale[entry])
                place = place + 1 if place + 1 < length else 0
                if kind[entry] == TERMINATED:
                    factor = 0.0
                    break
                if kind[entry] == TRUNCATED:
                    break
            returns[k, b] = total
            discount[k, b] = factor
            end[k, b] = base + place
