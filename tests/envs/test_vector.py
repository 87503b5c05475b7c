import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from helpers import Counting

import envs


class Opaque(gym.vector.VectorWrapper):
    """Hides what is inside, so that a vector environment is stepped as such."""


def worlds(box, truncates):
    def make():
        return Counting(3, truncates=truncates, box=box)

    yield "single", envs.make(make, seeds=2, envs_per_seed=2)
    for mode in AutoresetMode:
        yield mode.name, envs.make(Opaque(SyncVectorEnv([make] * 4, autoreset_mode=mode)), seeds=2, envs_per_seed=2)
    yield "async", envs.make(AsyncVectorEnv([make] * 4), seeds=2, envs_per_seed=2)


@pytest.mark.parametrize("box", [True, False])
@pytest.mark.parametrize("truncates", [True, False])
def test_every_transition_is_legal_in_every_autoreset_mode(box, truncates):
    for name, world in worlds(box, truncates):
        obs = world.reset()
        assert obs.shape == (2, 2, 2)
        seen = 0
        for t in range(20):
            step = world.step(torch.full((2, 2), t % 2))
            valid = torch.ones(2, 2, dtype=torch.bool) if step.valid is None else step.valid
            for place in valid.nonzero().tolist():
                k, e = place
                before, after, following = (x[k, e].tolist() for x in (obs, step.next_obs, step.obs))
                assert after == [before[0], before[1] + 1], name
                assert step.reward[k, e] == 100 * after[0] + after[1], name
                over = after[1] == 3
                assert bool(step.terminated[k, e]) == (over and not truncates), name
                assert bool(step.truncated[k, e]) == (over and truncates), name
                if name not in ("NEXT_STEP", "async"):
                    assert following == ([after[0] + 1, 0] if over else after), name
                seen += 1
            obs = step.obs
        assert seen == (80 if name not in ("NEXT_STEP", "async") else 60), name
        world.close()


def test_rows_belong_to_seeds():
    world = envs.make("FrozenLake-v1", seeds=[4, 7], envs_per_seed=3)
    alone = envs.make("FrozenLake-v1", seeds=[7], envs_per_seed=3)
    world.reset(), alone.reset()
    for t in range(100):
        actions = torch.full((2, 3), t % 4)
        a, b = world.step(actions), alone.step(actions[1:])
        assert torch.equal(a.next_obs[1:], b.next_obs)
        assert torch.equal(a.obs[1:], b.obs)


def test_what_was_given_is_not_written_into():
    world = envs.make(Opaque(SyncVectorEnv([lambda: Counting(2)] * 2)), seeds=2)
    first = world.reset()
    copy = first.clone()
    world.step(np.zeros((2, 1), int))
    assert torch.equal(first, copy)


def test_dict_and_tuple_observations_and_actions_that_do_not_start_at_0():
    class Parts(gym.Env):
        observation_space = gym.spaces.Dict(
            {"x": gym.spaces.Box(0, 1, (2,)), "y": gym.spaces.Tuple([gym.spaces.Discrete(3), gym.spaces.Discrete(2)])}
        )
        action_space = gym.spaces.Discrete(2, start=10)

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            return {"x": np.zeros(2, np.float32), "y": (0, 0)}, {}

        def step(self, action):
            assert action in (10, 11)
            return {"x": np.ones(2, np.float32), "y": (2, 1)}, 0.0, False, False, {}

    world = envs.make(Parts, seeds=2, envs_per_seed=3)
    world.reset()
    step = world.step(torch.ones(2, 3, dtype=torch.long))
    assert step.next_obs["x"].shape == (2, 3, 2)
    assert step.next_obs["y"]["0"].tolist() == [[2] * 3] * 2


def test_continuous_actions_are_handed_on():
    world = envs.make("Pendulum-v1", seeds=2)
    world.reset()
    assert world.step(torch.zeros(2, 1, 1)).reward.shape == (2, 1)


def test_a_world_goes_on_where_it_was():
    world = envs.make("CartPole-v1", seeds=2, envs_per_seed=2)
    world.reset()
    for t in range(37):
        world.step(torch.full((2, 2), t % 2))
    saved = world.state_dict()
    expected = [world.step(torch.ones(2, 2, dtype=torch.long)).obs for _ in range(30)]
    again = envs.make("CartPole-v1", seeds=2, envs_per_seed=2)
    again.load_state_dict(saved)
    for obs in expected:
        assert torch.equal(again.step(torch.ones(2, 2, dtype=torch.long)).obs, obs)


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (lambda w: w.step(torch.zeros(1, 1, dtype=torch.long)), "seeds, environments per seed"),
        (lambda w: w.step(torch.full((2, 1), 4)), "from 0 to 3"),
        (lambda w: w.step(torch.full((2, 1), -1)), "from 0 to 3"),
        (lambda w: w.step(torch.zeros(2, 1)), "whole numbers"),
    ],
)
def test_wrong_actions_are_sentences(act, words):
    world = envs.make("FrozenLake-v1", seeds=2)
    world.reset()
    with pytest.raises(envs.EnvError, match=words):
        act(world)


def test_nan_is_told():
    class Broken(Counting):
        def step(self, action):
            obs, reward, *rest = super().step(action)
            return obs * (np.nan if self.what == "obs" else 1), (np.nan if self.what == "reward" else reward), *rest

    for what in ("obs", "reward"):
        world = envs.make(lambda what=what: _with(Broken(box=True), what), seeds=1)
        world.reset()
        with pytest.raises(envs.EnvError, match=r"NaN|nan"):
            world.step(np.zeros((1, 1), int))


def _with(env, what):
    env.what = what
    return env


@pytest.mark.parametrize(
    ("seeds", "words"),
    [
        (0, "At least one"),
        ([], "At least one"),
        ([1, 1], "more than once"),
        ([-1], "of at least 0"),
        (-3, "At least one"),
        (2.5, "count or a list"),
        ("3", "count or a list"),
        ([1.5], "whole number"),
        (True, "count or a list"),
        (None, "count or a list"),
    ],
)
def test_wrong_seeds_are_sentences(seeds, words):
    with pytest.raises(ValueError, match=words):
        envs.make("FrozenLake-v1", seeds=seeds)


def test_a_vector_environment_of_the_wrong_size():
    with pytest.raises(envs.EnvError, match="each need 6"):
        envs.make(SyncVectorEnv([lambda: Counting(2)] * 4), seeds=3, envs_per_seed=2)


class Masked(Counting):
    """After an even number of steps action 0 is allowed, after an odd one action 1."""

    def _masked(self, answer):
        answer[-1]["action_mask"] = np.array([self.step_number % 2 == 0, self.step_number % 2 == 1])
        return answer

    def reset(self, **settings):
        return self._masked(super().reset(**settings))

    def step(self, action):
        return self._masked(super().step(action))


@pytest.mark.parametrize("mode", ["single", *AutoresetMode])
def test_masks_belong_to_their_observations(mode):
    make = lambda: Masked(3, box=True)
    env = make if mode == "single" else Opaque(SyncVectorEnv([make] * 2, autoreset_mode=mode))
    world = envs.make(env, seeds=2)
    assert world.mask is None
    obs = world.reset()
    for _ in range(12):
        assert torch.equal(world.mask[..., 0], obs[..., 1] % 2 == 0)
        step = world.step(torch.zeros(2, 1, dtype=torch.int64))
        over = (step.terminated | step.truncated)[..., None]
        valid = torch.ones(2, 1, dtype=torch.bool) if step.valid is None else step.valid
        right = step.next_mask[..., 0] == (step.next_obs[..., 1] % 2 == 0)
        assert (right | over[..., 0] | ~valid).all()
        assert step.mask is world.mask
        obs = step.obs
        if mode == AutoresetMode.NEXT_STEP:  # at an ending the mask is of no use, and allows all
            obs = torch.where(over, torch.zeros_like(obs), obs)
            world.mask = torch.where(over, torch.tensor([True, False]), world.mask)


def test_masks_that_allow_nothing_are_told():
    class Stuck(Masked):
        def _masked(self, answer):
            answer[-1]["action_mask"] = np.zeros(2, bool) if self.step_number == 2 else np.ones(2, bool)
            return answer

    class Odd(Masked):
        def _masked(self, answer):
            answer[-1]["action_mask"] = np.ones(3, bool)
            return answer

    world = envs.make(lambda: Stuck(5), seeds=2)
    world.reset()
    world.step(torch.zeros(2, 1, dtype=torch.int64))
    with pytest.raises(
        envs.EnvError, match=r"seed 0, episode 0, step 2\): it returned an action mask that allows no action"
    ):
        world.step(torch.zeros(2, 1, dtype=torch.int64))
    with pytest.raises(envs.EnvError, match=r"a mask of shape \[3\]|mask of shape \[3\]; it must have 2 entries"):
        envs.make(lambda: Odd(5)).reset()
    ends = envs.make(lambda: Stuck(2), seeds=1)  # over after two steps: nothing needs to be allowed then
    ends.reset()
    for _ in range(4):
        ends.step(torch.zeros(1, 1, dtype=torch.int64))
