"""Tile coding and SARSA(lambda) over it: by hand, against a naive reference, against the table, and on MountainCar."""

import math

import gymnasium as gym
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import rl
from rl.core import jit
from rl.core.spaces import SpaceError
from rl.explore import Boltzmann, DecayingNoise, EpsilonGreedy
from rl.linear import sarsa as linear
from rl.linear.tile_coding import code, coding_of, values
from rl.tabular.traces import KINDS
from supervised.schedules import Linear


def box(low, high):
    return gym.spaces.Box(np.array(low, np.float32), np.array(high, np.float32))


def test_tiles_by_hand():
    coding = coding_of(box([0, -1], [4, 1]), 2, 4)
    assert coding.features == 2 * 5 * 5
    assert coding.shift.tolist() == [[0, 0], [0.5, 0.5]]
    found = np.empty((3, 2), np.int64)
    code(coding, np.array([[1.2, -1.0], [9.0, 1.0], [3.6, 0.9]]), found)
    # Tiles are 1 and .5 wide. Grid 0: (1, 0), grid 1: (1.7, .5); beyond the edge: (4, 4); near it: (3, 3) and (4.1, 4.3).
    assert found.tolist() == [[1 * 5 + 0, 25 + 1 * 5 + 0], [4 * 5 + 4, 25 + 24], [3 * 5 + 3, 25 + 4 * 5 + 4]]


@given(
    st.integers(1, 3), st.integers(1, 9), st.integers(1, 9), st.lists(st.floats(-1e300, 1e300), min_size=3, max_size=3)
)
def test_every_grid_has_one_tile_for_an_observation(axes, tilings, tiles, numbers):
    space = box([-1] * axes, [2] * axes)
    if any(math.gcd(tilings, 2 * d + 1) > 1 for d in range(axes)):
        with pytest.raises(SpaceError, match="would not be offset evenly along axis"):
            coding_of(space, tilings, tiles)
        return
    coding = coding_of(space, tilings, tiles)
    found = np.empty((1, tilings), np.int64)
    code(coding, np.array([numbers[:axes]]), found)
    each = (tiles + 1) ** axes
    assert (found[0] // each == np.arange(tilings)).all()
    for i, place in enumerate(found[0]):
        wanted = 0
        for d in range(axes):
            x = min(max((numbers[d] + 1) / 3, 0), 1) * tiles + ((2 * d + 1) * i % tilings) / tilings
            digit = place % each // (tiles + 1) ** (axes - 1 - d) % (tiles + 1)
            assert digit - 1e-9 <= x <= digit + 1 + 1e-9
            wanted = wanted * (tiles + 1) + digit
        assert wanted == place % each


def test_neighbors_share_tiles_evenly():
    """Over the range each tiling changes its tile at places of its own, evenly spread."""
    coding = coding_of(box([0], [1]), 8, 4)
    x = np.linspace(0, 1, 3200, endpoint=False)[:, None] + 1e-6
    found = np.empty((3200, 8), np.int64)
    code(coding, x, found)
    changes = np.flatnonzero((np.diff(found, axis=0) != 0).any(1))
    assert len(changes) == 31  # 8 tilings, 4 tiles: a change every 1/32
    assert set(np.diff(changes)) == {100}


def test_values_are_sums_of_weights():
    weights = np.random.default_rng(0).normal(size=(2, 6, 3))
    tiles = np.array([[0, 4], [1, 5], [0, 3], [2, 2]])  # two rows of each seed
    q = np.empty((4, 3))
    values(weights, tiles, q)
    np.testing.assert_allclose(q, [weights[r // 2, tiles[r]].sum(0) for r in range(4)])


def naive(kind, steps, features, actions, gamma, decay, rate):
    """Sutton and Barto's boxes of 12.7, with whole vectors."""
    w, z, old = np.zeros(features * actions), np.zeros(features * actions), 0.0
    for tiles, a, reward, discount, tiles2, a2, over in steps:
        x, x2 = np.zeros((2, features * actions))
        x[tiles * actions + a] = 1
        if discount:
            x2[tiles2 * actions + a2] = 1
        following, value = w @ x2, w @ x
        error = reward + discount * following - value
        z = gamma * decay * z
        z[np.abs(z) < 1e-4] = 0
        if kind == "dutch":
            z = z + (1 - rate * (z @ x)) * x
            w = w + rate * (error + value - old) * z - rate * (value - old) * x
            old = following
        else:
            z = np.where(x > 0, 1.0 if kind == "replacing" else z + 1, z)
            w = w + rate * error * z
        if over:
            z, old = np.zeros_like(z), 0.0
    return w.reshape(features, actions)


@pytest.mark.parametrize("kind", KINDS)
def test_the_rule_against_a_naive_reference(kind):
    """Two rows that learn side by side, each for a seed of its own; terminations and truncations among them."""
    rng = np.random.default_rng(3)
    features, actions, grids, gamma, decay, rate = 8, 3, 2, 0.9, 0.8, 0.4
    weights = np.zeros((2, features, actions))
    pairs = features * actions
    memory = linear.EligibilityTraces(
        np.zeros((2, pairs)), np.zeros((2, pairs), np.int64), np.zeros(2, np.int64), np.zeros(2)
    )
    steps = [[], []]

    def somewhere():
        return np.array([[rng.integers(4), 4 + rng.integers(4)] for _ in range(2)]), rng.integers(3, size=2)

    tiles, action = somewhere()
    for _ in range(300):
        tiles2, action2 = somewhere()
        chance = rng.random(2)
        discount = np.where(chance < 0.1, 0.0, gamma)
        over, reward = chance < 0.2, rng.normal(size=2)
        following = np.array([weights[r, tiles2[r], action2[r]].sum() for r in range(2)])
        following[discount == 0] = np.nan  # must not be read
        valid = np.array([True, rng.random() < 0.9])
        t = linear.TransitionBatch(
            tiles, action, reward, discount, following, over, valid, np.full(2, rate), np.ones(2)
        )
        linear.learn(weights, memory, t, gamma, decay, KINDS.index(kind), np.empty(2))
        for r in np.flatnonzero(valid):
            steps[r].append((tiles[r], action[r], reward[r], discount[r], tiles2[r], action2[r], over[r]))
        tiles, action = tiles2, action2
    for r in range(2):
        wanted = naive(kind, steps[r], features, actions, gamma, decay, rate / grids)
        np.testing.assert_allclose(weights[r], wanted, atol=1e-12)


class Numbered(gym.ObservationWrapper):
    """FrozenLake whose observation is its state as a real number."""

    def __init__(self):
        super().__init__(gym.make("FrozenLake-v1", max_episode_steps=10_000))
        self.observation_space = box([0], [16])

    def observation(self, observation):
        return np.array([observation], np.float32)


@pytest.mark.parametrize("kind", KINDS)
def test_one_tile_a_state_is_the_table(kind):
    """The same draws, the same steps, the same values."""
    rest = {"gamma": 0.95, "step_size": 0.1, "lambda_": 0.8, "traces": kind, "explore": EpsilonGreedy(0.3)}
    table = rl.start("FrozenLake-v1", rl.SARSALambda(**rest), [2, 5], env_kwargs={"max_episode_steps": 10_000})
    tiled = rl.start(Numbered, rl.LinearSARSA(tilings=1, tiles=16, **rest), [2, 5])
    table.advance(3000), tiled.advance(3000)
    states = torch.arange(16.0).expand(2, -1)[..., None]
    np.testing.assert_allclose(tiled.agent.q(states), table.agent.table, atol=1e-12)
    assert (table.agent.table != 0).any()
    np.testing.assert_allclose(
        tiled.episodes()["rollout/ep_len_mean"], table.episodes()["rollout/ep_len_mean"], atol=1e-12
    )


def test_a_truncated_episode_keeps_its_future():
    """In Endless (reward 1, cut off after 5 steps) the value is 1 / (1 - gamma), whatever the traces."""

    class Flat(gym.ObservationWrapper):
        def __init__(self):
            super().__init__(gym.make("envs/Endless-v0"))
            self.observation_space = box([0], [1])

        def observation(self, observation):
            return np.zeros(1, np.float32)

    for kind in KINDS:
        agent = rl.LinearSARSA(gamma=0.9, tilings=2, tiles=1, traces=kind, step_size=Linear(0.2, 0.001))
        run = rl.train(Flat, agent, steps=8_000, seeds=1, progress=False)
        assert run.agent.q(torch.zeros(1, 1, 1)).item() == pytest.approx(10, abs=0.05)


AGENTS = {
    "replacing": rl.LinearSARSA(explore=EpsilonGreedy(Linear(0.2, 0.0))),
    "dutch": rl.LinearSARSA(traces="dutch", tilings=5, step_size=0.3, explore=Boltzmann(1.0)),
}


@pytest.mark.parametrize("name", AGENTS)
def test_alone_as_stacked_and_gone_on_with_to_the_bit(name, tmp_path):
    whole = rl.start("MountainCar-v0", AGENTS[name], [3, 8], steps=2000, envs_per_seed=2)
    whole.advance(2000)
    alone = rl.start("MountainCar-v0", AGENTS[name], [8], steps=2000, envs_per_seed=2)
    alone.advance(700)
    alone.save(tmp_path / "run.safetensors")
    again = rl.load(tmp_path / "run.safetensors")
    again.advance(2000 - again.step)
    assert again.agent_config == AGENTS[name]
    assert (whole.agent.weights[1] != 0).any()
    assert again.agent.weights[0].tobytes() == whole.agent.weights[1].tobytes()
    for part, array in whole.loop.memory._asdict().items():
        if part != "listed":
            assert again.loop.memory._asdict()[part].tobytes() == array[2:].tobytes(), part
    assert again.episodes()["rollout/ep_len_mean"].tolist() == whole.episodes()["rollout/ep_len_mean"].tolist()[1:]


@pytest.mark.parametrize("name", AGENTS)
def test_uncompiled_the_same_comes_out_to_the_bit(name, monkeypatch):
    fast = rl.start("MountainCar-v0", AGENTS[name], 2, steps=400)
    monkeypatch.setattr(jit, "compiled", lambda function, **parts: None)
    slow = rl.start("MountainCar-v0", AGENTS[name], 2, steps=400)
    assert slow.loop._learn is linear.learn
    fast.advance(400), slow.advance(400)
    assert (fast.agent.weights != 0).any()
    assert slow.agent.weights.tobytes() == fast.agent.weights.tobytes()
    assert slow.loop.memory.trace.tobytes() == fast.loop.memory.trace.tobytes()


@pytest.mark.full  # takes 7 s; another follows the table of SARSA(lambda)
def test_it_learns_mountain_car():
    """Ten seeds, default settings; the lowest return is -200, and -110 counts as solved."""
    run = rl.train("MountainCar-v0", rl.LinearSARSA(), steps=40_000, seeds=10, progress=False)
    returns = run.evaluate(20).per_seed
    assert (returns > -125).sum() >= 9, returns
    assert returns.mean() > -112, returns


def test_its_policy_is_saved_and_says_what_the_run_says(tmp_path):
    run = rl.train("MountainCar-v0", rl.LinearSARSA(), steps=3000, seeds=2, progress=False, logdir=tmp_path / "run")
    policy = run.policy(1)
    policy.save(tmp_path / "policy.safetensors")
    again = rl.load_policy(tmp_path / "policy.safetensors")
    obs = np.random.default_rng(0).uniform([-1.2, -0.07], [0.6, 0.07], (20, 2)).astype(np.float32)
    q = run.agent.q(torch.from_numpy(np.stack([obs, obs])))[1]
    assert again.predict(obs)[0].tolist() == q.argmax(-1).tolist()
    assert again.predict(obs[0])[0].shape == ()
    assert rl.load(tmp_path / "run" / "run.safetensors").agent.weights.tobytes() == run.agent.weights.tobytes()
    assert run.exact is None
    with pytest.raises(SpaceError, match="Tile coding is for continuous states"):
        _ = run.agent.table


def test_bounds_are_asked_for_where_there_are_none():
    with pytest.raises(
        SpaceError, match=r"CartPole-v1's observation space has no bounds in the dimensions \[1, 3\]: set the"
    ):
        rl.start("CartPole-v1", rl.LinearSARSA())
    agent = rl.LinearSARSA(bounds=((-2.4, -3, -0.2, -3), (2.4, 3, 0.2, 3)), tiles=4)
    run = rl.start("CartPole-v1", agent, 2)
    run.advance(300)
    assert (run.agent.weights != 0).any()


@pytest.mark.parametrize(
    ("make", "error", "sentence"),
    [
        (lambda: rl.LinearSARSA(gamma=1.5), ValueError, "gamma must lie in"),
        (lambda: rl.LinearSARSA(lambda_=float("nan")), ValueError, "lambda_ must lie in"),
        (lambda: rl.LinearSARSA(step_size=2.0), ValueError, "step_size"),
        (lambda: rl.LinearSARSA(tilings=0), ValueError, "tilings must be a whole number of at least 1"),
        (lambda: rl.LinearSARSA(tiles=1.5), ValueError, "tiles must be a whole number of at least 1"),
        (lambda: rl.LinearSARSA(traces="none"), ValueError, "There is no traces 'none'"),
        (lambda: rl.LinearSARSA(explore=0.1), TypeError, "explore must be EpsilonGreedy, Greedy or Boltzmann"),
        (lambda: rl.LinearSARSA(explore=rl.explore.UCB()), TypeError, "explore must be EpsilonGreedy"),
        (lambda: rl.LinearSARSA(explore=DecayingNoise()), ValueError, "not DecayingNoise"),
        (lambda: rl.LinearSARSA(bounds=(1, 2)), ValueError, "bounds must be"),
        (lambda: rl.LinearSARSA(bounds=((0, 1), (1,))), ValueError, "bounds must be"),
        (lambda: rl.LinearSARSA(bounds=((0,), (float("inf"),))), ValueError, "bounds must be"),
        (lambda: rl.LinearSARSA(bounds=("00", "99")), ValueError, "bounds must be"),
        (lambda: rl.LinearSARSA(bounds=((10**400,), (1,))), ValueError, "bounds must be"),
        (lambda: rl.LinearSARSA(tiles=10**200), ValueError, "at most 1,000,000,000"),
        (lambda: rl.LinearSARSA(step_size=10**400), ValueError, "step_size must be a finite number"),
        (
            lambda: rl.LinearSARSA().build(gym.spaces.Box(0, 1, (400,)), gym.spaces.Discrete(2)),
            SpaceError,
            r"more than 10\^382 tiles",
        ),
        (
            lambda: rl.start("MountainCar-v0", rl.LinearSARSA(bounds=((0, 0), (1e-320, 1)))),
            SpaceError,
            "no more than 1e-10 apart",
        ),
        (lambda: rl.start("FrozenLake-v1", rl.LinearSARSA()), SpaceError, "tile coding needs a Box"),
        (
            lambda: rl.start("MountainCar-v0", rl.LinearSARSA(bounds=((0,), (1,)))),
            SpaceError,
            "bounds must be .* each with 2 numbers",
        ),
        (
            lambda: rl.start("MountainCar-v0", rl.LinearSARSA(bounds=((0, 0), (0, 1)))),
            SpaceError,
            "bounds that are not in ascending order",
        ),
        (lambda: rl.start("MountainCar-v0", rl.LinearSARSA(tiles=100_000)), SpaceError, "50,000,000 are allowed"),
        (
            lambda: rl.start("MountainCar-v0", rl.LinearSARSA(), device="cuda"),
            ValueError,
            "Tile coding runs on the CPU",
        ),
        (
            lambda: rl.start("MountainCar-v0", rl.LinearSARSA(), 2, workers=2),
            ValueError,
            "runs all its seeds in one process",
        ),
        (lambda: rl.start("MountainCar-v0", rl.LinearSARSA(tilings=6)), SpaceError, "use a power of 2"),
        (
            lambda: rl.start("MountainCar-v0", rl.LinearSARSA(tiles=2000), 50),
            ValueError,
            "need .* GB; at most 16 GB",
        ),
    ],
)
def test_bad_settings_are_told(make, error, sentence):
    with pytest.raises(error, match=sentence):
        make()


def test_bad_observations_are_told():
    agent = rl.LinearSARSA().build(box([0, 0], [1, 1]), gym.spaces.Discrete(2), seeds=2)
    with pytest.raises(ValueError, match="NaN"):
        agent.q(torch.full((2, 1, 2), torch.nan))
    with pytest.raises(ValueError, match=r"Observations must be \[N, B, 2\] with N = 2 seeds, not \[1, 1, 2\]"):
        agent.q(torch.zeros(1, 1, 2))
    assert agent.q(torch.full((2, 1, 2), torch.inf)).shape == (2, 1, 2)
    with pytest.raises(ValueError, match="LinearSARSA learns from the next action"):
        agent.update(None)


class Seen(gym.Env):
    """Says in which place of its episode which action was taken; being there twice is a VectorEnv's affair."""

    observation_space = box([0], [1])
    action_space = gym.spaces.Discrete(2)
    log: tuple[int, ...] = ()

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        Seen.log = (self.t, action)
        self.t += 1
        return (
            np.full(1, self.t / 10, np.float32),
            -1.0 if (self.t % 2 == 0) == (action == 0) else 0.0,
            self.t == 9,
            False,
            {},
        )


def test_a_fresh_episode_after_a_resume_begins_with_an_action_of_its_own(tmp_path):
    class Opaque(gym.vector.VectorWrapper):
        pass

    def make():
        return Opaque(gym.vector.SyncVectorEnv([Seen], autoreset_mode=gym.vector.AutoresetMode.SAME_STEP))

    run = rl.start(make(), rl.LinearSARSA(tilings=1, tiles=20), 1)
    run.advance(904)
    run.save(tmp_path / "run.safetensors")
    with pytest.warns(RuntimeWarning, match="new episodes start"):
        again = rl.load(tmp_path / "run.safetensors", make())
    best = int(again.agent.q(np.zeros((1, 1, 1))).argmax())
    again.advance(1)
    assert Seen.log == (0, best)


def test_damaged_traces_are_refused():
    run = rl.start("MountainCar-v0", rl.LinearSARSA(), 1)
    run.advance(50)
    state = run.loop.state_dict()
    for part, bad in (("listed", 10**9), ("size", -1)):
        memory = {**state["memory"], part: np.full_like(state["memory"][part], bad)}
        with pytest.raises(ValueError, match=f"The saved '{part}' has values outside"):
            run.loop.load_state_dict({**state, "memory": memory})
    memory = {**state["memory"], "size": np.array([3]), "listed": np.zeros_like(state["memory"]["listed"])}
    with pytest.raises(ValueError, match="inconsistent with the saved lists"):
        run.loop.load_state_dict({**state, "memory": memory})
    memory = {**state["memory"], "old": np.array([np.nan])}
    with pytest.raises(ValueError, match="not finite"):
        run.loop.load_state_dict({**state, "memory": memory})
    with pytest.raises(ValueError, match="The saved weights must be finite"):
        run.agent.load_state_dict({"weights": run.agent.weights * np.nan})
