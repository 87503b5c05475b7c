"""Converts the contents of a replay to the arrays of a checkpoint and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from rl.deep.replay import sum_tree
from rl.deep.replay.ring_buffer import NO_STEP
from rl.deep.replay.storage import Ring

ONE = np.float32(1.0).view(np.int32)  # the bits of 1.0
COUNTERS = ("newest", "since", "fresh", "head", "tail")


def state_of(replay: Ring) -> dict[str, Any]:
    """Return the contents, arrays [N, E, used, ...] without unused entries."""
    used = min(replay.length, int(replay.newest.max()) + 1)

    def part(array: np.ndarray, each: int = 1) -> np.ndarray:
        """Return the used part of an array with one element per `each` entries."""
        rows, size = replay.n * replay.envs, replay.length if each == 1 else replay.states
        count = used if each == 1 else min(size, int(replay.newest.max()) // each + 1)
        kept = array[: rows * size].reshape(rows, size, *array.shape[1:])[:, :count]
        return np.ascontiguousarray(kept.reshape(replay.n, replay.envs, count, *array.shape[1:]))

    stores = {name: getattr(replay, name) for name in replay.stores}
    stores["forbidden"] = np.zeros((len(replay.kind), 0), np.bool_) if replay.masks is None else ~replay.masks
    stores["discount"] = np.zeros((len(replay.kind), 0), np.int32)
    if replay.discounts is not None:
        stores["discount"] = (replay.discounts.view(np.int32) ^ ONE)[:, None]
    counters = {name: getattr(replay, name).reshape(replay.n, replay.envs) for name in COUNTERS}
    state: dict[str, Any] = {name: part(array) for name, array in stores.items()} | counters
    state["obs"] = {name: part(array) for name, array in replay.obs.items()}
    if replay.memory:
        state["memory"] = {name: part(array, replay.each) for name, array in replay.memory.items()}
    if replay.alpha is not None:
        leaves_ = replay.total[:, replay.total.shape[1] // 2 :][:, : replay.envs * replay.length]
        state["priority"] = np.ascontiguousarray(leaves_.reshape(replay.n, replay.envs, replay.length)[:, :, :used])
        state["highest"] = replay.highest
    return state


def put_back(replay: Ring, state: Mapping[str, Any]) -> None:
    """Load a state returned by `state_of`. Raises ValueError for a state that does not match or is inconsistent."""
    rows = replay.n * replay.envs
    used = state["kind"].shape[2]

    def load(name: str, array: np.ndarray, saved: np.ndarray, each: int = 1) -> None:
        size = replay.length if each == 1 else replay.states
        count = used
        if each > 1:  # seeds saved together are padded to the seed with the most
            held = min(size, int(state["newest"].max()) // each + 1)
            count = max(held, saved.shape[2]) if saved.ndim > 2 else held
        shape = (replay.n, replay.envs, count, *array.shape[1:])
        if saved.shape != shape or saved.dtype != array.dtype or count > size:
            raise ValueError(
                f"The saved {name!r} of the replay is {saved.dtype} {list(saved.shape)}, not {list(shape)}."
            )
        view = array[: rows * size].reshape(rows, size, *array.shape[1:])
        view[:, :count] = saved.reshape(rows, count, *array.shape[1:])

    if state["obs"].keys() != replay.obs.keys():
        raise ValueError("The observations of the saved replay have different parts.")
    _check_counters(replay, state)
    for name, array in replay.obs.items():
        load(name, array, state["obs"][name])
    for name, array in replay.memory.items():
        load(name, array, state["memory"][name], replay.each)
    for name in replay.stores:
        load(name, getattr(replay, name), state[name])
    _load_masks(replay, state, load)
    _load_discounts(replay, state, load)
    for name in COUNTERS:
        getattr(replay, name)[:] = state[name].reshape(-1)
    _check_starts(replay)
    if replay.alpha is not None:
        values = np.zeros((replay.n, replay.envs, replay.length))
        values[:, :, :used] = state["priority"]
        if not (np.isfinite(values).all() and (values >= 0).all() and np.isfinite(state["highest"]).all()):
            raise ValueError("The priorities of the saved replay are damaged.")
        replay.total[:], replay.least[:] = 0.0, sum_tree.NOTHING  # clear the former priorities
        replay.fill(replay.total, replay.least, values.reshape(replay.n, -1))
        replay.highest[:] = state["highest"]


def _check_counters(replay: Ring, state: Mapping[str, Any]) -> None:
    """Raise ValueError for counters of other seeds and for inconsistent ones."""
    for name in COUNTERS:
        mine = getattr(replay, name)
        if state[name].shape != (replay.n, replay.envs) or state[name].dtype != mine.dtype:
            raise ValueError(f"The saved {name!r} of the replay is damaged.")
    newest, head, tail = (state[name].reshape(-1) for name in ("newest", "head", "tail"))
    if (newest < -1).any() or (head < 0).any() or (tail < head).any() or (tail - head > replay.length).any():
        raise ValueError("The counters of the saved replay contradict each other.")


def _load_masks(replay: Ring, state: Mapping[str, Any], load: Callable[[str, np.ndarray, np.ndarray], None]) -> None:
    """Load the masks. They are saved inverted, so that zeros pad seeds without masks; older files have them as they are."""
    forbidden = ~state["masks"] if "masks" in state else state.get("forbidden", np.zeros((0, 0)))
    replay.masks = None
    if forbidden.shape[-1]:
        replay.masks = np.zeros((len(replay.kind), replay.actions), np.bool_)
        load("forbidden", replay.masks, forbidden)
        np.logical_not(replay.masks, out=replay.masks)


def _load_discounts(
    replay: Ring, state: Mapping[str, Any], load: Callable[[str, np.ndarray, np.ndarray], None]
) -> None:
    """Load the discounts. They are saved as bits xor those of 1, so that zeros pad seeds without any; older files have none."""
    saved = state.get("discount", np.zeros((0, 0)))
    replay.discounts = None
    if saved.shape[-1]:
        bits = np.zeros((len(replay.kind), 1), np.int32)
        load("discount", bits, saved)
        replay.discounts = (bits[:, 0] ^ ONE).view(np.float32)
        if not ((replay.discounts >= 0) & (replay.discounts <= 1)).all():
            raise ValueError("The saved discounts of the replay must lie in [0, 1].")


def _check_starts(replay: Ring) -> None:
    """Raise ValueError if an entry that can be sampled has no step or lies outside the ring of its environment."""
    for r in range(replay.n * replay.envs):
        rows = slice(r * replay.length, (r + 1) * replay.length)
        ranks = np.arange(replay.head[r], replay.tail[r]) % replay.length
        found = replay.starts[rows][ranks]
        good = (found >= 0) & (found < replay.newest[r]) & (found > replay.newest[r] - replay.length)
        if not good.all() or (replay.kind[rows][found % replay.length] == NO_STEP).any():
            raise ValueError("The saved replay refers to steps that it does not contain.")
