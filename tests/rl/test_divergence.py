"""Values that exceed what rewards allow: told of once for each seed, also over a resume, and not without cause."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from daily import daily
from helpers import Paying, curves

import rl
from rl.core.episode_stats import EpisodeStats
from rl.run import divergence
from supervised import checkpoint

NO_TARGET = rl.DQN(network="mlp(32)", target_every_updates=None, learn_after_steps=200)  # its errors are clipped
ENVS = ("CartPole-v1", "Acrobot-v1", "MountainCar-v0", "FrozenLake-v1")


def said(record):
    return [str(one.message) for one in record if "exceed what rewards allow" in str(one.message)]


@pytest.mark.parametrize("scale", [1.0, 10.0])
def test_clipped_errors_without_a_target_network_are_told_of_once_for_each_seed(scale, tmp_path):
    agent = replace(NO_TARGET, reward_scale=scale, learning_rate=1e-3 * scale)
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always")
        run = rl.train("CartPole-v1", agent, steps=3000, seeds=[3, 8], progress=False, logdir=tmp_path / "run")
    told = said(record)
    assert 1 <= len(told) <= 2
    assert all(sum(f"seed {k} " in one or "seeds 3, 8 " in one for one in told) == 1 for k in (3, 8))
    assert 'loss="huber", which without a target network clips' in told[0]
    assert "max_grad_norm=10" in told[0]
    assert run.diverged.all()
    points = curves(tmp_path / "run")
    assert points[".", "train/q_bound"][-1][1] == pytest.approx(100 * scale)
    assert points[".", "train/q_max"][-1][1] > 200 * scale
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always")
        rl.train("CartPole-v1", agent, steps=3200, seeds=[3, 8], progress=False, logdir=tmp_path / "run", resume=True)
    assert not said(record)


def test_workers_tell_the_same(forked_workers):
    found = []
    for workers in (1, 2):
        with warnings.catch_warnings(record=True) as record:
            warnings.simplefilter("always")
            rl.train("CartPole-v1", NO_TARGET, steps=1500, seeds=2, progress=False, workers=workers)
        found.append(said(record))
    assert found[0] == found[1] != []


PRESETS = [
    (env, name)
    for env in ENVS
    for name, agent in rl.presets(env).items()
    # On Acrobot's unscaled observations SGD at .1 ends in NotFinite.
    if isinstance(agent, rl.DQN) and not (name == "q-network" and env == "Acrobot-v1")
]


@pytest.mark.parametrize(("env", "name"), daily(PRESETS, [("CartPole-v1", "dqn-2013"), ("FrozenLake-v1", "dqn")]))
def test_presets_are_not_told_of(env, name):
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always")
        rl.train(env, rl.presets(env)[name], steps=5000, seeds=2, progress=False)
    assert not said(record)


@pytest.mark.parametrize(("gamma", "expected"), [(0.75, 8.0), (1.0, 6.0), (0.0, 2.0)])
def test_the_bound_is_that_of_the_rewards_so_far(gamma, expected):
    agent = rl.DQN(network="linear", gamma=gamma, learn_after_steps=1, batch_size=1, reward_scale=0.5)
    run = rl.start(lambda: Paying(0, -2, 0.5), agent, 2, steps=100)
    run.advance(1)
    assert run.loop.actor.episodes.bound().tolist() == pytest.approx([np.nan, np.nan], nan_ok=True)  # all were 0
    metrics = run.advance(20)
    assert metrics["train/q_bound"].tolist() == [expected * 0.5] * 2


@pytest.mark.parametrize(
    ("q_max", "q_mean", "expected"),
    [(19.0, 0.0, False), (21.0, 0.0, True), (0.0, -21.0, True), (-1.0, -19.0, False), (np.nan, 0.0, False)],
)
def test_who_exceeds_the_bound(q_max, q_mean, expected):
    given = {"train/q_max": q_max, "train/q_mean": q_mean, "train/q_bound": 10.0}
    metrics = {name: torch.tensor([value]) for name, value in given.items()}
    assert divergence.exceeding(metrics).tolist() == [expected]
    assert not divergence.exceeding({"train/q_max": metrics["train/q_max"]})


def test_large_first_values_are_no_divergence():
    """Rewards of 0.001 allow less than what the first weights say."""

    agent = rl.DQN(network="mlp(32)", gamma=0.5, learn_after_steps=10, batch_size=8)
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always")
        run = rl.start(lambda: Paying(1e-3, 1e-3, 1e-3), agent, 3, steps=500)
        metrics = run.advance(15)
    assert (metrics["train/q_bound"] > 2e-3).all()
    assert not said(record)


def test_a_checkpoint_of_before_is_not_judged(tmp_path):
    run = rl.start("CartPole-v1", replace(NO_TARGET, capacity_steps=1000), 2, steps=3000)
    run.advance(250)
    run.save(tmp_path / "new")
    arrays, meta = checkpoint.load(tmp_path / "new")
    del arrays["diverged"], arrays["loop"]["first"]
    for name in ("largest", "longest"):
        del arrays["loop"]["episodes"][name]
    checkpoint.save(tmp_path / "old", arrays, meta)
    old = rl.load(tmp_path / "old")
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always")
        metrics = old.advance(1500)
    assert not said(record)
    assert metrics["train/q_max"].min() > 200
    assert metrics["train/q_bound"].isnan().all()


def test_counts_below_zero_are_refused():
    episodes = EpisodeStats(1, 1, 0.9)
    with pytest.raises(ValueError, match="negative"):
        episodes.load_state_dict({**episodes.state_dict(), "largest": np.array([-1.0])})
