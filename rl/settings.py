"""Agents by name, with settings for an environment where they were tuned.

`presets()` has each agent as it comes; `presets("CartPole-v1")` as it was tuned there. What is tuned is the same for all
variants of an agent but for what is said; `scripts/benchmark.py learning` shows what it reaches.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from rl.agents import dqn, q_learning
from rl.agents.dqn import DQN
from rl.agents.q_learning import QLearning
from rl.explore import EpsilonGreedy
from supervised.schedules import Inverse, Linear

# For environments by the name without its version: how many steps, and the settings of the replay agents.
STEPS = {"CartPole": 50_000, "Acrobot": 100_000, "MountainCar": 120_000, "LunarLander": 100_000}


def _falling(end: float, fraction: float) -> EpsilonGreedy:
    return EpsilonGreedy(Linear(1.0, end, fraction=fraction))


TUNED: dict[str, dict[str, Any]] = {}


def steps_for(env: str) -> int:
    """How many steps the settings for an environment were tuned for; 100 000 where none were."""
    return STEPS.get(_stem(env), 100_000)


def presets(env: str | None = None) -> dict[str, QLearning | DQN]:
    """Every agent by name. env: an environment's id; where settings were tuned for it, the agents with a replay have them."""
    found: dict[str, QLearning | DQN] = {**q_learning.presets(), **dqn.presets()}
    tuned = {} if env is None else TUNED.get(_stem(env), {})
    for name, agent in found.items():
        if isinstance(agent, DQN) and agent.capacity_steps is not None:
            own = {
                field: value
                for field, value in tuned.items()
                if not (field == "target_every_updates" and name == "dqn-2013")
            }
            found[name] = dataclasses.replace(agent, **own)
    found["best"] = dataclasses.replace(found["double-dqn"], **tuned)  # type: ignore[arg-type]
    if env is not None and _stem(env) == "CartPole":
        # L 07_1: Adam at .1, epsilon 1 / (episode // 10 + 1).
        found["q-network"] = dataclasses.replace(
            found["q-network"],  # type: ignore[arg-type]
            optimizer="Adam",
            learning_rate=0.1,
            explore=EpsilonGreedy(Inverse(1.0, every=10, stairs=True, unit="episodes")),
        )
    return found


def _stem(env: str) -> str:
    return re.sub(r"-v\d+$", "", env.rsplit(":", maxsplit=1)[-1])
