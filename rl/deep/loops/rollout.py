"""The training loop of agents that learn from rollouts: T steps in every environment, then several epochs over them."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from envs import vector
from rl.core.protocols import Place
from rl.deep.agent import DeepAgent
from rl.deep.loops.loop import MEASURE_EVERY, DeepLoop
from rl.deep.pqn import check_minibatches
from rl.deep.rollout import Beginning, Row, greedy_value, shuffled
from supervised.streams import BufferedStreams

FEW_ENVS = 8
FEW = (
    "{} learns from the steps of all environments at once, without a replay and without a target network: with {} per seed they"
    " are strongly correlated, and learning may diverge. Use 32 or more (envs_per_seed)."
)


class RolloutLoop(DeepLoop):
    """Trains N seeds of a Q-network on rollouts."""

    memory_bytes = 0

    def __init__(self, agent: DeepAgent, place: Place) -> None:
        """Raises ArgumentError if the minibatches do not divide a rollout; warns if there are few environments."""
        d: Any = agent.config
        self.rollout = agent.rollout()
        check_minibatches(self.rollout.units(place.envs_per_seed), d.minibatches, self.rollout.shuffled)
        if place.envs_per_seed < FEW_ENVS:
            warnings.warn(FEW.format(type(d).__name__, place.envs_per_seed), stacklevel=2)
        super().__init__(agent, place)
        self.shuffler = BufferedStreams(self.seeds, "rollout")

    def _round(self) -> None:
        """Take one step in every environment, and learn if the rollout is full."""
        agent, actor = self.agent, self.actor
        if agent.moments is not None:
            agent.observe(actor.obs)
        before, q, allowed = self._beginning()
        action = actor.select_action(q, allowed)
        answer = actor.take(action, q, allowed)
        self.rollout.add(self._row(before, action, answer), before)
        actor.within = False
        if self.rollout.full:
            self._learn()
            self.rollout.clear()

    def _beginning(self) -> tuple[Beginning, np.ndarray, np.ndarray | None]:
        """Decide on the current observations. Return what is known, Q-values in units of returns, and the allowed actions."""
        agent, actor = self.agent, self.actor
        obs, started = actor.obs, actor.started
        state = agent.begin(actor.state, started, actor.envs_per_seed)
        q, actor.state = agent.decide(obs, state)
        q = self._unscaled(q)
        allowed = agent.allowed_of(obs, actor.world.arrays.mask)
        host = {name: agent.arrays.host(part) for name, part in state.items()}
        return Beginning(obs, allowed, host, started, greedy_value(q, allowed)), q, allowed

    def _unscaled(self, q: np.ndarray) -> np.ndarray:
        scale = self.agent.reward_scale
        return q if scale == 1.0 else q / scale

    def _row(self, before: Beginning, action: np.ndarray, step: vector.Step) -> Row:
        agent = self.agent
        discount = np.float32(agent.config.gamma) * (~step.terminated).astype(np.float32)
        if step.discount is not None:
            discount = discount * step.discount.astype(np.float32)
        cut = step.truncated & ~step.terminated
        last = np.zeros_like(before.value)
        if cut.any():
            q, _ = agent.decide(step.next_obs, self.actor.state)
            last[cut] = greedy_value(self._unscaled(q), agent.allowed_of(step.next_obs, step.next_mask))[cut]
        valid = np.ones_like(cut) if step.valid is None else step.valid
        ended = step.terminated | step.truncated | ~valid
        return Row(before.obs, action, step.reward.astype(np.float32), discount, ended, before.value, last, valid)

    def _learn(self) -> None:
        """Learn from the rollout in several epochs."""
        agent, actor, d = self.agent, self.actor, self.agent.config
        state = actor.state
        last, *_ = self._beginning()
        actor.state = state  # the next step decides again, with other weights
        if self.rate.kind:
            agent.set_learning_rate(self.rate, self.step)
        units = self.rollout.units(actor.envs_per_seed)
        orders = (shuffled(self.shuffler.random((units,))) for _ in range(d.epochs))
        for batch in self.rollout.epochs(last, d.lambda_, orders, d.minibatches):
            measured = agent.updates % MEASURE_EVERY == 0
            found = agent.learn(batch, measured)
            if measured:
                self.note(found.metrics)

    def begin_anew(self, rows: np.ndarray) -> None:
        self.rollout.end_episodes(rows.reshape(len(self.seeds), -1))

    def examples(self) -> Any | None:
        return self.actor.obs

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"shuffler": self.shuffler.state_dict(), "rollout": self.rollout.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.shuffler.load_state_dict(state["shuffler"])
        self.rollout.load_state_dict(state["rollout"])
        self.begin_anew(self.actor.load_state_dict(state))
