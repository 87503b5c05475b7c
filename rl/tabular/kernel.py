"""The tabular loop: act, step, learn. Scalar Python that runs as it stands, or compiled (see `rl.core.jit`).

`world_step`, `world_reset`, `learn` and `ENVS` are names that `jit` replaces: by a Gymnasium environment's or a finite
model's, by the rule of an algorithm, and by a number. Everything that changes lies in the arrays of `ActorState` and `Table`,
so a loop can stop and go on at any step. All environments of a seed act, then each steps and learns, one after another.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from rl.core.timing import WINDOW, time_in
from rl.core.world import world_reset, world_step
from rl.explore import choose
from rl.tabular.agent import Transition
from supervised.schedules import VISITS, Curve, value_at

STEPS_DONE, ENDED = 0, 1  # places in ActorState.counters
# Constants of the loop, since the compiler makes much of them.
ENVS = 1  # environments a seed
NEXT_ACTION = 0  # 1: the rule asks for the next action, which is chosen before it learns
KNOWS_POLICY = 0  # 1: the rule asks how likely each action is


class LoopParams(NamedTuple):
    """An agent's settings as numbers."""

    gamma: Curve
    level: Curve  # epsilon, temperature or noise scale
    rate: Curve  # the step size
    rates: Any  # float64 [V]: the step size at the first V visits, looked up instead of computed
    settled: bool  # after V visits the step size stays at rate.end
    explore: int  # EPSILON_GREEDY, BOLTZMANN, NOISE or UPPER_BOUND
    random_ties: bool
    bonus: float  # what a reward is raised by at a pair's first visit
    mask: Any = (
        None  # float64 [S, A], -infinity for the actions that the environment forbids, else 0; None: all are allowed
    )


class ActorState(NamedTuple):
    """Where one seed is."""

    state: Any  # int64 [E]
    action: Any  # int64 [E]
    chosen: Any  # int64 [E], 1: the action to take next has been chosen already
    total: Any  # float64 [E], return of the episode so far
    length: Any  # int64 [E]
    episodes: Any  # int64 [E], finished ones
    returns: Any  # float64 [WINDOW], a ring of the last finished episodes
    lengths: Any  # int64 [WINDOW]
    counters: Any  # int64 [2]: environment steps, finished episodes
    error: Any  # float64 [1]: sum of |TD error| since it was last read


def learn(table: Any, t: Transition, rng: Any) -> float:
    """The rule of an algorithm stands here -> the TD error."""
    raise TypeError("This loop was not given a rule.")


def select_action(table: Any, params: Any, actor: Any, e: int, s: int, steps: int, rng: Any) -> Any:
    """Choose an action in state s of environment e."""
    level = value_at(params.level, time_in(params.level, steps, actor.episodes[e], 0))
    return choose(table.q, table.visits, s, params.explore, level, params.random_ties, rng, params.mask)


def act(table: Any, params: Any, actor: Any, e: int, rng: Any) -> Any:
    """Choose an action in environment e, unless one has been."""
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
    """Learn from the step that environment e took -> whether its episode is over. scale: what multiplies gamma for this step."""
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
    next_a = -1
    if NEXT_ACTION == 1:
        if not terminated:
            next_a = select_action(table, params, actor, e, next_s, steps + ENVS, rng)
            actor.action[e] = next_a
        actor.chosen[e] = 0 if over else 1
    level = 0.0
    if KNOWS_POLICY == 1:
        level = value_at(params.level, time_in(params.level, steps, actor.episodes[e], 0))
    bonus_reward = reward
    if params.bonus > 0.0:
        bonus_reward += params.bonus / math.sqrt(visits + 1)
    transition = Transition(
        e, s, a, bonus_reward, discount, gamma, next_s, next_a, step_size, over, params.explore, level, scale
    )
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
