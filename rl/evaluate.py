"""How good a greedy policy is: by episodes in environments of its own, and exactly where the model is known.

Evaluation touches nothing that training uses: it has its own environments and its own random numbers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from envs import tables
from envs.member import Member
from envs.rows import MemberRows
from envs.source import Source
from envs.vector import World
from rl import explore, jit, planning
from rl.agents.deep import DeepAgent
from rl.agents.linear import LinearAgent
from rl.agents.table import TableAgent, Tabular
from rl.runs.loop import world_reset, world_step
from rl.spaces import StateIndex
from supervised import bits, statistics
from supervised.schedules import STEPS, as_schedule, value_at

# Where an environment has no time limit, a policy that walks in circles would never come back.
STEP_LIMIT = 1_000
LANES = 10  # episodes of a seed side by side, where a network plays


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Returns and lengths of greedy episodes, float64 and int64 [N, episodes].

    step_limit: the steps after which an episode was cut: the environment's own limit, or ours where it has none. possible: the
    smallest and largest return that an episode can have, as far as that is known.
    """

    returns: np.ndarray
    lengths: np.ndarray
    step_limit: int
    seeds: tuple[int, ...]
    possible: tuple[float, float] = (-math.inf, math.inf)

    @property
    def per_seed(self) -> np.ndarray:
        """Mean return of each seed [N]."""
        means: np.ndarray = self.returns.mean(1)
        return means

    @property
    def mean(self) -> float:
        """Mean return over seeds."""
        return float(self.per_seed.mean())

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """A confidence interval of the mean over seeds, within what returns are possible (see `supervised.statistics.interval`);
        (nan, nan) with one seed, for then nothing is known of the spread."""
        return statistics.interval(self.per_seed, level, *self.possible)

    def __str__(self) -> str:
        n, episodes = self.returns.shape
        low, high = self.possible
        return (
            f"mean return {statistics.describe(self.per_seed, low=low, high=high)} over {n} seed{'s' * (n > 1)}"
            f" x {episodes} episodes, each cut after {self.step_limit:,} steps"
        )


def evaluation_seed(seed: int) -> int:
    """What the evaluation environment of a seed is reset with: nothing that training uses."""
    return int(np.random.SeedSequence(seed, spawn_key=(0, 0, 0)).generate_state(1)[0])


def rollout(episodes: int, limit: int, policy: Any, world: Any, returns: Any, lengths: Any) -> None:
    """Greedy episodes in environment 0 of `world`: policy int64 [S] -> returns and lengths [episodes]."""
    for i in range(episodes):
        s = world_reset(world, 0)
        total = 0.0
        length = 0
        over = False
        while not over and length < limit:
            s, reward, terminated, truncated = world_step(world, 0, policy[s])
            total += reward
            length += 1
            over = terminated or truncated
        returns[i] = total
        lengths[i] = length


def by_episodes(
    agent: TableAgent | LinearAgent | DeepAgent,
    where: Source,
    model: tables.Model | None,
    episodes: int,
    step_limit: int | None = None,
) -> Evaluation:
    """Evaluate every seed's greedy policy in `episodes` episodes of an environment of its own."""
    for name, value in (("episodes", episodes), ("step_limit", step_limit)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1):
            raise ValueError(f"{name} is a whole number from 1 on, not {value!r}.")
    returns = np.zeros((len(agent.seeds), episodes))
    lengths = np.zeros((len(agent.seeds), episodes), np.int64)
    own_limit = None if model is None else model.limit
    if model is None:
        env = where.make()
        own_limit = env.spec.max_episode_steps if env.spec is not None else None
    limit = min(x for x in (own_limit, step_limit, None if own_limit or step_limit else STEP_LIMIT) if x)
    if model is None and not isinstance(agent, TableAgent):
        env.close()
        _by_network(agent, where, limit, returns, lengths)
        return Evaluation(returns, lengths, limit, agent.seeds)
    table = agent.table
    for k, seed in enumerate(agent.seeds):
        policy = table[k].argmax(-1)
        if model is not None:
            parts = {"world_step": tables.model_step, "world_reset": tables.model_reset}
            fast = jit.compiled(rollout, **parts)
            rng = np.random.Generator(np.random.PCG64(evaluation_seed(seed)))
            world = tables.world_of(model, np.zeros(1, np.int64), np.zeros(1, np.int64), (rng,))
            (fast or jit.specialise(rollout, **parts))(episodes, limit, policy, world, returns[k], lengths[k])
        else:
            assert isinstance(agent, TableAgent)
            if k > 0:  # an environment of each seed's own, for some keep what outlives an episode
                env.close()
                env = where.make()
            member = Member(env, evaluation_seed(seed), 0, StateIndex(agent.index.space, where.name))
            rollout(episodes, limit, policy.tolist(), [member], returns[k], lengths[k])
    if model is None:
        env.close()
    return Evaluation(returns, lengths, limit, agent.seeds)


def _by_network(
    agent: DeepAgent | LinearAgent, where: Source, limit: int, returns: np.ndarray, lengths: np.ndarray
) -> None:
    """Greedy episodes of all seeds at once, up to LANES side by side; episode i of a seed is played in its lane i % lanes."""
    n, episodes = returns.shape
    lanes = min(episodes, LANES)
    members = [Member(where.make(), evaluation_seed(seed), e) for seed in agent.seeds for e in range(lanes)]
    rows = MemberRows(members)
    world = World(rows, agent.seeds, lanes)
    obs = [member.reset() for member in members]
    playing = np.tile(np.arange(lanes), n)  # which episode each plays
    with bits.threads(1):
        while (playing < episodes).any():
            batch, masks = world.as_tensors(rows.stack(obs), rows.masks())
            q = agent.q(batch)
            mask = agent.allowed(batch, masks)
            actions = explore.greedy(q, mask=mask).reshape(-1).tolist()
            for r, member in enumerate(members):
                if playing[r] >= episodes:
                    continue
                k, i = r // lanes, playing[r]
                obs[r], reward, terminated, truncated = member.step(actions[r])
                returns[k, i] += reward
                lengths[k, i] += 1
                if terminated or truncated or lengths[k, i] >= limit:
                    playing[r] += lanes
                    obs[r] = member.reset()
    world.close()


class Exact:
    """What a model says of the tables that learn in it.

    best: the best expected return from the start, by a policy that may look at the time left. stationary: what value
    iteration's greedy policy, at the agent's gamma, is worth; no agent that sees only the state is promised more.
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

    def metrics(self, agent: TableAgent | LinearAgent | DeepAgent) -> dict[str, np.ndarray]:
        """The tags of `eval/` without sampling noise, each [N]."""
        table = agent.table
        policies = table.argmax(-1)
        value = self.value(policies)
        found = {"eval/mean_reward": value, "eval/optimality_gap": self.best - value}
        if self.model.success is not None:
            found["eval/success_rate"] = self.success(policies)
        if self.continuing:
            found["eval/gain"] = np.array([planning.gain(self.model, policy) for policy in policies])
            table = table - table[:, :1].max(-1, keepdims=True)  # relative values may have any zero
        if self.solution is not None:
            found["eval/stationary_gap"] = self.stationary - value
            found["eval/q_error"] = np.abs(table - self.solution.q).max((1, 2))
        return found


def exact_of(agent: TableAgent | DeepAgent, model: tables.Model, horizon_steps: int) -> Exact:
    """The exact reference for an agent; a gamma or an epsilon that is scheduled counts with its last value."""
    gamma = as_schedule(agent.description.gamma).curve(horizon_steps)
    epsilon: float | None = 0.0
    if isinstance(agent.description, Tabular) and agent.description.on_policy:
        rule, level = agent.description.explore, agent.description.explore.level.curve(horizon_steps)
        known = rule.kind == explore.EPSILON_GREEDY and level.unit == STEPS
        epsilon = value_at(level, horizon_steps) if known else None
    return Exact(model, value_at(gamma, horizon_steps), epsilon=epsilon)
