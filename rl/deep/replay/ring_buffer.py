"""The book-keeping of a replay: which entries are what, which can be sampled. Scalar functions that `rl.core.jit` compiles.

Each of the R = N * E environments has a lane of L entries, one for each observation: with the action that was taken at it
and what came of that, or, at an episode's end, with nothing. Entries are numbered from 0 on, for ever; entry i of lane r
lies at r * L + i % L. `starts` is a queue, in each lane, of the entries that can be samples.
"""

from __future__ import annotations

from typing import Any

from rl.deep.replay.sum_tree import set_priority

NO_STEP, GOES_ON, TERMINATED, TRUNCATED = 0, 1, 2, 3  # what an entry is
PRIORITISED = 0  # a constant of what appends, which `jit` replaces


def start_episode(newest: Any, fresh: Any, kind: Any, length: int, frames: int, at: Any) -> None:
    """Make room for the first observation of a new episode -> at int64 [R, frames], where its frames go.

    Lanes in the middle of an episode are told to write into the spare entry at the end, which nobody reads.
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
    """Enter a step of each lane -> at and following int64 [R], the entries of its observation and of its successor's."""
    for r in range(newest.shape[0]):
        if not enter(newest, since, fresh, kind, terminated, truncated, valid, length, at, following, r):
            continue
        drop_overwritten(newest, starts, head, tail, total, least, length, frames, r)
        over = terminated[r] or truncated[r]
        now = newest[r] - 1
        count = min(since[r], n_step)  # steps whose window was open until now, this one among them
        first = now - count + 1
        last = now if over else (first if count == n_step else first - 1)
        for start in range(first, last + 1):
            enqueue(starts, tail, total, least, highest, newest.shape[0], length, r, start)
        if over:
            fresh[r] = True
            since[r] = 0


def enter(
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
    """Enter a step of lane r -> whether it is one; if not, a new episode begins."""
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
    """Take the samples of lane r out that have been overwritten, if only by their oldest frame.

    Before new ones are entered, for these may take the place of the old.
    """
    base, per_tree = r * length, newest.shape[0] // total.shape[0]
    while head[r] < tail[r] and starts[base + head[r] % length] - frames + 1 <= newest[r] - length:
        if PRIORITISED:
            gone = starts[base + head[r] % length]
            set_priority(total, least, r // per_tree, r % per_tree * length + gone % length, 0.0)
        head[r] += 1


def enqueue(
    starts: Any, tail: Any, total: Any, least: Any, highest: Any, lanes: int, length: int, r: int, start: int
) -> None:
    """Let an entry of lane r be sampled from now on, with the highest priority so far."""
    starts[r * length + tail[r] % length] = start
    tail[r] += 1
    if PRIORITISED:
        per_tree = lanes // total.shape[0]
        set_priority(total, least, r // per_tree, r % per_tree * length + start % length, highest[r // per_tree])


def sample_uniform(u: Any, starts: Any, head: Any, tail: Any, length: int, index: Any) -> None:
    """Uniform numbers u [N, B] in [0, 1) -> index int64 [N, B], the entries of steps, each as likely as any other."""
    envs = head.shape[0] // u.shape[0]
    for k in range(u.shape[0]):
        count = 0
        for lane in range(k * envs, k * envs + envs):
            count += tail[lane] - head[lane]
        for b in range(u.shape[1]):
            rank = min(int(u[k, b] * count), count - 1)
            lane = k * envs
            while rank >= tail[lane] - head[lane]:
                rank -= tail[lane] - head[lane]
                lane += 1
            index[k, b] = lane * length + starts[lane * length + (head[lane] + rank) % length] % length


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
    """Fold up to n steps from each entry [N, B] -> the return, how the future counts, and the entry that it begins at.

    scale: the steps' own discounts, float32 as the reward; None: 1 throughout.
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
                place = (place + 1) % length
                if kind[entry] == TERMINATED:
                    factor = 0.0
                    break
                if kind[entry] == TRUNCATED:
                    break
            returns[k, b] = total
            discount[k, b] = factor
            end[k, b] = base + place
