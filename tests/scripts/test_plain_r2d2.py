"""The R2D2 that ours is timed against is R2D2: its windows, targets, burn-in and priorities."""

import importlib.util
import sys

import numpy as np
import pytest
import torch
from helpers import ROOT

from supervised import determinism

spec = importlib.util.spec_from_file_location("plain_r2d2", ROOT / "scripts" / "benchmarks" / "plain_r2d2.py")
plain = importlib.util.module_from_spec(spec)
sys.modules["plain_r2d2"] = plain  # where dataclasses look
spec.loader.exec_module(plain)

SMALL = plain.Settings(
    units=4, window_steps=8, burn_in=4, n=3, gamma=0.5, capacity_windows=6, batch_size=5, learn_after_steps=20
)


def episode_of(length, terminated, s=SMALL):
    """Step t has the observation t, the state 10 t, the action t % 2 and the reward t + 1."""
    replay, episode = plain.Replay(s, 1), plain.Episode(s, np.zeros(1, np.float32))
    for t in range(length):
        over = t == length - 1
        episode.record(torch.full((1, s.units), 10.0 * t), t % 2, t + 1.0, np.full(1, t + 1, np.float32))
        episode.store(replay, terminated and over, over)
    return replay


@pytest.mark.parametrize("length", [1, 3, 4, 5, 8, 9, 12, 13, 16, 20, 23])
def test_windows_overlap_by_the_burn_in_and_each_step_is_learned_once(length):
    replay = episode_of(length, True)
    found = []
    for i in range(replay.size):
        learned = np.flatnonzero(replay.mask[i])
        found += replay.obs[i, learned, 0].tolist()
        assert replay.obs[i, 0, 0] == 4 * i
        assert replay.state[i].tolist() == [40.0 * i] * 4
        assert replay.fresh[i] == (i == 0)
        assert learned[0] == (0 if i == 0 else 4)
        assert np.array_equal(replay.action[i, learned], replay.obs[i, learned, 0] % 2)
    assert found == list(range(length))


@pytest.mark.parametrize("terminated", [True, False])
def test_targets_look_n_steps_ahead_within_the_window(terminated):
    replay = episode_of(10, terminated)
    assert replay.reward[0].tolist() == [2.75, 4.5, 6.25, 8, 9.75, 11.5, 7 + 4, 8]
    assert replay.boot[0].tolist() == [3, 4, 5, 6, 7, 8, 8, 8]
    assert replay.discount[0].tolist() == [0.125] * 6 + [0.25, 0.5]  # the window ends, the episode goes on
    assert replay.reward[1, :6].tolist() == [9.75, 11.5, 13.25, 15, 9 + 5, 10]
    assert replay.boot[1, :6].tolist() == [3, 4, 5, 6, 6, 6]
    assert replay.discount[1, :6].tolist() == [0.125] * 3 + ([0, 0, 0] if terminated else [0.125, 0.25, 0.5])
    assert replay.obs[1, 6, 0] == 10  # the last observation, which a truncated episode bootstraps from
    assert replay.mask[1].tolist() == [0, 0, 0, 0, 1, 1, 0, 0]


def test_a_window_in_the_place_of_an_older_one_keeps_nothing_of_it():
    replay = episode_of(8, False)
    for _ in range(6):
        replay.add(np.ones((2, 1)), np.array([1]), np.ones(1), True, np.ones(4), True)
    assert (replay.size, replay.cursor) == (6, 1)
    assert replay.obs[0, 2:].sum() == replay.action[0, 1:].sum() == replay.boot[0, 1:].sum() == 0
    assert replay.mask[0].tolist() == [1] + [0] * 7


def test_the_rescaling_and_its_inverse():
    x = torch.tensor([-300.0, -1.0, 0.0, 0.5, 99.0], dtype=torch.float64)
    assert plain.rescale(x)[4] == pytest.approx(9 + 0.099)
    torch.testing.assert_close(plain.unscale(plain.rescale(x)), x)


def test_the_td_error_by_hand():
    torch.manual_seed(0)
    net, target = plain.Network(1, 4, 2), plain.Network(1, 4, 2)
    replay = episode_of(10, False)
    error = plain.td_error(net, target, replay, np.array([1, 0]))
    values = []
    with torch.no_grad():
        for network in (net, target):
            obs = torch.from_numpy(replay.obs[[1, 0]]).transpose(0, 1)
            y, _ = network.gru(obs, torch.from_numpy(replay.state[[1, 0]])[None])
            values.append(network.value(y) + network.advantage(y) - network.advantage(y).mean(-1, keepdim=True))
    expected = torch.zeros(8, 2)
    for b, i in enumerate((1, 0)):
        for t in np.flatnonzero(replay.mask[i]):
            boot, action = replay.boot[i, t], replay.action[i, t]
            ahead = plain.unscale(values[1][boot, b, values[0][boot, b].argmax()])
            goal = plain.rescale(replay.reward[i, t] + replay.discount[i, t] * ahead)
            expected[t, b] = goal - values[0][t, b, action]
    torch.testing.assert_close(error.detach(), expected)


def test_no_gradient_goes_through_the_burn_in():
    torch.manual_seed(0)
    net, obs, state = plain.Network(1, 4, 2), torch.randn(9, 2, 1, requires_grad=True), torch.zeros(2, 4)
    for fresh in ([True, False], [False, False]):
        (gradient,) = torch.autograd.grad(net.unroll(obs, state, torch.tensor(fresh), 4)[4:].square().sum(), obs)
        assert (gradient[:4, 1] == 0).all()
        assert (gradient[4:] != 0).all()
        assert (gradient[:4, 0] != 0).all() == fresh[0]


def test_acting_reads_on_as_the_sequence_does():
    torch.manual_seed(0)
    net, obs, state = plain.Network(2, 4, 2), torch.randn(5, 1, 2), torch.zeros(1, 4)
    for row in obs.numpy()[:, 0]:
        state = net.step(row, state)
    torch.testing.assert_close(state, net.gru(obs)[1][0])


def test_windows_are_drawn_by_priority():
    replay = episode_of(20, False, plain.Settings(**{**vars(SMALL), "batch_size": 20_000}))
    replay.judge(np.arange(4), np.array([[0.0, 0, 0, 0], [4, 0, 0, 0]] + [[0.0, 1, 2, 4]] * 6))
    means = [4 / 8, 6 / 4, 12 / 4, 24 / 4]
    wanted = 0.9 * np.array([4, 1, 2, 4]) + 0.1 * np.array(means)
    assert replay.priority[:4] == pytest.approx(wanted, rel=1e-5)
    assert replay.highest == pytest.approx(wanted.max(), rel=1e-5)
    shares = np.bincount(replay.draw(np.random.default_rng(0)), minlength=4) / 20_000
    assert shares == pytest.approx(wanted**0.9 / (wanted**0.9).sum(), abs=0.015)


def test_a_short_run_is_repeatable():
    with determinism.threads(1):
        first, again, other = (plain.run(seed, 120, SMALL) for seed in (0, 0, 1))
    assert first == again != other
    assert 60 < sum(first) <= 120


@pytest.mark.full  # takes minutes
def test_it_learns():
    with determinism.threads(1):
        returns = plain.run(0, 20_000)
    assert np.mean(returns[-20:]) > 150
