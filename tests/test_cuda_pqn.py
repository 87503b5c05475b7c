"""PQN and native environments on a GPU: the CPU's numbers, and few synchronizations."""

from __future__ import annotations

import dataclasses

import gymnasium as gym
import numpy as np
import pytest
import torch
from test_cuda_dqn import assert_same

import envs  # noqa: F401  (registers native environments)
import rl
from supervised import determinism

SMALL = rl.PQN(
    network="layer_norm_mlp(8)",
    envs_per_seed=8,
    rollout_steps=4,
    minibatches=2,
    epochs=2,
    compiled=False,
    reward_scale=0.5,
)


@pytest.fixture(autouse=True)
def one_thread():
    with determinism.threads(1):
        yield


@pytest.mark.parametrize(
    ("env", "options"),
    [
        ("CartPole-v1", {}),
        ("envs/Taxi-v4", {"network": "layer_norm_auto"}),
        ("envs/MinAtarBreakout-v1", {"network": "layer_norm_cnn(2)"}),
        ("CartPole-v1", {"network": "gru(4)", "memory_steps": 2}),
        ("envs/Taxi-v4", {"network": "lstm(4)"}),
    ],
)
def test_training_gives_the_cpus_numbers(gpu, env, options):
    agent, states = dataclasses.replace(SMALL, **options), []
    for device in ("cpu", "cuda"):
        run = rl.start(env, agent, 2, device=device)
        run.advance(8 * 11)
        states.append(run.agent.state_dict())
    if gpu.pretended:  # beyond rounding, another action may be taken on another machine
        assert_same(gpu, *states, fused=False)


@pytest.mark.parametrize(("options", "most"), [({}, 1), ({"network": "gru(4)"}, 3)])
def test_a_step_synchronizes_as_often_as_it_fetches(gpu, options, most):
    """The values of actions; with a recurrent network also the flags of episode starts, and the state that the rollout keeps."""
    run = rl.start("CartPole-v1", dataclasses.replace(SMALL, **options), 2, device="cuda")
    run.advance(8)
    run.agent.raise_if_not_finite()
    gpu.clear()
    for _ in range(2):
        run.local.loop._round()
    assert gpu.waits() <= 2 * most, gpu.table()


@pytest.mark.parametrize("name", ["CartPole-v1", "FrozenLake-v1", "Taxi-v4", "MinAtarAsterix-v1", "MinAtarBreakout-v1"])
def test_native_environments_on_a_gpu_are_those_on_the_cpu(gpu, name):
    here, there = (gym.make_vec(f"envs/{name}", 6, device=device) for device in ("cpu", "cuda"))
    obs, _ = here.reset(seed=3)
    theirs, _ = there.reset(seed=3)
    assert theirs.device.type == "cuda"
    rng = np.random.default_rng(0)
    for _ in range(25):
        torch.testing.assert_close(theirs.cpu(), torch.from_numpy(obs), atol=1e-6, rtol=0)
        action = rng.integers(here.single_action_space.n, size=6)
        obs, reward, terminated, truncated, _ = here.step(action)
        theirs, *rest, _ = there.step(torch.from_numpy(action).cuda())
        for mine, other in zip((reward, terminated, truncated), rest, strict=True):
            assert other.device.type == "cuda"
            assert np.array_equal(mine, other.cpu().numpy())
    saved = there.state_dict()
    assert np.array_equal(saved["elapsed"], here.state_dict()["elapsed"])
