import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from envs import exact_q, tables
from envs.diagnostic import DIAGNOSTIC
from rl import planning


@pytest.mark.parametrize("name", DIAGNOSTIC)
@pytest.mark.parametrize("gamma", [0.5, 0.9, 0.99])
def test_the_hand_computed_q_is_the_planned_one(name, gamma):
    model = tables.read(gym.make(f"envs/{name}-v0"))
    np.testing.assert_allclose(exact_q(name, gamma), planning.value_iteration(model, gamma).q, atol=1e-9)


@pytest.mark.parametrize("name", DIAGNOSTIC)
def test_they_are_proper_environments(name):
    check_env(gym.make(f"envs:envs/{name}-v0").unwrapped, skip_render_check=True)
