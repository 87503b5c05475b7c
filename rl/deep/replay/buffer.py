"""Replay: a ring of raw steps, from which n-step transitions are folded when they are sampled.

Each observation is kept once, of stacked frames each frame once, and what lies behind an ending is never read. A step can
be a sample once its n-step window is complete: n steps on, or an ending within. The window stops there; the last starts
before an ending have shorter ones. `rl.deep.replay.ring_buffer` says where everything lies.
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

MOST_SAMPLES = 10_000_000  # of a batch of one seed


class Replay(Ring):
    """The last `capacity_steps` steps of each seed, its environments together.

    world: what steps come from (its spaces, seeds and stacked frames). n_step, gamma: how many steps a sample folds, and the
    discount between them. priority_exponent: alpha of prioritized replay, in [0, 1] (Schaul et al. 2016); None: uniform.
    state: what an agent remembers when an episode begins, arrays [N, E, ...] by name; it is kept with each observation. None:
    nothing. An episode's last observation takes a place too. Raises ValueError for settings out of range, and before any
    memory is taken when it would not fit.
    """

    SMALLEST = 1e-6  # added to each |TD error|, so that none is never drawn again
    filled = False  # whether every seed was seen to have a sample

    @explained("a batch_size, streams of the replay's seeds and an exponent in [0, 1]")
    def sample(self, batch_size: int, streams: Streams, exponent: float = 1.0) -> Batch:
        """batch_size steps of each seed, drawn with replacement -> a Batch [N, B, ...].

        Uniformly, or by priority: then with importance weights of this exponent (beta), and `update_priorities` to tell
        what came of it. Raises ValueError while some seed has nothing to sample.
        """
        batch_size, exponent = self.checked_sampling(batch_size, streams, exponent)
        return Batch(*map(tensors_of, self.draw(batch_size, streams, exponent)))

    def checked_sampling(self, batch_size: Any, streams: Any, exponent: Any) -> tuple[int, float]:
        """batch_size and exponent of `sample` as plain numbers.

        Raises ArgumentError for arguments that are none, and ValueError while there is nothing to sample.
        """
        batch_size = integer(batch_size, "batch_size", 1, MOST_SAMPLES)
        exponent = number(exponent, "exponent", 0.0, 1.0)
        instance(streams, "streams", Streams, "a supervised.Streams")
        if len(self) < 1:
            raise ValueError(self.nothing)
        if len(streams.seeds) != self.n:
            raise ValueError(f"The streams are of {len(streams.seeds)} seeds; the replay is of {self.n}.")
        return batch_size, exponent

    @property
    def nothing(self) -> str:
        """Why there is nothing to sample."""
        return (
            "There is nothing to sample yet: no step is in the replay, or none whose window of"
            f" {self.n_step} step{'s' * (self.n_step > 1)} is complete."
        )

    def notice(self, longest: int) -> None:
        """Nothing: a sample is as good however long its episode was."""

    def ready(self) -> bool:
        """Whether every seed has something to sample: once it has, it always has."""
        self.filled = self.filled or len(self) > 0
        return self.filled

    def sizes(self) -> np.ndarray:
        """How many samples of each seed there are, float64 [N]."""
        found: np.ndarray = (self.tail - self.head).reshape(self.n, -1).sum(1).astype(np.float64)
        return found

    def contents(self) -> dict[str, np.ndarray]:
        """How much of each seed can be sampled, by the tag of its curve, [N]."""
        return {"replay/size_steps": self.sizes()}

    def draw(self, batch_size: int, streams: Streams, exponent: float) -> Batch:
        """`sample` in arrays, where every seed has something to sample."""
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
        """Draw entries that can be sampled -> int64 [N, B], and with priorities importance weights [N, B]."""
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
        """Tell the TD errors [N, B] of a sample. Raises ValueError where the replay is uniform."""
        if self.alpha is None or index is None:
            raise ValueError("This replay is uniform and keeps no priorities: give it a priority_exponent.")
        self.set_priorities(index.numpy(), td_error.detach().cpu().numpy())

    def set_priorities(self, index: Any, error: np.ndarray) -> None:
        """`update_priorities` from arrays [N, B]. Raises ValueError for those of another sample."""
        leaf = np.asarray(index) - np.arange(self.n)[:, None] * self.envs * self.length
        if leaf.shape != error.shape or leaf.min() < 0 or leaf.max() >= self.envs * self.length:
            raise ValueError("index and td_error are those of one sample of this replay, both [N, B].")
        self._renew(self.total, self.least, self.highest, leaf, error, self.alpha, self.SMALLEST)

    @explained("k, a seed's place")
    def priorities(self, k: int = 0) -> np.ndarray:
        """The priorities of the k-th seed's steps that can be sampled, float64."""
        values: np.ndarray = self.total[integer(k, "k", 0, self.n - 1), self.total.shape[1] // 2 :]
        return values[values > 0]

    @explained("a count from 1 on")
    def latest(self, count: int) -> Any:
        """The observations at each seed's last `count` samples -> [N, count, *O]; over again where there are fewer.

        Of the seed's environment that has most. Every seed has a sample.
        """
        held = (self.tail - self.head).reshape(self.n, self.envs)
        lane = np.arange(self.n) * self.envs + held.argmax(1)
        back = np.arange(integer(count, "count", 1)) % held.max(1)[:, None]
        ranks = (self.tail[lane, None] - 1 - back) % self.length
        begin = lane[:, None] * self.length
        return tensors_of(self._read(begin + self.starts[begin + ranks] % self.length))

    @explained("index int64 [N, B] of a sample")
    def age(self, index: Tensor | np.ndarray) -> np.ndarray:
        """How many observations ago the entries [N, B] of a sample were made, on average: [N]."""
        lane, place = divmod(np.asarray(index), self.length)
        ages: np.ndarray = ((self.newest[lane] - place) % self.length).mean(1)
        return ages

    def state_dict(self) -> dict[str, Any]:
        """All that was entered, arrays [N, E * used, ...]: only the entries that hold something."""
        return saved.state_of(self)

    @explained("the state that state_dict returned")
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put back what `state_dict` gave. Raises ValueError for what does not fit, or contradicts itself."""
        self.filled = False
        saved.put_back(self, state)
