"""The value of memory, as comparisons for scripts/compare.py: agents with and without, and the best return of each kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np

import envs
import rl
from comparisons.panels import Measure, Panel
from rl import belief
from rl.explore import EpsilonGreedy
from supervised.schedules import Linear

RECURRENT = "DRQN"
EPISODES = 100
# Small. Windows, since whole episodes of an untrained agent are long.
# The squared error, since the Huber loss is flat where half of the episodes succeed.
DRQN = rl.DQN(
    network="gru(32)",
    loss="squared",
    batch_size=16,
    learn_after_steps=500,
    update_every_steps=4,
    target_every_updates=100,
    learning_rate=Linear(2e-3, 0.0),
    double=True,
    n_step=3,
    sequence_steps=40,
    chrono_steps=12,
)


def mean_return(run: rl.Run) -> np.ndarray:
    """Return the mean return of each seed's greedy episodes, [N]; a recurrent policy does not map observations to actions."""
    return run.evaluate(EPISODES).per_seed


def exact_return(partial: envs.PartialModel) -> Measure:
    """Return a function that returns the exact return of each seed's memoryless greedy policy, [N]."""

    def measure(run: rl.Run) -> np.ndarray:
        policies = [run.policy(seed) for seed in run.seeds]
        actions = [[int(policy.predict(seen)[0]) for seen in partial.seen] for policy in policies]
        return belief.memoryless_returns(partial, np.array(actions))

    return measure


def lines(worth: belief.Worth) -> list[tuple[float, str]]:
    """Return the best return with memory, if planning is feasible, and without, each with a label."""
    without = f"best without memory{'' if worth.memoryless.proven else ' found'}"
    return [
        *([(worth.best, "best with memory")] if worth.best is not None else []),
        (worth.memoryless.value, without),
    ]


def panel(title: str, env: str, agents: Mapping[str, Any], steps: int, **kwargs: Any) -> Panel:
    """Return the panel of an environment with its two best returns as lines. kwargs: of the environment."""
    made = gym.make(env, **kwargs)
    partial = envs.read_partial(made)
    made.close()
    worth = belief.worth_of_memory(partial)
    return Panel(
        title, env, {**agents, RECURRENT: DRQN}, {}, exact_return(partial),
        f"return of the greedy policy (exact; {RECURRENT}: {EPISODES} episodes)", steps,
        points=20, kwargs=kwargs, digits=3, ceiling=worth.best, lines=lines(worth), measures={RECURRENT: mean_return},
    )  # fmt: skip


def memory() -> dict[str, Panel]:
    """Return small environments in which a table reaches the best return without memory, and DRQN the best with memory."""
    tenth = EpsilonGreedy(0.1)
    tables = {"Q-learning": rl.QLearning(explore=tenth), "SARSA": rl.SARSA(explore=tenth)}
    tiles = {"SARSA with tile coding": rl.LinearSARSA(explore=tenth)}
    return {
        "t-maze": panel("T-maze, 10 steps long", "envs/TMaze-v0", tables, 20_000),
        "memory-chain": panel("Memory chain, 10 steps long", "envs/MemoryChain-v0", tiles, 10_000),
        "repeat-previous": panel(
            "The card two steps back, of 12 cards in 2 suits",
            "envs/RepeatPrevious-v0",
            tables,
            20_000,
            k=2,
            suits=2,
            copies=6,
        ),
        "repeat-first": panel(
            "The first card, of 12 cards in 2 suits", "envs/RepeatFirst-v0", tables, 20_000, suits=2, copies=6
        ),
        "window": panel(
            "FrozenLake, two starts with the same 3x3 window", "envs/FrozenLake-Window-v1", tables, 20_000,
            desc=["GFSFHFSFG"], is_slippery=False,
        ),
    }  # fmt: skip
