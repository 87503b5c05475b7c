"""info["discount"] of a step: read once, checked, and of the right step in every autoreset mode."""

import time

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import envs
from envs.backends import discounts
from envs.backends.contract import Breach
from envs.backends.repeatable import why_not_repeatable

LENGTHS = 3


class Opaque(gym.vector.VectorWrapper):
    """Keeps a SyncVectorEnv from being taken apart."""


class Slowing(gym.Env):
    """Step i of an episode has the discount 1 / 2**i; what every reset gives counts for nothing."""

    observation_space, action_space = gym.spaces.Discrete(10), gym.spaces.Discrete(2)

    def __init__(self, length=LENGTHS, truncates=False, given=None, silent=()):
        self.length, self.truncates, self.given, self.silent = length, truncates, given, silent

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.taken = 0
        return 0, {"discount": 0.125}

    def step(self, action):
        self.taken += 1
        over = self.taken == self.length
        info = {} if self.taken in self.silent else {"discount": 0.5**self.taken if self.given is None else self.given}
        return self.taken, 1.0, over and not self.truncates, over and self.truncates, info


def worlds(**settings):
    yield "single", envs.make(lambda: Slowing(**settings), seeds=2, envs_per_seed=2)
    for mode in AutoresetMode:
        rows = SyncVectorEnv([lambda: Slowing(**settings)] * 4, autoreset_mode=mode)
        yield mode.name, envs.make(Opaque(rows), seeds=2, envs_per_seed=2)


@pytest.mark.parametrize("truncates", [False, True])
@pytest.mark.parametrize("silent", [(), (2,), (1, 2, 3)])
def test_each_step_has_its_own_discount_in_every_autoreset_mode(truncates, silent):
    for name, world in worlds(truncates=truncates, silent=silent):
        world.reset()
        wanted = [1.0 if i in silent else 0.5**i for i in range(1, LENGTHS + 1)] * 3
        found = []
        while len(found) < len(wanted):
            step = world.step(np.zeros((2, 2), np.int64))
            discount = torch.ones(2, 2, dtype=torch.float64) if step.discount is None else step.discount
            if step.valid is not None:
                assert (discount == 1).all()  # what a reset gives counts for nothing
                continue
            assert discount.shape == (2, 2)
            assert discount.dtype == torch.float64
            assert (step.discount is None) == (wanted[len(found)] == 1.0)
            found.append(discount[1, 0].item())
        assert found == wanted, name


def test_rows_may_differ_and_some_give_none():
    kinds = [lambda: Slowing(silent=(1, 2, 3)), lambda: Slowing()] * 2
    world = envs.make(Opaque(SyncVectorEnv(kinds)), seeds=2, envs_per_seed=2)
    world.reset()
    assert world.step(np.zeros((2, 2), np.int64)).discount.tolist() == [[1.0, 0.5]] * 2


@pytest.mark.parametrize("given", [1, 0, 0.5, np.float32(0.5), np.array(0.5), torch.tensor(0.5)])
def test_single_numbers_of_any_kind_are_read(given):
    assert discounts.read(given) == float(given)


@pytest.mark.parametrize("given", [np.nan, -0.1, 1.5, np.inf, "0.5", None, True, np.True_, np.array([0.5]), [0.5]])
def test_anything_else_is_refused_in_a_sentence(given):
    with pytest.raises(
        Breach, match=r"it returned the discount .*multiplies gamma for the step and must be a number in"
    ):
        discounts.read(given)


@pytest.mark.parametrize("given", [np.nan, -0.1, 1.5, "0.5", True])
@pytest.mark.parametrize("vector", [False, True])
def test_the_error_names_seed_episode_and_step(given, vector):
    make = lambda: Slowing(given=given)
    world = envs.make(Opaque(SyncVectorEnv([make] * 2)) if vector else make, seeds=[4, 7])
    world.reset()
    with pytest.raises(envs.EnvError, match=r"seed 4, (row 0, )?episode 0, step 1\): it returned the discount"):
        world.step(np.zeros((2, 1), np.int64))


def test_infos_of_another_length_are_refused():
    with pytest.raises(Breach, match="must have a number for each of its 2 environments"):
        discounts.of_rows({"discount": 0.5}, np.zeros(2, bool), np.zeros(2, bool))


class Modelled(envs.TableEnv):
    """Two states, whose model says nothing of the discount that its steps give."""

    def __init__(self, discount):
        super().__init__({0: {0: [(1.0, 1, 0.0, False)]}, 1: {0: [(1.0, 0, 1.0, False)]}}, [1.0, 0.0])
        self.discount = discount

    def step(self, action):
        return *super().step(action)[:4], {"discount": self.discount if self.s == 0 else 1.0}


def test_a_model_does_not_stand_in_for_steps_with_discounts_of_their_own():
    assert envs.read(Modelled(1.0)).states == 2
    with pytest.raises(envs.NoModelError, match="returns a discount in info"):
        envs.read(Modelled(0.5))


def test_random_discounts_are_told_of():
    """Two environments with one seed that differ in their discounts alone."""
    given = iter(np.linspace(0.1, 0.9, 100))

    class Shared(Slowing):
        def step(self, action):
            return *super().step(action)[:4], {"discount": next(given)}

    assert "returns different results" in why_not_repeatable(Shared(), Shared, time.perf_counter())
