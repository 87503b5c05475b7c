"""Recurrent Q-networks, which act from a recurrent state and learn from windows of episodes.

Hausknecht and Stone (2015), "Deep Recurrent Q-Learning for Partially Observable MDPs"; Kapturowski et al. (2019), "Recurrent
Experience Replay in Distributed Reinforcement Learning". `rl.deep.replay.sequences` defines windows,
`rl.deep.sequence_learner` their loss.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from torch import nn

from rl import networks
from rl.core.types import SequenceBatch, State, Update
from rl.deep import checks
from rl.deep.agent import DeepAgent
from rl.deep.heads.head import HeadLoss
from rl.deep.moving import arrays_of, mapped, on_host, tensors_of
from rl.deep.reading import Reading, Recurrent, Single
from rl.deep.replay.sequences import SequenceReplay
from rl.deep.replay.storage import Where
from rl.deep.sequence_learner import SequenceLearner
from supervised.models.rnn import chrono
from supervised.validate import ArgumentError, flag, shown

NO_GATES = "chrono_steps={} applies only to recurrent networks with gates such as gru(64), not to {}."
NUMBERS = tuple(name for name in SequenceBatch._fields if name not in ("obs", "state"))  # fields of a batch


class RecurrentAgent(DeepAgent):
    """N recurrent Q-networks, or feedforward ones trained on windows. See `DeepAgent`."""

    learner_type = SequenceLearner
    learner: SequenceLearner

    @functools.cached_property
    def recurrent(self) -> bool:
        """Whether the network is recurrent. A feedforward one treats the steps of windows as independent transitions."""
        d: Any = self.config
        outputs = self.head.size(self.actions)
        return networks.reads_sequences(d.network, self.observation_space, outputs, d.channels)

    def joined(self, network: nn.Module) -> nn.Module:
        d: Any = self.config
        if not self.recurrent:
            if d.chrono_steps is not None:
                raise ArgumentError(NO_GATES.format(d.chrono_steps, shown(d.network)))
            return super().joined(network)
        if d.capacity_steps is None:
            raise ArgumentError("A recurrent network learns from a replay of windows: capacity_steps must not be None.")
        if d.chrono_steps is not None:
            chrono(network, d.chrono_steps)
        return self.noisy(self.head.recurrent(network))

    def check_networks(self) -> None:
        d: Any = self.config
        if self.recurrent:
            example = self.example(2, 3)
            checks.check_sequences(self.online, self.head, example, self.actions, self.observation_space)
            self.reading: Reading = Recurrent(self.arrays, self.online, example)
        else:
            super().check_networks()
            self.reading = Single(self.arrays, d.sequence_steps)
        self.learner.reading, self.learner.priority_mix = self.reading, d.priority_mix

    def examples(self, obs: Any) -> Any:
        x = self.encode(obs)
        return mapped(x, lambda part: part[:, :, None]) if self.recurrent else x

    def state_values(self) -> np.ndarray | None:
        return None if self.recurrent else super().state_values()

    def why_no_model(self) -> str | None:
        if self.recurrent:
            return "a recurrent agent's actions depend on its recurrent state, not only on the environment's state"
        return super().why_no_model()

    def replay(self, world: Where) -> SequenceReplay:
        d: Any = self.config
        return SequenceReplay(
            *(world, d.capacity_steps, d.sequence_steps, d.sequence_every_steps, d.burn_in_steps, d.n_step, d.gamma),
            d.priority_exponent if d.prioritized else None,
            self.initial_state(world.envs_per_seed),
        )

    def initial_state(self, rows: int) -> State:
        return self.reading.initial_state(len(self.seeds), rows)

    def respond(self, x: Any, state: State, exploring: bool) -> tuple[Any, State]:
        return self.reading.step(self.online, x, state)

    def update(self, batch: SequenceBatch, measured: bool = True) -> Update:  # type: ignore[override]  # of windows
        """Take one optimizer step on windows [N, B, T, ...].

        Return metrics, each [N] (empty unless measured), TD errors [N, B, T] and priorities [N, B]. Raises ValueError and
        NotFinite like `DeepAgent.update`.
        """
        measured = flag(measured, "measured")
        with self.threads():
            batch = checks.checked_windows(batch, len(self.seeds), self.actions)
            if batch.state is not None:
                checks.check_state(batch.state, self.initial_state(batch.reward.shape[1]))
            found = self.learn(batch._replace(state=batch.state or None), measured)
        return Update(found.metrics, tensors_of(found.td_error), tensors_of(found.priority))

    def learn(self, batch: SequenceBatch, measured: bool) -> HeadLoss:  # type: ignore[override]  # of windows
        """Like `update`, for a checked batch and within `threads`."""
        given, parts = batch, batch._asdict()
        numbers = {name: arrays_of(on_host(parts[name])) for name in NUMBERS}
        batch = batch._replace(**numbers, state=self.arrays.own(batch.state))
        if self.config.mask is not None:
            batch = batch._replace(next_mask=self._allowed_next(batch))
            if self.head.reads_own:
                batch = batch._replace(mask=self._allowed(batch, steps_of(batch), batch.mask))
        return self.learner.learn(batch, given, measured)  # type: ignore[arg-type]  # of windows

    def _allowed_next(self, batch: SequenceBatch) -> np.ndarray:
        """Return the allowed actions at the observation that each step bootstraps from, bool [N, B, T, A]."""
        return self._allowed(batch, np.asarray(batch.bootstrap), batch.next_mask)

    def _allowed(self, batch: SequenceBatch, place: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
        """Return the allowed actions, bool [N, B, T, A], at observations place, int64 [N, B, T], of the windows."""
        n, b, t = batch.reward.shape
        seed, row = np.ogrid[:n, :b]
        at = seed[..., None], row[..., None], place
        obs = mapped(arrays_of(on_host(batch.obs)), lambda part: part[at].reshape(n, b * t, *part.shape[3:]))
        mask = None if mask is None else mask.reshape(n, b * t, -1)
        found: np.ndarray = arrays_of(self.allowed(obs, tensors_of(mask)))
        return found.reshape(n, b, t, -1)


def steps_of(batch: SequenceBatch) -> np.ndarray:
    """Return the index of each step's observation within its window, int64 [N, B, T]; the last one in the padding."""
    found: np.ndarray = np.minimum(np.arange(batch.reward.shape[2]), np.asarray(batch.length)[..., None] - 1)
    return found
