"""Rollouts of recurrent networks: sequences of whole environments, read again in each update, with the returns of that reading.

Gallici et al. (2025), section 4 and appendix: the last `memory_steps` steps of the previous rollout come first. They only warm
up the recurrent state, which was stored before them. Targets are computed from the values of the reading itself, with the weights
of the update; only where an episode was truncated, the value of its true last observation is that of the weights that acted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import nn

from rl import targets
from rl.core.types import Batch, State, Update
from rl.deep import checks
from rl.deep.heads.head import HeadLoss, Outputs
from rl.deep.learner import Learner
from rl.deep.moving import tensors_of
from rl.deep.reading import Recurrent
from rl.deep.recurrent import RecurrentAgent
from rl.deep.rollout import Beginning, Rollout, Row, fields, inside
from supervised.validate import ArgumentError


class SequenceBatch(NamedTuple):
    """Sequences of T steps, the first `memory` of which only warm up the state. Arrays on the host."""

    obs: Any  # [N, B, T + 1, *O]
    mask: np.ndarray | None  # bool [N, B, T + 1, A], the actions allowed
    started: np.ndarray  # bool [N, B, T + 1], the observations that start an episode
    state: State  # the recurrent state before the first observation, [N, B, ...] by name
    action: np.ndarray  # int64 [N, B, T], as the following
    reward: np.ndarray
    discount: np.ndarray
    ended: np.ndarray
    last_value: np.ndarray
    valid: np.ndarray
    memory: int
    lambda_: float


STEPS = ("action", "reward", "discount", "ended", "last_value", "valid")


class SequenceRollout(Rollout):
    """The steps since the last update and the memory before them, for recurrent networks."""

    shuffled: ClassVar[str] = "environments per seed, whose sequences a recurrent network learns from as wholes"

    def __init__(self, steps: int, memory_steps: int) -> None:
        super().__init__(steps)
        self.memory_steps = memory_steps
        self.memory = 0  # rows of the previous rollout, which come first

    @property
    def full(self) -> bool:
        return self.t == self.memory + self.steps

    def units(self, envs: int) -> int:
        return envs

    def add(self, row: Row, before: Beginning) -> None:
        self._put(fields({"mask": before.mask, "state": before.state, "started": before.started} | row._asdict()))

    def _most(self) -> int:
        return self.memory_steps + self.steps

    def epochs(self, last: Beginning, lambda_: float, orders: Iterator[np.ndarray], count: int) -> Iterator[Any]:
        more = fields({"obs": last.obs, "mask": last.mask, "started": last.started})
        rows = {
            name: part[: self.t].swapaxes(0, 1).swapaxes(1, 2) for name, part in self.arrays.items()
        }  # [N, E, T, ...]
        rows |= {name: np.concatenate([rows[name], part[:, :, None]], 2) for name, part in more.items()}
        for order in orders:
            size = order.shape[1] // count
            for i in range(count):
                place = np.arange(len(order))[:, None], order[:, i * size : (i + 1) * size]
                yield self._batch({name: part[place] for name, part in rows.items()}, lambda_)

    def _batch(self, rows: Mapping[str, np.ndarray], lambda_: float) -> SequenceBatch:
        obs = inside({name: part for name, part in rows.items() if name.startswith("obs/")})
        state = {
            name[6:]: np.ascontiguousarray(part[:, :, 0]) for name, part in rows.items() if name.startswith("state/")
        }
        steps = {name: rows[name] for name in STEPS}
        return SequenceBatch(
            obs, rows.get("mask"), rows["started"], state, **steps, memory=self.memory, lambda_=lambda_
        )

    def clear(self) -> None:
        """Begin another rollout, with the end of this one as its memory."""
        self.memory = min(self.memory_steps, self.t)
        for part in self.arrays.values():
            part[: self.memory] = part[self.t - self.memory : self.t].copy()
        self.t = self.memory

    def state_dict(self) -> dict[str, Any]:
        parts = super().state_dict()
        return {"rows": parts, "memory": np.full(len(parts["reward"]), self.memory)} if parts else {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state["rows"] if state else {})
        self.memory = int(state["memory"][0]) if state else 0


class RolloutLearner(Learner):
    """A `Learner` for sequences of rollouts."""

    reading: Recurrent

    def found(self, batch: Any, measured: bool) -> tuple[HeadLoss, Callable[[Any], None]]:
        """Return the loss of a `SequenceBatch` and the function that backpropagates its gradient to the weights."""
        x, first = self.arrays.encode_windows(batch.obs), batch.memory
        y, backward = self.reading.sequences(self.online, x, batch.state, batch.started, first)
        n, b, t = batch.reward.shape
        own = tensors_of(y)
        learned = own[:, :, first:t]
        flat = (n, b * (t - first))
        numbers: Any = (
            None,
            batch.action[:, :, first:].reshape(flat),
            self._returns(own, batch)[:, :, first:].reshape(flat) * np.float32(self.reward_scale),
            np.zeros(flat, np.float32),
            None,
            None,
            None if batch.valid.all() else batch.valid[:, :, first:].reshape(flat).astype(np.float32),
        )  # fmt: skip
        rows = self.arrays.own(learned.reshape(*flat, -1).contiguous())
        loss = self.arrays.loss(
            self.head, Outputs(rows, 0 * rows, 0 * rows), self.arrays.numbers(Batch(*numbers)), measured
        )

        def back(gradient: Any) -> None:
            whole = torch.zeros_like(own)
            whole[:, :, first:t] = tensors_of(gradient).reshape(learned.shape)
            backward(self.arrays.own(whole))

        return loss, back

    def _returns(self, y: torch.Tensor, batch: SequenceBatch) -> np.ndarray:
        """Return the lambda-returns [N, B, T] by the values of this reading, y [N, B, T + 1, A]."""
        q = tensors_of(self.arrays.host(self.arrays.q(self.head, self.arrays.own(y)))) / self.reward_scale
        if batch.mask is not None:
            q = q.masked_fill(~torch.from_numpy(batch.mask), -torch.inf)
        ended, last = torch.from_numpy(batch.ended), torch.from_numpy(batch.last_value)
        following = torch.where(ended, last, q.max(-1).values[:, :, 1:])
        reward, discount = torch.from_numpy(batch.reward), torch.from_numpy(batch.discount)
        return targets.lambda_return(reward, discount, ended, following, batch.lambda_).numpy()


class RecurrentRolloutAgent(RecurrentAgent):
    """N recurrent Q-networks that learn from rollouts."""

    learner_type = RolloutLearner  # type: ignore[assignment]  # of rollouts, not of windows
    recurrent = True  # by construction

    def joined(self, network: nn.Module) -> nn.Module:
        return self.head.recurrent(network)

    def check_networks(self) -> None:
        example = self.example(2, 3)
        checks.check_sequences(self.online, self.head, example, self.actions, self.observation_space)
        self.reading = self.learner.reading = Recurrent(self.arrays, self.online, example)

    def rollout(self) -> SequenceRollout:
        d: Any = self.config
        return SequenceRollout(d.rollout_steps, d.memory_steps)

    def update(self, batch: Any, measured: bool = True) -> Update:
        """Raise ArgumentError: only `rl.train` and `run.advance` create sequences and learn from them."""
        raise ArgumentError("A recurrent PQN learns from its own rollouts only: train it with rl.train or run.advance.")

    def learn(self, batch: Any, measured: bool) -> HeadLoss:
        return self.learner.learn(batch, batch, measured)
