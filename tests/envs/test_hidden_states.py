"""Worlds that need memory: what is seen, step by step, what is paid, when it ends, and their models."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import envs
import rl
from envs.memory import RepeatFirst, RepeatPrevious, TMaze
from envs.model import partial as partial_models
from envs.views import VIEWS, Components, Window
from rl.explore import EpsilonGreedy

IDS = ["envs/TMaze-v0", "envs/MemoryChain-v0", "envs/RepeatPrevious-v0", "envs/RepeatFirst-v0"]
IDS += [f"envs/{name}" for name in VIEWS]


def played(env, actions, seed=0):
    """The first observation, and (observation, reward, terminated, truncated) of each step, as plain values."""
    obs, _ = env.reset(seed=seed)
    steps = [env.step(a)[:4] for a in actions]
    return np.asarray(obs).tolist(), [(np.asarray(o).tolist(), *rest) for o, *rest in steps]


def seed_of(env, wanted):
    """A seed whose first hidden state is wanted."""
    return next(seed for seed in range(100) if env.reset(seed=seed) and env.unwrapped.state == wanted)


@pytest.mark.parametrize("name", IDS)
@pytest.mark.filterwarnings("ignore:.*Box observation space.*")
def test_gymnasium_finds_no_fault(name):
    check_env(gym.make(name).unwrapped, skip_render_check=True)


@pytest.mark.parametrize("name", IDS)
def test_a_seed_has_the_same_episodes_whatever_else_runs(name):
    def trace(seeds, envs_per_seed, row):
        world, rng = envs.make(name, seeds=seeds, envs_per_seed=envs_per_seed), np.random.default_rng(0)
        found = [np.asarray(world.reset()).tolist()[row][0]]
        for _ in range(60):
            action = int(rng.integers(2))
            step = world.step(np.full((len(seeds), envs_per_seed), action))
            found += [np.asarray(part).tolist()[row][0] for part in (step.obs, step.reward, step.terminated)]
        return found

    alone = trace([7], 1, 0)
    assert trace([7], 1, 0) == alone == trace([3, 7, 9], 2, 1)
    assert trace([8], 1, 0) != alone or name.startswith("envs/FrozenLake")


def test_the_sign_of_a_t_maze_is_seen_in_its_first_cell_alone():
    maze = gym.make("envs/TMaze-v0", length=3)
    north = seed_of(maze, (0, True))
    first, steps = played(maze, [0, 1, 3, 1, 1, 2, 1, 1, 0], north)
    assert first == [0, 1, 1]
    corridor, junction = [1, 0, 1], [0, 1, 0]
    assert steps == [
        ([0, 1, 1], -0.1, False, False),  # north, against a wall
        (corridor, 0.0, False, False),
        ([0, 1, 1], 0.0, False, False),  # back to the first cell, where the sign still is
        (corridor, 0.0, False, False),
        (corridor, 0.0, False, False),
        (corridor, -0.1, False, False),  # south, against a wall
        (junction, 0.0, False, False),
        (junction, -0.1, False, False),  # east, against a wall
        (junction, 4.0, True, False),  # north, to the goal
    ]
    south = seed_of(maze, (0, False))
    first, steps = played(maze, [3, 1, 1, 1, 0], south)
    assert first == [1, 1, 0]
    assert steps[0] == ([1, 1, 0], -0.1, False, False)
    assert steps[-1] == (junction, -0.1, True, False)
    assert played(maze, [1, 1, 1, 2], south)[1][-1] == (junction, 4.0, True, False)


def test_a_t_maze_is_made_with_its_length_and_a_limit_that_grows_with_it():
    for length, limit in ((20, 1050), (1, 100)):
        maze = gym.make("envs/TMaze-v0", length=length)
        assert maze.unwrapped.length == length
        over = [step[3] for step in played(maze, [3] * limit)[1]]
        assert over == [False] * (limit - 1) + [True]
        assert envs.read_partial(maze).model.limit == limit
    assert envs.read_partial(gym.make("envs/TMaze-v0", max_episode_steps=7)).model.limit == 7


def test_a_memory_chain_shows_what_bsuites_does():
    """bsuite gives the observation of before the step: its first one twice, and the last action is chosen at 1 / length."""
    chain = gym.make("envs/MemoryChain-v0", length=4)
    for bit, shown in ((0, -1.0), (1, 1.0)):
        seed = seed_of(chain, (0, bit))
        for action in (0, 1):
            first, steps = played(chain, [0, 1, 0, 1, action], seed)
            assert first == [1.0, 0.0, shown]
            assert [step[0] for step in steps] == [
                [1.0, 0.0, shown], [0.75, 0.0, 0.0], [0.5, 0.0, 0.0], [0.25, 0.0, 0.0], [0.0, 0.0, 0.0],
            ]  # fmt: skip
            assert [step[1] for step in steps] == [0.0] * 4 + [1.0 if action == bit else -1.0]
            assert [step[2:] for step in steps] == [(False, False)] * 4 + [(True, False)]


@pytest.mark.parametrize("k", [1, 2, 4])
def test_repeat_previous_pays_for_the_suit_of_k_minus_1_steps_before(k):
    env = gym.make("envs/RepeatPrevious-v0", k=k, suits=3, copies=2)  # 6 cards, 5 steps
    rng = np.random.default_rng(k)
    for seed in range(5):
        cards, rewards = [env.reset(seed=seed)[0]], []
        for step in range(1, 6):
            action = int(rng.integers(3))
            card, reward, over, cut, _ = env.step(action)
            right = step >= k and action == cards[step - k]
            assert reward == ((1 if right else -1) / (6 - k) if step >= k else 0.0)
            assert (over, cut) == (step == 5, False)
            cards.append(card)
            rewards.append(reward)
        assert sorted(cards) == [0, 0, 1, 1, 2, 2]  # the deck
        assert np.count_nonzero(rewards) == 6 - k


def test_repeat_first_pays_for_the_first_suit():
    env = gym.make("envs/RepeatFirst-v0", suits=2, copies=2)  # 4 cards, 3 steps
    for seed in range(6):
        first, _ = env.reset(seed=seed)
        steps = [env.step(a)[:4] for a in (first, 1 - first, first)]
        assert [step[1] for step in steps] == [1 / 3, -1 / 3, 1 / 3]
        assert [step[2] for step in steps] == [False, False, True]
        assert sorted([first, *(step[0] for step in steps)]) == [0, 0, 1, 1]


def test_decks_are_popgyms():
    assert (RepeatPrevious().steps, RepeatFirst().steps, RepeatPrevious(k=32, copies=26).steps) == (51, 51, 103)
    env = gym.make("envs/RepeatPrevious-v0")
    env.reset(seed=0)
    rewards = [env.step(0)[1] for _ in range(51)]
    assert np.abs(rewards).tolist() == [0.0] * 3 + [1 / 48] * 48


def test_what_is_no_setting_and_no_action_is_refused():
    with pytest.raises(ValueError, match="length must be a whole number of at least 1"):
        gym.make("envs/TMaze-v0", length=0)
    with pytest.raises(ValueError, match="k must be a whole number of at least 1 and at most 51, not 52"):
        RepeatPrevious(k=52)
    maze = TMaze()
    maze.reset(seed=0)
    with pytest.raises(ValueError, match=r"An action must be in 0\.\.3, not 4"):
        maze.step(4)


def test_velocities_are_hidden():
    whole, view = gym.make("CartPole-v1"), gym.make("envs/CartPole-NoVelocity-v1")
    obs, _ = whole.reset(seed=3)
    seen, _ = view.reset(seed=3)
    for step in range(20):
        assert seen.dtype == np.float32
        np.testing.assert_allclose(seen, [obs[0] / 2.4, obs[2] / 0.21], rtol=1e-6)
        (obs, *one), (seen, *other) = whole.step(step % 2), view.step(step % 2)
        assert one == other
    np.testing.assert_allclose(view.observation_space.high, [2.0, 24 * np.pi / 180 / 0.21], rtol=1e-6)
    assert (view.spec.max_episode_steps, gym.make("envs/MountainCar-NoVelocity-v0").spec.max_episode_steps) == (
        500,
        200,
    )
    car = gym.make("envs/MountainCar-NoVelocity-v0")
    assert car.observation_space == gym.spaces.Box(np.float32([-1.2]), np.float32([0.6]))
    assert car.reset(seed=1)[0][0] == gym.make("MountainCar-v0").reset(seed=1)[0][0]


def test_components_that_are_not_there_are_refused():
    with pytest.raises(ValueError, match="keep"):
        Components(gym.make("CartPole-v1"), keep=(0, 4))
    with pytest.raises(ValueError, match="scale must have a number for each of the 2 components"):
        Components(gym.make("CartPole-v1"), keep=(0, 2), scale=(1.0,))
    with pytest.raises(ValueError, match="scale"):
        Components(gym.make("CartPole-v1"), keep=(0,), scale=(0.0,))


def test_a_window_shows_the_squares_around():
    lake = Window(gym.make("FrozenLake-v1", is_slippery=False))
    obs, _ = lake.reset(seed=0)
    assert lake.windows[obs] == "###\n#SF\n#FH"
    obs, *_ = lake.step(2)
    assert lake.windows[obs] == "###\nSFF\nFHF"
    assert len(lake.windows) == 16
    big = gym.make("envs/FrozenLake8x8-Window-v1", is_slippery=False)
    assert big.observation_space.n == 49  # of 64 squares
    first, _ = big.reset(seed=0)
    seen = [big.step(2)[0] for _ in range(6)]
    assert seen[1] == seen[2] == seen[3] == seen[4] != first  # along the upper edge nothing changes
    assert big.spec.max_episode_steps == 200


def test_only_what_shows_what_the_model_says_has_a_model():
    with pytest.raises(envs.NoModelError, match="lacks partial_model"):
        envs.read_partial(gym.make("FrozenLake-v1"))
    altered = gym.wrappers.TransformObservation(gym.make("envs/TMaze-v0"), lambda obs: obs, None)
    with pytest.raises(envs.NoModelError, match="TransformObservation may change observations"):
        envs.read_partial(altered)


def test_too_many_hidden_states_are_not_listed(monkeypatch):
    monkeypatch.setattr(partial_models, "MOST_STATES", 30)
    with pytest.raises(envs.NoModelError, match="RepeatFirst-v0 has more than 30 hidden states"):
        envs.read_partial(gym.make("envs/RepeatFirst-v0"))
    assert envs.read_partial(gym.make("envs/TMaze-v0", length=14)).model.states == 30


def test_a_table_in_a_t_maze_resumes_to_the_bit(tmp_path):
    agent = rl.QLearning(gamma=0.95, explore=EpsilonGreedy(0.2))
    settings = {"steps": 900, "env_kwargs": {"length": 4}}
    whole = rl.start("envs/TMaze-v0", agent, 2, **settings)
    assert "lacks P" in whole.no_model
    whole.advance(900)
    assert whole.agent.table.any()
    part = rl.start("envs/TMaze-v0", agent, 2, **settings)
    part.advance(443)
    assert part.loop.actor.length.min() > 0  # in the middle of episodes
    part.save(tmp_path / "run.safetensors")
    again = rl.load(tmp_path / "run.safetensors")
    again.advance(457)
    assert again.agent.table.tobytes() == whole.agent.table.tobytes()
    assert str(again.loop.executor.state_dict()) == str(whole.loop.executor.state_dict())


@pytest.mark.parametrize("name", ["envs/MemoryChain-v0", "envs/TMaze-v0", "envs/CartPole-NoVelocity-v1"])
def test_networks_learn_from_what_is_seen(name):
    run = rl.start(name, rl.DQN(learn_after_steps=20, batch_size=8, network="mlp(8)", compiled=False), 1, steps=60)
    assert np.isfinite(run.advance(60)["train/loss"]).all()
