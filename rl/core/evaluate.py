"""Evaluation of greedy policies by episodes.

Evaluation does not affect training: it has its own environments and its own random numbers.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import gymnasium as gym
import numpy as np

from envs import tables
from envs.backends.limits import own_limit, time_limit
from envs.backends.member import ReplayableEnv
from envs.backends.native_rows import NativeRows
from envs.backends.rows import SingleEnvs, altered_by
from envs.backends.running import Running, Statistics
from envs.backends.stand_in import array_rows
from envs.source import Source
from envs.vector import ArrayWorld
from rl.core import jit
from rl.core.protocols import LiveAgent
from rl.core.spaces import StateIndex
from rl.core.types import Decision, State
from rl.core.world import world_reset, world_step
from rl.explore import check_some
from rl.masked import best_allowed
from supervised import determinism, statistics
from supervised.validate import integer, optional

# Without a time limit, an episode of a policy that goes in circles would never end. So episodes are cut after STEP_LIMIT steps
# if the model is known, and otherwise after FREE_LIMIT steps or more (see `Evaluation`).
STEP_LIMIT = 1_000
FREE_LIMIT = 5_000
MOST_EPISODES = 1_000_000  # per seed
LANES = 10  # parallel episodes per seed when a network plays


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Returns and lengths of greedy episodes, float64 and int64 [N, episodes].

    step_limit: the number of steps after which episodes were cut, the largest of all seeds. It is the environment's time limit,
    or, if none is known, 5 000 steps, or 1 000 if the model is known. It is higher if the environment stores a larger limit under
    a common attribute name, and for a seed with a longer episode that ended by itself among its last 100 training episodes.
    recorded_returns: the returns given by info["episode"], float64 [N, episodes], NaN where it was missing; None if it never
    occurred. altered_by: the wrappers known to alter the rewards summed in `returns`. possible: the smallest and largest possible
    return of an episode, as far as they are known.
    """

    returns: np.ndarray
    lengths: np.ndarray
    step_limit: int
    seeds: tuple[int, ...]
    recorded_returns: np.ndarray | None = None
    altered_by: tuple[str, ...] = ()
    possible: tuple[float, float] = (-math.inf, math.inf)

    @property
    def per_seed(self) -> np.ndarray:
        """The mean return of each seed, float64 [N]."""
        means: np.ndarray = self.returns.mean(1)
        return means

    @property
    def recorded_per_seed(self) -> np.ndarray | None:
        """The mean return of each seed by info["episode"], float64 [N], NaN for a seed without any; None if it never occurred."""
        if self.recorded_returns is None:
            return None
        known = ~np.isnan(self.recorded_returns)
        sums = np.where(known, self.recorded_returns, 0.0).sum(1)
        means: np.ndarray = np.divide(sums, known.sum(1), out=np.full(len(sums), np.nan), where=known.any(1))
        return means

    @property
    def mean(self) -> float:
        """The mean return over seeds."""
        return float(self.per_seed.mean())

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Return a confidence interval of the mean over seeds, within the possible returns (`supervised.statistics.interval`).

        (nan, nan) with one seed, since its spread is unknown.
        """
        return statistics.interval(self.per_seed, level, *self.possible)

    def __str__(self) -> str:
        n, episodes = self.returns.shape
        low, high = self.possible
        text = (
            f"mean return {statistics.describe(self.per_seed, low=low, high=high)} over {n} seed{'s' * (n > 1)}"
            f" x {episodes} episodes, each cut after {self.step_limit:,} steps"
        )
        if self.altered_by:
            text += f"; of rewards altered by {', '.join(self.altered_by)}"
        if self.recorded_per_seed is not None:
            text += f"; mean return by info['episode'] {statistics.describe(self.recorded_per_seed)}"
        return text


def joined(parts: Sequence[Evaluation], seeds: tuple[int, ...]) -> Evaluation:
    """Join the evaluations of disjoint groups of seeds into one of all seeds."""
    recorded = None
    if any(part.recorded_returns is not None for part in parts):
        each = [part.recorded_returns for part in parts]
        recorded = np.concatenate(
            [np.full_like(p.returns, np.nan) if r is None else r for p, r in zip(parts, each, strict=True)]
        )
    returns, lengths = (np.concatenate([getattr(part, name) for part in parts]) for name in ("returns", "lengths"))
    limit = max(part.step_limit for part in parts)
    return Evaluation(returns, lengths, limit, seeds, recorded, parts[0].altered_by)


def evaluation_seed(seed: int) -> int:
    """Return the seed that resets a seed's evaluation environment; training never uses it."""
    return int(np.random.SeedSequence(seed, spawn_key=(0, 0, 0)).generate_state(1)[0])


def rollout(episodes: int, limit: int, policy: Any, world: Any, returns: Any, lengths: Any) -> None:
    """Play greedy episodes in environment 0 of `world`: policy int64 [S] -> returns and lengths [episodes], in place."""
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


class Found:
    """The results of an evaluation in progress, [N, episodes], and the step limits of the seeds, [N]."""

    def __init__(self, seeds: tuple[int, ...], episodes: int, longest: np.ndarray | None) -> None:
        shape = len(seeds), episodes
        self.returns, self.lengths = np.zeros(shape), np.zeros(shape, np.int64)
        self.recorded = np.full(shape, np.nan)
        self.longest = np.zeros(len(seeds), np.int64) if longest is None else longest
        self.limits = np.zeros(len(seeds), np.int64)
        self.altered_by: tuple[str, ...] = ()

    def set_limit(self, k: int, env: gym.Env[Any, Any], wanted: int | None) -> int:
        """Inspect an environment of the k-th seed and return the number of steps after which its episodes are cut."""
        self.altered_by = altered_by(env)
        own = time_limit(env)
        if own is None and wanted is None:
            own = max(FREE_LIMIT, own_limit(env) or 0, int(self.longest[k]))
        self.limits[k] = min(x for x in (own, wanted) if x)
        return int(self.limits[k])

    def evaluation(self, seeds: tuple[int, ...]) -> Evaluation:
        recorded = None if np.isnan(self.recorded).all() else self.recorded
        return Evaluation(self.returns, self.lengths, int(self.limits.max()), seeds, recorded, self.altered_by)


def by_episodes(
    agent: LiveAgent,
    play: Callable[..., None],
    where: Source,
    model: tables.Model | None,
    episodes: int,
    step_limit: int | None = None,
    longest: np.ndarray | None = None,
    running: list[Statistics] | None = None,
) -> Evaluation:
    """Evaluate every seed's greedy policy for `episodes` episodes in an environment of its own.

    play: the function that plays the episodes if there is no model: `play_networks` or `rl.tabular.play.play_tables`. longest:
    the length of the longest recent training episode, int64 [N]. running: the running statistics of each seed's wrappers, which
    are frozen into its environment.
    """
    episodes, step_limit = check_evaluation(episodes, step_limit)
    found = Found(agent.seeds, episodes, longest)
    if model is not None:
        _by_model(agent, model, step_limit, found)
    else:
        play(agent, where, step_limit, found, running)
    return found.evaluation(agent.seeds)


def check_evaluation(episodes: Any, step_limit: Any) -> tuple[int, int | None]:
    """Check both arguments. Raises ArgumentError unless they are positive integers; episodes is at most 1 000 000."""
    return integer(episodes, "episodes", 1, MOST_EPISODES), optional(integer, step_limit, "step_limit", 1)


def _by_model(agent: LiveAgent, model: tables.Model, step_limit: int | None, found: Found) -> None:
    own = model.limit or (None if step_limit else STEP_LIMIT)
    found.limits[:] = min(x for x in (own, step_limit) if x)
    parts = {"world_step": tables.model_step, "world_reset": tables.model_reset}
    run = jit.compiled(rollout, **parts) or jit.specialize(rollout, **parts)
    episodes, limit = found.returns.shape[1], int(found.limits[0])
    for k, seed in enumerate(agent.seeds):
        rng = np.random.Generator(np.random.PCG64(evaluation_seed(seed)))
        world = tables.world_of(model, np.zeros(1, np.int64), np.zeros(1, np.int64), (rng,))
        run(episodes, limit, best_allowed(agent.table[k], model.mask), world, found.returns[k], found.lengths[k])


class Player(LiveAgent, Protocol):
    """An agent that acts on observations, in numpy arrays."""

    def judge(self, obs: Any, state: State | None = None, episode_start: Any = None) -> Decision:
        """Return the Q-values of `q` and the next state, in arrays, without exploration."""
        ...

    def allowed_of(self, obs: Any, allowed: np.ndarray | None) -> np.ndarray | None:
        """Combine the mask [N, B, A] that came with observations with the agent's own; None: all actions are allowed."""
        ...


def play_networks(
    agent: Player,
    where: Source,
    step_limit: int | None,
    found: Found,
    running: list[Statistics] | None,
) -> None:
    """Play greedy episodes of all seeds in parallel, up to LANES per seed; lane i % lanes of a seed plays its episode i."""
    n, episodes = found.returns.shape
    native = array_rows(where, [evaluation_seed(seed) for seed in agent.seeds], min(episodes, LANES))
    if native is not None:
        _play_native(agent, where, native, step_limit, found)
        return
    lanes = min(episodes, LANES)
    with environments(where, agent.seeds, lanes, running) as members, determinism.threads(1):
        for k in range(n):
            found.set_limit(k, members[k * lanes].env, step_limit)
        rows = SingleEnvs(members)
        world = ArrayWorld(rows, agent.seeds, lanes)
        obs = [member.reset() for member in members]
        state: State = {}
        started = np.ones((n, lanes), np.bool_)
        playing = np.tile(np.arange(lanes), n)  # the current episode of each lane
        while (playing < episodes).any():
            batch = world.by_seed(rows.stack(obs))
            q, state = agent.judge(batch, state, started)
            allowed = agent.allowed_of(batch, world.by_seed(rows.masks()))
            check_some(allowed)
            actions = best_allowed(q, allowed).reshape(-1).tolist()
            started[:] = False
            for r, member in enumerate(members):
                if playing[r] >= episodes:
                    continue
                k, i = r // lanes, playing[r]
                obs[r], reward, terminated, truncated = member.step(actions[r])
                found.returns[k, i] += reward
                found.lengths[k, i] += 1
                if terminated or truncated or found.lengths[k, i] >= found.limits[k]:
                    if member.recorded_return is not None:
                        found.recorded[k, i] = member.recorded_return
                    playing[r] += lanes
                    obs[r] = member.reset()
                    started[k, r % lanes] = True


def _play_native(agent: Player, where: Source, rows: NativeRows, step_limit: int | None, found: Found) -> None:
    """`play_networks` with rows that are stepped all at once, also those whose episodes have all been played."""
    n, episodes = found.returns.shape
    lanes = rows.vector.num_envs // n
    env = where.make()
    for k in range(n):
        found.set_limit(k, env, step_limit)
    env.close()
    world = ArrayWorld(rows, agent.seeds, lanes)
    obs = world.reset()
    state: State = {}
    started = np.ones((n, lanes), np.bool_)
    playing = np.tile(np.arange(lanes), (n, 1))  # the current episode of each lane
    limits = found.limits[:, None]
    with determinism.threads(1):
        while (playing < episodes).any():
            q, state = agent.judge(obs, state, started)
            allowed = agent.allowed_of(obs, world.mask)
            check_some(allowed)
            step = world.step(best_allowed(q, allowed))
            obs = step.obs
            of_seed, lane = np.nonzero(playing < episodes)
            place = of_seed, playing[of_seed, lane]
            found.returns[place] += step.reward[of_seed, lane]
            found.lengths[place] += 1
            started = step.terminated | step.truncated
            cut = np.zeros_like(started)
            cut[of_seed, lane] = (found.lengths[place] >= limits[of_seed, 0]) & ~started[of_seed, lane]
            if cut.any():
                first, mask = rows.cut(cut.reshape(-1))
                obs, world.mask = world.by_seed(first), world.by_seed(mask)
                started = started | cut
            playing[started] += lanes


@contextmanager
def environments(
    where: Source,
    seeds: tuple[int, ...],
    lanes: int,
    running: list[Statistics] | None,
    index: StateIndex | None = None,
    only: int | None = None,
) -> Iterator[list[ReplayableEnv]]:
    """Yield `lanes` evaluation environments per seed (only=k: of the k-th seed), with frozen statistics, and close them."""
    members: list[ReplayableEnv] = []
    each = 1 if where.vector is None else where.vector.num_envs // len(seeds)
    try:
        for k, seed in enumerate(seeds):
            for e in range(lanes if only in (None, k) else 0):
                member = ReplayableEnv(where.make(row=k * each), evaluation_seed(seed), e, index)
                member.label = f"evaluation of seed {seed}"
                members.append(member)
                freeze(member.env, None if running is None else running[k], where.name)
        yield members
    finally:
        for member in members:
            member.env.close()


def freeze(env: gym.Env[Any, Any], statistics: Statistics | None, name: str) -> None:
    """Freeze the running statistics of training into an environment; warn if it needs some but they are not available."""
    running = Running(env)
    if running and statistics is None:
        warnings.warn(
            f"{name}: the running statistics of {', '.join(running.names)} from training cannot be read, so the evaluation starts"
            " with fresh statistics and may underestimate the policy.",
            RuntimeWarning,
            stacklevel=2,
        )
    elif running and statistics is not None:
        running.freeze(statistics)
