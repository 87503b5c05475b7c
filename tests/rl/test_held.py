"""Temporally extended epsilon-greedy: exploring actions are held for several steps."""

from __future__ import annotations

import dataclasses
import itertools
from typing import ClassVar

import gymnasium as gym
import numpy as np
import pytest
import torch

import rl
from rl.explore.held import Held, durations, ranked

HOLD = rl.explore.EpsilonGreedy(1.0, hold=2.0, hold_steps=5)


def test_durations_follow_the_power_law():
    weight = np.array([1, 1 / 4, 1 / 9, 1 / 16, 1 / 25])
    np.testing.assert_allclose(durations(2.0, 5), (weight.cumsum() / weight.sum())[:-1])
    u = np.random.default_rng(0).random(200_000)
    steps = 1 + np.searchsorted(durations(2.0, 5), u, side="right")
    np.testing.assert_allclose(np.bincount(steps)[1:] / len(u), weight / weight.sum(), atol=5e-3)


def test_any_candidate_is_as_likely_as_any_other():
    candidates = np.tile([True, False, True, True], (30_000, 1, 1))
    chosen = ranked(candidates, np.random.default_rng(0).random((30_000, 1)))
    np.testing.assert_allclose(
        np.bincount(chosen.reshape(-1), minlength=4) / 30_000, [1 / 3, 0, 1 / 3, 1 / 3], atol=0.01
    )
    assert ranked(candidates[:1], np.array([[np.nextafter(1.0, 0)]])) == 3


def u(start, action, steps):
    return np.array([[[start, action, steps]]])


def test_an_action_is_held_until_its_steps_or_its_episode_are_over():
    held, q, epsilon = Held(1, 1, 2.0, 5), np.array([[[0.0, 1.0, 0.0]]]), np.full((1, 1), 0.5)
    two = durations(2.0, 5)[0] + 1e-9  # a number for which the duration is two steps
    assert held.select(q, epsilon, u(0.9, 0.0, two), None, False) == 1  # greedy
    assert held.select(q, epsilon, u(0.1, 0.99, two), None, False) == 2  # exploring
    assert held.select(q, epsilon, u(0.9, 0.0, two), None, False) == 2  # held, whatever is drawn
    assert held.select(q, epsilon, u(0.9, 0.0, two), None, False) == 1
    held.select(q, epsilon, u(0.1, 0.99, 0.999), None, False)
    held.let_go(np.ones((1, 1), np.bool_))
    assert held.select(q, epsilon, u(0.9, 0.0, two), None, False) == 1


def test_an_action_that_is_forbidden_is_let_go():
    held, q, epsilon = Held(1, 1, 2.0, 5), np.array([[[5.0, 1.0, 0.0]]]), np.full((1, 1), 0.5)
    assert held.select(q, epsilon, u(0.1, 0.99, 0.999), None, False) == 2
    allowed = np.array([[[False, True, False]]])
    assert held.select(q, epsilon, u(0.9, 0.0, 0.0), allowed, False) == 1
    assert held.select(q, epsilon, u(0.9, 0.0, 0.0), None, False) == 0  # not taken up again


def test_a_saved_state_is_a_copy_and_goes_on():
    held, q, epsilon = Held(2, 3, 1.5, 9), np.zeros((2, 3, 4)), np.full((2, 3), 0.7)
    rng = np.random.default_rng(0)
    for _ in range(5):
        held.select(q, epsilon, rng.random((2, 3, 3)), None, True)
    saved, other = held.state_dict(), Held(2, 3, 1.5, 9)
    before = {name: part.copy() for name, part in saved.items()}
    other.load_state_dict(saved)
    for _ in range(20):
        drawn = rng.random((2, 3, 3))
        assert np.array_equal(*(one.select(q, epsilon, drawn, None, True) for one in (held, other)))
        held.let_go(np.eye(2, 3, dtype=bool))
        other.let_go(np.eye(2, 3, dtype=bool))
    assert all(np.array_equal(saved[name], part) for name, part in before.items())
    with pytest.raises(ValueError, match="do not match"):
        Held(2, 2, 1.5, 9).load_state_dict(saved)


class Recorded(gym.Wrapper):
    """Notes the actions of each episode."""

    episodes: ClassVar[list] = []

    def reset(self, **settings):
        self.episodes.append([])
        return super().reset(**settings)

    def step(self, action):
        self.episodes[-1].append(int(action))
        return super().step(action)


def test_a_run_repeats_its_exploring_actions():
    """With epsilon 1, an action equals its predecessor more often than one in three times."""
    shares = {}
    for hold in (None, 1.5):
        Recorded.episodes = []
        agent = rl.DQN(network="mlp(4)", explore=rl.explore.EpsilonGreedy(1.0, hold=hold), learn_after_steps=10_000)
        rl.start(lambda: Recorded(gym.make("MountainCar-v0")), agent, 1).advance(3_000)
        pairs = [a == b for episode in Recorded.episodes for a, b in itertools.pairwise(episode)]
        shares[hold] = np.mean(pairs)
    assert shares[None] == pytest.approx(1 / 3, abs=0.03)
    assert shares[1.5] > 0.8


def test_seeds_alone_and_stacked_hold_the_same_actions():
    agent = rl.DQN(network="mlp(8)", batch_size=8, learn_after_steps=50, explore=dataclasses.replace(HOLD, epsilon=0.5))
    whole, alone = (
        rl.start("MountainCar-v0", agent, [3, 5], envs_per_seed=2),
        rl.start("MountainCar-v0", agent, [5], envs_per_seed=2),
    )
    for run in (whole, alone):
        run.advance(300)
    for name, weight in whole.agent.online.weights.items():
        assert torch.equal(weight[1], alone.agent.online.weights[name][0])


@pytest.mark.parametrize("agent", [rl.QLearning, rl.LinearSARSA])
def test_agents_without_networks_refuse_it(agent):
    with pytest.raises(ValueError, match="hold"):
        agent(explore=HOLD)


@pytest.mark.parametrize(
    "settings", [{"hold": 1.0}, {"hold": "long"}, {"hold": 2.0, "hold_steps": 1}, {"hold": float("nan")}]
)
def test_settings_are_checked(settings):
    with pytest.raises((ValueError, TypeError), match="hold"):
        rl.explore.EpsilonGreedy(**settings)
