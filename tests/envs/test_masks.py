"""Action masks are read for each environment by itself, from three places, through everything that steps environments."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv

import envs
from envs.backends.contract import Breach
from envs.backends.masks import Reader, read, usable


@pytest.mark.parametrize(
    "given",
    [
        [1, 0, 1],
        (True, False, True),
        np.array([1, 0, 1], np.int8),
        np.array([1.0, 0.0, 1.0]),
        np.array([True, False, True]),
        np.array([True, 0, np.int64(1)], object),
        [np.bool_(True), np.bool_(False), np.bool_(True)],
        torch.tensor([1, 0, 1]),
        torch.tensor([True, False, True]),
    ],
)
def test_a_mask_of_any_form_is_a_bool_array_of_ones_own(given):
    allowed = read(given, 3)
    assert allowed.dtype == np.bool_
    assert allowed.tolist() == [True, False, True]
    assert not (isinstance(given, np.ndarray) and np.shares_memory(allowed, given))


@pytest.mark.parametrize(
    "given",
    [
        [1, 0],
        [[1, 0, 1]],
        [1, 0, 2],
        [1, 0, np.nan],
        [1, 0, -1],
        [1, 0, 0.5],
        "101",
        ["1", "0", "1"],
        [None, 1, 1],
        1,
        [[1], [0, 1], [1]],
        {"a": 1},
    ],
)
def test_what_is_no_mask_is_refused(given):
    with pytest.raises(Breach, match="mask"):
        read(given, 3)


def test_masks_seen_before_are_looked_up_and_nothing_else_is():
    reader = Reader(8)
    given = np.array([1, 0, 0, 0, 0, 0, 0, 1], np.int8)
    first = reader(given, False)
    assert reader(given.copy(), False) is first
    given[1] = 1  # an environment may write into its mask
    assert reader(given, False).tolist() == [True, True, False, False, False, False, False, True]
    assert first.tolist() == [True] + [False] * 6 + [True]
    for wrong in (np.ones(1), np.ones((2, 4), np.int8), np.array([2] * 8, np.int8)):
        same_bytes = np.frombuffer(wrong.tobytes(), np.int8)
        assert same_bytes.size == 8  # as those of a mask that is right, or was
        with pytest.raises(Breach):
            reader(wrong, False)
    with pytest.raises(Breach, match="allows no action"):
        reader(np.zeros(8, np.int8), False)
    assert reader(np.zeros(8, np.int8), True).all()
    with pytest.raises(Breach, match="allows no action"):
        reader(np.zeros(8, np.int8), False)


def test_a_mask_that_forbids_everything_is_legal_at_an_end_alone():
    assert usable(np.zeros(3, bool), over=True).all()
    assert usable(np.array([False, True]), over=True).tolist() == [False, True]
    with pytest.raises(Breach, match="allows no action"):
        usable(np.zeros(3, bool), over=False)


class Levels(gym.Env):
    """By episode and step: which of three actions is allowed, and where it is said ("info", "method", "part", or nowhere)."""

    action_space = gym.spaces.Discrete(3)

    def __init__(self, kind="info", length=4, first=0):
        self.kind, self.length, self.episode, self.t = kind, length, first - 1, 0
        box = gym.spaces.Box(0, 99, (2,))
        mask = gym.spaces.MultiBinary(3)
        self.observation_space = gym.spaces.Dict({"x": box, "action_mask": mask}) if "part" in kind else box

    def allowed(self):
        return np.eye(3, dtype=np.int8)[(self.episode + self.t) % 3]

    def _obs(self):
        x = np.array([self.episode, self.t], np.float32)
        return {"x": x, "action_mask": self.allowed()} if "part" in self.kind else x

    def _info(self):
        return {"action_mask": self.allowed().tolist()} if "info" in self.kind else {}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.episode, self.t = self.episode + 1, 0
        return self._obs(), self._info()

    def step(self, action):
        self.t += 1
        return self._obs(), 1.0, False, self.t == self.length, self._info()


class Methodical(Levels):
    def action_masks(self):
        return [bool(x) for x in self.allowed()]


class Sometimes(Levels):
    """Gives its mask in odd episodes alone."""

    def _info(self):
        return super()._info() if self.episode % 2 else {}


class Opaque(gym.vector.VectorWrapper):
    """Hides what is inside, so that a vector environment is stepped as such."""


MAKERS = {
    "info": Levels,
    "method": lambda: Methodical("method"),
    "a method below a wrapper": lambda: gym.wrappers.OrderEnforcing(Methodical("method")),
    "part": lambda: Levels("part"),
    "sometimes": Sometimes,
    "nowhere": lambda: Levels("nowhere"),
}


def expected(obs, kind):
    x = obs["x"] if isinstance(obs, dict) else obs
    allowed = torch.eye(3, dtype=torch.bool)[x.sum(-1).long() % 3]
    if kind == "sometimes":
        allowed[x[..., 0].long() % 2 == 0] = True
    return allowed


@pytest.mark.parametrize("mode", ["single", *AutoresetMode, "async"])
@pytest.mark.parametrize("kind", MAKERS)
def test_masks_belong_to_their_observations_wherever_they_come_from(kind, mode):
    make = MAKERS[kind]
    env = {
        "single": lambda: make,
        "async": lambda: AsyncVectorEnv([make] * 3),
    }.get(mode, lambda: Opaque(SyncVectorEnv([make] * 3, autoreset_mode=mode)))()
    world = envs.make(env, seeds=3)
    obs = world.reset()
    everything = torch.ones(3, 1, 3, dtype=torch.bool)
    over = torch.zeros(3, 1, dtype=torch.bool)
    for _ in range(14):
        if kind == "nowhere":
            assert world.mask is None
        else:
            mask = everything if world.mask is None else world.mask
            assert torch.equal(mask[~over], expected(obs, kind)[~over])
        step = world.step(torch.zeros(3, 1, dtype=torch.int64))
        next_mask = everything if step.next_mask is None else step.next_mask
        ended = step.terminated | step.truncated
        true = expected(step.next_obs, kind)
        if kind in ("method", "a method below a wrapper") and mode == AutoresetMode.SAME_STEP:
            true[ended] = True  # the rows have been reset when they can be asked
        if kind != "nowhere":
            assert torch.equal(next_mask, true)
        over = ended if mode in (AutoresetMode.NEXT_STEP, "async") else torch.zeros_like(over)
        obs = step.obs
    world.close()


def test_info_counts_before_the_method_and_the_method_before_the_observation():
    class Both(Methodical):
        def _info(self):
            return {"action_mask": [1, 1, 0]} if self.t == 1 else {"action_mask": None}

        def _obs(self):
            return {**super()._obs(), "action_mask": np.array([0, 1, 1])}

    for env in (lambda: Both("part"), Opaque(SyncVectorEnv([lambda: Both("part")]))):
        world = envs.make(env)
        world.reset()
        assert world.mask.tolist() == [[[True, False, False]]]
        assert world.step(np.array([[0]])).mask.tolist() == [[[True, True, False]]]


@pytest.mark.parametrize("mode", ["single", *AutoresetMode])
def test_environments_with_and_without_masks_do_not_touch_each_other(mode):
    makes = [lambda: Levels("nowhere"), Levels, lambda: Levels("nowhere", 3), lambda: Levels("info", 2)]
    # A plain SyncVectorEnv is taken apart.
    vector = SyncVectorEnv(makes) if mode == "single" else Opaque(SyncVectorEnv(makes, autoreset_mode=mode))
    world = envs.make(vector, seeds=4)
    obs, over = world.reset(), torch.zeros(4, 1, dtype=torch.bool)
    for _ in range(9):
        assert world.mask[[0, 2]].all()
        right = expected(obs, "info")
        for k in (1, 3):
            assert over[k] or torch.equal(world.mask[k], right[k])
        step = world.step(torch.zeros(4, 1, dtype=torch.int64))
        over = step.terminated | step.truncated if mode == AutoresetMode.NEXT_STEP else over
        obs = step.obs


class Stuck(gym.Env):
    """Allows nothing at step `at`; ends after 3 steps, by either way."""

    observation_space = gym.spaces.Box(0, 9, (1,))
    action_space = gym.spaces.Discrete(2)

    def __init__(self, at=3, truncates=True):
        self.at, self.truncates, self.t = at, truncates, 0

    def _info(self):
        return {"action_mask": np.zeros(2, np.int8) if self.t == self.at else np.array([1, 0], np.int8)}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(1, np.float32), self._info()

    def step(self, action):
        self.t += 1
        over = self.t == 3
        return np.zeros(1, np.float32), 0.0, over and not self.truncates, over and self.truncates, self._info()


@pytest.mark.parametrize("truncates", [True, False])
@pytest.mark.parametrize("mode", ["single", *AutoresetMode])
def test_nothing_needs_to_be_allowed_at_an_end(mode, truncates):
    make = lambda: Stuck(3, truncates)
    env = make if mode == "single" else Opaque(SyncVectorEnv([make] * 2, autoreset_mode=mode))
    world = envs.make(env, seeds=2)
    world.reset()
    for t in range(1, 9):
        step = world.step(np.zeros((2, 1), int))
        if (step.terminated | step.truncated).all():
            assert step.next_mask.all()
        elif step.valid is None:
            assert step.next_mask.tolist() == [[[True, False]]] * 2, t


@pytest.mark.parametrize("mode", ["single", *AutoresetMode])
@pytest.mark.parametrize("at", [0, 2])
def test_a_mask_that_allows_nothing_is_told_with_its_place(mode, at):
    make = lambda: Stuck(at)
    env = make if mode == "single" else Opaque(SyncVectorEnv([make] * 2, autoreset_mode=mode))
    world = envs.make(env, seeds=[4, 7])

    def play():
        world.reset()
        for _ in range(2):
            world.step(np.zeros((2, 1), int))

    with pytest.raises(envs.EnvError, match=rf"\(seed 4, .*episode 0, step {at}\): it returned .* allows no action"):
        play()


def test_a_member_keeps_a_mask_of_its_own():
    class Shared(Stuck):
        mask = np.array([1, 0], np.int8)

        def _info(self):
            return {"action_mask": self.mask}

    member = envs.ReplayableEnv(Shared(), 0)
    member.reset()
    Shared.mask[:] = 0, 1
    assert member.mask.tolist() == [True, False]
    member.step(1)
    assert member.mask.tolist() == [False, True]


def test_masks_need_discrete_actions():
    class Wide(Stuck):
        action_space = gym.spaces.MultiDiscrete([2, 2])

    world = envs.make(Wide)
    with pytest.raises(envs.EnvError, match="action space is not Discrete"):
        world.reset()
