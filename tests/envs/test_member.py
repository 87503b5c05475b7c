import gymnasium as gym
import numpy as np
import pytest
from helpers import NoisyWalk

from envs.backends.member import ReplayableEnv, digest


def play(member, steps, log):
    for t in range(steps):
        result = member.step(t % member.env.action_space.n)
        log.append((digest(result[0]), *result[1:]))
        if result[2] or result[3]:
            log.append(digest(member.reset()))


@pytest.mark.parametrize(
    "make", [NoisyWalk, *(lambda i=i: gym.make(i) for i in ("Blackjack-v1", "CartPole-v1", "Taxi-v4"))]
)
@pytest.mark.parametrize("stop", [0, 1, 23, 60])
def test_an_episode_is_gone_on_with_to_the_bit(make, stop):
    whole, before, after = [], [], []
    one = ReplayableEnv(make(), 5)
    one.reset()
    play(one, stop, before)
    saved = one.state_dict()
    play(one, 50, whole)
    two = ReplayableEnv(make(), 5)
    assert two.load_state_dict(saved)
    play(two, 50, after)
    assert after == whole


class OwnGenerator(NoisyWalk):
    """Keeps its generator to itself: it can only be reseeded."""

    def reset(self, *, seed=None, options=None):
        self._np_random = None
        self.rng = np.random.default_rng(seed)
        self.place = int(self.rng.integers(-1, 2))
        return self.place, {}

    def step(self, action):
        self.place += 1 if self.rng.random() < 0.5 else -1
        return self.place, 0.0, abs(self.place) == 3, False, {}


def test_an_environment_whose_generator_is_hidden_is_reseeded_per_episode():
    logs = []
    for _ in range(2):
        member, log = ReplayableEnv(OwnGenerator(), 5), []
        member.reset()
        assert not member.beginning.readable
        play(member, 200, log)
        logs.append(log)
    assert logs[0] == logs[1]
    member = ReplayableEnv(OwnGenerator(), 5)
    member.reset()
    play(member, 31, [])
    saved, expected = member.state_dict(), []
    play(member, 40, expected)
    again, log = ReplayableEnv(OwnGenerator(), 5), []
    assert again.load_state_dict(saved)
    play(again, 40, log)
    assert log == expected


class Forgetful(NoisyWalk):
    """Not deterministic: every object has numbers of its own."""

    def step(self, action):
        self.place += int(np.random.default_rng().choice([-1, 1]))
        return self.place, 0.0, False, False, {}

    def __init__(self):
        super().__init__()
        self.observation_space = gym.spaces.Discrete(2_000_000, start=-1_000_000)


def test_one_that_is_not_deterministic_is_told_of():
    member = ReplayableEnv(Forgetful(), 1)
    member.reset()
    play(member, 400, [])
    with pytest.warns(RuntimeWarning, match="not deterministic"):
        assert not ReplayableEnv(Forgetful(), 1).load_state_dict(member.state_dict())


def test_seeds_and_members_differ():
    firsts = {digest(ReplayableEnv(gym.make("CartPole-v1"), seed, e).reset()) for seed in (0, 1) for e in (0, 1)}
    assert len(firsts) == 4
