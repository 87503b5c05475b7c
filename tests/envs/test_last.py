"""The last action and reward as parts of observations: what is seen, how it is named, and that it comes back."""

import copy
import json
import pickle

import gymnasium as gym
import numpy as np
import pytest
import torch
from daily import daily
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env

import envs
import rl
from envs.source import from_description, source
from supervised.validate import ArgumentError


class Told(gym.Env):
    """Three steps; the reward is the step's number and a half, the observation what it was given."""

    def __init__(self, space, action_space=None, seen=None):
        self.observation_space = space
        self.action_space = gym.spaces.Discrete(3, start=5) if action_space is None else action_space
        self.seen = space.sample() if seen is None else seen

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self.seen, {"action_mask": np.ones(3, np.int8), "options": options}

    def step(self, action):
        self.t += 1
        return self.seen, self.t + 0.5, self.t == 3, False, {"discount": 0.25, "given": action}


def two_steps(env):
    """What reset, action 7, action 5 and a second reset show."""
    return [env.reset(seed=0)[0], env.step(7)[0], env.step(np.int64(5))[0], env.reset()[0]]


NOTHING, SEVENTH, FIFTH = [0, 0, 0, 0], [0, 0, 1, 1.5], [1, 0, 0, 2.5]
TOLD = [NOTHING, SEVENTH, FIFTH, NOTHING]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_vector_has_them_at_its_end(dtype):
    space = gym.spaces.Box(np.array([-1, -np.inf], dtype), np.array([1, np.finfo(dtype).max], dtype), dtype=dtype)
    env = envs.LastActionReward(Told(space, seen=np.array([0.5, 2], dtype)))
    assert env.observation_space == gym.spaces.Box(
        np.array([-1, -np.inf, 0, 0, 0, -np.inf], np.float32),
        np.array(
            [1, np.float32(np.finfo(np.float32).max if dtype is np.float32 else np.inf), 1, 1, 1, np.inf], np.float32
        ),
    )
    for obs, last in zip(two_steps(env), TOLD, strict=True):
        assert obs.dtype == np.float32
        assert obs.tolist() == [0.5, 2, *last]


def test_a_number_is_one_hot_before_them():
    env = envs.LastActionReward(Told(gym.spaces.Discrete(4, start=-1), seen=1))
    assert env.observation_space.shape == (8,)
    assert [obs.tolist() for obs in two_steps(env)] == [[0, 0, 1, 0, *last] for last in TOLD]


@pytest.mark.parametrize(
    "space",
    [gym.spaces.Box(0, 255, (2, 2, 1), np.uint8), gym.spaces.Box(0, 9, (2,), np.int64), gym.spaces.MultiBinary(3)],
)
def test_any_other_observation_lies_beside_them(space):
    env = envs.LastActionReward(Told(space))
    assert env.observation_space["obs"] is space
    for obs, last in zip(two_steps(env), TOLD, strict=True):
        assert env.observation_space.contains(obs)
        assert obs["obs"] is env.unwrapped.seen
        assert obs["last_action"].tolist() == last[:3]
        assert obs["last_reward"].tolist() == last[3:]


def test_a_dict_keeps_its_parts():
    space = gym.spaces.Dict({"a": gym.spaces.Discrete(2), "action_mask": gym.spaces.MultiBinary(3)})
    env = envs.LastActionReward(Told(space))
    assert list(env.observation_space) == ["a", "action_mask", "last_action", "last_reward"]
    for obs, last in zip(two_steps(env), TOLD, strict=True):
        assert env.observation_space.contains(obs)
        assert obs["a"] == env.unwrapped.seen["a"]
        assert [*obs["last_action"], *obs["last_reward"]] == last
    assert list(env.unwrapped.seen) == ["a", "action_mask"]


def test_an_observation_stays_what_it_was_after_further_steps():
    env = envs.LastActionReward(Told(gym.spaces.MultiBinary(3)))
    env.reset()
    before = env.step(7)[0]
    kept = copy.deepcopy(before)
    env.step(5)
    assert all(np.array_equal(before[name], kept[name]) for name in kept)


def test_all_else_is_handed_on():
    env = envs.LastActionReward(Told(gym.spaces.Discrete(2)))
    info = env.reset(seed=0, options={"a": 1})[1]
    assert info["options"] == {"a": 1}
    assert info["action_mask"].tolist() == [1, 1, 1]
    _, reward, terminated, truncated, info = env.step(7)
    assert (reward, terminated, truncated, info) == (1.5, False, False, {"discount": 0.25, "given": 7})


def test_what_it_cannot_show_is_a_sentence():
    with pytest.raises(ArgumentError, match="requires Discrete actions, not Box"):
        envs.LastActionReward(gym.make("Pendulum-v1"))
    with pytest.raises(ArgumentError, match="already have the part 'last_reward'"):
        envs.LastActionReward(Told(gym.spaces.Dict({"last_reward": gym.spaces.Discrete(2)})))
    with pytest.raises(ArgumentError, match=r"env must be a gymnasium\.Env, not 'CartPole-v1'"):
        envs.LastActionReward("CartPole-v1")
    env = envs.LastActionReward(Told(gym.spaces.Discrete(2)))
    env.reset()
    for action in (4, 8):
        with pytest.raises(ArgumentError, match=rf"in 5\.\.7, not {action}"):
            env.step(action)


@pytest.mark.parametrize("seen", [-1, 2, 0.5])
def test_an_observation_outside_its_space_is_the_environments_mistake(seen):
    with pytest.raises(
        envs.EnvError, match=rf"seed 0, episode 0, step 0.*the observation {seen} is not in Discrete\(2\)"
    ):
        rl.train(
            lambda: envs.LastActionReward(Told(gym.spaces.Discrete(2), seen=seen)), rl.DQN(), steps=2, progress=False
        )


@pytest.mark.parametrize(
    "name", ["CartPole-v1", "FrozenLake-v1", "envs/TMaze-v0", "Blackjack-v1", "envs/CartPole-NoVelocity-v1"]
)
@pytest.mark.filterwarnings("ignore::UserWarning")  # of the checker, for infinite bounds and an environment in wrappers
def test_gymnasiums_checker_passes(name):
    check_env(gym.make(envs.with_last(name)), skip_render_check=True)


def test_a_spec_makes_it_again():
    spec = envs.with_last("FrozenLake-v1", map_name="8x8", max_episode_steps=7)
    assert gym.spec("FrozenLake-v1").additional_wrappers == ()
    assert gym.spec("FrozenLake-v1").kwargs["map_name"] == "4x4"
    env = gym.make(spec)
    assert isinstance(env, envs.LastActionReward)
    for again in (gym.make(env.spec), gym.make(EnvSpec.from_json(env.spec.to_json())), pickle.loads(pickle.dumps(env))):
        assert isinstance(again, envs.LastActionReward)
        assert not isinstance(again.env, envs.LastActionReward)
        assert again.observation_space.shape == (64 + 4 + 1,)
        assert again.spec.max_episode_steps == 7
    rows = gym.make_vec(spec, 2, vectorization_mode="sync")
    assert rows.reset(seed=0)[0].shape == (2, 69)
    with pytest.raises(envs.EnvError, match="Did you mean FrozenLake"):
        envs.with_last("FrozenLak-v1")
    with pytest.raises(envs.EnvError, match="could not be created"):
        envs.with_last("FrozenLake-v1", nonsense=1)
    with pytest.raises(ArgumentError, match="requires Discrete actions"):
        envs.with_last("Pendulum-v1")


@pytest.mark.parametrize(
    ("spec", "kwargs"),
    [
        (envs.with_last("CartPole-v1"), {}),
        (envs.with_last("CartPole-v1", sutton_barto_reward=True), {"sutton_barto_reward": True}),
        (envs.with_last("CartPole-v1", max_episode_steps=9), {"max_episode_steps": 9}),
        (envs.with_last("CartPole-v1", max_episode_steps=None), {}),
        (envs.with_last("CartPole-v1", max_episode_steps=-1), {"max_episode_steps": -1}),
    ],
)
def test_a_checkpoint_can_hold_it(spec, kwargs):
    where = source(spec)
    assert where.description == {"id": "CartPole-v1", "kwargs": kwargs, "wrappers": ["LastActionReward"]}
    assert where.name == "CartPole-v1 with LastActionReward"
    made, direct = from_description(json.loads(json.dumps(where.description))).make(), gym.make(spec)
    assert made.spec.max_episode_steps == direct.spec.max_episode_steps
    for env in (made, direct):
        env.reset(seed=3)
    for a, b in zip(made.step(1)[:4], direct.step(1)[:4], strict=True):
        assert np.array_equal(a, b)


def test_wrappers_that_an_id_brings_are_not_added_again():
    for name in ("envs/CartPole-NoVelocity-v1", "envs/TMaze-v0"):
        assert source(envs.with_last(name)).description == {"id": name, "kwargs": {}, "wrappers": ["LastActionReward"]}
    gym.register("Twice-v0", entry_point=lambda: envs.LastActionReward(gym.make("CartPole-v1").unwrapped))
    try:
        for spec, sides in ((gym.make("Twice-v0").spec, 7), (envs.with_last("Twice-v0"), 10)):
            assert source(spec).make().observation_space.shape == gym.make(spec).observation_space.shape == (sides,)
    finally:
        del gym.registry["Twice-v0"]


def test_what_a_checkpoint_cannot_hold():
    other = copy.deepcopy(gym.spec("CartPole-v1"))
    other.additional_wrappers += (gym.wrappers.TransformReward.wrapper_spec(func=float),)
    assert source(other).description is None
    assert isinstance(source(other).make(), gym.wrappers.TransformReward)
    unregistered = envs.with_last("CartPole-v1")
    unregistered.id = "Mine-v0"
    assert source(unregistered).description is None
    different = envs.with_last("CartPole-v1")
    different.entry_point = "gymnasium.envs.classic_control.acrobot:AcrobotEnv"
    assert source(different).description is None
    for wrappers in (["Popen"], [["a"]]):
        with pytest.raises(envs.EnvError, match="names the wrapper"):
            from_description({"id": "CartPole-v1", "kwargs": {}, "wrappers": wrappers})
    with pytest.raises(envs.EnvError, match="damaged"):
        from_description({"id": "CartPole-v1", "kwargs": {}, "wrappers": "LastActionReward"})


def by_function():
    return envs.LastActionReward(gym.make("envs/CartPole-NoVelocity-v1"))


DQN = rl.DQN(network="mlp(8)", batch_size=8, capacity_steps=100, learn_after_steps=20, compiled=False)
WAYS = {"function": by_function, "spec": envs.with_last("envs/CartPole-NoVelocity-v1")}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("envs_per_seed", daily([1, 2], [2]))
def test_a_run_that_was_killed_goes_on_to_the_bit(way, envs_per_seed, tmp_path, monkeypatch):
    settings = {"seeds": 2, "envs_per_seed": envs_per_seed, "progress": False}
    whole = rl.train(WAYS[way], DQN, steps=150, **settings)

    class Killed(BaseException):
        pass

    saves = []
    save = rl.run.run.Run.save

    def save_and_die(self, path):
        save(self, path)
        saves.append(self.step)
        if self.step >= 74:
            raise Killed

    cadence = {"save_every_steps": 37, "logdir": tmp_path, "resume": True}
    with monkeypatch.context() as patched:
        patched.setattr(rl.run.run.Run, "save", save_and_die)
        with pytest.raises(Killed):
            rl.train(WAYS[way], DQN, steps=150, **settings, **cadence)
    resumed = rl.train(WAYS[way], DQN, steps=150, **settings, **cadence)
    assert saves[-1] == 74
    expected, found = whole.agent.state_dict(), resumed.agent.state_dict()
    flat, again = torch.utils._pytree.tree_leaves(expected), torch.utils._pytree.tree_leaves(found)
    assert len(flat) == len(again) > 5
    for a, b in zip(flat, again, strict=True):
        assert np.array_equal(np.asarray(a), np.asarray(b), equal_nan=True) if a is not None else b is None


def test_a_run_and_a_policy_are_read_by_the_id_alone(tmp_path):
    spec = envs.with_last("CartPole-v1", max_episode_steps=30)
    run = rl.train(spec, DQN, steps=100, seeds=2, progress=False)
    run.save(tmp_path / "run.ckpt")
    again = rl.load(tmp_path / "run.ckpt")
    assert again.to_json()["env"]["wrappers"] == ["LastActionReward"]
    run.advance(40)
    again.advance(40)
    assert np.array_equal(run.evaluate(3).per_seed, again.evaluate(3).per_seed)
    run.policy(1).save(tmp_path / "policy")
    policy = rl.load_policy(tmp_path / "policy")
    env = gym.make(spec)
    obs, _ = env.reset(seed=0)
    assert policy.predict(obs) == run.policy(1).predict(obs)


def test_a_folder_from_before_specs_with_settings_were_recorded_is_gone_on_with(tmp_path, monkeypatch):
    spec = gym.make("CartPole-v1", sutton_barto_reward=True).spec
    settings = {"progress": False, "logdir": tmp_path, "resume": True}
    with monkeypatch.context() as patched:
        patched.setitem(envs.source.__globals__, "_is_registered", lambda spec: False)
        rl.train(spec, DQN, steps=40, **settings)
    with pytest.raises(rl.CheckpointError, match=r"env\.name was 'CartPole-v1'"):
        rl.train("CartPole-v1", DQN, steps=60, **settings)
    assert rl.train(spec, DQN, steps=60, **settings).step == 60
    with pytest.raises(rl.CheckpointError, match=r"env\.kwargs\.sutton_barto_reward was True"):
        rl.train("CartPole-v1", DQN, steps=80, **settings)


def test_worker_processes_make_it_too(forked_workers):
    spec = envs.with_last("CartPole-v1", max_episode_steps=30)
    runs = [rl.train(spec, DQN, steps=60, seeds=2, workers=workers, progress=False) for workers in (1, 2)]
    assert np.array_equal(*(run.evaluate(3).per_seed for run in runs))


def test_images_and_dicts_are_learned_from():
    """And the model of the world behind is not taken for that of what is seen."""
    for env in (envs.with_last("envs/TMaze-v0", length=3), lambda: envs.LastActionReward(Pictures())):
        run = rl.train(env, DQN, steps=40, progress=False)
        assert np.isfinite(run.evaluate(1).per_seed).all()
    with pytest.raises(envs.NoModelError, match="LastActionReward may change"):
        envs.read(gym.make(envs.with_last("FrozenLake-v1")))


class Pictures(Told):
    def __init__(self):
        super().__init__(gym.spaces.Box(0, 255, (8, 8, 1), np.uint8), seen=np.full((8, 8, 1), 3, np.uint8))
