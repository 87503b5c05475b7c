"""Atari games, as DQN sees them."""

import gymnasium as gym
import numpy as np
import pytest

import envs
import rl

pytest.importorskip("ale_py")
GAME = "envs.atari:Atari/Breakout-v5"


def test_four_grey_frames_and_the_same_by_the_same_seed():
    seen = []
    for _ in range(2):
        env = gym.make(GAME)
        obs, _ = env.reset(seed=3)
        assert obs.shape == (4, 84, 84)
        assert obs.dtype == np.uint8
        assert obs.max() > 50, "the screen is dark"
        frames = [env.step(action % 4)[0] for action in range(20)]
        assert np.array_equal(frames[-1][:-1], frames[-2][1:]), "each step adds one frame"
        seen.append(np.stack(frames))
        env.close()
    assert np.array_equal(*seen)


def test_the_replay_keeps_each_frame_once():
    world = envs.make(GAME, seeds=[0])
    replay = rl.Replay(world, capacity_steps=100, n_step=1, gamma=0.99)
    assert world.frames == 4
    obs = world.reset()
    for _ in range(30):
        action = np.ones((1, 1), np.int64)
        step = world.step(action)
        replay.add(obs, action, step)
        obs = step.obs
    assert replay.bytes < 100 * 84 * 84 * 1.3


@pytest.mark.full  # takes 4 s
def test_an_agent_plays(tmp_path):
    agent = rl.DQN(learn_after_steps=10, batch_size=4, capacity_steps=100)
    run = rl.train(GAME, agent, steps=20, logdir=tmp_path, evaluate_every_steps=1000, progress=False)
    assert rl.load(tmp_path / "run.safetensors").step == run.step == 20
    action, _ = run.policy().predict(np.zeros((4, 84, 84), np.uint8))
    assert 0 <= action < 4


def test_what_to_install_is_said(monkeypatch):
    from envs import atari

    monkeypatch.setitem(__import__("sys").modules, "ale_py", None)
    with pytest.raises(ImportError, match="ale_py is missing: pip install"):
        atari.register()
