import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import rl
from envs import exact_textbook_q, tables
from envs.textbook import TEXTBOOK
from rl import planning
from rl.explore import EpsilonGreedy


@pytest.mark.parametrize("name", TEXTBOOK)
@pytest.mark.parametrize("gamma", [0.9, 1.0])
def test_the_exact_q_is_the_planned_one(name, gamma):
    model = tables.read(gym.make(f"envs/{name}-v0"))
    np.testing.assert_allclose(exact_textbook_q(name, gamma), planning.value_iteration(model, gamma).q, atol=1e-9)


@pytest.mark.parametrize("name", TEXTBOOK)
def test_they_are_proper_environments(name):
    check_env(gym.make(f"envs:envs/{name}-v0").unwrapped, skip_render_check=True)


def test_the_maze_takes_14_steps():
    run = rl.train("envs/DynaMaze-v0", rl.DynaQ(gamma=0.95), steps=5_000, seeds=3, progress=False)
    assert (run.evaluate(1).lengths == 14).all()


def test_double_q_learning_goes_left_less_often():
    """Example 6.7: 1 000 seeds, epsilon .1, step size .1; a greedy agent that knows better goes left 5 % of the time."""
    left = {}
    for agent in (rl.QLearning, rl.DoubleQ):
        settings = {"gamma": 1.0, "step_size": 0.1, "explore": EpsilonGreedy(0.1)}
        run = rl.start("envs/MaximisationBias-v0", agent(**settings), 1000, steps=1000)
        run.advance(150)
        visits = run.agent.visits[:, 0]
        left[agent.__name__] = visits[:, ::2].sum() / visits.sum()
    assert left["QLearning"] > 1.5 * left["DoubleQ"], left
    assert left["QLearning"] > 0.3


def test_planning_steps_spare_real_ones():
    """Example 8.1, figure 8.2: episodes are over sooner the more steps are made up; 30 seeds, epsilon .1, step size .1."""
    steps = {}
    for planning_steps in (1, 5, 50):
        agent = rl.DynaQ(gamma=0.95, step_size=0.1, explore=EpsilonGreedy(0.1), planning_steps=planning_steps)
        run = rl.start("envs/DynaMaze-v0", agent, 30, steps=6000)
        while run.loop.actor.counters[:, 1].min() < 10:
            run.advance(200)
        steps[planning_steps] = run.loop.actor.lengths[:, 1:10].sum(1).mean()  # of the episodes after the first
    assert steps[50] < 0.9 * steps[5] < 0.75 * steps[1], steps
    assert 9 * 14 < steps[50] < 9 * 30
