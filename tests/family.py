"""The tabular agents, for tests of all rules, and a bitwise comparison of two runs."""

from typing import Any

import rl
from rl.explore import UCB, Boltzmann, DecayingNoise
from supervised.schedules import Inverse, Linear

FAMILY = [
    rl.SARSA(),
    rl.SARSA(explore=DecayingNoise(Inverse(1.0, unit="episodes"))),
    rl.ExpectedSARSA(),
    rl.ExpectedSARSA(explore=Boltzmann(0.1)),
    rl.DoubleQ(initial_q=(0.0, 1.0)),
    rl.NStepSARSA(n=4),
    rl.TreeBackup(n=3),
    *(rl.SARSALambda(traces=kind) for kind in ("accumulating", "replacing", "dutch")),
    rl.QLambda(lambda_=0.9),
    rl.MonteCarlo(memory_steps=70),
    rl.MonteCarlo(every_visit=True),
    rl.DynaQ(planning_steps=3),
    rl.DynaQ(planning_steps=2, bonus=0.01),
    rl.DynaQ(planning_steps=3, outcomes=1),
    rl.PrioritizedSweeping(planning_steps=3),
    rl.PrioritizedSweeping(planning_steps=3, outcomes=1),
    rl.RMax(known_after=3, planning_steps=20),
    rl.SpeedyQ(),
    rl.WeightedQ(initial_q=(0.0, 1.0)),
    rl.QLearning(explore=UCB(Linear(2.0, 0.1)), count_bonus=0.5),
    rl.SARSA(explore=UCB(1.0)),
]


def everything(run: Any) -> dict[str, Any]:
    actor = run.loop.actor._asdict()
    return {**run.agent.tables, **run.loop.episode_arrays, **actor, "streams": run.loop.streams.state_dict()}


def assert_same(one: Any, two: Any) -> None:
    for name, value in everything(one).items():
        other = everything(two)[name]
        same = value == other if isinstance(value, list) else value.tobytes() == other.tobytes()
        assert same, name


def advance(run: Any, steps: int) -> list[Any]:
    """Advance in many short calls, to compare the returns of more than the last 100 episodes."""
    rings = []
    while run.step < steps:
        run.advance(min(400, steps - run.step))
        rings.append((run.loop.actor.returns.copy(), run.loop.actor.lengths.copy()))
    return rings
