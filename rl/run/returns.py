"""Bounds on the return of an episode, as far as they are known, so that no confidence interval exceeds the possible range."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium.wrappers import TimeLimit

from envs.source import EnvError, Source
from envs.tables import HARMLESS, Model

PLAIN_STEPS = (gym.Wrapper.step, gym.ObservationWrapper.step, gym.ActionWrapper.step)  # these pass rewards on unchanged
MOST_WORK = 100_000_000  # maximum number of outcomes visited to find the largest return of a model


class StepRewards(NamedTuple):
    """The smallest and largest reward of a step. limit: maximum number of rewarded steps of an episode, if known."""

    low: float = -math.inf
    high: float = math.inf
    limit: int | None = None

    def returns(self, limit: int | None = None) -> tuple[float, float]:
        """Return the smallest and largest return of an episode, which has at least one step. limit: an additional step limit."""
        steps = min((n for n in (self.limit, limit) if n is not None), default=math.inf)
        return self.low * (steps if self.low < 0 else 1), self.high * (steps if self.high > 0 else 1)

    def of_a_step(self) -> tuple[float, float]:
        """Return the smallest and largest reward of a step."""
        return self.low, self.high

    def endless(self) -> tuple[float, float]:
        """Return infinite bounds: the returns of episodes without a time limit are unknown."""
        return -math.inf, math.inf


class ModelRewards:
    """The rewards of a finite model."""

    def __init__(self, model: Model) -> None:
        self.model, self.limit = model, model.limit
        self._found: dict[int | None, tuple[float, float]] = {}

    def returns(self, limit: int | None = None) -> tuple[float, float]:
        """Return the smallest and largest return of any possible episode. limit: an additional step limit."""
        limit = min((n for n in (self.limit, limit) if n is not None), default=None)
        if limit not in self._found:
            self._found[limit] = -self._largest(-self.model.reward, limit), self._largest(self.model.reward, limit)
        return self._found[limit]

    def of_a_step(self) -> tuple[float, float]:
        """Return the smallest and largest reward of a step."""
        found = self.model.reward[self.model.probability > 0]
        return float(found.min()), float(found.max())

    def endless(self) -> tuple[float, float]:
        """Return the smallest and largest return of episodes without a time limit."""
        return -self._largest(-self.model.reward, None), self._largest(self.model.reward, None)

    def _largest(self, reward: np.ndarray, limit: int | None) -> float:
        """Run value iteration with the best outcome of each step. Without a limit, values that still grow after S rounds are
        infinite."""
        model = self.model
        rounds = model.states + 1 if limit is None else limit
        possible = model.probability > 0
        if rounds * possible.size > MOST_WORK:
            lowest, highest = float(reward[possible].min()), float(reward[possible].max())
            return StepRewards(lowest, highest, limit).returns()[1]
        value = np.zeros(model.states)
        for _ in range(rounds):
            # Nothing follows a termination or the step limit.
            found = np.where(possible, reward + np.where(model.terminated, 0.0, value[model.next_state]), -np.inf)
            before, value = value, found.max((1, 2))
            if np.array_equal(before, value):
                break
        else:
            value = np.where(value > before, np.inf, value) if limit is None else value
        return float(value[model.start > 0].max())


def discounted(rewards: StepRewards | ModelRewards, gamma: float) -> tuple[float, float] | None:
    """Return the smallest and largest possible value of any state, with 0 in between; None if no bounds are known.

    A time limit does not tighten the bounds, since values bootstrap beyond it, but at gamma 1 it provides them.
    """
    low, high = rewards.of_a_step()
    steps = 1 / (1 - gamma) if gamma < 1 else math.inf if rewards.limit is None else rewards.limit
    bounds = min(low, 0.0) * steps if low < 0 else 0.0, max(high, 0.0) * steps if high > 0 else 0.0
    if low >= 0 or high <= 0:  # discounting does not increase the magnitude of a return
        found = rewards.endless()
        bounds = max(bounds[0], min(found[0], 0.0)), min(bounds[1], max(found[1], 0.0))
    low, high = (float(f"{bound:.12g}") for bound in bounds)  # 100, not 99.99999999999991
    return (low, high) if math.isfinite(low) and math.isfinite(high) else None


UNKNOWN = StepRewards()


def rewards_of(where: Source, model: Model | None) -> StepRewards | ModelRewards:
    """Return the known bounds of an environment's rewards, from its model or from the source of Gymnasium's environments."""
    if model is not None:
        return ModelRewards(model)
    try:
        env = where.make()
    except EnvError:  # it cannot be created, or not while another one is open
        return UNKNOWN
    try:
        return _of_wrapped(env)
    finally:
        env.close()


def _of_wrapped(env: gym.Env[Any, Any]) -> StepRewards:
    limits: list[int] = []
    while isinstance(env, gym.Wrapper):
        if isinstance(env, TimeLimit):
            limits.append(env._max_episode_steps)  # noqa: SLF001  (Gymnasium has no public one)
        elif not isinstance(env, HARMLESS) and type(env).step not in PLAIN_STEPS:
            return UNKNOWN
        env = env.env
    found = _of_gymnasium(env) if type(env).__module__.startswith("gymnasium.envs.") else UNKNOWN
    limits += [] if found.limit is None else [found.limit]
    return found._replace(limit=min(limits, default=None))


def _of_gymnasium(env: Any) -> StepRewards:
    match type(env).__name__:
        case "CartPoleEnv":
            return StepRewards(-1.0, 0.0) if env._sutton_barto_reward else StepRewards(1.0, 1.0)  # noqa: SLF001  (likewise)
        case "AcrobotEnv":
            return StepRewards(-1.0, 0.0)
        case "MountainCarEnv":
            return StepRewards(-1.0, -1.0)
        case "BlackjackEnv":
            return StepRewards(-1.0, 1.5 if env.natural and not env.sab else 1.0, 1)
        case _:
            return UNKNOWN
