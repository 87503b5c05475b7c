"""Presets: agents by name, with tuned settings for some environments.

`presets()` has the default settings, `presets("CartPole-v1")` those for that environment. `scripts/benchmark.py learning`
measures them.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, field
from typing import Any

# All modules that register agents; see `rl.core.registry.complete`.
import rl.deep.pqn
import rl.deep.r2d2
import rl.linear.sarsa
import rl.tabular.double_q
import rl.tabular.dyna
import rl.tabular.monte_carlo
import rl.tabular.n_step
import rl.tabular.prioritized_sweeping
import rl.tabular.q_learning
import rl.tabular.r_learning
import rl.tabular.sarsa
import rl.tabular.speedy_q
import rl.tabular.traces
import rl.tabular.weighted_q  # noqa: F401  (imported to register their agents)
from rl.core import registry
from rl.core.registry import AgentConfig
from rl.deep.distributions import Atoms
from rl.deep.dqn import DQN
from rl.explore import EpsilonGreedy
from supervised.schedules import Inverse, Linear
from supervised.validate import instance, optional


def _falling(end: float, fraction: float) -> EpsilonGreedy:
    return EpsilonGreedy(Linear(1.0, end, fraction=fraction))


@dataclass(frozen=True)
class Other:
    """A further agent tuned for an environment: its differences from `best`, and its number of steps, if different."""

    changes: dict[str, Any]
    steps: int | None = None


@dataclass(frozen=True)
class Tuned:
    """Tuned settings for an environment: the number of steps, rl-zoo's settings for DQN, if any, and those of our best agent.

    rl-zoo gives the target network's update interval in environment steps, which is converted to updates here. others: further
    tuned agents by name. pqn: the settings of rl.PQN and its number of steps. returns: the range of the atoms, where it cannot be
    derived from the environment's reward range.
    """

    steps: int
    zoo: dict[str, Any]
    best: dict[str, Any]
    others: dict[str, Other] = field(default_factory=dict)
    pqn: Other | None = None
    returns: tuple[float, float] | None = None


# Gallici et al. (2025): purejaxql's settings of CartPole, and of MinAtar's games.
_PQN = {"network": "layer_norm_mlp(256,256)", "reward_scale": 0.1}
_MINATAR_PQN = {
    "network": "layer_norm_cnn(16)",
    "lambda_": 0.65,
    "envs_per_seed": 128,
    "rollout_steps": 32,
    "minibatches": 32,
    "epochs": 2,
    "learning_rate": Linear(5e-4, 0.0),
    "explore": _falling(0.05, 0.1),
}
# Rewards are unbounded: the atoms cover the returns met after the first steps.
_LANDER = (-250.0, 300.0)
_MINATAR = Tuned(5_000_000, {}, {"double": True}, pqn=Other(_MINATAR_PQN))

# Keys are environment ids without version.
TUNED = {
    "CartPole": Tuned(
        50_000,
        {
            "network": "mlp(256,256)",
            "learning_rate": 2.3e-3,
            "update_every_steps": 256,
            "updates": 128,
            "target_every_updates": 128,
            "explore": _falling(0.04, 0.16),
        },
        {
            "learning_rate": Linear(1e-3, 0.0),
            "double": True,
            "n_step": 5,
            "target_every_updates": 1,
            "target_rate": 0.0025,
            "explore": _falling(0.05, 0.2),
        },
        {"best-c51": Other({"distribution": Atoms()})},
        Other({**_PQN, "learning_rate": Linear(3e-4, 0.0)}, 500_000),
    ),
    "Acrobot": Tuned(
        100_000,
        {
            "network": "mlp(256,256)",
            "learning_rate": 6.3e-4,
            "batch_size": 128,
            "capacity_steps": 50_000,
            "update_every_steps": 4,
            "updates": 4,
            "target_every_updates": 250,
            "explore": _falling(0.1, 0.12),
        },
        {
            "learning_rate": Linear(1e-3, 0.0),
            "update_every_steps": 2,
            "double": True,
            "n_step": 3,
            "target_every_updates": 1,
            "target_rate": 0.005,
            "explore": _falling(0.05, 0.15),
        },
        {
            "best-c51": Other(
                {
                    "distribution": Atoms(),
                    "network": "mlp(128,128)",
                    "batch_size": 128,
                    "update_every_steps": 1,
                }
            )
        },
        Other(_PQN, 500_000),
    ),
    "MountainCar": Tuned(
        120_000,
        {
            "network": "mlp(256,256)",
            "learning_rate": 4e-3,
            "batch_size": 128,
            "capacity_steps": 10_000,
            "gamma": 0.98,
            "update_every_steps": 16,
            "updates": 8,
            "target_every_updates": 300,
            "explore": _falling(0.07, 0.2),
        },
        {
            "network": "mlp(128,128)",
            "learning_rate": Linear(4e-3, 0.0),
            "batch_size": 128,
            "gamma": 0.98,
            "update_every_steps": 16,
            "updates": 8,
            "double": True,
            "n_step": 3,
            "target_every_updates": 300,
            "explore": _falling(0.07, 0.3),
        },
        {
            "best-c51": Other({"distribution": Atoms()}),
            # As many updates as in 120 000 steps, of a smaller network. The replay holds all steps: with only the last 100 000,
            # which have little exploration, some seeds unlearned the task.
            "best-c51-long": Other(
                {
                    "distribution": Atoms(),
                    "network": "mlp(64,64)",
                    "batch_size": 64,
                    "updates": 2,
                    "capacity_steps": 500_000,
                },
                500_000,
            ),
        },
        # Independent random actions never reach the flag; held ones do.
        Other(
            {
                **_PQN,
                "gamma": 0.995,
                "learning_rate": Linear(5e-4, 0.0),
                "explore": EpsilonGreedy(Linear(1.0, 0.05, fraction=0.5), hold=1.5),
                "normalize_observations": True,
            },
            500_000,
        ),
    ),
    "LunarLander": Tuned(
        100_000,
        {
            "network": "mlp(256,256)",
            "learning_rate": 6.3e-4,
            "batch_size": 128,
            "capacity_steps": 50_000,
            "update_every_steps": 4,
            "updates": 4,
            "target_every_updates": 250,
            "explore": _falling(0.1, 0.12),
        },
        {
            "network": "mlp(128,128)",
            "learning_rate": Linear(2e-3, 0.0),
            "double": True,
            "n_step": 2,
            "target_every_updates": 250,
            "explore": _falling(0.03, 0.1),
        },
        {"best-c51": Other({"distribution": Atoms(*_LANDER, 56)})},
        returns=_LANDER,
    ),
    # Two observations determine velocities, so short windows suffice, and the stored state needs little burn-in. With unscaled
    # rewards the values of 500 steps saturate the GRU, and nothing is learned.
    "envs/CartPole-NoVelocity": Tuned(
        200_000,
        {},
        {
            "network": "gru(64)",
            "gamma": 0.98,
            "learning_rate": Linear(1e-3, 0.0),
            "batch_size": 16,
            "update_every_steps": 4,
            "double": True,
            "n_step": 3,
            "target_every_updates": 200,
            "explore": _falling(0.02, 0.1),
            "reward_scale": 0.1,
            "sequence_steps": 14,
            "sequence_every_steps": 10,
            "burn_in_steps": 4,
        },
    ),
    # Every game of `envs.atari`. PQN: Gallici et al. (2025), purejaxql's settings.
    "Atari": Tuned(
        10_000_000,
        {
            "network": "nature",
            "learning_rate": 1e-4,
            "batch_size": 32,
            "capacity_steps": 100_000,
            "learn_after_steps": 100_000,
            "update_every_steps": 4,
            "target_every_updates": 250,
            "explore": _falling(0.01, 0.1),
        },
        {
            "network": "nature",
            "learning_rate": 1e-4,
            "batch_size": 32,
            "learn_after_steps": 100_000,
            "update_every_steps": 4,
            "target_every_updates": 250,
            "double": True,
            "explore": _falling(0.01, 0.1),
        },
        pqn=Other(
            {
                **_MINATAR_PQN,
                "network": "layer_norm_nature",
                "learning_rate": 2.5e-4,
                "explore": _falling(0.001, 0.1),
            }
        ),
    ),
    "envs/MinAtarBreakout": _MINATAR,
    "envs/MinAtarAsterix": _MINATAR,
}


def steps_for(env: str, agent: str = "best") -> int:
    """Return the number of steps that an agent's settings were tuned for in an environment; 100 000 if there are none."""
    tuned = _tuned(env)
    if tuned is None:
        return 100_000
    other = tuned.pqn if agent == "pqn" else tuned.others.get(agent)
    return tuned.steps if other is None or other.steps is None else other.steps


def presets(env: str | None = None) -> dict[str, AgentConfig]:
    """Return all agents by name, with the settings for an environment. env: its id.

    If it has tuned settings, agents with a target network use those of rl-zoo, if any, and "best" and the names that start with
    it are our own; only these environments have names such as "best-c51". Otherwise "best" is double DQN with default settings.
    """
    optional(instance, env, "env", str, "the id of an environment")
    found: dict[str, Any] = registry.presets()
    found["best"] = found["double-dqn"]
    tuned = None if env is None else _tuned(env)
    if tuned is not None:
        for name in registry.PRESETS["networks"]:
            # rl-zoo's settings assume a target network: without one, as in 2013, their bursts of updates diverge. Agents with
            # noisy layers keep their exploration rule.
            agent = found[name]
            if agent.target_every_updates is not None:
                kept = {"explore": agent.explore} if agent.noise is not None else {}
                if agent.distribution is not None:
                    kept["distribution"] = agent.distribution.within(tuned.returns)
                found[name] = dataclasses.replace(agent, **{**tuned.zoo, **kept})
        found["best"] = dataclasses.replace(DQN(), **tuned.best)
        found |= {name: dataclasses.replace(found["best"], **other.changes) for name, other in tuned.others.items()}
        if tuned.pqn is not None:
            found["pqn"] = dataclasses.replace(found["pqn"], **tuned.pqn.changes)
    if env is not None and _stem(env).removeprefix("envs/") == "CartPole":
        # L 07_1: Adam at .1, epsilon 1 / (episode / 10 + 1).
        explore = EpsilonGreedy(Inverse(1.0, every=10, unit="episodes"))
        found["q-network"] = dataclasses.replace(
            found["q-network"], optimizer="Adam", learning_rate=0.1, explore=explore
        )
    return found


def _tuned(env: str) -> Tuned | None:
    """Return the tuned settings for an environment; its native form has those of Gymnasium's."""
    stem = _stem(env)
    if stem.startswith("Atari/"):
        return TUNED["Atari"]
    return TUNED.get(stem, TUNED.get(stem.removeprefix("envs/")))


def _stem(env: str) -> str:
    return re.sub(r"-v\d+$", "", env.rsplit(":", maxsplit=1)[-1])
