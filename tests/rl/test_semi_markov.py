"""Steps with a discount of their own: tables, tiles and networks against values worked out by hand."""

import dataclasses

import gymnasium as gym
import numpy as np
import pytest
import torch
from daily import daily
from family import FAMILY, assert_same
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import envs
import rl
from envs.backends.member import digest
from rl.core import jit, registry
from rl.explore import EpsilonGreedy
from rl.run.processes import merge
from rl.tabular import learned_model, monte_carlo, n_step, traces
from rl.tabular.agent import Transition
from supervised import Streams
from supervised.schedules import Linear

GAMMA = 0.9


class Opaque(gym.vector.VectorWrapper):
    """Keeps a SyncVectorEnv from being taken apart."""


class Options(gym.Env):
    """Three states, two options each, which take 1 to 4 primitive steps.

    | state | option 0                               | option 1                  |
    | 0     | 1 step, reward 0, to 1                 | 4 steps, reward .4, to 2  |
    | 1     | 1 step or 3, a coin, reward 1, to 2    | 2 steps, reward .3, to 0  |
    | 2     | 3 steps, reward 2, the end             | 2 steps, reward 0, to 0   |
    """

    observation_space, action_space = gym.spaces.Discrete(3), gym.spaces.Discrete(2)
    WHAT = (((1, 0.0, 1), (4, 0.4, 2)), ((None, 1.0, 2), (2, 0.3, 0)), ((3, 2.0, None), (2, 0.0, 0)))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.s = 0
        return 0, {"discount": 0.01}

    def step(self, action):
        steps, reward, following = self.WHAT[self.s][int(action)]
        if steps is None:
            steps = 1 if self.np_random.random() < 0.5 else 3
        over = following is None
        self.s = 0 if over else following
        return self.s, reward, over, False, {"discount": GAMMA ** (steps - 1)}


# V(2) = 2, V(1) = 1 + (g + g^3) / 2 * V(2) = 2.629, V(0) = g V(1) = 2.3661.
EXACT = np.array([[2.3661, 0.4 + GAMMA**4 * 2], [2.629, 0.3 + GAMMA**2 * 2.3661], [2.0, GAMMA**2 * 2.3661]])


def exact(epsilon):
    """Q [3, 2] of the best policy among those that explore with probability epsilon, by value iteration."""
    q = np.zeros((3, 2))
    for _ in range(1000):
        v = (1 - epsilon) * q.max(1) + epsilon * q.mean(1)
        for s, a in np.ndindex(3, 2):
            steps, reward, following = Options.WHAT[s][a]
            factor = (GAMMA + GAMMA**3) / 2 if steps is None else GAMMA**steps
            q[s, a] = reward + (0.0 if following is None else factor * v[following])
    return q


def test_the_values_by_hand_are_those_of_value_iteration():
    np.testing.assert_allclose(exact(0.0), EXACT, atol=1e-12)


def rules():
    for name, agent in registry.presets(group for group in registry.TABLES if group != registry.ENDLESS).items():
        if not name.startswith(
            ("lecture", "count-bonus", "dyna-q-plus")
        ):  # whose values are others, or of certain worlds
            yield name, agent


RULES = dict(rules())
SHORT = (
    "q-learning",
    "sarsa",
    "expected-sarsa",
    "double-q",
    "n-step-sarsa",
    "true-online-sarsa-lambda",
    "prioritized-sweeping",
)


@pytest.mark.parametrize("name", daily(RULES, SHORT))
def test_every_rule_learns_the_values_of_options(name):
    agent = RULES[name]
    epsilon = 0.2 if agent.on_policy else 0.5
    explore = agent.explore if name in ("ucb", "speedy-q") else EpsilonGreedy(epsilon)
    run = rl.train(Options, dataclasses.replace(agent, gamma=GAMMA, explore=explore), 4_000, 10, progress=False)
    wanted = exact(epsilon) if agent.on_policy else EXACT
    np.testing.assert_allclose(run.agent.table.mean(0), wanted, atol=0.08)
    assert run.no_model
    returns = run.episodes()["rollout/ep_rew_mean"]
    assert (returns > 2.3).all()  # rewards as they come: 1 and 2, and what was tried besides


@pytest.mark.parametrize("mode", AutoresetMode)
def test_options_in_a_vector_environment(mode):
    rows = Opaque(SyncVectorEnv([Options] * 4, autoreset_mode=mode))
    agent = rl.QLearning(gamma=GAMMA, explore=EpsilonGreedy(0.5))
    run = rl.train(rows, agent, 4_000, 2, envs_per_seed=2, progress=False)
    np.testing.assert_allclose(run.agent.table.mean(0), EXACT, atol=0.08)


# --- to the bit: gamma 1/2 with discounts of 1/2 is gamma 1/4 ---------------------------------------------------------------


class Halved(gym.Wrapper):
    """Hides the model, and gives every step the discount 1/2."""

    def step(self, action):
        return *self.env.step(action)[:4], {"discount": 0.5}


class Plain(gym.Wrapper):
    """Hides the model, and what info says."""

    def step(self, action):
        return *self.env.step(action)[:4], {}


def chain(around):
    return lambda: around(gym.make("envs/Chain-v0"))


def agents():
    for agent in FAMILY:
        if not getattr(agent, "bonus", 0):  # what was never tried takes one plain step there
            yield agent
    yield rl.RMax(known_after=2, planning_steps=10)


@pytest.mark.parametrize("agent", list(agents()), ids=lambda agent: type(agent).__name__)
def test_discounts_of_a_half_are_half_the_gamma_to_the_bit(agent):
    halved, plain = (
        rl.train(chain(around), dataclasses.replace(agent, gamma=gamma), 300, 2, envs_per_seed=2, progress=False)
        for around, gamma in ((Halved, 0.5), (Plain, 0.25))
    )
    one, two = halved.agent.tables, plain.agent.tables
    if isinstance(agent, (rl.SARSALambda, rl.DynaQ, rl.PrioritizedSweeping)):
        for name in one:  # traces of 1 / 2**i below 1e-4 are let go of at other times, and means round
            np.testing.assert_allclose(one[name], two[name], atol=1e-4, err_msg=name)
    else:
        assert all(one[name].tobytes() == two[name].tobytes() for name in one)
    kept = rl.train(chain(Plain), dataclasses.replace(agent, gamma=0.5), 300, 2, envs_per_seed=2, progress=False)
    assert any(kept.agent.tables[name].tobytes() != one[name].tobytes() for name in one)


# --- updates by hand --------------------------------------------------------------------------------------------------------


def moment(s, a, reward, scale, next_s, next_a=-1, over=False, terminated=False, gamma=0.5, rate=0.5):
    return Transition(
        0, s, a, reward, 0.0 if terminated else gamma * scale, gamma, next_s, next_a, rate, over, 0, 0.0, scale
    )


def table_of(agent, q):
    states, actions = q.shape
    arrays = {name: part[None].copy() for name, part in agent.episode_arrays(states, actions).items()}
    arrays |= agent.seed_arrays(states, actions) | agent.rule_params()
    return agent.state_type(q=q, visits=np.zeros(q.shape, np.int64), **arrays)


def test_two_steps_with_discounts_of_their_own():
    """Q(0, 0) moves to 1 + (.5 * .4) (2 + (.5 * .8) * Q(2, 1)) = 1 + .2 * (2 + .4 * 10) = 2.2, halfway."""
    q = np.array([[0.0, 99.0], [0.0, 99.0], [99.0, 10.0]])
    table = table_of(rl.NStepSARSA(n=2), q)
    assert n_step.learn_sarsa(table, moment(0, 0, 1.0, 0.4, 1, 0), None) == 0.0
    assert n_step.learn_sarsa(table, moment(1, 0, 2.0, 0.8, 2, 1), None) == pytest.approx(2.2)
    assert q[0, 0] == pytest.approx(1.1)
    # At the end, cut short with Q(2, 1): Q(1, 0) moves to 2 + .4 * (3 + .5 * .6 * 10) = 4.4, and Q(2, 1) to 6.
    q[2, 1] = 10.0
    n_step.learn_sarsa(table, moment(2, 1, 3.0, 0.6, 2, 1, over=True), None)
    assert q[1, 0] == pytest.approx(2.2)


def test_monte_carlo_returns_with_discounts_of_their_own():
    """G = 1 + .2 * (2 + .4 * 3), and nothing after the termination, whatever its discount."""
    q = np.zeros((3, 2))
    table = table_of(rl.MonteCarlo(memory_steps=9), q)
    monte_carlo.learn(table, moment(0, 0, 1.0, 0.4, 1, 0), None)
    monte_carlo.learn(table, moment(1, 0, 2.0, 0.8, 2, 1), None)
    monte_carlo.learn(table, moment(2, 1, 3.0, 0.3, 2, over=True, terminated=True), None)
    np.testing.assert_allclose(q, [[0.82, 0.0], [1.6, 0.0], [0.0, 1.5]])


@pytest.mark.parametrize(
    ("rule", "kind"),
    [(traces.learn_sarsa, kind) for kind in traces.KINDS] + [(traces.learn_q, kind) for kind in traces.KINDS[:2]],
)
def test_traces_fade_by_the_discount_of_the_step_that_they_span(kind, rule):
    """After (0, 0) with discount .4 its trace is gamma * .4 * lambda = .5 * .4 * .5 = .1 of the next step's error."""
    q = np.zeros((3, 2))
    table = table_of(rl.SARSALambda(lambda_=0.5, traces=kind), q)
    rule(table, moment(0, 0, 0.0, 0.4, 1, 0), None)
    error = rule(table, moment(1, 0, 2.0, 0.8, 2, 1), None)
    assert error == pytest.approx(2.0)
    np.testing.assert_allclose(q[[0, 1], 0], [0.5 * 2 * 0.1, 0.5 * 2])


def test_a_learned_model_keeps_the_mean_discount():
    """As a gamma that is scheduled has it keep the last, where steps have none of their own."""
    agent = rl.PrioritizedSweeping()
    for semi_markov, wanted in ((0, 0.5 * 0.2), (1, 0.5 * 0.5)):
        table = table_of(agent, np.zeros((2, 1)))
        count = jit.specialize(learned_model.count, SEMI_MARKOV=semi_markov)
        for scale in (0.8, 0.2):
            count(table, moment(0, 0, 1.0, scale, 1), 0)
        assert table.discount[0, 0, 0] == pytest.approx(wanted)


# --- one option a state, for agents whose n steps or tiles follow what is done ----------------------------------------------


class Row(gym.Env):
    """Five states in a row; both actions lead on. Step i takes LASTS[i] primitive steps and pays PAYS[i]."""

    LASTS, PAYS = (1, 3, 2, 4, 2), (1.0, 0.0, 2.0, -1.0, 3.0)

    def __init__(self, box=False):
        self.box, self.action_space = box, gym.spaces.Discrete(2)
        self.observation_space = gym.spaces.Box(0, 4, (1,)) if box else gym.spaces.Discrete(5)

    def _obs(self):
        return np.array([self.s], np.float32) if self.box else self.s

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.s = 0
        return self._obs(), {}

    def step(self, action):
        reward, scale, over = self.PAYS[self.s], GAMMA ** (self.LASTS[self.s] - 1), self.s == 4
        self.s = min(self.s + 1, 4)
        return self._obs(), reward, over, False, {"discount": scale}


def worth():
    """V [5]: r_i + g^k_i V_(i+1)."""
    found = [Row.PAYS[4]]
    for steps, reward in zip(Row.LASTS[3::-1], Row.PAYS[3::-1], strict=True):
        found.insert(0, reward + GAMMA**steps * found[0])
    return np.array(found)


def test_the_row_by_hand():
    # 3; -1 + .6561 * 3; 2 + .81 * .9683; .729 * 2.784323; 1 + .9 * 2.029771...
    np.testing.assert_allclose(worth(), [2.82679431, 2.02977147, 2.784323, 0.9683, 3.0], atol=1e-6)


@pytest.mark.parametrize("kind", ["replacing", "dutch"])
def test_tiles_learn_the_values_of_options(kind):
    agent = rl.LinearSARSA(
        **{"gamma": GAMMA, "tilings": 1, "tiles": 5, "bounds": ((-0.5,), (4.5,)), "traces": kind, "step_size": 0.1},
        explore=EpsilonGreedy(0.5),
    )
    run = rl.train(lambda: Row(box=True), agent, 2_000, 3, progress=False)
    q = run.agent.q(torch.arange(5.0).expand(3, 5)[..., None])
    np.testing.assert_allclose(q.numpy(), np.broadcast_to(worth()[:, None], q.shape), atol=0.05)
    found = run.episodes()
    np.testing.assert_allclose(found["rollout/ep_rew_mean"], [5.0] * 3)  # as rewards come
    np.testing.assert_allclose(found["rollout/discounted_return"], [worth()[0]] * 3, rtol=1e-6)


@pytest.mark.parametrize("kind", traces.KINDS)
def test_tiles_with_discounts_of_a_half_are_those_of_half_the_gamma(kind):
    weights = [
        rl.train(
            lambda around=around: around(Row(box=True)),
            rl.LinearSARSA(gamma=gamma, tilings=2, tiles=3, bounds=((0.0,), (4.0,)), traces=kind, lambda_=0.75),
            **{"steps": 200, "seeds": 2, "progress": False},
        ).agent.weights
        for around, gamma in ((Halved, 0.5), (Plain, 0.25), (Plain, 0.5))
    ]
    np.testing.assert_allclose(weights[0], weights[1], atol=1e-3)  # faint traces are let go of at other times
    assert abs(weights[0] - weights[2]).max() > 0.01


@pytest.mark.parametrize("network", daily(["linear", "mlp(32)"], ["linear"]))
@pytest.mark.parametrize("steps", [1, 3])
def test_networks_learn_the_values_of_options(network, steps):
    agent = rl.DQN(
        **{"network": network, "n_step": steps, "gamma": GAMMA, "explore": EpsilonGreedy(0.5), "loss": "squared"},
        **{"learning_rate": Linear(0.05, 0.0), "learn_after_steps": 50, "batch_size": 32},
        **{"target_every_updates": 20, "capacity_steps": 1_000},
    )
    run = rl.train(Row, agent, 800, 2, progress=False)
    q = run.agent.q(torch.arange(5).expand(2, 5))
    np.testing.assert_allclose(q.numpy(), np.broadcast_to(worth()[:, None], q.shape), atol=0.08)
    np.testing.assert_allclose(run.episodes()["rollout/discounted_return"], [worth()[0]] * 2, rtol=1e-6)


def test_without_a_replay_too():
    agent = rl.DQN(
        **{"network": "linear", "capacity_steps": None, "target_every_updates": None, "batch_size": 1, "n_step": 1},
        **{"gamma": GAMMA, "learning_rate": 0.1, "loss": "squared", "learn_after_steps": 0, "optimizer": "SGD"},
        explore=EpsilonGreedy(0.5),
    )
    run = rl.train(Row, agent, 1_500, 2, progress=False)
    q = run.agent.q(torch.arange(5).expand(2, 5))
    np.testing.assert_allclose(q.numpy(), np.broadcast_to(worth()[:, None], q.shape), atol=0.08)


# --- the replay -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compiled", [True, False])
def test_windows_multiply_the_discounts_of_their_steps(compiled, monkeypatch):
    if not compiled:
        monkeypatch.setattr(jit, "have_numba", lambda: False)
    world = envs.make(Row)
    replay = rl.Replay(world, 100, n_step=3, gamma=GAMMA)
    obs = world.reset()
    for _ in range(20):
        step = world.step(np.zeros((1, 1), np.int64))
        replay.add(obs, np.zeros((1, 1), np.int64), step)
        obs = step.obs
    batch = replay.sample(200, Streams([0]))
    for b in range(200):
        s = int(batch.obs[0, b])
        scales = [GAMMA**k for k in Row.LASTS[s : s + 3]]
        returns = sum(r * np.prod(scales[:i]) for i, r in enumerate(Row.PAYS[s : s + 3]))
        assert batch.reward[0, b].item() == pytest.approx(returns, rel=1e-6)
        assert batch.discount[0, b].item() == pytest.approx(np.prod(scales) if s + 3 < 5 else 0.0, rel=1e-6)


def filled(make, seed=0, steps=50):
    """A replay of 30 steps, after 50."""
    world = envs.make(make, seeds=[seed])
    replay, obs = rl.Replay(world, 30), world.reset()
    for _ in range(steps):
        step = world.step(np.zeros((1, 1), np.int64))
        replay.add(obs, np.zeros((1, 1), np.int64), step)
        obs = step.obs
    return replay


def test_a_step_without_a_discount_does_not_take_that_of_the_step_whose_place_it_has():
    replay = filled(lambda: Sometimes(0, 40), steps=100)
    assert replay.discounts is not None
    discount = replay.sample(200, Streams([0])).discount
    assert set(discount.unique().tolist()) == {0.0, float(np.float32(0.99))}


def test_a_replay_holds_discounts_from_the_first_on_and_merges_with_one_that_has_none():
    silent, given = (
        filled(chain(Plain), 0),
        filled(chain(Halved), 1),
    )
    assert silent.discounts is None
    both = rl.Replay(envs.make("envs/Chain-v0", seeds=2), 30)
    both.load_state_dict(merge([silent.state_dict(), given.state_dict()]))
    discount = both.sample(50, Streams([0, 1])).discount
    assert (discount[0] == np.float32(0.99)).all()
    assert (discount[1] == np.float32(0.99 * 0.5)).all()
    damaged = both.state_dict()
    damaged["discount"][0, 0, 0, 0] = np.float32(7.0).view(np.int32) ^ np.float32(1.0).view(np.int32)
    with pytest.raises(ValueError, match=r"saved discounts of the replay must lie in \[0, 1\]"):
        both.load_state_dict(damaged)
    older = {name: part for name, part in silent.state_dict().items() if name != "discount"}
    silent.load_state_dict(older)
    assert silent.discounts is None


class Sometimes(Row):
    """Gives discounts in the steps from `first` to `last` alone."""

    def __init__(self, first, last=np.inf):
        super().__init__()
        self.first, self.last, self.taken = first, last, 0

    def persistent_state(self):
        return self.taken

    def set_persistent_state(self, state):
        self.taken = state

    def step(self, action):
        self.taken += 1
        *answer, info = super().step(action)
        return *answer, info if self.first <= self.taken <= self.last else {}


LATE = "dqn, from step 300 on"
RESUMED = {
    "q-learning": (Options, rl.QLearning()),
    "n-step-sarsa": (Options, rl.NStepSARSA()),
    "sarsa-lambda": (Options, rl.SARSALambda()),
    "dyna-q": (Options, rl.DynaQ(planning_steps=2)),
    "r-max": (Options, rl.RMax(known_after=5, planning_steps=10)),
    "tiles": (lambda: Row(box=True), rl.LinearSARSA()),
    "dqn": (Options, rl.DQN(network="linear", n_step=3, learn_after_steps=50, capacity_steps=150, prioritized=True)),
    "sweeping, discounts in the past": (lambda: Sometimes(20, 40), rl.PrioritizedSweeping(gamma=0.5)),
    LATE: (lambda: Sometimes(300), rl.DQN(network="linear", learn_after_steps=50, capacity_steps=150)),
}


@pytest.mark.parametrize(
    ("kind", "at"),
    daily([(kind, at) for kind in RESUMED for at in (203, 401)], [*((k, 203) for k in RESUMED), (LATE, 401)]),
)
def test_gone_on_with_to_the_bit(kind, at, tmp_path):
    env, agent = RESUMED[kind]
    straight = rl.start(env, agent, 2, steps=600)
    straight.advance(at)
    straight.save(tmp_path / "run.safetensors")
    straight.advance(600 - at)
    resumed = rl.load(tmp_path / "run.safetensors", env)
    resumed.advance(600 - at)
    one, two = straight.agent.state_dict(), resumed.agent.state_dict()
    assert digest(one) == digest(two)
    assert digest(straight.loop.state_dict()) == digest(resumed.loop.state_dict())


def test_r_learning_refuses_discounts_in_a_sentence():
    with pytest.raises(ValueError, match=r"info\['discount'\], which RLearning does not support: it has no gamma"):
        rl.train(lambda: Halved(gym.make("envs/AccessControl-v0")), rl.RLearning(), 100, progress=False)
    rl.train(lambda: Plain(gym.make("envs/AccessControl-v0")), rl.RLearning(), 100, progress=False)


def test_constant_discounts_of_one_change_no_bit():
    class One(gym.Wrapper):
        def step(self, action):
            return *self.env.step(action)[:4], {"discount": 1.0}

    one, none = (rl.train(chain(around), rl.DynaQ(), 500, 2, progress=False) for around in (One, Plain))
    assert_same(one, none)
