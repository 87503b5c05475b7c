"""Seed k of N is seed k alone, bit for bit; and nothing but training changes training."""

import numpy as np
import pytest
from helpers import NoisyWalk

import rl

ENVIRONMENTS = ["FrozenLake-v1", "Taxi-v4", "Blackjack-v1", NoisyWalk]


@pytest.mark.parametrize("env", ENVIRONMENTS)
@pytest.mark.parametrize("envs_per_seed", [1, 3])
def test_alone_is_stacked(env, envs_per_seed):
    def run(seeds):
        return rl.train(env, rl.QLearning(), steps=1500, seeds=seeds, envs_per_seed=envs_per_seed, progress=False)

    many = run([3, 0, 8])
    for k, seed in enumerate(many.seeds):
        alone = run([seed])
        assert many.agent.table[k].tobytes() == alone.agent.table[0].tobytes()
        assert many.agent.visits[k].tobytes() == alone.agent.visits[0].tobytes()
        for name, array in many.loop.actor._asdict().items():
            assert array[k].tobytes() == getattr(alone.loop.actor, name)[0].tobytes(), name


def test_the_number_of_workers_changes_no_bit():
    runs = [rl.train("Taxi-v4", rl.QLearning(), steps=20_000, seeds=7, workers=w, progress=False) for w in (1, 2, 5)]
    assert len({run.agent.table.tobytes() for run in runs}) == 1


def test_how_steps_are_cut_changes_no_bit():
    whole = rl.start("FrozenLake-v1", rl.QLearning(), 2, steps=1000)
    parts = rl.start("FrozenLake-v1", rl.QLearning(), 2, steps=1000)
    whole.advance(1000)
    for n in (1, 2, 3, 494, 500):
        parts.advance(n)
    assert whole.agent.table.tobytes() == parts.agent.table.tobytes()
    assert whole.step == parts.step == 1000


@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_evaluation_leaves_training_untouched(env, tmp_path):
    def run(logdir=None, **settings):
        return rl.train(env, rl.QLearning(), steps=2000, seeds=2, progress=False, logdir=logdir, **settings)

    bare, looked_at = run(), run(tmp_path, evaluate_every_steps=100, log_every_steps=70)
    looked_at.evaluate(5)
    assert bare.agent.table.tobytes() == looked_at.agent.table.tobytes()
    assert bare.loop.streams.state_dict() == looked_at.loop.streams.state_dict()
    bare.advance(500), looked_at.advance(500)
    assert bare.agent.table.tobytes() == looked_at.agent.table.tobytes()


def test_seeds_differ():
    run = rl.train("FrozenLake-v1", rl.QLearning(), steps=5000, seeds=5, progress=False)
    assert len({table.tobytes() for table in run.agent.table}) == 5


def test_an_environment_is_seeded_as_users_do():
    """Seed k's environment is the one that `env.reset(seed=k)` begins."""
    import gymnasium as gym

    run = rl.start("Taxi-v4", rl.QLearning(), [17], steps=10)
    run.advance(1)
    env = gym.make("Taxi-v4")
    obs, _ = env.reset(seed=17)
    following, *_ = env.step(int(run.loop.actor.action[0, 0]))
    assert run.agent.visits[0].sum(1).nonzero()[0].tolist() == [obs]
    assert run.loop.actor.state[0, 0] == following


def test_interval_of_one_seed():
    evaluation = rl.train("FrozenLake-v1", rl.QLearning(), steps=100, seeds=1, progress=False).evaluate(3)
    assert np.isnan(evaluation.interval()).all()
    assert "one seed: no interval" in str(evaluation)
