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
from rl.tabular.agent import Moment
from supervised.schedules import VISITS, Curve, value_at

STEPS_DONE, ENDED = 0, 1  # places in ActorState.counters
# Constants of the loop, since the compiler makes much of them.
ENVS = 1  # environments a seed
NEXT_ACTION = 0  # 1: the rule asks for the next action, which is chosen before it learns
KNOWS_POLICY = 0  # 1: the rule asks how likely each action is


class Rules(NamedTuple):
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


def learn(table: Any, t: Moment, rng: Any) -> float:
    """The rule of an algorithm stands here -> the TD error."""
    raise TypeError("This loop was not given a rule.")


def pick(table: Any, rules: Any, actor: Any, e: int, s: int, steps: int, rng: Any) -> Any:
    """Choose an action in state s of environment e."""
    level = value_at(rules.level, time_in(rules.level, steps, actor.episodes[e], 0))
    return choose(table.q, table.visits, s, rules.explore, level, rules.random_ties, rng, rules.mask)


def act(table: Any, rules: Any, actor: Any, e: int, rng: Any) -> Any:
    """Choose an action in environment e, unless one has been."""
    if NEXT_ACTION == 0 or actor.chosen[e] == 0:
        actor.action[e] = pick(table, rules, actor, e, actor.state[e], actor.counters[STEPS_DONE], rng)
    return actor.action[e]


def absorb(
    table: Any,
    rules: Any,
    actor: Any,
    e: int,
    steps: int,
    s2: int,
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
    if rules.rate.unit == VISITS and visits < rules.rates.shape[0]:
        step_size = rules.rates[visits]
    elif rules.settled:
        step_size = rules.rate.end
    else:
        step_size = value_at(rules.rate, time_in(rules.rate, steps, actor.episodes[e], visits))
    gamma = value_at(rules.gamma, steps)
    discount = 0.0
    if not terminated:
        discount = gamma * scale
    over = terminated or truncated
    a2 = -1
    if NEXT_ACTION == 1:
        if not terminated:
            a2 = pick(table, rules, actor, e, s2, steps + ENVS, rng)
            actor.action[e] = a2
        actor.chosen[e] = 0 if over else 1
    level = 0.0
    if KNOWS_POLICY == 1:
        level = value_at(rules.level, time_in(rules.level, steps, actor.episodes[e], 0))
    gain = reward
    if rules.bonus > 0.0:
        gain += rules.bonus / math.sqrt(visits + 1)
    moment = Moment(e, s, a, gain, discount, gamma, s2, a2, step_size, over, rules.explore, level, scale)
    actor.error[0] += abs(learn(table, moment, rng))
    actor.state[e] = s2
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


def loop(rounds: int, table: Any, rules: Any, actor: Any, world: Any, rng: Any) -> None:
    """Take `rounds` steps in each of a seed's ENVS environments."""
    for _ in range(rounds):
        for e in range(ENVS):
            act(table, rules, actor, e, rng)
        steps = actor.counters[STEPS_DONE]
        for e in range(ENVS):
            s2, reward, terminated, truncated = world_step(world, e, actor.action[e])
            if absorb(table, rules, actor, e, steps, s2, reward, terminated, truncated, rng):
                actor.state[e] = world_reset(world, e)
        actor.counters[STEPS_DONE] = steps + ENVS
