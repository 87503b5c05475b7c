"""Replay: a ring buffer of single steps, from which n-step transitions are computed when they are sampled.

Each observation is stored once, and each frame of stacked frames once; nothing after the end of an episode is read. A step can
be sampled once its n-step window is complete: after n steps, or at the end of the episode, where the last windows are shorter.
`rl.deep.replay.ring_buffer` describes the memory layout.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from rl.core.types import Batch
from rl.deep.moving import tensors_of
from rl.deep.replay import saved
from rl.deep.replay.storage import Ring
from supervised.streams import Streams
from supervised.validate import explained, instance, integer, number

MOST_SAMPLES = 10_000_000  # maximum batch size per seed


class Replay(Ring):
    """The last `capacity_steps` steps of each seed, in all its environments together.

    world: the world that the steps come from (its spaces, seeds and stacked frames). n_step, gamma: the number of steps of a
    sample's return, and the discount factor. priority_exponent: alpha of prioritized replay, in [0, 1] (Schaul et al. 2016);
    None: uniform. state: the agent's initial recurrent state, arrays [N, E, ...] by name, stored with each observation; None: no
    state. The last observation of an episode takes an entry, too. Raises ValueError for settings out of range, and before
    allocating more memory than is available.
    """

    SMALLEST = 1e-6  # added to each |TD error|, so that every step may be drawn again
    filled = False  # whether every seed has had a sample

    @explained("a batch_size, streams of the replay's seeds and an exponent in [0, 1]")
    def sample(self, batch_size: int, streams: Streams, exponent: float = 1.0) -> Batch:
        """Sample batch_size steps of each seed with replacement: a Batch [N, B, ...].

        Uniformly, or by priority, with importance weights of this exponent (beta); then call `update_priorities` with the TD
        errors. Raises ValueError while some seed has nothing to sample.
        """
        batch_size, exponent = self.checked_sampling(batch_size, streams, exponent)
        return Batch(*map(tensors_of, self.draw(batch_size, streams, exponent)))

    def checked_sampling(self, batch_size: Any, streams: Any, exponent: Any) -> tuple[int, float]:
        """Check the arguments of `sample` and return batch_size and exponent.

        Raises ArgumentError for invalid arguments, and ValueError while there is nothing to sample.
        """
        batch_size = integer(batch_size, "batch_size", 1, MOST_SAMPLES)
        exponent = number(exponent, "exponent", 0.0, 1.0)
        instance(streams, "streams", Streams, "a supervised.Streams")
        if len(self) < 1:
            raise ValueError(self.nothing)
        if len(streams.seeds) != self.n:
            raise ValueError(f"The streams have {len(streams.seeds)} seeds; the replay has {self.n}.")
        return batch_size, exponent

    @property
    def nothing(self) -> str:
        """Why there is nothing to sample."""
        return (
            "There is nothing to sample yet: the replay has no step whose window of"
            f" {self.n_step} step{'s' * (self.n_step > 1)} is complete."
        )

    def notice(self, longest: int) -> None:
        """Do nothing: the length of an episode does not matter here."""

    def ready(self) -> bool:
        """Return whether every seed has something to sample; once true, this stays true."""
        self.filled = self.filled or len(self) > 0
        return self.filled

    def sizes(self) -> np.ndarray:
        """Return the number of steps of each seed that can be sampled, float64 [N]."""
        found: np.ndarray = (self.tail - self.head).reshape(self.n, -1).sum(1).astype(np.float64)
        return found

    def contents(self) -> dict[str, np.ndarray]:
        """Return the number of steps of each seed that can be sampled, [N], by the tag of its curve."""
        return {"replay/size_steps": self.sizes()}

    def draw(self, batch_size: int, streams: Streams, exponent: float) -> Batch:
        """Like `sample`, with arrays and without checks; every seed must have something to sample."""
        index, weight = self.draw_index(batch_size, streams, exponent)
        returns, discount = np.empty(index.shape, np.float32), np.empty(index.shape, np.float32)
        end = np.empty(index.shape, np.int64)
        scale = () if self.discounts is None else (self.discounts,)
        self._fold(index, self.reward, self.kind, self.length, self.n_step, self.gamma, returns, discount, end, *scale)
        mask = None if self.masks is None else self.masks[end] | (discount == 0)[..., None]
        taken = self.action[index].astype(np.int64)
        state = {name: part[index] for name, part in self.memory.items()} or None
        parts: tuple[Any, ...] = (
            self._read(index),
            taken,
            returns,
            discount,
            self._read(end),
            mask,
            weight,
            index,
            state,
            None if self.masks is None else self.masks[index],
        )
        return Batch(*parts)

    def draw_index(self, batch_size: int, streams: Streams, exponent: float) -> tuple[np.ndarray, np.ndarray | None]:
        """Draw entries int64 [N, B] and, if prioritized, their importance weights [N, B]."""
        u = streams.random((batch_size,))
        index = np.empty(u.shape, np.int64)
        if self.alpha is None:
            self._draw(u, self.starts, self.head, self.tail, self.length, index)
            return index, None
        importance = np.empty(u.shape)
        counts = (self.tail - self.head).reshape(self.n, self.envs).sum(1)
        self._draw_by_priority(self.total, self.least, u, counts, exponent, index, importance)
        index += np.arange(self.n)[:, None] * self.envs * self.length
        return index, importance.astype(np.float32)

    @explained("index and td_error [N, B] of one sample")
    def update_priorities(self, index: Tensor | None, td_error: Tensor) -> None:
        """Update the priorities of a sample from its TD errors [N, B]. Raises ValueError for a uniform replay."""
        if self.alpha is None or index is None:
            raise ValueError("This replay is uniform and has no priorities: create it with a priority_exponent.")
        self.set_priorities(index.numpy(), td_error.detach().cpu().numpy())

    def set_priorities(self, index: Any, error: np.ndarray) -> None:
        """Like `update_priorities`, with arrays [N, B]. Raises ValueError if they belong to a different sample."""
        leaf = np.asarray(index) - np.arange(self.n)[:, None] * self.envs * self.length
        if leaf.shape != error.shape or leaf.min() < 0 or leaf.max() >= self.envs * self.length:
            raise ValueError("index and td_error must be those of one sample of this replay, both [N, B].")
        self._renew(self.total, self.least, self.highest, leaf, error, self.alpha, self.SMALLEST)

    @explained("k, the index of a seed")
    def priorities(self, k: int = 0) -> np.ndarray:
        """Return the priorities of the k-th seed's steps that can be sampled, float64."""
        values: np.ndarray = self.total[integer(k, "k", 0, self.n - 1), self.total.shape[1] // 2 :]
        return values[values > 0]

    @explained("a count of at least 1")
    def latest(self, count: int) -> Any:
        """Return the observations [N, count, *O] of each seed's last `count` samples, repeated if there are fewer.

        They come from the seed's environment with the most samples. Every seed must have a sample.
        """
        held = (self.tail - self.head).reshape(self.n, self.envs)
        row = np.arange(self.n) * self.envs + held.argmax(1)
        back = np.arange(integer(count, "count", 1)) % held.max(1)[:, None]
        ranks = (self.tail[row, None] - 1 - back) % self.length
        begin = row[:, None] * self.length
        return tensors_of(self._read(begin + self.starts[begin + ranks] % self.length))

    @explained("index int64 [N, B] of a sample")
    def age(self, index: Tensor | np.ndarray) -> np.ndarray:
        """Return the mean age of a sample's entries [N, B], in observations of their environment: [N]."""
        row, place = divmod(np.asarray(index), self.length)
        ages: np.ndarray = ((self.newest[row] - place) % self.length).mean(1)
        return ages

    def state_dict(self) -> dict[str, Any]:
        """Return the contents, arrays [N, E, used, ...] without unused entries."""
        return saved.state_of(self)

    @explained("the state that state_dict returned")
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load a state returned by `state_dict`. Raises ValueError for a state that does not match or is inconsistent."""
        self.filled = False
        saved.put_back(self, state)
