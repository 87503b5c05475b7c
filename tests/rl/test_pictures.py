"""Pictures of what a run has learned, as TensorBoard shows them."""

import gymnasium as gym
import numpy as np
import pytest
from helpers import NoisyWalk

import rl
from rl.report import episode, pictures

KINDS = {
    "lake": ("FrozenLake-v1", rl.QLearning(), {"table/policy", "table/q_values", "table/visits"}),
    "function": (NoisyWalk, rl.QLearning(), {"table/q_values"}),
    "tiles": ("MountainCar-v0", rl.LinearSARSA(), {"table/max_q", "table/policy"}),
    "episode": ("envs/MemoryChain-v0", rl.DQN(network="gru(8)", learn_after_steps=0), {"episode/values"}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_panel_is_drawn_of_the_seed_and_changes_with_what_it_learns(kind, drawn):
    env, agent, names = KINDS[kind]
    run = rl.start(env, agent, [3, 8], steps=2_000)
    run.advance(50)
    before = pictures.to_images(run, 1)
    run.advance(1_000)
    after, other = pictures.to_images(run, 1), pictures.to_images(run, 0)
    assert before.keys() == after.keys() == other.keys() == names
    for name, picture in after.items():
        assert (picture.shape, picture.dtype) == ((400, 400, 3), np.uint8)
        assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 20, name
        below = slice(80, None)  # the title, which names seed and step
        assert not np.array_equal(picture[below], before[name][below]), name
        assert not np.array_equal(picture[below], other[name][below]), name


def test_the_values_of_an_episode_stand_beside_what_came_of_them():
    """By hand: a policy that remembers, its values divided by the scale of rewards, and returns discounted from the end."""
    config = rl.DQN(network="gru(8)", gamma=0.5, reward_scale=2.0, learn_after_steps=20, batch_size=4)
    run = rl.start("envs/MemoryChain-v0", config, [3, 8], env_kwargs={"length": 3})
    run.advance(60)
    found = episode.trace(run, 1)
    env, policy = gym.make("envs/MemoryChain-v0", length=3), run.policy(8)
    obs, _ = env.reset(seed=8)
    state, values, norms, rewards, over = None, [], [], [], False
    while not over:
        values.append(policy.q(obs, state).max() / 2)
        norms.append(0.0 if state is None else float(np.linalg.norm(state["h"])))
        action, state = policy.predict(obs, state)
        obs, reward, over, _, _ = env.step(int(action))
        rewards.append(reward)
    np.testing.assert_allclose(found.value, values, rtol=1e-6)
    np.testing.assert_allclose(found.norm, norms, rtol=1e-6)
    assert found.obtained.tolist() == [sum(0.5**i * r for i, r in enumerate(rewards[t:])) for t in range(len(rewards))]
    assert found.terminated
    assert len(norms) == 4
    assert norms[-1] > 0


def test_a_picture_of_an_episode_heeds_what_is_allowed():
    class OnlyOne(gym.Env):
        observation_space, action_space = gym.spaces.Box(0, 1, (2,)), gym.spaces.Discrete(3)

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            self.t = 0
            return np.zeros(2, np.float32), {"action_mask": np.array([0, 1, 0], np.int8)}

        def step(self, action):
            assert action == 1, "a forbidden action"
            self.t += 1
            mask = np.array([0, 1, 0], np.int8)
            return np.zeros(2, np.float32), 1.0, self.t == 3, False, {"action_mask": mask, "discount": 0.5}

    run = rl.start(OnlyOne, rl.DQN(network="mlp(4)"), 8)  # of some seed the best action is a forbidden one
    for k, seed in enumerate(run.seeds):
        found = episode.trace(run, k)
        assert found.obtained[0] == pytest.approx(1 + 0.99 * 0.5 * (1 + 0.99 * 0.5))
        assert found.value.tolist() == [run.policy(seed).q(np.zeros(2, np.float32))[1]] * 3
