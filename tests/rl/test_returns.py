"""Between which bounds returns must lie, and intervals within them."""

import math

import gymnasium as gym
import numpy as np
import pytest

import rl
from envs.source import source
from rl.report.results import result
from rl.run.exact import Evaluation
from rl.run.returns import StepRewards, rewards_of


@pytest.mark.parametrize(
    ("env", "kwargs", "rewards", "returns"),
    [
        ("CartPole-v1", {}, (1, 1, 500), (1, 500)),
        ("CartPole-v0", {}, (1, 1, 200), (1, 200)),
        ("CartPole-v1", {"sutton_barto_reward": True}, (-1, 0, 500), (-500, 0)),
        ("Acrobot-v1", {}, (-1, 0, 500), (-500, 0)),
        ("MountainCar-v0", {}, (-1, -1, 200), (-200, -1)),
        ("Blackjack-v1", {}, (-1, 1, 1), (-1, 1)),
        ("Blackjack-v1", {"natural": True, "sab": False}, (-1, 1.5, 1), (-1, 1.5)),
        (lambda: gym.make("CartPole-v1"), {}, (1, 1, 500), (1, 500)),
        (lambda: gym.wrappers.TimeLimit(gym.make("CartPole-v1"), 70), {}, (1, 1, 70), (1, 70)),
        (lambda: gym.wrappers.FlattenObservation(gym.make("CartPole-v1")), {}, (1, 1, 500), (1, 500)),
        (lambda: gym.wrappers.TransformReward(gym.make("CartPole-v1"), lambda r: 5 * r), {}, (-math.inf, math.inf, None), None),
        (lambda: gym.wrappers.NormalizeReward(gym.make("CartPole-v1")), {}, (-math.inf, math.inf, None), None),
    ],
)  # fmt: skip
def test_what_is_known_of_rewards(env, kwargs, rewards, returns):
    run = rl.start(env, rl.DQN(network="auto"), 2, env_kwargs=kwargs or None)
    assert run.rewards == StepRewards(*rewards)
    assert run.rewards.returns() == (returns or (-math.inf, math.inf))


@pytest.mark.parametrize(
    ("env", "kwargs", "returns"),
    [
        ("FrozenLake-v1", {}, (0, 1)),
        (
            "FrozenLake-v1",
            {"reward_schedule": (5, -2, -1)},
            (-101, 5 - 5),
        ),  # 99 steps, then a hole; five, then the goal
        ("CliffWalking-v1", {}, (-math.inf, -13)),
        ("CliffWalkingSlippery-v1", {}, (-math.inf, -13)),
        ("Taxi-v4", {}, (-2000, 15)),  # the shortest ride has six steps
        ("envs/AccessControl-v0", {}, (0, math.inf)),
    ],
)
def test_returns_of_models_are_those_of_the_luckiest_and_unluckiest(env, kwargs, returns):
    run = rl.start(env, rl.QLearning(), env_kwargs=kwargs or None)
    assert run.rewards.returns() == returns
    first = run.model.reward[run.model.start > 0][run.model.probability[run.model.start > 0] > 0]
    assert run.rewards.returns(1) == (first.min(), first.max())


def test_a_vector_env_without_a_spec_says_nothing():
    class Opaque(gym.vector.VectorWrapper):
        pass

    env = Opaque(gym.make_vec("CartPole-v1", 2, vectorization_mode="sync"))
    assert rewards_of(source(env), None) == StepRewards()


def test_evaluations_keep_to_what_is_possible():
    returns = np.array([[20.0], [467.0]])
    cart = Evaluation(returns, returns.astype(int), 500, (0, 1), possible=StepRewards(1.0, 1.0, 500).returns(500))
    assert cart.interval() == (1.0, 500.0)
    assert str(cart).startswith("mean return 243.5000 [1.0000, 500.0000] over 2 seeds")
    unknown = Evaluation(returns, returns.astype(int), 500, (0, 1))
    assert unknown.interval()[0] < -2000  # Student's t, for nothing forbids it
    run = rl.train("CartPole-v1", rl.DQN(network="linear"), steps=60, seeds=3, progress=False)
    low, high = run.evaluate(3, step_limit=20).interval()
    assert 1 <= low <= high <= 20
    shared = result(run, 2)["return"]
    assert shared["possible"] == [1.0, 500.0]
    lake = rl.train("FrozenLake-v1", rl.QLearning(), steps=200, seeds=3, progress=False)
    figures = result(lake)
    assert figures["success"]["possible"] == [0.0, 1.0]
    assert figures["return"]["possible"] == [0.0, lake.exact.optimal_return]


def test_an_environment_that_exists_once_trains_on():
    class Only(gym.Wrapper):
        there = 0

        def __init__(self):
            Only.there += 1
            if Only.there > 2:
                raise OSError("the device is busy")
            super().__init__(gym.make("CartPole-v1"))

        def close(self):
            Only.there -= 1

    run = rl.start(Only, rl.DQN(network="linear"), 2)
    run.advance(3)
    assert run.rewards == StepRewards()
