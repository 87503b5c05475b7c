"""Figures of Sutton and Barto (2018), as comparisons for scripts/compare.py."""

from __future__ import annotations

from collections.abc import Callable
from weakref import WeakKeyDictionary

import numpy as np

import envs
import rl
from comparisons.panels import Panel
from rl import planning
from rl.explore import EpsilonGreedy

NEVER_HIGH = "(not in the book: values that start at 0 stay low in states that are rarely visited)"


def since_last(read: Callable[[rl.Run], np.ndarray]) -> Callable[[rl.Run], np.ndarray]:
    """Return a function that returns how much `read(run)` has grown since its last call for that run."""
    before: WeakKeyDictionary[rl.Run, np.ndarray] = WeakKeyDictionary()

    def grown(run: rl.Run) -> np.ndarray:
        now = read(run)
        gained: np.ndarray = now - before.get(run, np.zeros_like(now))
        before[run] = now
        return gained

    return grown


def left_and_all(run: rl.Run) -> np.ndarray:
    """Return how often each seed went left from A, and how often it took any action there, [N, 2]."""
    tries = run.agent.state_visits()[:, 0]
    return np.stack([tries[:, ::2].sum(1), tries.sum(1)], 1).astype(np.float64)


def shares() -> Callable[[rl.Run], np.ndarray]:
    """Return a function that returns the share of left actions in A since the last point, in percent, [N]."""
    grown = since_last(left_and_all)

    def share(run: rl.Run) -> np.ndarray:
        left, tries = grown(run).T
        return 100 * left / np.maximum(tries, 1)

    return share


def gap(run: rl.Run) -> np.ndarray:
    """Return the gap of each seed, [N]: the optimal return minus the exact return of its greedy policy."""
    if run.exact is None:
        raise ValueError(
            f"{run.where.name} cannot be evaluated exactly: {str(run.no_model).rstrip('.')}. Use scripts/train.py for it."
        )
    return run.exact.metrics(run.agent)["eval/optimality_gap"]


def rewards(run: rl.Run) -> np.ndarray:
    """Return how often each seed has reached the goal so far, [N]."""
    return run.loop.episodes_ended().astype(np.float64)


def lately(run: rl.Run) -> np.ndarray:
    """Return the mean return of each seed's last 100 training episodes, [N]; NaN before the first has ended."""
    return run.episodes()["rollout/ep_rew_mean"].numpy()


def gain(run: rl.Run) -> np.ndarray:
    """Return the exact long-run reward per step of each seed's greedy policy, [N]."""
    assert run.model is not None
    return np.array([planning.gain(run.model, policy) for policy in run.exact.policies(run.agent)])


def textbook() -> dict[str, Panel]:
    """Return the figures, each with the book's claims."""
    tenth = EpsilonGreedy(0.1)
    cliff = {"gamma": 1.0, "step_size": 0.5, "explore": tenth}
    coin = {"gamma": 1.0, "step_size": 0.1, "explore": tenth}
    maze = {"gamma": 0.95, "step_size": 0.1, "explore": tenth, "outcomes": 1}
    changing = maze | {"step_size": 0.5, "planning_steps": 10}
    best, _ = envs.exact_access_control()
    return {
        "cliff": Panel(
            "Example 6.6, the cliff: while exploring (epsilon .1)",
            "CliffWalking-v1",
            {
                "SARSA": rl.SARSA(**cliff),
                "Q-learning": rl.QLearning(**cliff),
                "Expected SARSA": rl.ExpectedSARSA(**cliff),
            },
            {
                "SARSA": "takes the safe path, with a higher return",
                "Q-learning": "walks along the edge, and falls off occasionally",
            },
            lately,
            "mean return of the last 100 episodes",
            20_000,
            digits=1,
            ceiling=-13.0,
        ),
        "cliff-greedy": Panel(
            "Example 6.6, the cliff: greedy policy",
            "CliffWalking-v1",
            {"SARSA": rl.SARSA(explore=tenth), "Q-learning": rl.QLearning(explore=tenth)},
            {"SARSA": "the safe path", "Q-learning": "the shortest path"},
            gap,
            "gap to the best return, -13 (exact)",
            200_000,
            digits=2,
            scale="symlog",
            floor=0.0,
        ),
        "bias": Panel(
            "Example 6.7, maximization bias: left actions in A",
            "envs/MaximizationBias-v0",
            {"Q-learning": rl.QLearning(**coin), "Double Q": rl.DoubleQ(**coin), "Weighted Q": rl.WeightedQ(**coin)},
            {"Q-learning": "often, most of the time at first", "Double Q": "hardly more than by exploring"},
            shares(),
            "% left since the last point (best: 5)",
            600,
            points=20,
            digits=1,
            seeds=1000,
            floor=0.0,
            ceiling=100.0,
            lines=[(5.0, "epsilon-greedy with the true values")],
        ),
        "planning": Panel(
            "Example 8.1, the maze: planning steps",
            "envs/DynaMaze-v0",
            {
                "0, Q-learning": rl.QLearning(gamma=0.95, step_size=0.1, explore=tenth),
                "5": rl.DynaQ(planning_steps=5, **maze),
                "50": rl.DynaQ(planning_steps=50, **maze),
                "sweeping, 5": rl.PrioritizedSweeping(gamma=0.95, explore=tenth, planning_steps=5, outcomes=1),
            },
            {"0, Q-learning": "slow", "50": "knows the path after three episodes"},
            rewards,
            "goal reached, times so far",
            3_000,
            digits=1,
            floor=0.0,
        ),
        "blocking": Panel(
            "Example 8.2, the path is blocked after 1 000 steps",
            "envs/BlockingMaze-v0",
            {"Dyna-Q": rl.DynaQ(**changing), "Dyna-Q+": rl.DynaQ(bonus=1e-3, **changing)},
            {"Dyna-Q+": "finds the other path sooner"},
            rewards,
            "goal reached, times so far",
            3_000,
            digits=1,
            floor=0.0,
        ),
        "shortcut": Panel(
            "Example 8.3, a shorter path opens after 3 000 steps",
            "envs/ShortcutMaze-v0",
            {"Dyna-Q": rl.DynaQ(**changing), "Dyna-Q+": rl.DynaQ(bonus=1e-3, **changing)},
            {"Dyna-Q": "never finds it", "Dyna-Q+": "finds it"},
            rewards,
            "goal reached, times so far",
            6_000,
            digits=1,
            floor=0.0,
        ),
        "queue": Panel(
            "Example 10.2, ten servers, continuing",
            "envs/AccessControl-v0",
            {
                "R-learning": rl.RLearning(explore=tenth),
                "Q-learning, discount .99": rl.QLearning(explore=tenth),
                "Q-learning, discount .9": rl.QLearning(gamma=0.9, explore=tenth),
            },
            {"R-learning": "(the book has differential SARSA here)", "Q-learning, discount .99": NEVER_HIGH},
            gain,
            "reward per step of the greedy policy (exact)",
            200_000,
            lines=[(best, "best")],
            floor=0.0,
            ceiling=best,
        ),
        "mountain-car": Panel(
            "Example 12.2, MountainCar, truncated after 200 steps, tile coding",
            "MountainCar-v0",
            {
                "replacing traces": rl.LinearSARSA(traces="replacing"),
                "accumulating traces": rl.LinearSARSA(traces="accumulating"),
                "accumulating, step size .3": rl.LinearSARSA(traces="accumulating", step_size=0.3),
                "true online": rl.LinearSARSA(traces="dutch"),
            },
            {"accumulating traces": "fail at step sizes at which the others learn"},
            lately,
            "mean return of the last 100 episodes",
            60_000,
            points=20,
            digits=1,
            floor=-200.0,
            ceiling=-1.0,
            seeds=10,
        ),
    }
