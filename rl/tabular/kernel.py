"""The tabular loop: act, step, learn. Scalar code that runs as plain Python or compiled (see `rl.core.jit`).

`jit` replaces `world_step` and `world_reset` by the functions of a Gymnasium environment or a finite model, `learn` by the rule
of an algorithm, and `ENVS` by a number. All mutable state is in the arrays of `ActorState` and `QTable`, so the loop can stop and
continue at any step. In each round all environments of a seed act; then each of them steps and learns, one after another.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from rl.core.timing import WINDOW, time_in
from rl.core.world import world_reset, world_step
from rl.explore import HELD, choose, forbidden, held_action
from rl.tabular.agent import Transition
from supervised.schedules import VISITS, Curve, value_at

STEPS_DONE, ENDED = 0, 1  # indices into ActorState.counters
# Compile-time constants of the loop, which let the compiler remove branches and unroll loops.
ENVS = 1  # environments per seed
NEXT_ACTION = 0  # 1: the rule needs the next action, which is then selected before the update
KNOWS_POLICY = 0  # 1: the rule needs the behavior policy
HOLD = 0  # 1: exploring actions are held for several steps


class LoopParams(NamedTuple):
    """The settings of an agent as scalars and arrays."""

    gamma: Curve
    level: Curve  # epsilon, temperature or noise scale
    rate: Curve  # the step size
    rates: Any  # float64 [V], precomputed step sizes of the first V visits
    settled: bool  # whether the step size stays at rate.end after V visits
    explore: int  # EPSILON_GREEDY, BOLTZMANN, GAUSSIAN_NOISE or UPPER_BOUND
    random_ties: bool
    bonus: float  # exploration bonus added to the reward at a pair's first visit
    durations: Any  # float64 [hold_steps - 1], see `rl.explore.held.durations`; empty if exploring actions are not held
    mask: Any = None  # float64 [S, A], -infinity for forbidden actions, else 0; None: all actions are allowed


class ActorState(NamedTuple):
    """The acting state of one seed."""

    state: Any  # int64 [E]
    action: Any  # int64 [E]
    chosen: Any  # int64 [E], 1: the next action has already been selected
    held: Any  # int64 [E], the number of further steps for which `action` is held
    total: Any  # float64 [E], return of the current episode so far
    length: Any  # int64 [E], steps of the current episode so far
    episodes: Any  # int64 [E], number of finished episodes
    returns: Any  # float64 [WINDOW], ring buffer of the last finished episodes
    lengths: Any  # int64 [WINDOW]
    counters: Any  # int64 [2], environment steps and finished episodes
    error: Any  # float64 [1], sum of |TD error| since the last reset of the metrics


def learn(table: Any, t: Transition, rng: Any) -> float:
    """Placeholder that `jit` replaces by the update rule of an algorithm, which returns the TD error."""
    raise TypeError("The loop was not specialized with an update rule.")


def select_action(table: Any, params: Any, actor: Any, e: int, s: int, steps: int, rng: Any) -> Any:
    """Select an action in state s of environment e."""
    level = value_at(params.level, time_in(params.level, steps, actor.episodes[e], 0))
    if HOLD == 1:
        last, held = actor.action[e], actor.held[e]
        a, actor.held[e] = held_action(
            table.q, s, level, params.random_ties, last, held, params.durations, rng, params.mask
        )
    else:
        a = choose(table.q, table.visits, s, params.explore, level, params.random_ties, rng, params.mask)
    return a


def act(table: Any, params: Any, actor: Any, e: int, rng: Any) -> Any:
    """Select an action in environment e, unless the rule has already selected it."""
    if NEXT_ACTION == 0 or actor.chosen[e] == 0:
        actor.action[e] = select_action(table, params, actor, e, actor.state[e], actor.counters[STEPS_DONE], rng)
    return actor.action[e]


def learn_from_step(
    table: Any,
    params: Any,
    actor: Any,
    e: int,
    steps: int,
    next_s: int,
    reward: float,
    terminated: bool,
    truncated: bool,
    rng: Any,
    scale: float = 1.0,
) -> bool:
    """Learn from a step of environment e and return whether its episode is over. scale: the step's own discount."""
    s = actor.state[e]
    a = actor.action[e]
    visits = table.visits[s, a]
    table.visits[s, a] = visits + 1
    if params.rate.unit == VISITS and visits < params.rates.shape[0]:
        step_size = params.rates[visits]
    elif params.settled:
        step_size = params.rate.end
    else:
        step_size = value_at(params.rate, time_in(params.rate, steps, actor.episodes[e], visits))
    gamma = value_at(params.gamma, steps)
    discount = 0.0
    if not terminated:
        discount = gamma * scale
    over = terminated or truncated
    kind, level = params.explore, 0.0
    if KNOWS_POLICY == 1:
        level = value_at(params.level, time_in(params.level, steps, actor.episodes[e], 0))
        if HOLD == 1 and actor.held[e] > 0 and not forbidden(params.mask, next_s, a):
            kind, level = HELD, float(a)
    next_a = -1
    if NEXT_ACTION == 1:
        if not terminated:
            next_a = select_action(table, params, actor, e, next_s, steps + ENVS, rng)
            actor.action[e] = next_a
        actor.chosen[e] = 0 if over else 1
    bonus_reward = reward
    if params.bonus > 0.0:
        bonus_reward += params.bonus / math.sqrt(visits + 1)
    transition = Transition(e, s, a, bonus_reward, discount, gamma, next_s, next_a, step_size, over, kind, level, scale)
    actor.error[0] += abs(learn(table, transition, rng))
    actor.state[e] = next_s
    actor.total[e] += reward
    actor.length[e] += 1
    if over:
        place = actor.counters[ENDED] % WINDOW
        actor.returns[place] = actor.total[e]
        actor.lengths[place] = actor.length[e]
        actor.counters[ENDED] += 1
        actor.episodes[e] += 1
        actor.total[e] = 0.0
        actor.length[e] = 0
        actor.held[e] = 0
    return over


def loop(rounds: int, table: Any, params: Any, actor: Any, world: Any, rng: Any) -> None:
    """Take `rounds` steps in each of a seed's ENVS environments."""
    for _ in range(rounds):
        for e in range(ENVS):
            act(table, params, actor, e, rng)
        steps = actor.counters[STEPS_DONE]
        for e in range(ENVS):
            next_s, reward, terminated, truncated = world_step(world, e, actor.action[e])
            if learn_from_step(table, params, actor, e, steps, next_s, reward, terminated, truncated, rng):
                actor.state[e] = world_reset(world, e)
        actor.counters[STEPS_DONE] = steps + ENVS
