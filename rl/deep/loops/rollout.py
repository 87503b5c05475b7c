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
from rl.deep.rollout import Rollout, Row, greedy_value, shuffled
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
        check_minibatches(d.rollout_steps, place.envs_per_seed, d.minibatches)
        if place.envs_per_seed < FEW_ENVS:
            warnings.warn(FEW.format(type(d).__name__, place.envs_per_seed), stacklevel=2)
        super().__init__(agent, place)
        self.rollout = Rollout(d.rollout_steps)
        self.shuffler = BufferedStreams(self.seeds, "rollout")

    def _round(self) -> None:
        agent, actor, d = self.agent, self.actor, self.agent.config
        obs = actor.obs
        if agent.moments is not None:
            agent.observe(obs)
        q, allowed = self._values(obs, actor.world.arrays.mask)
        action = actor.select_action(q, allowed)
        scale = agent.reward_scale
        answer = actor.take(action, q if scale == 1.0 else q / scale, allowed)
        self.rollout.add(self._row(obs, action, answer, greedy_value(q, allowed)))
        actor.within = False
        if self.rollout.full:
            self._learn(d.lambda_, d.epochs, d.minibatches)
            self.rollout.clear()

    def _values(self, obs: Any, mask: np.ndarray | None) -> tuple[np.ndarray, np.ndarray | None]:
        """Return Q-values [N, E, A], times the reward scale, and the allowed actions."""
        return self.agent.decide(obs, {})[0], self.agent.allowed_of(obs, mask)

    def _row(self, obs: Any, action: np.ndarray, step: vector.Step, value: np.ndarray) -> Row:
        agent = self.agent
        discount = np.float32(agent.config.gamma) * (~step.terminated).astype(np.float32)
        if step.discount is not None:
            discount = discount * step.discount.astype(np.float32)
        cut = step.truncated & ~step.terminated
        last = np.zeros_like(value)
        if cut.any():
            last[cut] = greedy_value(*self._values(step.next_obs, step.next_mask))[cut]
        valid = np.ones_like(cut) if step.valid is None else step.valid
        reward = step.reward * np.float32(agent.reward_scale)
        return Row(obs, action, reward, discount, step.terminated | step.truncated | ~valid, value, last, valid)

    def _learn(self, lambda_: float, epochs: int, minibatches: int) -> None:
        agent, actor = self.agent, self.actor
        value = greedy_value(*self._values(actor.obs, actor.world.arrays.mask))
        returns = self.rollout.returns(value, lambda_) / np.float32(agent.reward_scale)
        if self.rate.kind:
            agent.set_learning_rate(self.rate, self.step)
        for _ in range(epochs):
            order = shuffled(self.shuffler.random((self.rollout.steps * actor.envs_per_seed,)))
            for batch in self.rollout.minibatches(returns, order, minibatches):
                measured = agent.updates % MEASURE_EVERY == 0
                found = agent.learn(batch, measured)
                if measured:
                    self.note(found.metrics)

    def begin_anew(self, rows: np.ndarray) -> None:
        self.rollout.forget(rows.reshape(len(self.seeds), -1))

    def examples(self) -> Any | None:
        return self.actor.obs

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"shuffler": self.shuffler.state_dict(), "rollout": self.rollout.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.shuffler.load_state_dict(state["shuffler"])
        self.rollout.load_state_dict(state["rollout"])
        self.begin_anew(self.actor.load_state_dict(state))
