"""Environments in wrappers that are named: made, recorded in checkpoints, and made again from there."""

import json

import gymnasium as gym
import numpy as np
import pytest
from helpers import curves

import envs
import rl
from envs.source import from_description, source
from supervised import checkpoint
from supervised.validate import ArgumentError

LAYERS = ["NormalizeObservation", ("FrameStackObservation", {"stack_size": 3})]
SETTINGS = {"steps": 300, "seeds": 2, "progress": False, "save_every_steps": 100, "evaluate_every_steps": 150}
AGENT = rl.DQN(network="mlp(4)", learn_after_steps=20, batch_size=4, compiled=False)


def test_named_wrappers_are_recorded_and_made_again():
    where = source(envs.with_wrappers("CartPole-v1", LAYERS, max_episode_steps=9))
    assert where.name == "CartPole-v1 with NormalizeObservation, FrameStackObservation"
    assert where.description == {
        "id": "CartPole-v1",
        "kwargs": {"max_episode_steps": 9},
        "wrappers": [
            ["NormalizeObservation", {"epsilon": 1e-08}],
            ["FrameStackObservation", {"stack_size": 3, "padding_type": "reset"}],
        ],
    }
    again = from_description(json.loads(json.dumps(where.description)))
    made = gym.wrappers.FrameStackObservation(gym.wrappers.NormalizeObservation(gym.make("CartPole-v1")), 3)
    for one in (where.make(), again.make()):
        assert np.array_equal(one.reset(seed=3)[0], made.reset(seed=3)[0])
        assert np.array_equal(one.step(1)[0], made.step(1)[0])
        made = gym.wrappers.FrameStackObservation(gym.wrappers.NormalizeObservation(gym.make("CartPole-v1")), 3)


@pytest.mark.filterwarnings("ignore::UserWarning")  # of Gymnasium, for the precision of bounds
def test_tuples_survive_json():
    layers = [("RescaleObservation", {"min_obs": 0.0, "max_obs": 1.0}), ("ReshapeObservation", {"shape": (2, 1)})]
    where = source(envs.with_wrappers("MountainCar-v0", layers))
    assert where.description["wrappers"][1] == ["ReshapeObservation", {"shape": [2, 1]}]
    assert from_description(where.description).make().observation_space.shape == (2, 1)


def test_a_run_in_wrappers_goes_on_to_the_same_bits_and_is_loaded_without_code(tmp_path):
    where = envs.with_wrappers("CartPole-v1", LAYERS)
    whole = rl.train(where, AGENT, logdir=tmp_path / "whole", **SETTINGS)
    rl.train(
        where, AGENT, logdir=tmp_path / "cut", **SETTINGS, on_log=lambda run, _: "stop" if run.step > 120 else None
    )
    resumed = rl.train(where, AGENT, logdir=tmp_path / "cut", resume=True, **SETTINGS)
    obs = np.ones((2, 1, 3, 4))
    assert (whole.agent.q(obs) == resumed.agent.q(obs)).all()
    assert curves(tmp_path / "whole") == curves(tmp_path / "cut")
    loaded = rl.load(tmp_path / "cut" / "run.safetensors")
    assert loaded.evaluate(2).mean == whole.evaluate(2).mean


def test_a_folder_of_before_wrappers_were_recorded_goes_on(tmp_path):
    where = envs.with_wrappers("CartPole-v1", LAYERS)
    run = rl.train(where, AGENT, logdir=tmp_path, **SETTINGS | {"steps": 100})
    arrays, meta = checkpoint.load(tmp_path / "run.safetensors")
    meta["config"]["env"] = {"name": "CartPole-v1"}
    checkpoint.save(tmp_path / "run.safetensors", arrays, meta)
    assert rl.train(where, AGENT, logdir=tmp_path, resume=True, **SETTINGS).step == 300
    assert run.step == 100


def test_what_does_not_fit_is_a_sentence():
    for layers, said in (
        (["NormalizeObservatio"], "Did you mean 'NormalizeObservation'"),
        ([("FrameStackObservation", {})], "FrameStackObservation cannot wrap CartPole-v1: TypeError"),
        (["RecordVideo"], "There is no wrapper 'RecordVideo'"),  # it writes files
    ):
        with pytest.raises((ArgumentError, envs.EnvError), match=said):
            envs.with_wrappers("CartPole-v1", layers)
    for wrappers in ([["RecordVideo", {"video_folder": "x"}]], [["FrameStackObservation", 3]], [3]):
        with pytest.raises(envs.EnvError, match="names the wrapper"):
            from_description({"id": "CartPole-v1", "kwargs": {}, "wrappers": wrappers})
