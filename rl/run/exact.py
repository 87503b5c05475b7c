"""Exact evaluation of greedy policies in environments with a known model; see `rl.core.evaluate` for the others."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from envs import tables
from rl import planning
from rl.core.evaluate import STEP_LIMIT, Evaluation, joined
from rl.core.protocols import LiveAgent
from rl.explore.masked import best_allowed
from supervised.renamed import RENAMED, warn
from supervised.schedules import as_schedule, value_at

__all__ = ["Evaluation", "Exact", "exact_of", "joined"]


class Exact:
    """The exact reference for tabular agents in an environment whose model is known.

    optimal_return: the best expected return from the start, by a policy that may depend on the time left.
    optimal_stationary_return: the expected return of value iteration's greedy policy at the agent's gamma (at gamma 1, of one
    that attains the optimal values; see `planning.greedy`). In undiscounted continuing tasks it is that of the policy with the
    highest gain (average reward per step). Both are over `horizon` steps: the environment's time limit, or STEP_LIMIT if it has
    none.
    """

    def __init__(
        self, model: tables.Model, gamma: float, horizon: int | None = None, epsilon: float | None = 0.0
    ) -> None:
        self.model, self.gamma, self.epsilon = model, gamma, epsilon
        self.horizon = horizon or model.limit or STEP_LIMIT

    def __getattr__(self, name: str) -> Any:
        """Return attributes by their former names, with a warning."""
        new = RENAMED.get(f"Exact.{name}")
        if new is None:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        warn(f"exact.{name}", f"exact.{new}")
        return getattr(self, new)

    @cached_property
    def optimal_return(self) -> float:
        return float(planning.at_start(self.model, planning.optimum_within(self.model, self.horizon).v[-1]))

    @property
    def is_continuing(self) -> bool:
        """Whether the task is continuing and undiscounted, so that the criterion is the average reward per step."""
        return self.gamma == 1 and not self.model.ends

    @cached_property
    def solution(self) -> planning.Solution | None:
        """Q* at the agent's gamma, relative to the gain in undiscounted continuing tasks; None if it does not exist."""
        try:
            if self.is_continuing:
                return planning.relative_value_iteration(self.model)[1]
            return planning.value_iteration(self.model, self.gamma)
        except ValueError:
            return None

    @cached_property
    def optimal_stationary_return(self) -> float:
        return float("nan") if self.solution is None else float(self.value(self.solution.policy[None])[0])

    @cached_property
    def target_return(self) -> float:
        """The expected return of the greedy policy that the algorithm should converge to; NaN if it is unknown.

        It is `optimal_stationary_return`; for on-policy methods it is the return of the policy that is greedy with respect to the
        values of the best epsilon-greedy policy at the final epsilon.
        """
        if self.epsilon == 0.0 or self.solution is None:
            return self.optimal_stationary_return
        if self.epsilon is None or self.is_continuing:
            return float("nan")
        return float(self.value(planning.value_iteration(self.model, self.gamma, epsilon=self.epsilon).policy[None])[0])

    @cached_property
    def stationary_success(self) -> float:
        if self.solution is None or self.model.success is None:
            return float("nan")
        return float(self.success(self.solution.policy[None])[0])

    def value(self, policies: np.ndarray) -> np.ndarray:
        """Return the expected return of each policy from the start: int64 [N, S] -> [N]."""
        return planning.at_start(self.model, planning.evaluate_policy(self.model, policies, 1.0, self.horizon))

    def success(self, policies: np.ndarray) -> np.ndarray:
        """Return the probability that each policy reaches the goal within the horizon: int64 [N, S] -> [N]."""
        assert self.model.success is not None
        reward = self.model.success.astype(np.float64)
        return planning.at_start(self.model, planning.evaluate_policy(self.model, policies, 1.0, self.horizon, reward))

    def policies(self, agent: LiveAgent) -> np.ndarray:
        """Return the greedy policy of each seed among the allowed actions, int64 [N, S]."""
        return best_allowed(agent.table, self.model.mask)

    def metrics(self, agent: LiveAgent) -> dict[str, np.ndarray]:
        """Return the metrics of `eval/`, computed exactly, each [N]."""
        table = agent.table
        policies = self.policies(agent)
        value = self.value(policies)
        found = {"eval/mean_reward": value, "eval/optimality_gap": self.optimal_return - value}
        if self.model.success is not None:
            found["eval/success_rate"] = self.success(policies)
        if self.is_continuing:
            found["eval/gain"] = np.array([planning.gain(self.model, policy) for policy in policies])
            table = table - planning.allowed_only(self.model, table)[:, :1].max(-1, keepdims=True)  # as in the solution
        if self.solution is not None:
            found["eval/stationary_gap"] = self.optimal_stationary_return - value
            error = np.abs(table - self.solution.q)
            found["eval/q_error"] = error.max(
                (1, 2), initial=0.0, where=True if self.model.mask is None else self.model.mask
            )
        return found


def exact_of(agent: LiveAgent, model: tables.Model, horizon_steps: int) -> Exact:
    """Return the exact reference for an agent; a scheduled gamma or epsilon counts with its final value."""
    gamma = as_schedule(agent.config.gamma).curve(horizon_steps)
    return Exact(model, value_at(gamma, horizon_steps), epsilon=agent.final_epsilon(horizon_steps))
