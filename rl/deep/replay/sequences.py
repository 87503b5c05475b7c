"""Replay of windows: steps of one episode in their order, for agents that remember (Kapturowski et al. 2019, section 2.3).

A window begins at every `every_steps`-th step of an episode, counted from its start, and ends where the episode ends if not
before. With the window comes what the agent remembered when it acted there; at an episode's start that is zeros, and nothing is
stored for it. `rl.deep.replay.windows` says when a window can be sampled.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from rl.core.types import SequenceBatch, State
from rl.deep.moving import tensors_of
from rl.deep.replay import storage
from rl.deep.replay.buffer import Replay
from rl.deep.replay.storage import Where
from rl.deep.replay.windows import append_windows, fold_windows, window_lengths, windows
from supervised.streams import Streams


class SequenceReplay(Replay):
    """The last `capacity_steps` steps of each seed, sampled as windows of up to `sequence_steps` steps.

    world, capacity_steps, n_step, gamma, priority_exponent: as of `rl.Replay`; priorities are those of windows. sequence_steps:
    None: a window is a whole episode, however long. every_steps: how many steps lie between the beginnings of two windows of an
    episode; None: half of sequence_steps. burn_in_steps: how many steps of a window that begins within an episode serve the
    state alone and carry no loss. state: what the agent remembers when an episode begins, zeros [N, E, ...] by name. Raises
    ValueError for settings out of range or in contradiction, and before any memory is taken when it would not fit.
    """

    _appending = staticmethod(append_windows)
    stores = (*Replay.stores, "since_start")

    def __init__(
        self,
        world: Where,
        capacity_steps: int = 100_000,
        sequence_steps: int | None = 80,
        every_steps: int | None = None,
        burn_in_steps: int = 0,
        n_step: int = 1,
        gamma: float = 0.99,
        priority_exponent: float | None = None,
        state: State | None = None,
    ) -> None:
        self.steps, self.each, self.burn_in = windows(sequence_steps, every_steps, burn_in_steps)
        self.whole_episodes = sequence_steps is None
        self.reach = 1 if self.whole_episodes else self.steps
        super().__init__(world, capacity_steps, n_step, gamma, priority_exponent, state)
        self.since_start = np.zeros(self.kind.shape, np.int32)  # steps of its episode before each entry
        self._more = self.since_start, self.steps, self.each, self.burn_in
        self.told = False  # whether `notice` has warned
        self._measure, self._fold = storage.fast(window_lengths), storage.fast(fold_windows)

    def draw(self, batch_size: int, streams: Streams, exponent: float) -> SequenceBatch:  # type: ignore[override]  # of windows
        """`sample` in arrays, where every seed has something to sample."""
        index, weight = self.draw_index(batch_size, streams, exponent)
        length = np.empty(index.shape, np.int64)
        self._measure(index, self.kind, self.length, self.steps, length)
        n, b = index.shape
        t = int(length.max())
        returns, discount = np.zeros((n, b, t), np.float32), np.zeros((n, b, t), np.float32)
        bootstrap, entries = np.zeros((n, b, t), np.int64), np.empty((n, t + self.n_step, b), np.int64)
        scale = () if self.discounts is None else (self.discounts,)
        most = self._fold(
            *(index, length, self.reward, self.kind, self.length, self.n_step, self.gamma),
            *(returns, discount, bootstrap, entries),
            *scale,
        )
        step = np.arange(t) < length[..., None]
        action = np.where(step, self.action[entries[:, :t]].swapaxes(1, 2), 0).astype(np.int64)
        inside = self.since_start[index] > 0
        parts: tuple[Any, ...] = (
            self._in_windows(entries[:, :most]),
            action,
            returns,
            discount,
            bootstrap,
            length,
            np.where(inside, self.burn_in, 0),
            self._next_masks(entries, bootstrap, discount),
            weight,
            index,
            self._remembered(index, inside),
            None if self.masks is None else self.masks[entries[:, :t]].swapaxes(1, 2),
        )
        return SequenceBatch(*parts)

    def sample(self, batch_size: int, streams: Streams, exponent: float = 1.0) -> SequenceBatch:  # type: ignore[override]  # as draw
        """batch_size windows of each seed, drawn with replacement -> an rl.SequenceBatch [N, B, T, ...].

        T: steps of the longest of them. Uniformly, or by priority, as `rl.Replay.sample`. Raises ValueError while some seed has
        no window that is complete.
        """
        batch_size, exponent = self.checked_sampling(batch_size, streams, exponent)
        return SequenceBatch(*map(tensors_of, self.draw(batch_size, streams, exponent)))

    @property
    def nothing(self) -> str:
        """Why there is nothing to sample."""
        size = "whole episode" if self.whole_episodes else f"window of {self.steps} steps, or end of an episode,"
        return f"There is nothing to sample yet: no {size} is in the replay of some seed."

    def contents(self) -> dict[str, np.ndarray]:
        """How many windows of each seed can be sampled, [N]."""
        return {"replay/size_windows": self.sizes()}

    def ready(self) -> bool:
        """Whether every seed has a window. The last one may be overwritten before the next is complete."""
        return len(self) > 0

    def notice(self, longest: int) -> None:
        """Warn, once, where an episode, ended or under way, does not fit into a window, or not into the replay; longest: the
        steps of the longest that has ended."""
        most = self.length - self.frames if self.whole_episodes else self.steps
        longest = max(longest, int(self.since.max()))
        if longest <= most or self.told:
            return
        self.told = True
        what = (
            f"the replay holds whole episodes of {most:,} at most, and longer ones are not learned from. Raise capacity_steps, or"
            " set sequence_steps."
            if self.whole_episodes
            else f"a window holds {most:,}, and what has to be remembered for longer is not learned. Raise sequence_steps, or"
            " leave it out for whole episodes."
        )
        warnings.warn(f"Episodes of {longest:,} steps were seen; {what}", RuntimeWarning, stacklevel=2)

    def _in_windows(self, entries: np.ndarray) -> Any:
        """The observations at entries [N, W, B] -> [N, B, W, *O], in memory in the order of time."""
        found = self._read(entries)
        if isinstance(found, dict):
            return {name: part.swapaxes(1, 2) for name, part in found.items()}
        return found.swapaxes(1, 2)

    def _next_masks(self, entries: np.ndarray, bootstrap: np.ndarray, discount: np.ndarray) -> np.ndarray | None:
        """What is allowed where each step bootstraps from, bool [N, B, T, A]; all where the future does not count."""
        if self.masks is None:
            return None
        at = np.take_along_axis(entries.swapaxes(1, 2), bootstrap, 2)
        found: np.ndarray = self.masks[at] | (discount == 0)[..., None]
        return found

    def _remember(self, state: State) -> None:
        due = np.flatnonzero(
            (self.since_start[self._at] > 0) & (self.since_start[self._at] % self.each == 0) & ~self._is_spare(self._at)
        )
        if len(due):
            lanes = due * self.states + (self.newest[due] - 1) // self.each % self.states
            for name, part in self.memory.items():
                part[lanes] = self._rows(state[name])[due]

    def _is_spare(self, entries: np.ndarray) -> np.ndarray:
        spare: np.ndarray = entries == len(self.kind) - 1
        return spare

    def _remembered(self, index: np.ndarray, inside: np.ndarray) -> State | None:
        """The states with which windows [N, B] begin, zeros at an episode's start."""
        if not self.memory:
            return None
        lane, place = divmod(index, self.length)
        number = self.newest[lane] - (self.newest[lane] - place) % self.length  # of the entry, in all
        slot = lane * self.states + number // self.each % self.states
        found = {}
        for name, part in self.memory.items():
            found[name] = part[slot]
            found[name][~inside] = 0
        return found
