"""Rows of vector environments: seeds of their own, episodes' recorded returns, single environments of their kind."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from helpers import Counting, NoisyWalk

import envs
from envs.backends.beginning import member_seed
from envs.source import source


class Native(gym.vector.VectorEnv):
    """Rows that start at a random number; seeds: "each" row's own, "one" number alone, or a list that it "mixes"."""

    single_observation_space = gym.spaces.Box(0, 1, (1,), np.float64)
    single_action_space = gym.spaces.Discrete(2)

    def __init__(self, seeding, rows=4):
        self.seeding, self.num_envs = seeding, rows
        self.observation_space = gym.vector.utils.batch_space(self.single_observation_space, rows)
        self.action_space = gym.vector.utils.batch_space(self.single_action_space, rows)

    def reset(self, *, seed=None, options=None):
        if self.seeding == "each":
            seeds = [seed + i for i in range(self.num_envs)] if isinstance(seed, int) else seed
            self.generators = [np.random.default_rng(s) for s in seeds]
        elif self.seeding == "one":
            super().reset(seed=seed)
            self.generators = [self.np_random] * self.num_envs
        else:
            self.generators = [np.random.default_rng(seed)] * self.num_envs
        return self._draw(), {}

    def _draw(self):
        return np.array([[rng.random()] for rng in self.generators])

    def step(self, actions):
        nothing = np.zeros(self.num_envs, bool)
        return self._draw(), np.zeros(self.num_envs), nothing, nothing, {}


def test_rows_that_can_be_seeded_are_seeded_by_row():
    world, alone = envs.make(Native("each"), seeds=[3, 9], envs_per_seed=2), envs.make(Native("each", 2), [9], 2)
    assert np.array_equal(world.reset()[1:], alone.reset())
    actions = np.zeros((2, 2), int)
    assert np.array_equal(world.step(actions).obs[1:], alone.step(actions[1:]).obs)
    first = np.random.default_rng(member_seed(3, 0)).random()
    assert envs.make(Native("each"), [3, 9], 2).reset()[0, 0, 0] == first


@pytest.mark.parametrize("seeding", ["one", "mixes"])
def test_rows_that_hang_together_are_told_of(seeding):
    with pytest.warns(RuntimeWarning, match="takes one seed for all rows: it is seeded with 3"):
        obs = envs.make(Native(seeding), seeds=[3, 9], envs_per_seed=2).reset()
    rng = np.random.default_rng(3)
    assert obs.reshape(-1).tolist() == [rng.random() for _ in range(4)]


class Opaque(gym.vector.VectorWrapper):
    """Hides what is inside, so that a vector environment is stepped as such."""


def halved():
    return gym.wrappers.TransformReward(gym.wrappers.RecordEpisodeStatistics(Counting(3, box=True)), lambda r: r / 2)


@pytest.mark.parametrize("mode", ["single", *AutoresetMode])
def test_recorded_returns_are_read_where_they_are(mode):
    env = halved if mode == "single" else Opaque(SyncVectorEnv([halved] * 4, autoreset_mode=mode))
    world = envs.make(env, seeds=2, envs_per_seed=2)
    world.reset()
    assert world.rows.recorded_returns() is None
    for _ in range(11):
        world.step(np.zeros((2, 2), int))
    wanted = np.mean([3 * 100 * i + 6 for i in range(3)])
    assert world.rows.recorded_returns().tolist() == [wanted, wanted]


def test_the_last_hundred_recorded_returns_of_a_seed_are_kept():
    world = envs.make(lambda: gym.wrappers.RecordEpisodeStatistics(Counting(1)), seeds=1, envs_per_seed=3)
    world.reset()
    for _ in range(200):
        world.step(np.zeros((1, 3), int))
    last = sorted([100 * i + 1 for i in range(200)] * 3)[-100:]
    assert world.rows.recorded_returns()[0] == np.mean(last)
    again = envs.make(lambda: gym.wrappers.RecordEpisodeStatistics(Counting(1)), seeds=1, envs_per_seed=3)
    with pytest.warns(RuntimeWarning):  # Counting keeps the number of its episode
        again.load_state_dict(world.state_dict())
    assert again.rows.recorded_returns() == world.rows.recorded_returns()


def test_single_environments_of_a_vector_environments_kind():
    lengths = SyncVectorEnv([lambda n=n: NoisyWalkOf(n) for n in (3, 5)])
    assert [source(lengths).make(row=row).length for row in (0, 1)] == [3, 5]
    wrapped = gym.wrappers.vector.RecordEpisodeStatistics(gym.make_vec("CartPole-v1", 2, vectorization_mode="sync"))
    for vector in (wrapped, gym.make_vec("CartPole-v1", 2), AsyncVectorEnv([lambda: gym.make("CartPole-v1")] * 2)):
        env = source(vector).make()
        assert env.spec.max_episode_steps == 500
        vector.close()
    one = NoisyWalk()
    assert "same environment twice" in source(SyncVectorEnv([lambda: one])).why_not_made()
    assert "VectorEnv in Opaque" in source(Opaque(lengths)).why_not_made()
    assert "without a spec or functions" in source(Native("each")).why_not_made()
    assert source("CartPole-v1").why_not_made() is None


class NoisyWalkOf(NoisyWalk):
    def __init__(self, length):
        super().__init__()
        self.length = length
