"""Time limits are found wherever they stand."""

import gymnasium as gym
import pytest
from gymnasium.wrappers import OrderEnforcing, TimeLimit, TransformReward

from envs.backends.limits import own_limit, time_limit


class Endless(gym.Env):
    observation_space = gym.spaces.Discrete(1)
    action_space = gym.spaces.Discrete(2)


def same(reward):
    return reward


@pytest.mark.parametrize(
    ("make", "limit"),
    [
        (Endless, None),
        (lambda: TimeLimit(Endless(), 3000), 3000),
        (lambda: OrderEnforcing(TransformReward(TimeLimit(Endless(), 70), same)), 70),
        (lambda: TimeLimit(OrderEnforcing(TimeLimit(Endless(), 70)), 90), 70),
        (lambda: gym.make("CartPole-v1"), 500),
        (lambda: TransformReward(gym.make("CartPole-v1"), same), 500),
        (lambda: gym.make("CartPole-v1", max_episode_steps=7), 7),
        (lambda: gym.make("CartPole-v1", max_episode_steps=-1), None),
        (lambda: gym.make("CliffWalking-v1"), None),
        (lambda: gym.make("CartPole-v1").unwrapped, None),  # its spec says 500, which nobody keeps
    ],
)
def test_the_time_limit(make, limit):
    assert time_limit(make()) == limit


def test_a_limit_that_an_environment_keeps_by_itself():
    env = Endless()
    assert own_limit(env) is None
    assert own_limit(gym.make("CartPole-v1")) == 500
    env.max_steps = 10**9
    assert own_limit(env) == 200_000
    env.max_steps = 12_000
    assert own_limit(OrderEnforcing(env)) == 12_000
    ale_py = pytest.importorskip("ale_py")
    gym.register_envs(ale_py)
    assert own_limit(gym.make("ALE/Pong-v5")) == 108_000
