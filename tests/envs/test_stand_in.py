"""Native rows in place of Gymnasium's environments: the same trajectories, the same checkpoints, and only where both hold."""

import gymnasium as gym
import numpy as np
import pytest

import envs
import rl
from envs.backends import stand_in
from envs.backends.native_rows import NativeRows
from envs.backends.rows import SingleEnvs, members_of
from envs.backends.stand_in import StandInRows
from envs.source import source
from envs.vector import ArrayWorld

IDS = ["CartPole-v1", "MountainCar-v0"]
SEEDS = (3, 8, 11)


def worlds(name, seeds=SEEDS, envs_per_seed=2, **kwargs):
    """The stand-in, and single environments of the same id."""
    where = source(name, kwargs)
    mine = envs.make(where, seeds=seeds, envs_per_seed=envs_per_seed)
    assert isinstance(mine.rows, StandInRows)
    return mine.arrays, ArrayWorld(SingleEnvs(members_of(where, seeds, envs_per_seed)), seeds, envs_per_seed)


def equal(a, b):
    """Whether two saved states are the same, with all keys, types and bits."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(equal, a, b))
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and np.array_equal(a, b)
    return type(a) is type(b) and a == b


def play(world, actions):
    """Take actions and return every number that a step gives."""
    found = []
    for action in actions:
        step = world.step(action)
        found.append([np.asarray(part) for part in step[:5]])
    return found


def same(one, other):
    """Whether all numbers are the same to the bit, the sign of zero included."""
    return all(a.tobytes() == b.tobytes() for x, y in zip(one, other, strict=True) for a, b in zip(x, y, strict=True))


def chosen(count, seed=0, actions=2):
    return np.random.default_rng(seed).integers(actions, size=(count, len(SEEDS), 2))


@pytest.mark.parametrize("name", IDS)
def test_trajectories_and_checkpoints_are_those_of_single_environments(name):
    mine, theirs = worlds(name)
    assert np.array_equal(mine.reset(), theirs.reset())
    assert equal(mine.state_dict(), theirs.state_dict())
    for cut in range(6):
        actions = chosen(83, cut)
        assert same(play(mine, actions), play(theirs, actions))
        assert equal(mine.state_dict(), theirs.state_dict())


@pytest.mark.parametrize("name", IDS)
@pytest.mark.parametrize("cut", [0, 1, 7, 150, 431])
def test_each_continues_what_the_other_saved(name, cut):
    mine, theirs = worlds(name)
    mine.reset(), theirs.reset()
    play(mine, chosen(cut)), play(theirs, chosen(cut))
    saved = mine.state_dict()
    mine_again, theirs_again = worlds(name)
    (obs, fresh), (other, _) = mine_again.load_state_dict(theirs.state_dict()), theirs_again.load_state_dict(saved)
    assert np.array_equal(obs, other)
    assert not fresh.any()
    assert equal(mine_again.state_dict(), saved)
    after = chosen(300, 1)
    expected = play(mine, after)
    assert same(play(mine_again, after), expected)
    assert same(play(theirs_again, after), expected)
    assert equal(mine_again.state_dict(), mine.state_dict())


def test_a_time_limit_of_ones_own_is_kept():
    mine, theirs = worlds("MountainCar-v0", max_episode_steps=17)
    mine.reset(), theirs.reset()
    one = play(mine, chosen(60, actions=3))
    assert same(one, play(theirs, chosen(60, actions=3)))
    assert one[16][2].all()
    assert equal(mine.state_dict(), theirs.state_dict())


def test_a_state_that_is_not_reached_starts_a_new_episode_as_single_environments_do():
    mine, theirs = worlds("CartPole-v1")
    mine.reset()
    play(mine, chosen(5))
    saved = mine.state_dict()
    saved["members"][4]["total"] += 1
    for world in (*worlds("CartPole-v1"), theirs):
        with pytest.warns(RuntimeWarning, match="did not reach its saved state"):
            _, fresh = world.load_state_dict(saved)
        assert fresh.tolist() == [[False, False], [False, False], [True, False]]
    again, single = worlds("CartPole-v1")
    with pytest.warns(RuntimeWarning):
        again.load_state_dict(saved), single.load_state_dict(saved)
    assert same(play(again, chosen(100, 2)), play(single, chosen(100, 2)))


def test_a_damaged_state_is_refused():
    mine, _ = worlds("CartPole-v1")
    mine.reset()
    play(mine, chosen(5))
    saved = mine.state_dict()
    saved["members"][0]["actions"][-1] = 2
    with pytest.raises(ValueError, match=r"saved actions of seed 3 must be in 0\.\.1"):
        worlds("CartPole-v1")[0].load_state_dict(saved)


@pytest.mark.parametrize(
    ("name", "kwargs", "seeds"),
    [
        ("CartPole-v1", {}, 1),  # a single row
        ("CartPole-v1", {"sutton_barto_reward": True}, 8),
        ("CartPole-v1", {"max_episode_steps": -1}, 8),
        ("MountainCar-v0", {"goal_velocity": 0.02}, 8),
        ("Acrobot-v1", {}, 8),
        ("FrozenLake-v1", {}, 8),
    ],
)
def test_other_environments_are_their_own(name, kwargs, seeds):
    assert isinstance(envs.make(name, seeds=seeds, env_kwargs=kwargs).rows, SingleEnvs)


@pytest.mark.filterwarnings("ignore:.*Overriding environment")
def test_wrappers_functions_and_ids_registered_anew_are_their_own():
    assert isinstance(envs.make(envs.with_wrappers("CartPole-v1", ["FlattenObservation"]), seeds=8).rows, SingleEnvs)
    assert isinstance(envs.make(lambda: gym.make("CartPole-v1"), seeds=8).rows, SingleEnvs)
    own = gym.registry.pop("CartPole-v1")
    try:
        gym.register("CartPole-v1", Mine, max_episode_steps=500)
        assert isinstance(envs.make("CartPole-v1", seeds=8).rows, SingleEnvs)
        gym.register("CartPole-v1", own.entry_point, max_episode_steps=500, kwargs={"sutton_barto_reward": True})
        assert isinstance(envs.make("CartPole-v1", seeds=8).rows, SingleEnvs)
    finally:
        gym.registry["CartPole-v1"] = own
    assert isinstance(envs.make("CartPole-v1", seeds=8).rows, StandInRows)


class Mine(gym.envs.classic_control.CartPoleEnv):
    pass


@pytest.mark.parametrize("name", IDS)
def test_a_machine_where_bits_differ_uses_single_environments(name, monkeypatch):
    entry = gym.spec(name).entry_point
    assert stand_in.is_exact.__wrapped__(entry, ())
    game = stand_in.EXACT[entry]

    class Rounded(game):
        def transition(self, state, action, draws):
            state, reward, terminated = super().transition(state, action, draws)
            return {name: np.nextafter(part, 9.0) for name, part in state.items()}, reward, terminated

    monkeypatch.setitem(stand_in.EXACT, entry, Rounded)
    assert not stand_in.is_exact.__wrapped__(entry, ())


def test_a_method_that_a_program_replaces_is_called(monkeypatch):
    assert isinstance(envs.make("CartPole-v1", seeds=2).rows, StandInRows)
    step = gym.envs.classic_control.CartPoleEnv.step

    def doubled(self, action):
        obs, reward, *rest = step(self, action)
        return obs, 2 * reward, *rest

    monkeypatch.setattr(gym.envs.classic_control.CartPoleEnv, "step", doubled)
    world = envs.make("CartPole-v1", seeds=2).arrays
    world.reset()
    assert (world.step(np.zeros((2, 1), np.int64)).reward == 2).all()
    monkeypatch.undo()
    assert isinstance(envs.make("CartPole-v1", seeds=2).rows, StandInRows)


def test_training_and_evaluation_give_the_same_bits(monkeypatch, tmp_path):
    agent = rl.DQN(network="mlp(16)", learn_after_steps=30, batch_size=16, capacity_steps=400)

    def trained(path):
        run = rl.start("CartPole-v1", agent, 4, steps=400)
        run.advance(150)
        run.save(path)
        run.advance(250)
        return run.evaluate(4).returns, run

    mine, run = trained(tmp_path / "mine")
    monkeypatch.setattr(stand_in, "FEW", 10**9)
    theirs, other = trained(tmp_path / "theirs")
    assert np.array_equal(mine, theirs)
    for key, value in run.agent.state_dict()["online"].items():
        assert np.array_equal(value, other.agent.state_dict()["online"][key])
    crossed = rl.load(tmp_path / "mine")  # now with single environments
    monkeypatch.undo()
    back = rl.load(tmp_path / "theirs")
    for again in (crossed, back):
        again.advance(250)
        for key, value in run.agent.state_dict()["online"].items():
            assert np.array_equal(value, again.agent.state_dict()["online"][key])
    assert isinstance(back.loop.actor.world.rows, NativeRows) != isinstance(crossed.loop.actor.world.rows, NativeRows)
