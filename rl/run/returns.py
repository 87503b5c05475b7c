"""Between which bounds an episode's return must lie, where that is known: so that no interval promises what cannot be."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium.wrappers import TimeLimit

from envs.source import EnvError, Source
from envs.tables import HARMLESS, Model

PLAIN_STEPS = (gym.Wrapper.step, gym.ObservationWrapper.step, gym.ActionWrapper.step)  # which hand the reward on
MOST_WORK = 100_000_000  # outcomes that are looked at to find the largest return of a model


class StepRewards(NamedTuple):
    """The smallest and largest reward of one step; limit: how many steps of an episode can bring one."""

    low: float = -math.inf
    high: float = math.inf
    limit: int | None = None

    def returns(self, limit: int | None = None) -> tuple[float, float]:
        """The smallest and largest return of an episode, which has at least one step; limit: where it is cut besides."""
        steps = min((n for n in (self.limit, limit) if n is not None), default=math.inf)
        return self.low * (steps if self.low < 0 else 1), self.high * (steps if self.high > 0 else 1)

    def of_a_step(self) -> tuple[float, float]:
        """The smallest and largest reward of a step."""
        return self.low, self.high

    def endless(self) -> tuple[float, float]:
        """Nothing is known of the returns of episodes that no time limit cuts."""
        return -math.inf, math.inf


class ModelRewards:
    """The rewards of a finite model."""

    def __init__(self, model: Model) -> None:
        self.model, self.limit = model, model.limit
        self._found: dict[int | None, tuple[float, float]] = {}

    def returns(self, limit: int | None = None) -> tuple[float, float]:
        """The smallest and largest return that an episode can have with whatever luck; limit: where it is cut besides."""
        limit = min((n for n in (self.limit, limit) if n is not None), default=None)
        if limit not in self._found:
            self._found[limit] = -self._largest(-self.model.reward, limit), self._largest(self.model.reward, limit)
        return self._found[limit]

    def of_a_step(self) -> tuple[float, float]:
        """The smallest and largest reward of a step."""
        found = self.model.reward[self.model.probability > 0]
        return float(found.min()), float(found.max())

    def endless(self) -> tuple[float, float]:
        """The smallest and largest return of episodes that no time limit cuts."""
        return -self._largest(-self.model.reward, None), self._largest(self.model.reward, None)

    def _largest(self, reward: np.ndarray, limit: int | None) -> float:
        """Value iteration in which the luckiest outcome happens. Without a limit what still grows after S rounds is infinite."""
        model = self.model
        rounds = model.states + 1 if limit is None else limit
        possible = model.probability > 0
        if rounds * possible.size > MOST_WORK:
            lowest, highest = float(reward[possible].min()), float(reward[possible].max())
            return StepRewards(lowest, highest, limit).returns()[1]
        value = np.zeros(model.states)
        for _ in range(rounds):
            # What comes next is not had where the episode ends, or is cut.
            found = np.where(possible, reward + np.where(model.terminated, 0.0, value[model.next_state]), -np.inf)
            before, value = value, found.max((1, 2))
            if np.array_equal(before, value):
                break
        else:
            value = np.where(value > before, np.inf, value) if limit is None else value
        return float(value[model.start > 0].max())


def discounted(rewards: StepRewards | ModelRewards, gamma: float) -> tuple[float, float] | None:
    """The smallest and largest value that any state can have, 0 between them; None where no bounds are known.

    A time limit shortens none, for values bootstrap behind it, but at gamma 1 it is what bounds them.
    """
    low, high = rewards.of_a_step()
    steps = 1 / (1 - gamma) if gamma < 1 else math.inf if rewards.limit is None else rewards.limit
    bounds = min(low, 0.0) * steps if low < 0 else 0.0, max(high, 0.0) * steps if high > 0 else 0.0
    if low >= 0 or high <= 0:  # discounting makes no return larger than it is without
        found = rewards.endless()
        bounds = max(bounds[0], min(found[0], 0.0)), min(bounds[1], max(found[1], 0.0))
    low, high = (float(f"{bound:.12g}") for bound in bounds)  # 100, not 99.99999999999991
    return (low, high) if math.isfinite(low) and math.isfinite(high) else None


UNKNOWN = StepRewards()


def rewards_of(where: Source, model: Model | None) -> StepRewards | ModelRewards:
    """What is known of an environment's rewards: from its model, or from the source of Gymnasium's own environments."""
    if model is not None:
        return ModelRewards(model)
    try:
        env = where.make()
    except EnvError:  # there is no environment to look at, or not more of them at a time
        return UNKNOWN
    try:
        return _look(env)
    finally:
        env.close()


def _look(env: gym.Env[Any, Any]) -> StepRewards:
    limits: list[int] = []
    while isinstance(env, gym.Wrapper):
        if isinstance(env, TimeLimit):
            limits.append(env._max_episode_steps)
        elif not isinstance(env, HARMLESS) and type(env).step not in PLAIN_STEPS:
            return UNKNOWN
        env = env.env
    found = _of_gymnasium(env) if type(env).__module__.startswith("gymnasium.envs.") else UNKNOWN
    limits += [] if found.limit is None else [found.limit]
    return found._replace(limit=min(limits, default=None))


def _of_gymnasium(env: Any) -> StepRewards:
    match type(env).__name__:
        case "CartPoleEnv":
            return StepRewards(-1.0, 0.0) if env._sutton_barto_reward else StepRewards(1.0, 1.0)
        case "AcrobotEnv":
            return StepRewards(-1.0, 0.0)
        case "MountainCarEnv":
            return StepRewards(-1.0, -1.0)
        case "BlackjackEnv":
            return StepRewards(-1.0, 1.5 if env.natural and not env.sab else 1.0, 1)
        case _:
            return UNKNOWN
