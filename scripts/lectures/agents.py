"""The lecture notes' claims about agents, as comparisons for scripts/compare.py."""

from __future__ import annotations

import dataclasses

import numpy as np
from comparisons.panels import Panel

import rl
from rl.explore import EpsilonGreedy, Greedy


def success(run: rl.Run) -> np.ndarray:
    """Return the exact probability that each seed's greedy policy reaches the goal, [N]."""
    assert run.exact is not None
    return run.exact.metrics(run.agent)["eval/success_rate"]


def length(run: rl.Run) -> np.ndarray:
    """Return the steps each seed's greedy policy takes to the goal, [N]; the time limit if it does not reach it."""
    found = run.evaluate(1)
    return np.where(found.returns[:, 0] > 0, found.lengths[:, 0], found.step_limit).astype(np.float64)


def reward(run: rl.Run) -> np.ndarray:
    """Return the mean return of ten greedy episodes of each seed, [N]."""
    return run.evaluate(10).per_seed


def predicted(run: rl.Run) -> np.ndarray:
    """Return the mean value each seed's network predicted at the start of its last 100 training episodes, [N]."""
    return run.episodes()["rollout/predicted_return"].numpy()


def obtained(run: rl.Run) -> np.ndarray:
    """Return the mean discounted return of these episodes, [N]."""
    return run.episodes()["rollout/discounted_return"].numpy()


def lectures() -> dict[str, Panel]:
    """Return the comparisons in the lecture notes."""
    lake, cart = rl.presets("FrozenLake-v1"), rl.presets("CartPole-v1")
    noise = lake["lecture-noise"]
    slippery = lake["lecture-slippery"]
    exploring = dataclasses.replace(noise, explore=EpsilonGreedy(0.3))
    certain = {"is_slippery": False}
    return {
        "exploration": Panel(
            "Exploring, on ice that is not slippery",
            "FrozenLake-v1",
            {
                "none, the first of equals": dataclasses.replace(noise, explore=Greedy("first")),
                "none, any of equals": dataclasses.replace(noise, explore=Greedy()),
                "epsilon-greedy, falling": lake["lecture-epsilon"],
                "noise, falling": noise,
            },
            {"none, the first of equals": "stays where it is", "noise, falling": "works"},
            success,
            "success probability (exact)",
            20_000,
            floor=0.0,
            ceiling=1.0,
            kwargs=certain,
        ),
        "discount": Panel(
            "Discounting, on ice that is not slippery, exploring all the time",
            "FrozenLake-v1",
            {
                name: dataclasses.replace(exploring, gamma=gamma)
                for name, gamma in (("discount .99", 0.99), ("discount .9", 0.9), ("none", 1.0))
            },
            {"discount .99": "finds the shortest way", "none": "every safe step seems as good"},
            length,
            "steps to the goal (100: never)",
            20_000,
            digits=1,
            floor=1.0,
            ceiling=100.0,
            kwargs=certain,
        ),
        "step-size": Panel(
            "Step size, on slippery ice",
            "FrozenLake-v1",
            {
                "step size 1": dataclasses.replace(slippery, step_size=1.0),
                "step size .85": slippery,
                "visits^-.6 (q-learning)": lake["q-learning"],
            },
            {"step size 1": "does not learn", "step size .85": "learns"},
            success,
            "success probability (exact)",
            400_000,
            floor=0.0,
            ceiling=1.0,
        ),
        "cartpole": Panel(
            "CartPole",
            "CartPole-v1",
            {
                "Q-network": cart["q-network"],
                "DQN 2013": cart["dqn-2013"],
                "DQN 2013, errors clipped": dataclasses.replace(cart["dqn-2013"], loss="huber"),
                "DQN 2015": cart["dqn-2015"],
                "best here": cart["best"],
            },
            {"Q-network": "fails", "DQN 2015": "solves it"},
            reward,
            "mean return of ten greedy episodes",
            50_000,
            points=10,
            digits=1,
            floor=1.0,
            ceiling=500.0,
            beside={"predicted return": predicted, "obtained return": obtained},
            beside_unit="discounted return of training episodes",
        ),
    }
