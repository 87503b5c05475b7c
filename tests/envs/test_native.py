"""Native vector environments: the original's trajectories, the same numbers everywhere, and state."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode

import envs
import rl
from envs.native.arrays import Device, Host
from envs.native.draws import Counted, Generators
from envs.native.random import host_threefry, threefry
from envs.native.vector import NativeVectorEnv

SAME, NEXT, DISABLED = AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP, AutoresetMode.DISABLED


def make(name, count, mode=SAME, **settings):
    return gym.make_vec(f"envs/{name}", count, autoreset_mode=mode, **settings)


# From the authors' Random123: key, counter and words.
KNOWN = [
    ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
    ((0xFFFFFFFF,) * 2, (0xFFFFFFFF,) * 2, (0x1CB996FC, 0xBB002BE7)),
    ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
]


@pytest.mark.parametrize(("key", "counter", "words"), KNOWN)
def test_threefry_gives_the_published_words(key, counter, words):
    host = host_threefry(*(tuple(np.array([x], np.uint32) for x in pair) for pair in (key, counter)))
    device = threefry(*(tuple(torch.tensor([x]) for x in pair) for pair in (key, counter)))
    assert tuple(int(x[0]) for x in host) == tuple(int(x[0]) for x in device) == words


def test_a_copys_numbers_depend_on_neither_place_nor_number_nor_block():
    few, many = Counted(Host(), [7, 2**40], 3, 2), Counted(Device("cpu"), [5, 7, 2**40, 1], 3, 2)
    few.ahead = 2
    for _ in range(7):
        assert np.array_equal(few.step(), many.step()[1:3].numpy())
        assert np.array_equal(few.again(np.array([0, 1])), many.again(np.array([1, 2])).numpy())
    assert np.array_equal(few.reset(np.array([1])), many.reset(np.array([2])).numpy())
    assert 0 <= few.step().min() < few.step().max() < 1


@pytest.mark.parametrize("name", ["CartPole-v1", "MountainCar-v0", "Acrobot-v1"])
def test_a_copy_follows_the_original(name):
    rng, seeds = np.random.default_rng(0), [3, 8, 100]
    vector, singles = make(name, 3), [gym.make(name) for _ in seeds]
    obs, _ = vector.reset(seed=seeds)
    tolerance = 1e-6 if name == "Acrobot-v1" else 0  # whose first state is float32: its sines are those of float32
    np.testing.assert_allclose(
        obs, np.stack([e.reset(seed=s)[0] for e, s in zip(singles, seeds, strict=True)]), atol=tolerance
    )
    ends = 0
    for _ in range(700):
        action = rng.integers(vector.single_action_space.n, size=3)
        obs, reward, terminated, truncated, info = vector.step(action)
        for i, single in enumerate(singles):
            own, *rest, _ = single.step(action[i])
            assert [reward[i], terminated[i], truncated[i]] == rest
            if terminated[i] or truncated[i]:
                np.testing.assert_allclose(info["final_obs"][i], own, atol=1e-5 * (tolerance > 0))
                ends += 1
                own, _ = single.reset()
            np.testing.assert_allclose(obs[i], own, atol=1e-5 * (tolerance > 0))
    assert ends >= 3


def test_acrobot_steps_as_the_original_from_any_state():
    rng = np.random.default_rng(1)
    vector, single = make("Acrobot-v1", 500), gym.make("Acrobot-v1").unwrapped
    vector.reset(seed=0)
    low = np.array([np.pi, np.pi, single.MAX_VEL_1, single.MAX_VEL_2])
    states, action = rng.uniform(-low, low, (500, 4)), rng.integers(3, size=500)
    vector.state = {name: states[:, i].copy() for i, name in enumerate(vector.state)}
    found = vector.advance(action)
    for i in range(500):
        single.state = states[i]
        obs, reward, terminated, *_ = single.step(int(action[i]))
        np.testing.assert_allclose(found.next_obs[i], obs, atol=1e-6)
        assert (found.reward[i], found.terminated[i]) == (reward, terminated)


@pytest.mark.parametrize("name", ["FrozenLake-v1", "Taxi-v4", "CliffWalking-v1", "CartPole-v1"])
def test_torch_gives_the_bits_of_numpy_and_copies_are_independent(name):
    many, few = make(name, 40), make(name, 6, device="cpu:0")
    obs, info = many.reset(seed=0)
    own, own_info = few.reset(seed=0)
    rng = np.random.default_rng(0)
    for _ in range(120):
        assert np.allclose(obs[:6], own.numpy(), atol=1e-6 if name == "CartPole-v1" else 0)
        if "action_mask" in info:
            assert np.array_equal(info["action_mask"][:6], own_info["action_mask"].numpy())
        action = rng.integers(many.single_action_space.n, size=40)
        obs, reward, terminated, truncated, info = many.step(action)
        own, *rest, own_info = few.step(torch.from_numpy(action[:6]))
        for part, twin in zip((reward, terminated, truncated), rest, strict=True):
            assert np.array_equal(part[:6], np.asarray(twin))


def test_a_finite_model_is_followed_in_frequency():
    vector = make("FrozenLake-v1", 4000)
    vector.reset(seed=1)
    model = envs.read(gym.make("FrozenLake-v1"))
    vector.state["state"][:] = 6
    found = vector.advance(np.full(4000, 2))
    shares = np.bincount(found.next_obs, minlength=16) / 4000
    wanted = np.zeros(16)
    np.add.at(wanted, model.next_state[6, 2], model.probability[6, 2])
    np.testing.assert_allclose(shares, wanted, atol=0.03)
    assert (found.terminated == np.isin(found.next_obs, [5, 7])).all()


def rollout(mode, steps=60):
    """Observations, rewards and flags of each step that an action belongs to, by row."""
    vector = make("CartPole-v1", 5, mode)
    obs, _ = vector.reset(seed=2)
    seen, over = [[row] for row in obs], np.zeros(5, np.bool_)
    for _ in range(steps):
        if mode == DISABLED and over.any():
            obs, _ = vector.reset(options={"reset_mask": over})
            for i in np.flatnonzero(over):
                seen[i].append(obs[i])
        actions = np.array([len(rows) % 2 for rows in seen])
        obs, reward, terminated, truncated, info = vector.step(actions)
        for i in range(5):
            if mode == NEXT and over[i]:
                assert (reward[i], terminated[i], truncated[i]) == (0, False, False)
                seen[i].append(obs[i])
                continue
            ended = terminated[i] or truncated[i]
            seen[i].append((reward[i], terminated[i], info["final_obs"][i] if mode == SAME and ended else obs[i]))
            if mode == SAME and ended:
                seen[i].append(obs[i])
        over = terminated | truncated
    return seen


@pytest.mark.parametrize("mode", [NEXT, DISABLED])
def test_every_autoreset_mode_gives_the_same_episodes(mode):
    for mine, theirs in zip(rollout(mode), rollout(SAME), strict=True):
        for a, b in zip(mine, theirs, strict=False):
            assert len(a) == len(b)
            assert all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("name", ["CartPole-v1", "Taxi-v4"])
def test_a_saved_state_goes_on_to_the_bit(name):
    rng = np.random.default_rng(0)
    actions = rng.integers(2, size=(90, 4))
    vector, other = make(name, 4), make(name, 4)
    vector.reset(seed=3)
    for action in actions[:50]:
        vector.step(action)
    saved = vector.state_dict()
    other.seed(3)
    assert np.array_equal(other.load_state_dict(saved), vector.game.observe(vector.state))
    for action in actions[50:]:
        for mine, theirs in zip(vector.step(action)[:4], other.step(action)[:4], strict=True):
            assert np.array_equal(mine, theirs)
    wrong = make(name, 5)
    wrong.seed(0)
    with pytest.raises(envs.EnvError, match="does not match 5 copies"):
        wrong.load_state_dict(saved)


def test_generators_go_on_in_the_middle_of_a_block():
    one, two = (Generators(Host(), [4, 9], 0, 4) for _ in range(2))
    rows = np.array([0, 1])
    for _ in range(70):
        one.reset(rows)
    one.reset(rows[:1])
    two.load_state_dict(one.state_dict())
    for _ in range(70):
        assert np.array_equal(one.reset(rows), two.reset(rows))


def test_what_is_wrong_is_said():
    vector = make("CartPole-v1", 3, DISABLED)
    with pytest.raises(envs.EnvError, match="reset\\(\\) must be called"):
        vector.step(np.zeros(3, np.int64))
    with pytest.raises(envs.EnvError, match="need as many seeds"):
        vector.reset(seed=[1, 2])
    vector.reset(seed=0)
    with pytest.raises(envs.EnvError, match="takes 3 actions"):
        vector.step(np.zeros(2, np.int64))
    with pytest.raises(envs.EnvError, match="from 0 to 1; got 0 to 2"):
        vector.step(np.array([0, 1, 2]))
    with pytest.raises(envs.EnvError, match="reset_mask must be bool"):
        vector.reset(options={"reset_mask": np.zeros(3)})
    with pytest.raises(envs.EnvError, match="render_mode"):
        make("CartPole-v1", 3, render_mode="human")
    while not vector.over.any():
        vector.step(np.zeros(3, np.int64))
    with pytest.raises(envs.EnvError, match="episodes of some copies have ended"):
        vector.step(np.zeros(3, np.int64))


@pytest.mark.parametrize("name", ["CartPole-v1", "FrozenLake-v1"])
def test_pictures(name):
    pytest.importorskip("pygame")
    vector = make(name, 2, render_mode="rgb_array")
    vector.reset(seed=0)
    first = vector.render()
    assert len(first) == 2
    assert first[0].dtype == np.uint8
    for _ in range(5):
        vector.step(np.ones(2, np.int64))
    assert not np.array_equal(first[0], vector.render()[0])


AGENT = rl.DQN(network="mlp(8)", batch_size=8, learn_after_steps=20, double=True)


def weights(run):
    return run.agent.online.weights


def test_a_run_is_that_in_the_originals_to_the_bit(tmp_path):
    native, plain = (rl.start(name, AGENT, [3, 5], envs_per_seed=2) for name in ("envs/CartPole-v1", "CartPole-v1"))
    native.advance(150)
    native.save(tmp_path / "run.safetensors")
    resumed = rl.load(tmp_path / "run.safetensors")
    for run in (native, resumed):
        run.advance(51)
    for steps in (150, 51):
        plain.advance(steps)
    for name, weight in weights(native).items():
        assert torch.equal(weight, weights(plain)[name])
        assert torch.equal(weight, weights(resumed)[name])
    for limit in (None, 9):
        found, wanted = native.evaluate(13, limit), plain.evaluate(13, limit)
        assert np.array_equal(found.returns, wanted.returns)
        assert np.array_equal(found.lengths, wanted.lengths)
        assert found.step_limit == wanted.step_limit


def test_seeds_of_native_rows_are_independent_and_shared_out(tmp_path, forked_workers):
    settings = {"steps": 200, "envs_per_seed": 2, "progress": False, "device": "cpu"}
    whole, alone = (rl.train("envs/FrozenLake-v1", AGENT, seeds=seeds, **settings) for seeds in ([3, 5], [5]))
    shared = rl.train("envs/FrozenLake-v1", AGENT, seeds=[3, 5], workers=2, **settings)
    for name, weight in weights(whole).items():
        assert torch.equal(weight[1], weights(alone)[name][0])
        assert torch.equal(weight, weights(shared)[name])


def test_a_native_vector_environment_is_taken_as_it_is():
    vector = make("CartPole-v1", 4)
    assert isinstance(vector, NativeVectorEnv)
    given, named = (rl.start(env, AGENT, [3, 5], envs_per_seed=2) for env in (vector, "envs/CartPole-v1"))
    for run in (given, named):
        run.advance(120)
    assert all(torch.equal(weight, weights(named)[name]) for name, weight in weights(given).items())
    with pytest.raises(envs.EnvError, match="has 4 environments, but 3 seeds"):
        rl.start(make("CartPole-v1", 4), AGENT, 3)


def test_more_copies_than_memory_are_refused_before_they_are_made(monkeypatch):
    monkeypatch.setattr(Host, "free", lambda self: 10**9)
    for name in ("CartPole-v1", "MinAtarBreakout-v1", "Taxi-v4"):
        with pytest.raises(envs.EnvError, match=r"1,000,000,000 copies take about .* GB, but only 1.0 GB are free"):
            make(name, 10**9)
        make(name, 20_000).reset(seed=0)


def test_a_device_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="The device 'nothing' cannot be used here"):
        make("CartPole-v1", 2, device="nothing")


@pytest.mark.full
@pytest.mark.parametrize("name", ["CartPole-v1", "MountainCar-v0"])
def test_a_million_transitions_are_the_originals(name):
    copies, rng = 20, np.random.default_rng(1)
    vector, singles = make(name, copies), [gym.make(name) for _ in range(copies)]
    obs, _ = vector.reset(seed=5)
    assert np.array_equal(obs, np.stack([single.reset(seed=5 + i)[0] for i, single in enumerate(singles)]))
    for _ in range(1_000_000 // copies):
        action = rng.integers(vector.single_action_space.n, size=copies)
        obs, reward, terminated, truncated, info = vector.step(action)
        for i, single in enumerate(singles):
            own, *rest, _ = single.step(action[i])
            assert [reward[i], terminated[i], truncated[i]] == rest
            if terminated[i] or truncated[i]:
                assert np.array_equal(info["final_obs"][i], own)
                own, _ = single.reset()
            assert np.array_equal(obs[i], own)
