"""Replay: a ring of raw steps, from which n-step transitions are folded when they are sampled.

Each observation is kept once, of stacked frames each frame once, and what lies behind an ending is never read. A step can
be a sample once its n-step window is complete: n steps on, or an ending within. The window stops there; the last starts
before an ending have shorter ones. `rl.deep.replay.ring_buffer` says where everything lies.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
from torch import Tensor

from rl.core import jit
from rl.core.observations import leaves, parts_of
from rl.core.types import Batch, State
from rl.deep.moving import tensors_of
from rl.deep.replay import sum_tree
from rl.deep.replay.ring_buffer import NO_STEP, append, begin, draw, fold
from rl.deep.replay.sum_tree import put
from supervised.device import available_memory
from supervised.streams import Streams
from supervised.validate import ArgumentError, explained, instance, integer, kind_of, number, optional, shown

GB = 1e9
MOST_SAMPLES = 10_000_000  # of a batch of one seed
ONE = np.float32(1.0).view(np.int32)  # its bits
COUNTERS = ("newest", "since", "fresh", "head", "tail")


class Steps(Protocol):
    """What `Replay.add` reads of an answer of a world; `envs.Step` has it.

    An answer may also have `discount`, floats [N, E] or None: the steps' own discounts, which multiply gamma.
    """

    @property
    def reward(self) -> Tensor: ...
    @property
    def terminated(self) -> Tensor: ...
    @property
    def truncated(self) -> Tensor: ...
    @property
    def next_obs(self) -> Any: ...
    @property
    def next_mask(self) -> Tensor | None: ...
    @property
    def valid(self) -> Tensor | None: ...


class Where(Protocol):
    """What `Replay` asks of a world; `envs.World` has it."""

    observation_space: gym.Space[Any]
    action_space: gym.Space[Any]
    seeds: tuple[int, ...]
    envs_per_seed: int
    frames: int


class Replay:
    """The last `capacity_steps` steps of each seed, its environments together.

    world: what steps come from (its spaces, seeds and stacked frames). n_step, gamma: how many steps a sample folds, and the
    discount between them. priority_exponent: alpha of prioritised replay, in [0, 1] (Schaul et al. 2016); None: uniform.
    state: what an agent remembers when an episode begins, arrays [N, E, ...] by name; it is kept with each observation. None:
    nothing. An episode's last observation takes a place too. Raises ValueError for settings out of range, and before any
    memory is taken when it would not fit.
    """

    SMALLEST = 1e-6  # added to each |TD error|, so that none is never drawn again

    def __init__(
        self,
        world: Where,
        capacity_steps: int = 100_000,
        n_step: int = 1,
        gamma: float = 0.99,
        priority_exponent: float | None = None,
        state: State | None = None,
    ) -> None:
        if not all(hasattr(world, name) for name in ("observation_space", "seeds", "envs_per_seed", "frames")):
            raise ArgumentError(f"world is a world that envs.make returns, not {shown(world)}.")
        capacity_steps = integer(capacity_steps, "capacity_steps", 1)
        self.n_step, self.gamma = integer(n_step, "n_step", 1), number(gamma, "gamma", 0.0, 1.0)
        self.alpha = optional(number, priority_exponent, "priority_exponent", 0.0, 1.0)
        self.n, self.envs = len(world.seeds), world.envs_per_seed
        self.parts = parts_of(world.observation_space)
        self.frames = world.frames if len(self.parts) == 1 and self.parts[0].kind == "image" else 1
        self.actions = int(getattr(world.action_space, "n", 0))
        self.length = -(-capacity_steps // self.envs) + self.n_step + self.frames
        lanes = self.n * self.envs
        entries = lanes * self.length + 1  # and one that nobody reads
        self.shapes = {part.name: part.shape[1:] if self.frames > 1 else part.shape for part in self.parts}
        self.memory_shapes = {name: (part.shape[2:], np.asarray(part).dtype) for name, part in (state or {}).items()}
        self.bytes = self._check_memory(entries)
        self.memory = {name: np.zeros((entries, *shape), kind) for name, (shape, kind) in self.memory_shapes.items()}
        self.obs = {part.name: np.zeros((entries, *self.shapes[part.name]), part.dtype) for part in self.parts}
        self.masks: np.ndarray | None = None  # bool [entries, A], from the first mask on
        self.discounts: np.ndarray | None = None  # float32 [entries], the steps' own, from the first on that is not 1
        self.action = np.zeros(entries, np.int16 if self.actions < 2**15 else np.int32)
        self.reward = np.zeros(entries, np.float32)
        self.kind = np.zeros(entries, np.uint8)
        self.starts = np.zeros(lanes * self.length, np.int64)
        self.newest, self.since = np.full(lanes, -1), np.zeros(lanes, np.int64)
        self.head, self.tail = np.zeros(lanes, np.int64), np.zeros(lanes, np.int64)
        self.fresh = np.ones(lanes, np.bool_)
        leaves_ = self.envs * self.length if self.alpha is not None else 1
        self.total, self.least = sum_tree.trees(self.n, leaves_)
        self.highest = np.ones(self.n)
        self._begin_at = np.zeros((lanes, self.frames), np.int64)
        self._at, self._following = np.zeros(lanes, np.int64), np.zeros(lanes, np.int64)
        self._all_valid = np.ones(lanes, np.bool_)
        self._shape = self.n, self.envs
        self._shapes = {part.name: (*self._shape, *part.shape) for part in self.parts}  # of observations
        self._begin = _fast(begin)
        self._append = _fast(append, PRIORITISED=int(self.alpha is not None))
        self._draw, self._fold = _fast(draw), _fast(fold)
        self._draw_by_priority, self._renew = _fast(sum_tree.draw), _fast(sum_tree.renew)

    def _check_memory(self, entries: int) -> int:
        """The bytes that the ring takes when it is full. Raises ValueError when there are not so many."""
        each = sum(math.prod(self.shapes[part.name]) * part.dtype.itemsize for part in self.parts)
        each += sum(math.prod(shape) * kind.itemsize for shape, kind in self.memory_shapes.values())
        trees = 2 * 2 * 8 if self.alpha is not None else 0
        needed = entries * (each + 2 + 4 + 1 + 8 + trees)
        free = available_memory()
        if free is not None and needed > free:
            raise ValueError(
                f"A replay of {self.length:,} steps in each of {self.n * self.envs} environments takes {needed / GB:.1f} GB,"
                f" and {free / GB:.1f} GB are free. Take a smaller capacity_steps, or fewer seeds."
            )
        return int(needed)

    def __len__(self) -> int:
        """How many steps of each seed can be sampled now; of the seed that has the fewest."""
        return int((self.tail - self.head).reshape(self.n, -1).sum(1).min())

    @explained("obs [N, E, *O], action [N, E] and a step that a world answers, of the replay's seeds and environments")
    def add(self, obs: Any, action: Tensor | np.ndarray, step: Steps, state: State | None = None) -> None:
        """Enter a step of every environment: obs [N, E, *O] and action [N, E] that it was taken at and with.

        state: what the agent remembered when it came to obs, [N, E, ...] by name, where the replay was made for one.
        """
        lanes = len(self.newest)
        valid = self._all_valid if step.valid is None else self._flat("valid", step.valid, "b")
        terminated, truncated = (
            self._flat("terminated", step.terminated, "b"),
            self._flat("truncated", step.truncated, "b"),
        )
        taken, reward = self._flat("action", action, "iu"), self._flat("reward", step.reward, "fiu")
        rows = self._rows("obs", obs) if self.fresh.any() else None
        next_rows = self._rows("next_obs", step.next_obs)
        mask = None if step.next_mask is None else np.asarray(step.next_mask).reshape(lanes, self.actions)
        if rows is not None:
            self._begin(self.newest, self.fresh, self.kind, self.length, self.frames, self._begin_at)
            self._write(rows, self._begin_at)
        self._append(
            *(self.newest, self.since, self.fresh, self.kind, self.starts, self.head, self.tail),
            *(self.total, self.least, self.highest, terminated, truncated, valid),
            *(self.length, self.frames, self.n_step, self._at, self._following),
        )
        self.action[self._at] = taken
        self.reward[self._at] = reward
        for name, part in self.memory.items():
            part[self._at] = np.asarray((state or {})[name]).reshape(lanes, *part.shape[1:])
        self._write(next_rows, self._following[:, None])
        if mask is not None:
            if self.masks is None:
                self.masks = np.ones((len(self.kind), self.actions), np.bool_)
            self.masks[self._following] = mask
        elif self.masks is not None:
            self.masks[self._following] = True  # the entry may have held another step's mask
        given = getattr(step, "discount", None)
        if given is not None:
            scale = self._flat("discount", given, "f")
            if self.discounts is None:
                self.discounts = np.ones(len(self.kind), np.float32)
            self.discounts[self._at] = scale
        elif self.discounts is not None:
            self.discounts[self._at] = 1.0  # likewise

    def _flat(self, name: str, values: Any, kinds: str) -> np.ndarray:
        """Numbers [N, E] as [N * E]. Raises ArgumentError for another shape or kind."""
        array = values.numpy() if isinstance(values, Tensor) else np.asarray(values)
        if array.shape != self._shape or array.dtype.kind not in kinds:
            what = {"b": "flags", "iu": "whole numbers", "fiu": "numbers"}[kinds]
            raise ArgumentError(
                f"A step's {name} has {what} of [{self.n} seeds, {self.envs} environments a seed], not {kind_of(values)}."
            )
        return array.reshape(-1)

    def _rows(self, name: str, obs: Any) -> dict[str, np.ndarray]:
        """The parts of observations [N, E, *O] as [N * E, *O]. Raises ArgumentError for another shape or kind."""
        given, found = leaves(obs), {}
        for key, shape in self._shapes.items():
            part = given.get(key)
            rows = part.numpy() if isinstance(part, Tensor) else np.asarray(part)
            if rows.shape != shape or rows.dtype.kind not in "fiub":
                where = f" {key!r}" if key else ""
                raise ArgumentError(f"{name}{where} is numbers {list(shape)}, not {kind_of(part)}.")
            found[key] = rows.reshape(-1, *shape[2:])
        return found

    def _write(self, rows: dict[str, np.ndarray], at: np.ndarray) -> None:
        for name, store in self.obs.items():
            if self.frames > 1:
                store[at] = rows[name][:, -at.shape[1] :]
            else:
                store[at[:, 0]] = rows[name]

    @explained("a batch_size, streams of the replay's seeds and an exponent in [0, 1]")
    def sample(self, batch_size: int, streams: Streams, exponent: float = 1.0) -> Batch:
        """batch_size steps of each seed, drawn with replacement -> a Batch [N, B, ...].

        Uniformly, or by priority: then with importance weights of this exponent (beta), and `update_priorities` to tell
        what came of it. Raises ValueError while some seed has nothing to sample.
        """
        batch_size = integer(batch_size, "batch_size", 1, MOST_SAMPLES)
        exponent = number(exponent, "exponent", 0.0, 1.0)
        instance(streams, "streams", Streams, "a supervised.Streams")
        if len(self) < 1:
            raise ValueError(
                "There is nothing to sample yet: no step is in the replay, or none whose window of"
                f" {self.n_step} step{'s' * (self.n_step > 1)} is complete."
            )
        if len(streams.seeds) != self.n:
            raise ValueError(f"The streams are of {len(streams.seeds)} seeds; the replay is of {self.n}.")
        return Batch(*map(tensors_of, self.draw(batch_size, streams, exponent)))

    def draw(self, batch_size: int, streams: Streams, exponent: float) -> Batch:
        """`sample` in arrays, where every seed has something to sample."""
        u = streams.random((batch_size,))
        index, weight = np.empty(u.shape, np.int64), None
        if self.alpha is None:
            self._draw(u, self.starts, self.head, self.tail, self.length, index)
        else:
            importance = np.empty(u.shape)
            counts = (self.tail - self.head).reshape(self.n, self.envs).sum(1)
            self._draw_by_priority(self.total, self.least, u, counts, exponent, index, importance)
            index += np.arange(self.n)[:, None] * self.envs * self.length
            weight = importance.astype(np.float32)
        returns, discount = np.empty(u.shape, np.float32), np.empty(u.shape, np.float32)
        end = np.empty(u.shape, np.int64)
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
        )
        return Batch(*parts)

    def _read(self, index: np.ndarray) -> Any:
        """The observations at entries [N, B] -> [N, B, *O], an array or a dict of them."""
        if self.frames > 1:
            base = index // self.length * self.length
            back = np.arange(self.frames - 1, -1, -1)
            index = base[..., None] + (index - base)[..., None] - back
            index = np.where(index < base[..., None], index + self.length, index)
        found = {name: store.take(index, 0) for name, store in self.obs.items()}
        return found.get("", found)

    @explained("index and td_error [N, B] of one sample")
    def update_priorities(self, index: Tensor | None, td_error: Tensor) -> None:
        """Tell the TD errors [N, B] of a sample. Raises ValueError where the replay is uniform."""
        if self.alpha is None or index is None:
            raise ValueError("This replay is uniform and keeps no priorities: give it a priority_exponent.")
        self.renew(index.numpy(), td_error.detach().cpu().numpy())

    def renew(self, index: Any, error: np.ndarray) -> None:
        """`update_priorities` from arrays [N, B]. Raises ValueError for those of another sample."""
        leaf = np.asarray(index) - np.arange(self.n)[:, None] * self.envs * self.length
        if leaf.shape != error.shape or leaf.min() < 0 or leaf.max() >= self.envs * self.length:
            raise ValueError("index and td_error are those of one sample of this replay, both [N, B].")
        self._renew(self.total, self.least, self.highest, leaf, error, self.alpha, self.SMALLEST)

    @explained("lanes bool [N * E]")
    def begin_anew(self, lanes: np.ndarray) -> None:
        """New episodes begin in the lanes [N * E] where this is true, without an ending before them."""
        if np.shape(lanes) != self.fresh.shape or np.asarray(lanes).dtype != np.bool_:
            raise ArgumentError(f"lanes is bool [{len(self.fresh)}], one for each environment, not {kind_of(lanes)}.")
        self.fresh[lanes], self.since[lanes] = True, 0

    @explained("k, a seed's place")
    def priorities(self, k: int = 0) -> np.ndarray:
        """The priorities of the k-th seed's steps that can be sampled, float64."""
        values: np.ndarray = self.total[integer(k, "k", 0, self.n - 1), self.total.shape[1] // 2 :]
        return values[values > 0]

    @explained("a count from 1 on")
    def latest(self, count: int) -> Any:
        """The observations of each seed's last `count` steps that can be sampled (fewer if there are fewer) -> [N, B, *O]."""
        lane = np.arange(self.n) * self.envs  # of each seed's first environment
        count = min(integer(count, "count", 1), int((self.tail - self.head)[lane].min()))
        ranks = (self.tail[lane, None] - 1 - np.arange(count)) % self.length
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
        lanes, used = self.n * self.envs, min(self.length, int(self.newest.max()) + 1)

        def part(array: np.ndarray) -> np.ndarray:
            rows = array[: lanes * self.length].reshape(lanes, self.length, *array.shape[1:])[:, :used]
            return np.ascontiguousarray(rows.reshape(self.n, self.envs, used, *array.shape[1:]))

        stores = {"action": self.action, "reward": self.reward, "kind": self.kind, "starts": self.starts}
        stores["forbidden"] = np.zeros((len(self.kind), 0), np.bool_) if self.masks is None else ~self.masks
        stores["discount"] = np.zeros((len(self.kind), 0), np.int32)
        if self.discounts is not None:
            stores["discount"] = (self.discounts.view(np.int32) ^ ONE)[:, None]
        counters = {name: getattr(self, name).reshape(self.n, self.envs) for name in COUNTERS}
        state: dict[str, Any] = {name: part(array) for name, array in stores.items()} | counters
        state["obs"] = {name: part(array) for name, array in self.obs.items()}
        if self.memory:
            state["memory"] = {name: part(array) for name, array in self.memory.items()}
        if self.alpha is not None:
            leaves_ = self.total[:, self.total.shape[1] // 2 :][:, : self.envs * self.length]
            state["priority"] = np.ascontiguousarray(leaves_.reshape(self.n, self.envs, self.length)[:, :, :used])
            state["highest"] = self.highest
        return state

    @explained("the state that state_dict returned")
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put back what `state_dict` gave. Raises ValueError for what does not fit, or contradicts itself."""
        lanes = self.n * self.envs
        used = state["kind"].shape[2]

        def put_back(name: str, array: np.ndarray, saved: np.ndarray) -> None:
            shape = (self.n, self.envs, used, *array.shape[1:])
            if saved.shape != shape or saved.dtype != array.dtype or used > self.length:
                raise ValueError(
                    f"The saved {name!r} of the replay is {saved.dtype} {list(saved.shape)}, not {list(shape)}."
                )
            rows = array[: lanes * self.length].reshape(lanes, self.length, *array.shape[1:])
            rows[:, :used] = saved.reshape(lanes, used, *array.shape[1:])

        if state["obs"].keys() != self.obs.keys():
            raise ValueError("The saved replay holds other parts of observations.")
        for name in COUNTERS:
            mine = getattr(self, name)
            if state[name].shape != (self.n, self.envs) or state[name].dtype != mine.dtype:
                raise ValueError(f"The saved {name!r} of the replay is damaged.")
        newest, head, tail = (state[name].reshape(-1) for name in ("newest", "head", "tail"))
        if (newest < -1).any() or (head < 0).any() or (tail < head).any() or (tail - head > self.length).any():
            raise ValueError("The counters of the saved replay contradict each other.")
        parts = [("obs", self.obs), ("memory", self.memory)]
        for name, array, saved in [
            (name, part, state[kind][name]) for kind, own in parts for name, part in own.items()
        ]:
            put_back(name, array, saved)
        for name in ("action", "reward", "kind", "starts"):
            put_back(name, getattr(self, name), state[name])
        self._put_back_masks(state, put_back)
        self._put_back_discounts(state, put_back)
        for name in COUNTERS:
            getattr(self, name)[:] = state[name].reshape(-1)
        self._check_starts()
        if self.alpha is not None:
            put_priority = _fast(_fill)
            values = np.zeros((self.n, self.envs, self.length))
            values[:, :, :used] = state["priority"]
            if not (np.isfinite(values).all() and (values >= 0).all() and np.isfinite(state["highest"]).all()):
                raise ValueError("The priorities of the saved replay are damaged.")
            self.total[:], self.least[:] = 0.0, sum_tree.NOTHING  # what was there before
            put_priority(self.total, self.least, values.reshape(self.n, -1))
            self.highest[:] = state["highest"]

    def _put_back_masks(
        self, state: Mapping[str, Any], put_back: Callable[[str, np.ndarray, np.ndarray], None]
    ) -> None:
        """Saved as what is forbidden, so that zeros fill up seeds without masks; in older files as what is allowed."""
        forbidden = ~state["masks"] if "masks" in state else state.get("forbidden", np.zeros((0, 0)))
        self.masks = None
        if forbidden.shape[-1]:
            self.masks = np.zeros((len(self.kind), self.actions), np.bool_)
            put_back("forbidden", self.masks, forbidden)
            np.logical_not(self.masks, out=self.masks)

    def _put_back_discounts(
        self, state: Mapping[str, Any], put_back: Callable[[str, np.ndarray, np.ndarray], None]
    ) -> None:
        """Saved as the bits in which they differ from 1, so that zeros fill up seeds without any; older files have none."""
        saved = state.get("discount", np.zeros((0, 0)))
        self.discounts = None
        if saved.shape[-1]:
            bits = np.zeros((len(self.kind), 1), np.int32)
            put_back("discount", bits, saved)
            self.discounts = (bits[:, 0] ^ ONE).view(np.float32)
            if not ((self.discounts >= 0) & (self.discounts <= 1)).all():
                raise ValueError("The saved discounts of the replay lie outside 0..1.")

    def _check_starts(self) -> None:
        """Raise ValueError where a step that can be sampled is none, or lies outside its lane."""
        for r in range(self.n * self.envs):
            rows = slice(r * self.length, (r + 1) * self.length)
            ranks = np.arange(self.head[r], self.tail[r]) % self.length
            found = self.starts[rows][ranks]
            good = (found >= 0) & (found < self.newest[r]) & (found > self.newest[r] - self.length)
            if not good.all() or (self.kind[rows][found % self.length] == NO_STEP).any():
                raise ValueError("The saved replay names steps that it does not hold.")


def _fill(total: Any, least: Any, values: Any) -> None:
    for k in range(values.shape[0]):
        for leaf in range(values.shape[1]):
            if values[k, leaf] > 0.0:
                put(total, least, k, leaf, values[k, leaf])


def _fast(function: Any, **replacements: Any) -> Any:
    return jit.compiled(function, **replacements) or jit.specialise(function, **replacements)
