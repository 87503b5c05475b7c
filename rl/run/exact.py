"""How good a greedy policy is: exactly where the model is known, else by episodes (`rl.core.evaluate`)."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from envs import tables
from rl import planning
from rl.core.evaluate import STEP_LIMIT, Evaluation, joined
from rl.core.protocols import LiveAgent
from rl.explore.masked import best_allowed
from supervised.schedules import as_schedule, value_at

__all__ = ["Evaluation", "Exact", "exact_of", "joined"]


class Exact:
    """What a model says of the tables that learn in it.

    best: the best expected return from the start, by a policy that may look at the time left. stationary: what value
    iteration's greedy policy, at the agent's gamma, is worth (at gamma 1 one that attains the values, `planning.greedy`); no
    agent that sees only the state is promised more.
    Both over `horizon` steps: the environment's own time limit, or ours where it has none. Where nothing ends nor is discounted,
    `stationary` is what the policy with the highest gain (reward per step in the long run) is worth in those steps.
    """

    def __init__(
        self, model: tables.Model, gamma: float, horizon: int | None = None, epsilon: float | None = 0.0
    ) -> None:
        self.model, self.gamma, self.epsilon = model, gamma, epsilon
        self.horizon = horizon or model.limit or STEP_LIMIT

    @cached_property
    def best(self) -> float:
        return float(planning.at_start(self.model, planning.optimum_within(self.model, self.horizon).v[-1]))

    @property
    def continuing(self) -> bool:
        """Whether nothing ends and nothing is discounted: then what counts is what comes in per step."""
        return self.gamma == 1 and not self.model.ends

    @cached_property
    def solution(self) -> planning.Solution | None:
        """Q* at the agent's gamma, at gamma 1 without an end counted from the gain; None where it does not exist."""
        try:
            if self.continuing:
                return planning.relative_value_iteration(self.model)[1]
            return planning.value_iteration(self.model, self.gamma)
        except ValueError:
            return None

    @cached_property
    def stationary(self) -> float:
        return float("nan") if self.solution is None else float(self.value(self.solution.policy[None])[0])

    @cached_property
    def promised(self) -> float:
        """What the greedy policy is worth that the agent's theory leads to: `stationary`, but for an agent that learns what its
        own exploring is worth the best way to act while epsilon is what it ends with. NaN where that is not known."""
        if self.epsilon == 0.0 or self.solution is None:
            return self.stationary
        if self.epsilon is None or self.continuing:
            return float("nan")
        return float(self.value(planning.value_iteration(self.model, self.gamma, epsilon=self.epsilon).policy[None])[0])

    @cached_property
    def stationary_success(self) -> float:
        if self.solution is None or self.model.success is None:
            return float("nan")
        return float(self.success(self.solution.policy[None])[0])

    def value(self, policies: np.ndarray) -> np.ndarray:
        """Expected return of each policy from the start: int64 [N, S] -> [N]."""
        return planning.at_start(self.model, planning.evaluate_policy(self.model, policies, 1.0, self.horizon))

    def success(self, policies: np.ndarray) -> np.ndarray:
        """Probability that each policy reaches the goal within the horizon: int64 [N, S] -> [N]."""
        assert self.model.success is not None
        reward = self.model.success.astype(np.float64)
        return planning.at_start(self.model, planning.evaluate_policy(self.model, policies, 1.0, self.horizon, reward))

    def policies(self, agent: LiveAgent) -> np.ndarray:
        """The greedy policy of each seed among the allowed actions, int64 [N, S]."""
        return best_allowed(agent.table, self.model.mask)

    def metrics(self, agent: LiveAgent) -> dict[str, np.ndarray]:
        """The tags of `eval/` without sampling noise, each [N]."""
        table = agent.table
        policies = self.policies(agent)
        value = self.value(policies)
        found = {"eval/mean_reward": value, "eval/optimality_gap": self.best - value}
        if self.model.success is not None:
            found["eval/success_rate"] = self.success(policies)
        if self.continuing:
            found["eval/gain"] = np.array([planning.gain(self.model, policy) for policy in policies])
            table = table - planning.allowed_only(self.model, table)[:, :1].max(-1, keepdims=True)  # any zero will do
        if self.solution is not None:
            found["eval/stationary_gap"] = self.stationary - value
            error = np.abs(table - self.solution.q)
            found["eval/q_error"] = error.max(
                (1, 2), initial=0.0, where=True if self.model.mask is None else self.model.mask
            )
        return found


def exact_of(agent: LiveAgent, model: tables.Model, horizon_steps: int) -> Exact:
    """The exact reference for an agent; a gamma or an epsilon that is scheduled counts with its last value."""
    gamma = as_schedule(agent.description.gamma).curve(horizon_steps)
    return Exact(model, value_at(gamma, horizon_steps), epsilon=agent.final_epsilon(horizon_steps))
