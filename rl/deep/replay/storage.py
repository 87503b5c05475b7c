"""The storage of a replay: a ring buffer of single steps for each environment, see `rl.deep.replay.ring_buffer`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
from torch import Tensor

from rl.core import jit
from rl.core.observations import leaves, parts_of
from rl.core.states import host_state
from rl.core.types import State
from rl.deep.replay import sum_tree
from rl.deep.replay.ring_buffer import append, n_step_return, sample_uniform, start_episode
from supervised.device import available_memory
from supervised.renamed import former_keywords
from supervised.validate import ArgumentError, explained, integer, kind_of, number, optional, shown

GB = 1e9


class Steps(Protocol):
    """The step result that `Replay.add` takes, such as `envs.Step`.

    It may also have `discount`, floats [N, E] or None: per-step discounts, which multiply gamma.
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
    """The world that `Replay` takes, such as `envs.World`."""

    observation_space: gym.Space[Any]
    action_space: gym.Space[Any]
    seeds: tuple[int, ...]
    envs_per_seed: int
    frames: int


class Ring:
    """Stores the steps of N seeds in E environments each. `Replay` documents the arguments, and adds sampling."""

    _appending: Callable[..., None] = staticmethod(append)
    reach = 0  # the number of entries that a sample reads in addition to its n steps
    each = 1  # the number of entries per stored recurrent state
    stores: tuple[str, ...] = ("action", "reward", "kind", "starts")  # saved arrays, with one element per entry

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
            raise ArgumentError(f"world must be a world returned by envs.make, not {shown(world)}.")
        capacity_steps = integer(capacity_steps, "capacity_steps", 1)
        self.n_step, self.gamma = integer(n_step, "n_step", 1), number(gamma, "gamma", 0.0, 1.0)
        self.alpha = optional(number, priority_exponent, "priority_exponent", 0.0, 1.0)
        self.n, self.envs = len(world.seeds), world.envs_per_seed
        self.parts = parts_of(world.observation_space)
        self.frames = world.frames if len(self.parts) == 1 and self.parts[0].kind == "image" else 1
        self.actions = int(getattr(world.action_space, "n", 0))
        self.length = -(-capacity_steps // self.envs) + self.n_step + self.reach + self.frames
        self.states = -(-self.length // self.each) + (self.each > 1)  # stored states per environment
        rows = self.n * self.envs
        entries = rows * self.length + 1  # with a spare one, which is never read
        self.shapes = {part.name: part.shape[1:] if self.frames > 1 else part.shape for part in self.parts}
        self.memory_shapes = {name: (part.shape[2:], part.dtype) for name, part in host_state(state or {}).items()}
        self.bytes = self._check_memory(entries)
        slots = rows * self.states + 1
        self.memory = {name: np.zeros((slots, *shape), kind) for name, (shape, kind) in self.memory_shapes.items()}
        self.obs = {part.name: np.zeros((entries, *self.shapes[part.name]), part.dtype) for part in self.parts}
        self.masks: np.ndarray | None = None  # bool [entries, A], allocated with the first mask
        self.discounts: np.ndarray | None = None  # float32 [entries], allocated with the first step that has a discount
        self.action = np.zeros(entries, np.int16 if self.actions < 2**15 else np.int32)
        self.reward = np.zeros(entries, np.float32)
        self.kind = np.zeros(entries, np.uint8)
        self.starts = np.zeros(rows * self.length, np.int64)
        self.newest, self.since = np.full(rows, -1), np.zeros(rows, np.int64)
        self.head, self.tail = np.zeros(rows, np.int64), np.zeros(rows, np.int64)
        self.fresh = np.ones(rows, np.bool_)
        leaves_ = self.envs * self.length if self.alpha is not None else 1
        self.total, self.least = sum_tree.make_trees(self.n, leaves_)
        self.highest = np.ones(self.n)
        self._begin_at = np.zeros((rows, self.frames), np.int64)
        self._at, self._following = np.zeros(rows, np.int64), np.zeros(rows, np.int64)
        self._all_valid = np.ones(rows, np.bool_)
        self._shape = self.n, self.envs
        self._shapes = {part.name: (*self._shape, *part.shape) for part in self.parts}  # of observations
        self._more: tuple[Any, ...] = ()  # further arguments of the appending function
        self._begin = fast(start_episode)
        self._append = fast(self._appending, PRIORITIZED=int(self.alpha is not None))
        self._draw, self._fold = fast(sample_uniform), fast(n_step_return)
        self._draw_by_priority, self._renew, self.fill = map(
            fast, (sum_tree.draw, sum_tree.update_priorities, sum_tree.fill)
        )

    def _check_memory(self, entries: int) -> int:
        """Return the size of a full replay in bytes. Raises ValueError if it exceeds the available memory."""
        each = sum(math.prod(self.shapes[part.name]) * part.dtype.itemsize for part in self.parts)
        state = sum(math.prod(shape) * kind.itemsize for shape, kind in self.memory_shapes.values())
        trees = 2 * 2 * 8 if self.alpha is not None else 0
        needed = entries * (each + 2 + 4 + 1 + 8 + trees) + self.n * self.envs * self.states * state
        free = available_memory()
        if free is not None and needed > free:
            raise ValueError(
                f"A replay of {self.length:,} steps in each of {self.n * self.envs} environments takes {needed / GB:.1f} GB,"
                f" but only {free / GB:.1f} GB are free. Use a smaller capacity_steps, or fewer seeds."
            )
        return int(needed)

    def __len__(self) -> int:
        """Return the number of steps that can be sampled, of the seed with the fewest."""
        return int((self.tail - self.head).reshape(self.n, -1).sum(1).min())

    @explained(
        "obs [N, E, *O], action [N, E] and the step that a world returns, for the replay's seeds and environments",
        "Replay.add",
    )
    def add(
        self, obs: Any, action: Tensor | np.ndarray, step: Steps, state: State | None = None, mask: Any = None
    ) -> None:
        """Add a step of every environment: observations obs [N, E, *O], actions [N, E] and the resulting step.

        state: the agent's recurrent state before obs, [N, E, ...] by name, if the replay stores states. mask: bool [N, E, A], the
        actions allowed in obs; None: those given as the previous step's `next_mask`, or all.
        """
        valid = self._all_valid if step.valid is None else flat(self._shape, "valid", step.valid, "b")
        terminated, truncated = (
            flat(self._shape, "terminated", step.terminated, "b"),
            flat(self._shape, "truncated", step.truncated, "b"),
        )
        taken, reward = flat(self._shape, "action", action, "iu"), flat(self._shape, "reward", step.reward, "fiu")
        rows = rows_of(self._shapes, "obs", obs) if self.fresh.any() else None
        next_rows = rows_of(self._shapes, "next_obs", step.next_obs)
        own_mask, next_mask = self._mask(mask), self._mask(step.next_mask)
        given = getattr(step, "discount", None)
        scale = None if given is None else flat(self._shape, "discount", given, "f")
        self._check_state(state or {})
        # All checks precede the first write, so that no step is added partially.
        if rows is not None:
            self._begin(self.newest, self.fresh, self.kind, self.length, self.frames, self._begin_at)
            if self.masks is not None:
                self.masks[self._begin_at] = True  # clear the mask of an overwritten entry
            self._write(rows, self._begin_at)
        self._append(
            *(self.newest, self.since, self.fresh, self.kind, self.starts, self.head, self.tail),
            *(self.total, self.least, self.highest, terminated, truncated, valid),
            *(self.length, self.frames, self.n_step, self._at, self._following),
            *self._more,
        )
        self.action[self._at] = taken
        self.reward[self._at] = reward
        if state and self.memory:
            self._remember(state)
        self._write(next_rows, self._following[:, None])
        if self.masks is None and (own_mask is not None or next_mask is not None):
            self.masks = np.ones((len(self.kind), self.actions), np.bool_)
        if self.masks is not None:
            if own_mask is not None:
                self.masks[self._at] = own_mask
            self.masks[self._following] = True if next_mask is None else next_mask  # overwrites the old entry's mask
        if scale is not None:
            if self.discounts is None:
                self.discounts = np.ones(len(self.kind), np.float32)
            self.discounts[self._at] = scale
        elif self.discounts is not None:
            self.discounts[self._at] = 1.0

    def _mask(self, given: Any) -> np.ndarray | None:
        """Reshape a mask bool [N, E, A] to [N * E, A]."""
        return None if given is None else np.asarray(given).reshape(len(self.newest), self.actions)

    def _check_state(self, state: State) -> None:
        """Raise ArgumentError if a stored part of the state is missing or has another shape."""
        for name, part in self.memory.items():
            shape = (*self._shape, *part.shape[1:])
            if name not in state or tuple(state[name].shape) != shape:
                raise ArgumentError(f"state must have {name!r} {list(shape)}, not {kind_of(state.get(name))}.")

    def _remember(self, state: State) -> None:
        """Store the state [N, E, ...] from before the step just added."""
        for name, part in self.memory.items():
            part[self._at] = self._rows(state[name])

    def _rows(self, part: Any) -> np.ndarray:
        """Reshape an array or tensor [N, E, ...] to an array [N * E, ...]."""
        array = part.cpu().numpy() if isinstance(part, Tensor) else np.asarray(part)
        return array.reshape(len(self.newest), *array.shape[2:])

    def _write(self, rows: dict[str, np.ndarray], at: np.ndarray) -> None:
        for name, store in self.obs.items():
            if self.frames > 1:
                store[at] = rows[name][:, -at.shape[1] :]
            else:
                store[at[:, 0]] = rows[name]

    def _read(self, index: np.ndarray) -> Any:
        """Return the observations [N, B, *O] at entries [N, B], an array or a dict of arrays."""
        if self.frames > 1:
            base = index // self.length * self.length
            back = np.arange(self.frames - 1, -1, -1)
            index = base[..., None] + (index - base)[..., None] - back
            index = np.where(index < base[..., None], index + self.length, index)
        found = {name: store.take(index, 0) for name, store in self.obs.items()}
        return found.get("", found)

    @former_keywords
    @explained("rows bool [N * E]", "Replay.begin_anew")
    def begin_anew(self, rows: np.ndarray) -> None:
        """Start new episodes in the environments where rows, bool [N * E], is true; the current ones stay without an end."""
        if np.shape(rows) != self.fresh.shape or np.asarray(rows).dtype != np.bool_:
            raise ArgumentError(
                f"rows must be bool [{len(self.fresh)}], one for each environment, not {kind_of(rows)}."
            )
        self.fresh[rows], self.since[rows] = True, 0


def flat(shape: tuple[int, int], name: str, values: Any, kinds: str) -> np.ndarray:
    """Flatten numbers of this shape, [N, E], to [N * E]. Raises ArgumentError if the shape or the kind of dtype differs."""
    array = values.numpy() if isinstance(values, Tensor) else np.asarray(values)
    if array.shape != shape or array.dtype.kind not in kinds:
        what = {"b": "flags", "iu": "whole numbers", "f": "floats", "fiu": "numbers"}[kinds]
        raise ArgumentError(
            f"A step's {name} must be {what} [{shape[0]} seeds, {shape[1]} environments a seed], not {kind_of(values)}."
        )
    return array.reshape(-1)


def rows_of(shapes: Mapping[str, tuple[int, ...]], name: str, obs: Any) -> dict[str, np.ndarray]:
    """Flatten the parts of observations of these shapes, [N, E, *O], to [N * E, *O].

    Raises ArgumentError if the shape or the kind of dtype differs.
    """
    given, found = leaves(obs), {}
    for key, shape in shapes.items():
        part = given.get(key)
        rows = part.numpy() if isinstance(part, Tensor) else np.asarray(part)
        if rows.shape != shape or rows.dtype.kind not in "fiub":
            where = f" {key!r}" if key else ""
            raise ArgumentError(f"{name}{where} must be numbers {list(shape)}, not {kind_of(part)}.")
        found[key] = rows.reshape(-1, *shape[2:])
    return found


def fast(function: Any, **replacements: Any) -> Any:
    """Return a function compiled, or, without numba, as plain Python; replacements: see `rl.core.jit.specialize`."""
    return jit.compiled(function, **replacements) or jit.specialize(function, **replacements)
