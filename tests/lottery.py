"""What an agent of distributions learns of Lottery, whose returns are known as whole distributions."""

from __future__ import annotations

from typing import Any

import torch

import envs
import rl
from rl.core.types import Batch
from supervised.schedules import Linear


def of_lottery() -> Batch:
    """Every outcome of Lottery's pairs as often as it is likely, 20 of each pair: a batch [1, 80]."""
    rows = []
    for s, by_action in envs.diagnostic.lottery().P.items():
        for a, outcomes in by_action.items():
            rows += [(s, a, r, 0.0 if over else 1.0, t) for p, t, r, over in outcomes for _ in range(round(20 * p))]
    state, action, reward, discount, after = (torch.tensor(part)[None] for part in zip(*rows, strict=True))
    return Batch(state, action, reward, discount, after)


def learned(
    distribution: Any, updates: int = 1500, rate: float = 0.05, network: str = "linear", **settings: Any
) -> tuple[Any, ...]:
    """The distributions of Lottery's pairs that an agent learns from its exact probabilities, at gamma 1."""
    description = rl.DQN(
        network=network, gamma=1.0, distribution=distribution, max_grad_norm=None, target_every_updates=20,
        learning_rate=Linear(rate, 0.0), **settings,
    )  # fmt: skip
    env = envs.diagnostic.lottery()
    agent = description.build(env.observation_space, env.action_space)
    batch, curve = of_lottery(), agent.rate.curve(updates)
    for step in range(updates):
        agent.set_learning_rate(curve, step)
        agent.update(batch, False)
    return agent, *(part[0] for part in agent.distribution(torch.tensor([[0, 1]])))


PAIRS = [(0, 0), (0, 1), (1, 0), (1, 1)]
