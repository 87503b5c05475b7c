"""rl.settings: agents by name, with settings for the environment where they were tuned."""

import dataclasses

import gymnasium as gym

import rl
from rl.core import registry
from rl.settings import steps_for


def test_tuned_agents_of_other_names_differ_from_best_where_they_say_so_and_are_unknown_elsewhere():
    for env in ("CartPole-v1", "MountainCar-v0"):
        found = rl.presets(env)
        assert found["best-c51"] == dataclasses.replace(found["best"], distribution=rl.Atoms())
    assert "best-c51" not in rl.presets()
    assert "best-c51" not in rl.presets("FrozenLake-v1")


def test_an_agent_may_be_made_for_other_steps_than_the_others():
    assert steps_for("MountainCar-v0") == steps_for("MountainCar-v0", "best-c51") == 120_000
    assert steps_for("MountainCar-v0", "best-c51-long") == 500_000
    assert steps_for("FrozenLake-v1", "dqn") == 100_000


def test_agents_of_lunar_lander_know_their_range_of_returns():
    """Its rewards are unbounded, so nothing derives the atoms."""
    space = gym.spaces.Box(-10.0, 10.0, (8,))
    for name in registry.PRESETS["networks"]:
        agent = rl.presets("LunarLander-v3")[name].build(space, gym.spaces.Discrete(4), [0])
        assert agent.q(space.sample()[None, None]).shape == (1, 1, 4), name
