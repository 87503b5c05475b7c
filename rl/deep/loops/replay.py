"""The training loop of Q-networks: act in every environment, store the steps, and learn from the replay."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from envs import vector
from rl.core.protocols import Diagnostics, Place
from rl.core.types import Batch, State
from rl.deep.agent import DeepAgent, check_learner
from rl.deep.loops.loop import MEASURE_EVERY, DeepLoop
from supervised.fitting import inspect
from supervised.schedules import as_schedule, value_at
from supervised.streams import BufferedStreams


class ReplayLoop(DeepLoop):
    """Trains N seeds of a Q-network from a replay, or online from each step."""

    def __init__(self, agent: DeepAgent, place: Place) -> None:
        """Raises ArgumentError for a config without the settings needed for learning from a replay."""
        check_learner(agent.config)
        super().__init__(agent, place)
        self.replay = agent.replay(self.actor.world)
        self.sampler = BufferedStreams(self.seeds, "replay")
        self.importance = as_schedule(agent.config.importance_exponent).curve(place.horizon_steps)

    def advance(self, steps: int) -> dict[str, torch.Tensor]:
        metrics = super().advance(steps)
        if self.replay is not None:
            self.replay.notice(int(self.longest().max()))
        return metrics

    def begin_anew(self, rows: np.ndarray) -> None:
        if self.replay is not None:
            self.replay.begin_anew(rows)

    def _round(self) -> None:
        """Take one step in every environment, and the updates that are due after it."""
        d: Any = self.agent.config
        agent, actor = self.agent, self.actor
        before, obs = actor.step, actor.obs
        if agent.moments is not None:
            agent.observe(obs)
        state = agent.begin(actor.state, actor.started, actor.envs_per_seed)
        q, actor.state = agent.decide(obs, state)
        mask = actor.world.arrays.mask
        allowed = agent.allowed_of(obs, mask)
        action = actor.select_action(q, allowed)
        predicted = q if agent.reward_scale == 1.0 else q / agent.reward_scale  # in the units of returns
        answer = actor.take(action, predicted, allowed)
        if self.replay is None:
            actor.within = False
            self._learn(_newest(obs, action, answer, d.gamma, state, mask))
            return
        self.replay.add(obs, action, answer, state, mask)
        actor.within = False
        if self.step < d.learn_after_steps or self.step // d.update_every_steps == before // d.update_every_steps:
            return
        for _ in range(d.updates if self.replay.ready() else 0):
            beta = value_at(self.importance, self.step)
            self._learn(self.replay.draw(d.batch_size, self.sampler, beta))

    def _learn(self, batch: Batch) -> None:
        if self.rate.kind:
            self.agent.set_learning_rate(self.rate, self.step)
        measured = self.agent.updates % MEASURE_EVERY == 0
        found = self.agent.learn(batch, measured)
        if self.replay is not None and self.replay.alpha is not None:
            priority = self.agent.arrays.host(found.td_error if found.priority is None else found.priority)
            if not np.isfinite(priority).all():
                self.agent.raise_if_not_finite()
            self.replay.set_priorities(batch.index, priority)
        if measured:
            self.note(found.metrics | self._age(batch))

    def _age(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Return the mean age of a batch's samples, if they come from the replay."""
        if self.replay is None or batch.index is None:
            return {}
        age = torch.from_numpy(self.replay.age(batch.index).astype(np.float32))
        return {"replay/age_steps": age.to(self.agent.device, non_blocking=True)}

    def metrics(self) -> dict[str, torch.Tensor]:
        found = super().metrics()
        if self.replay is not None:
            found |= {name: torch.from_numpy(count) for name, count in self.replay.contents().items()}
        return found

    @property
    def memory_bytes(self) -> int:
        """The size of the full replay in bytes; 0 without one."""
        return 0 if self.replay is None else self.replay.bytes

    def examples(self) -> Any | None:
        return None if self.replay is None or not len(self.replay) else self.replay.latest(inspect.EXAMPLES)

    def diagnostics(self) -> Diagnostics:
        """Add the priorities of the first seed to those of every loop."""
        found = super().diagnostics()
        if self.replay is not None and len(self.replay) and self.replay.alpha is not None:
            found.histograms["replay/priorities"] = self.replay.priorities()
        return found

    def state_dict(self) -> dict[str, Any]:
        state = super().state_dict() | {"sampler": self.sampler.state_dict()}
        if self.replay is not None:
            state["replay"] = self.replay.state_dict()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.sampler.load_state_dict(state["sampler"])
        if self.replay is not None:
            self.replay.load_state_dict(state["replay"])
        self.begin_anew(self.actor.load_state_dict(state))


def _newest(
    obs: Any, action: np.ndarray, step: vector.Step, gamma: float, state: State, own_mask: np.ndarray | None
) -> Batch:
    """Return the last step as a batch of E transitions per seed; invalid ones have weight 0. own_mask: the mask of obs."""
    discount = np.float32(gamma) * (~step.terminated).astype(np.float32)
    if step.discount is not None:
        discount = discount * step.discount.astype(np.float32)
    mask = step.next_mask
    if mask is not None:
        mask = mask | (discount == 0)[..., None]
    weight = None if step.valid is None else step.valid.astype(np.float32)
    index = None
    parts: tuple[Any, ...] = (
        *(obs, action, step.reward, discount, step.next_obs),
        *(mask, weight, index, state or None, own_mask),
    )
    return Batch(*parts)
