"""What an environment may return, and the sentences for what it may not."""

import re

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import SyncVectorEnv

import envs
from envs.backends.contract import Breach, as_flag, as_reward, raised_by_environment


class Settable(gym.Env):
    """Answers with whatever it is given; ends after 3 steps."""

    observation_space = gym.spaces.Box(0, 9, (2,))
    action_space = gym.spaces.Discrete(2)

    def __init__(self, reset=None, step=None):
        self.answers, self.t = (reset, step), 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return (np.zeros(2, np.float32), {}) if self.answers[0] is None else self.answers[0]

    def step(self, action):
        self.t += 1
        good = np.zeros(2, np.float32), 1.0, False, self.t == 3, {}
        return good if self.answers[1] is None or self.t < 2 else self.answers[1]


OBS = np.zeros(2, np.float32)


@pytest.mark.parametrize("wrapper", [None, gym.wrappers.TimeLimit, gym.wrappers.PassiveEnvChecker])
@pytest.mark.parametrize(
    ("step", "words"),
    [
        ((OBS, 1.0, True, {}), "step must return"),
        ((OBS, 1.0, True, False, {}, {}), "step must return"),
        (OBS, "step must return"),
        (7, "step must return"),
    ],
)
def test_a_step_of_another_length(step, words, wrapper):
    env = Settable(step=step)
    if wrapper is not None:
        env = wrapper(env, *([9] if wrapper is gym.wrappers.TimeLimit else []))
    member = envs.ReplayableEnv(gym.wrappers.TimeLimit(env, 9) if wrapper else env, 3)
    member.reset()
    member.step(0)
    with pytest.raises(envs.EnvError, match=words) as told:
        member.step(0)
    assert "Settable (seed 3, episode 0, step 2)" in str(told.value)


@pytest.mark.parametrize(
    ("step", "words"),
    [
        ((OBS, 1.0, "True", False, {}), "terminated must be True or False, not 'True'"),
        ((OBS, 1.0, None, False, {}), "terminated must be True or False, not None"),
        ((OBS, 1.0, float("nan"), False, {}), "terminated must be True or False, not nan"),
        (
            (OBS, 1.0, False, np.array([True, False]), {}),
            r"truncated must be True or False, not an array of shape \[2\]",
        ),
        ((OBS, 1.0, False, np.array([True]), {}), r"truncated must be True or False, not an array of shape \[1\]"),
        ((OBS, 1.0, 2, False, {}), "terminated must be True or False, not 2"),
        ((OBS, 1.0, False, False, None), "info is None"),
        ((OBS, 1.0, False, False, [1]), "info is a list of 1 values"),
        ((OBS, np.array([1.0, 2.0]), False, False, {}), "returned the reward array"),
        ((OBS, np.array([1.0]), False, False, {}), "returned the reward array"),
        ((OBS, None, False, False, {}), "returned the reward None"),
        ((OBS, "1.0", False, False, {}), "returned the reward '1.0'"),
        ((OBS, np.inf, False, False, {}), "returned the reward inf"),
        ((OBS, np.float64("nan"), False, False, {}), r"returned the reward .*nan"),
        ((OBS, 1j, False, False, {}), "returned the reward 1j"),
    ],
)
def test_a_step_of_other_values(step, words):
    member = envs.ReplayableEnv(Settable(step=step), 3, 1)
    member.reset()
    member.step(0)
    with pytest.raises(envs.EnvError, match=words) as told:
        member.step(0)
    assert "Settable (seed 3, environment 1, episode 0, step 2)" in str(told.value)


CRUDE = [
    (OBS, 1.0, True, {}),
    (OBS, 1.0, True, False, {}, {}),
    OBS,
    (OBS, None, False, False, {}),
    (OBS, 1.0, False, False, None),
]
FINE = [
    (OBS, np.ones(2), False, False, {}),
    (OBS, "1.0", False, False, {}),
    (OBS, 1.0, "no", False, {}),
    (OBS, 1.0, False, np.array([False, True]), {}),
]


@pytest.mark.parametrize("step", [*CRUDE, *FINE])
@pytest.mark.parametrize("around", ["made", "recorded", "vector"])
def test_slips_inside_gymnasiums_own_wrappers(step, around):
    if around == "vector" and any(step is fine for fine in FINE):
        pytest.skip("a VectorEnv casts these before anyone can see them")
    if around == "made":
        gym.register("slips/Slips-v0", lambda: Settable(step=step), max_episode_steps=9)
    recorded = lambda: gym.wrappers.RecordEpisodeStatistics(Settable(step=step))
    kinds = {
        "made": lambda: "slips/Slips-v0",
        "recorded": lambda: recorded,
        "vector": lambda: Opaque(SyncVectorEnv([recorded])),
    }
    world = envs.make(kinds[around]())
    world.reset()
    world.step(np.zeros((1, 1), int))
    try:
        with pytest.raises(envs.EnvError):
            world.step(np.zeros((1, 1), int))
    finally:
        gym.registry.pop("slips/Slips-v0", None)


class Opaque(gym.vector.VectorWrapper):
    """Hides what is inside, so that a vector environment is stepped as such."""


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (True, True),
        (np.False_, False),
        (1, True),
        (np.int8(0), False),
        (0.0, False),
        (np.array(True), True),
        (torch.tensor(True), True),
    ],
)
def test_flags_that_are_meant(given, wanted):
    assert as_flag(given, "terminated") is wanted


@pytest.mark.parametrize(
    "given", [1, 1.0, True, np.float32(1), np.int64(1), np.array(1.0), torch.tensor(1.0), np.True_]
)
def test_rewards_that_are_meant(given):
    reward = as_reward(given)
    assert type(reward) is float
    assert reward == 1.0
    with pytest.raises(Breach):
        as_reward([1.0])


@pytest.mark.parametrize(
    "reset", [OBS, 3, (1, 2), (OBS, None), (OBS, {}, {}), [OBS], "obs", {"obs": OBS}, np.zeros((2, 2), np.float32)]
)
@pytest.mark.parametrize("wrapped", [False, True])
def test_the_old_reset(reset, wrapped):
    env = Settable(reset=reset)
    member = envs.ReplayableEnv(gym.wrappers.NormalizeObservation(env) if wrapped else env, 3)
    with pytest.raises(envs.EnvError, match=r"Settable \(seed 3, episode 0, step 0\): .*reset must return"):
        member.reset()


def test_a_reset_without_seed():
    class Bare(Settable):
        def reset(self):
            return OBS, {}

    class WithoutOptions(Settable):
        def reset(self, seed=None):
            return OBS, {}

    class Inside(Settable):
        def reset(self, *, seed=None, options=None):
            return {"sede": seed}["seed"]  # a slip of its own, which has nothing to do with the interface

    with pytest.raises(
        envs.EnvError, match=r"Bare.reset has no argument seed. Declare it as def reset\(self, \*, seed=None"
    ):
        envs.ReplayableEnv(Bare(), 0).reset()
    with pytest.raises(envs.EnvError, match=r"Bare\.reset has no argument seed"):
        envs.ReplayableEnv(gym.wrappers.OrderEnforcing(Bare()), 0).reset()
    envs.ReplayableEnv(WithoutOptions(), 0).reset()
    with pytest.raises(envs.EnvError, match=r"WithoutOptions\.reset has no argument options"):
        envs.ReplayableEnv(gym.wrappers.OrderEnforcing(WithoutOptions()), 0).reset()
    with pytest.raises(KeyError):
        envs.ReplayableEnv(Inside(), 0).reset()


class Breaks(Settable):
    """Raises at the fifth step."""

    steps = 0

    def step(self, action):
        self.steps += 1
        if self.steps == 5:
            raise ZeroDivisionError("the simulator is gone")
        return super().step(action)


def test_an_exception_of_the_environments_own_keeps_its_type_and_says_where():
    member = envs.ReplayableEnv(gym.wrappers.OrderEnforcing(Breaks()), 3)
    member.reset()
    for t in range(4):
        if t == 3:
            member.reset()
        member.step(0)
    with pytest.raises(ZeroDivisionError, match="the simulator is gone") as told:
        member.step(0)
    assert raised_by_environment(told.value)
    assert re.search(r"Breaks \(seed 3, episode 1, step 2\) in step", told.value.__notes__[0])
    assert len(member.actions) == 1  # a step that broke was not taken
    world = envs.make(gym.vector.VectorWrapper(SyncVectorEnv([Breaks] * 2)), seeds=2)
    world.reset()
    for _ in range(5):
        world.step(np.zeros((2, 1), int))
    with pytest.raises(ZeroDivisionError) as told:
        world.step(np.zeros((2, 1), int))
    assert "SyncVectorEnv in step (seeds [0, 1]" in told.value.__notes__[0]


class Greedy(gym.Env):
    """Writes into the action that it is given."""

    observation_space = gym.spaces.Box(-9, 9, (2,))
    action_space = gym.spaces.Box(-9, 9, (2,))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return OBS, {}

    def step(self, action):
        seen = action.copy()
        action[:] = 99
        return seen.astype(np.float32), 0.0, False, False, {}


@pytest.mark.parametrize("vector", [False, True])
def test_an_environment_cannot_write_into_actions(vector):
    world = envs.make(gym.vector.VectorWrapper(SyncVectorEnv([Greedy] * 2)) if vector else Greedy, seeds=2)
    world.reset()
    actions = torch.ones(2, 1, 2)
    assert torch.equal(world.step(actions).next_obs, actions)
    assert torch.equal(actions, torch.ones(2, 1, 2))
    if not vector:
        assert np.array_equal(world.state_dict()["members"][0]["actions"], np.ones((1, 2)))


class Old(gym.vector.VectorEnv):
    """A vector environment that answers with whatever it is given."""

    num_envs = 2
    single_observation_space = gym.spaces.Box(0, 9, (1,))
    single_action_space = gym.spaces.Discrete(2)
    observation_space = gym.vector.utils.batch_space(single_observation_space, 2)
    action_space = gym.vector.utils.batch_space(single_action_space, 2)

    def __init__(self, **parts):
        self.parts = {
            "obs": np.zeros((2, 1), np.float32),
            "reward": np.zeros(2),
            "truncated": np.zeros(2, bool),
            "infos": {},
        }
        self.parts |= parts

    def reset(self, *, seed=None, options=None):
        return np.zeros((2, 1), np.float32), {}

    def step(self, actions):
        p = self.parts
        return p["answer"] if "answer" in p else (p["obs"], p["reward"], np.zeros(2, bool), p["truncated"], p["infos"])


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"answer": (OBS, OBS, OBS, {})}, "a tuple of 4 values"),
        ({"infos": None}, "info is None"),
        ({"reward": np.array([0.0, np.nan])}, r"seed 7, row 1, episode 0, step 1\): it returned the reward nan"),
        ({"reward": 1.0}, "rewards must be 2 numbers"),
        ({"truncated": np.array([0.0, np.nan])}, "truncated must be 2 bools"),
        ({"truncated": True}, "truncated must be 2 bools"),
        ({"obs": np.array([[0.0], [np.nan]], np.float32)}, r"seed 7, row 1.*the value nan at \[0\] is outside"),
        ({"obs": np.zeros((2, 3), np.float32)}, r"its shape is \[3\]"),
        ({"infos": {"action_mask": np.array([[1, 0], [2, 0]])}}, r"seed 7, row 1.*entries must be 0"),
        ({"infos": {"action_mask": np.array([[1, 0], [0, 0]])}}, r"seed 7, row 1.*allows no action"),
        ({"infos": {"action_mask": np.array([1])}}, "must have a row for each"),
    ],
)
def test_a_vector_environment_that_breaks_the_interface(parts, words):
    world = envs.make(Old(**parts), seeds=[4, 7])
    world.reset()
    with pytest.raises(envs.EnvError, match=words):
        world.step(np.zeros((2, 1), int))
