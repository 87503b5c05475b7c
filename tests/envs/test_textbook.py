import dataclasses

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import envs
import rl
from envs import exact_access_control, exact_textbook_q, tables
from envs.mazes import ChangingMaze
from envs.textbook import TEXTBOOK
from rl import planning
from rl.explore import EpsilonGreedy
from supervised import checkpoint


def test_former_names_still_work():
    old, new = gym.make("envs/MaximisationBias-v0"), gym.make("envs/MaximizationBias-v0")
    assert old.unwrapped.P == new.unwrapped.P
    assert np.array_equal(
        envs.exact_textbook_q("MaximisationBias", 0.9), envs.exact_textbook_q("MaximizationBias", 0.9)
    )
    assert envs.textbook.maximization_bias is envs.textbook.maximization_bias


@pytest.mark.parametrize("name", ["MaximizationBias", "DynaMaze"])
@pytest.mark.parametrize("gamma", [0.9, 1.0])
def test_the_exact_q_is_the_planned_one(name, gamma):
    model = tables.read(gym.make(f"envs/{name}-v0"))
    np.testing.assert_allclose(exact_textbook_q(name, gamma), planning.value_iteration(model, gamma).q, atol=1e-9)


def test_the_most_that_ten_servers_earn():
    """Howard's iteration in `envs` and relative value iteration in `rl` agree, and no single change earns more."""
    gain, q = exact_access_control()
    model = tables.read(gym.make("envs/AccessControl-v0"))
    planned, solution = planning.relative_value_iteration(model)
    assert planned == pytest.approx(gain, abs=1e-10)
    np.testing.assert_allclose(solution.q, q, atol=1e-8)
    assert planning.gain(model, solution.policy) == pytest.approx(gain, abs=1e-9)
    one = solution.policy.copy()
    for s in range(44):  # no single change of the policy earns more
        one[s] = 1 - one[s]
        assert planning.gain(model, one) <= gain + 1e-9
        one[s] = 1 - one[s]
    with pytest.raises(ValueError, match="FrozenLake-v1 can terminate"):
        planning.relative_value_iteration(tables.read(gym.make("FrozenLake-v1")))


def test_the_gain_of_a_policy_by_hand():
    # Two states in turn, rewards 1 and 4; and a chain whose episodes of two steps begin anew.
    turn = envs.TableEnv({0: {0: [(1.0, 1, 1.0, False)]}, 1: {0: [(1.0, 0, 4.0, False)]}}, [1.0, 0.0])
    assert planning.gain(tables.read(turn), np.zeros(2, np.int64)) == pytest.approx(2.5)
    assert planning.relative_value_iteration(tables.read(turn))[0] == pytest.approx(2.5)
    assert planning.gain(tables.read(gym.make("envs/Delay-v0")), np.zeros(2, np.int64)) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("name", "steps"), [("BlockingMaze", (10, 16)), ("ShortcutMaze", (16, 10))], ids=["blocking", "shortcut"]
)
def test_a_maze_changes_and_its_exact_q_leads_through_it(name, steps):
    for changed in (False, True):
        env = gym.make(f"envs/{name}-v0", change_after=0 if changed else 1000)
        q = exact_textbook_q(name, 0.9, changed)
        s, _ = env.reset(seed=0)
        rewards, over = [], False
        while not over:
            value = q[s].max()
            s, reward, over, _, _ = env.step(int(q[s].argmax()))
            rewards.append(reward)
            assert value == pytest.approx(reward + 0.9 * (0.0 if over else q[s].max()))
        assert (len(rewards), sum(rewards)) == (steps[changed], 1.0)
    env = gym.make(f"envs/{name}-v0", change_after=7)
    env.reset(seed=0)
    for _ in range(7):
        env.reset()
        env.step(0)
    old, new = env.unwrapped.before, env.unwrapped.after
    assert env.unwrapped.steps == 7
    place = 3 * 9 + (8 if name == "BlockingMaze" else 0)  # the passage that stays, or is closed
    assert (old[place // 9][place % 9], new[place // 9][place % 9]) == (".", "#" if name == "BlockingMaze" else ".")
    with pytest.raises(ValueError, match="change_after must be a whole number of at least 0"):
        gym.make(f"envs/{name}-v0", change_after=-1)


def test_what_outlives_an_episode_is_put_back(tmp_path):
    """The change comes at step 700; the run is saved at 500 and at 900, in the middle of episodes."""
    agent = rl.DynaQ(gamma=0.95, step_size=0.5, explore=EpsilonGreedy(0.1), outcomes=1)
    settings = {"steps": 1500, "env_kwargs": {"change_after": 700}}
    whole = rl.start("envs/BlockingMaze-v0", agent, 2, **settings)
    whole.advance(1500)
    for until in (500, 900):
        part = rl.start("envs/BlockingMaze-v0", agent, 2, **settings)
        part.advance(until)
        assert part.loop.actor.length.max() > 0
        part.save(tmp_path / "run.safetensors")
        again = rl.load(tmp_path / "run.safetensors")
        again.advance(1500 - until)
        assert again.agent.table.tobytes() == whole.agent.table.tobytes()
        assert str(again.loop.executor.state_dict()) == str(whole.loop.executor.state_dict())


@pytest.mark.full  # takes 3 s
def test_each_seed_is_judged_in_a_maze_of_its_own():
    """An evaluation that changes the maze for one seed does not for the next."""
    agent = rl.DynaQ(gamma=0.95, step_size=0.5, explore=EpsilonGreedy(0.1), outcomes=1)
    together = rl.train("envs/BlockingMaze-v0", agent, steps=2000, seeds=[0, 1, 2], progress=False).evaluate(60)
    alone = rl.train("envs/BlockingMaze-v0", agent, steps=2000, seeds=[2], progress=False).evaluate(60)
    assert (together.lengths[2] == alone.lengths[0]).all()


class Lasting(gym.Env):
    """Counts its steps in a list that it hands out."""

    observation_space, action_space = gym.spaces.Discrete(3), gym.spaces.Discrete(2)

    def __init__(self):
        self.count = [0]

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.s = self.k = 0
        return 0, {}

    def step(self, action):
        self.count[0] += 1
        self.s, self.k = (self.s + 1) % 3, self.k + 1
        return self.s, float(self.count[0] > 150), self.k == 50, False, {}

    def persistent_state(self):
        return self.count

    def set_persistent_state(self, state):
        self.count = list(state)


def test_what_lasts_is_kept_as_it_was_when_the_episode_began(tmp_path):
    run = rl.start(Lasting, rl.QLearning())
    run.advance(75)
    run.save(tmp_path / "run.safetensors")
    assert rl.load(tmp_path / "run.safetensors", Lasting).loop.executor.members[0][0].env.count == [75]

    state, meta = checkpoint.load(tmp_path / "run.safetensors")
    for member in state["loop"]["walk"]["members"]:
        del member["lasting"]  # as checkpoints were before environments could tell
    checkpoint.save(tmp_path / "old.safetensors", state, meta, keep=False)
    assert rl.load(tmp_path / "old.safetensors", lambda: gym.wrappers.OrderEnforcing(Lasting())).step == 75

    class Half(Lasting):
        set_persistent_state = property()

    with pytest.raises(envs.EnvError, match="has only one of persistent_state and set_persistent_state"):
        rl.start(Half, rl.QLearning())


def test_mazes_and_moves_are_checked():
    with pytest.raises(ValueError, match="six rows of nine letters with one S and one G"):
        ChangingMaze(("S..", "..G"), ("S..", "..G"), 3)
    env = gym.make("envs/BlockingMaze-v0").unwrapped
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"An action must be in 0\.\.3"):
        env.step(-1)


def test_the_gain_does_not_hang_on_the_size_of_rewards():
    model = tables.read(gym.make("envs/AccessControl-v0"))
    for scale in (1e-2, 1e3, 1e6):
        larger = dataclasses.replace(model, reward=model.reward * scale)
        assert planning.relative_value_iteration(larger)[0] == pytest.approx(2.7476419506 * scale, rel=1e-6)
    with pytest.raises(ValueError, match="tolerance must lie in"):
        planning.relative_value_iteration(model, tolerance=float("nan"))
    with pytest.raises(ValueError, match="one policy at a time"):
        planning.gain(model, np.zeros((3, 44), np.int64))


@pytest.mark.full  # takes 6 s
def test_dyna_q_plus_finds_what_has_changed():
    """Examples 8.2 and 8.3: where a shorter way opens, only who tries old ways again finds it; 6 seeds."""
    settings = {"gamma": 0.95, "step_size": 0.5, "explore": EpsilonGreedy(0.1), "outcomes": 1}
    late = {}
    for name in ("BlockingMaze", "ShortcutMaze"):
        for bonus in (0.0, 1e-3):
            run = rl.start(f"envs/{name}-v0", rl.DynaQ(bonus=bonus, **settings), 6, steps=6000)
            run.advance(5000)
            before = run.loop.actor.episodes.copy()
            run.advance(1000)
            late[name, bonus] = (run.loop.actor.episodes - before).sum(1)
    # Steps an episode takes in the end: 1000 / late; 10 are the shortest way, 16 the long one.
    assert late["ShortcutMaze", 1e-3].mean() > 1000 / 14 > 1000 / 16 > late["ShortcutMaze", 0.0].mean()
    assert late["BlockingMaze", 1e-3].mean() > late["BlockingMaze", 0.0].mean()


@pytest.mark.parametrize("name", TEXTBOOK)
def test_they_are_proper_environments(name):
    check_env(gym.make(f"envs:envs/{name}-v0").unwrapped, skip_render_check=True)


@pytest.mark.full  # takes 4 s
def test_the_maze_takes_14_steps():
    run = rl.train("envs/DynaMaze-v0", rl.DynaQ(gamma=0.95), steps=5_000, seeds=3, progress=False)
    assert (run.evaluate(1).lengths == 14).all()


def test_sarsa_goes_the_safe_way_and_q_learning_the_short_one():
    """Example 6.6: epsilon .1, step size .5, no discount; while they explore SARSA earns more. 10 seeds."""
    lately = {}
    for agent in (rl.SARSA, rl.QLearning):
        settings = {"gamma": 1.0, "step_size": 0.5, "explore": EpsilonGreedy(0.1)}
        run = rl.start("CliffWalking-v1", agent(**settings), 10, steps=50_000)
        run.advance(50_000)
        lately[agent.__name__] = run.episodes()["rollout/ep_rew_mean"].numpy()
    assert (lately["SARSA"] > lately["QLearning"]).all(), lately
    for agent, lengths in ((rl.SARSA, (15, 17)), (rl.QLearning, (13,))):
        run = rl.train("CliffWalking-v1", agent(explore=EpsilonGreedy(0.1)), steps=200_000, seeds=10, progress=False)
        assert np.isin(-run.exact.value(run.agent.table.argmax(-1)), lengths).sum() >= 9


def test_double_q_learning_goes_left_less_often():
    """Example 6.7: 1 000 seeds, epsilon .1, step size .1; a greedy agent that knows better goes left 5 % of the time."""
    left = {}
    for agent in (rl.QLearning, rl.DoubleQ):
        settings = {"gamma": 1.0, "step_size": 0.1, "explore": EpsilonGreedy(0.1)}
        run = rl.start("envs/MaximizationBias-v0", agent(**settings), 1000, steps=1000)
        run.advance(150)
        visits = run.agent.visits[:, 0]
        left[agent.__name__] = visits[:, ::2].sum() / visits.sum()
    assert left["QLearning"] > 1.5 * left["DoubleQ"], left
    assert left["QLearning"] > 0.3


@pytest.mark.full
def test_planning_steps_spare_real_ones():
    """Example 8.1, figure 8.2: episodes are over sooner the more steps are made up; 30 seeds, epsilon .1, step size .1."""
    steps = {}
    for planning_steps in (1, 5, 50):
        agent = rl.DynaQ(gamma=0.95, step_size=0.1, explore=EpsilonGreedy(0.1), planning_steps=planning_steps)
        run = rl.start("envs/DynaMaze-v0", agent, 30, steps=6000)
        while run.loop.actor.counters[:, 1].min() < 10:
            run.advance(200)
        steps[planning_steps] = run.loop.actor.lengths[:, 1:10].sum(1).mean()  # of the episodes after the first
    assert steps[50] < 0.9 * steps[5] < 0.75 * steps[1], steps
    assert 9 * 14 < steps[50] < 9 * 30
