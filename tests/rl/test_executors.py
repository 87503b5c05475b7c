"""One rule, two executors: the compiled loop over the model equals the plain loop over Gymnasium, bit for bit."""

import gymnasium as gym
import numpy as np
import pytest
from daily import daily
from family import FAMILY, advance, assert_same
from gymnasium.vector import SyncVectorEnv
from helpers import Counting, NoisyWalk
from hypothesis import given, settings
from hypothesis import strategies as st

import rl
from envs import tables
from rl.core import jit
from rl.explore import Boltzmann, DecayingNoise, EpsilonGreedy, Greedy
from rl.tabular.kernel import loop
from supervised.schedules import Exponential, Inverse, Linear

ENVIRONMENTS = [
    ("FrozenLake-v1", {}),
    ("FrozenLake-v1", {"is_slippery": False}),
    ("FrozenLake-v1", {"desc": ["SFF", "FHF", "FFG"], "reward_schedule": (1, -0.3, -0.01), "success_rate": 0.8}),
    ("FrozenLake8x8-v1", {}),
    ("CliffWalking-v1", {}),
    ("CliffWalking-v1", {"max_episode_steps": 60}),
    ("CliffWalkingSlippery-v1", {}),
    ("Taxi-v4", {}),
    ("Taxi-v4", {"is_rainy": True}),
    ("envs/Chain-v0", {}),
]
AGENTS = [
    rl.QLearning(),
    rl.QLearning(explore=Boltzmann(Exponential(1.0, 0.01)), initial_q=(0.0, 1.0)),
    rl.QLearning(gamma=Linear(0.5, 0.99), explore=EpsilonGreedy(Exponential(1.0, 0.05, 300, "episodes"), ties="first")),
    rl.QLearning(step_size=Inverse(1.0, power=0.7, every=30), explore=Greedy(), initial_q=1.0),
    rl.QLearning(
        step_size=Inverse(1.0, unit="episodes"), explore=DecayingNoise(Inverse(1.0, every=7, unit="episodes"))
    ),
]


CASES = [(*env, agent) for agent in AGENTS for env in ENVIRONMENTS]
CASES += [(*ENVIRONMENTS[i], agent) for agent in FAMILY for i in (0, 5, 8)]
# Each environment, and each agent in one of them or more.
SOME = [(*env, AGENTS[i % len(AGENTS)]) for i, env in enumerate(ENVIRONMENTS)]
SOME += [(*ENVIRONMENTS[(0, 5, 8)[i % 3]], agent) for i, agent in enumerate(FAMILY)]


@pytest.mark.parametrize(("env", "kwargs", "agent"), daily(CASES, SOME), ids=range(len(CASES)))
def test_compiled_equals_plain(env, kwargs, agent, plain_loop):
    steps, settings_ = 2_000, {"steps": 2_000, "env_kwargs": kwargs}
    fast = rl.start(env, agent, [0, 7], **settings_)
    plain_loop()
    plain = rl.start(env, agent, [0, 7], **settings_)
    assert fast.model is not None
    assert plain.model is None
    for (returns, lengths), (plain_returns, plain_lengths) in zip(
        advance(fast, steps), advance(plain, steps), strict=True
    ):
        assert np.array_equal(returns, plain_returns)
        assert np.array_equal(lengths, plain_lengths)
    assert_same(fast, plain)


@pytest.mark.parametrize("envs_per_seed", daily([2, 3, 5], [3]))  # each number is compiled anew
def test_several_environments_a_seed_too(envs_per_seed, plain_loop):
    fast = rl.start("FrozenLake-v1", rl.QLearning(), 3, steps=5000, envs_per_seed=envs_per_seed)
    plain_loop()
    plain = rl.start("FrozenLake-v1", rl.QLearning(), 3, steps=5000, envs_per_seed=envs_per_seed)
    fast.advance(5000), plain.advance(5000)
    assert_same(fast, plain)


@pytest.mark.parametrize("env", ["FrozenLake-v1", "Blackjack-v1", Counting, NoisyWalk])
def test_lockstep_equals_plain(env):
    """A VectorEnv that resets within the step takes the same steps as single environments, to the bit."""
    make = env if callable(env) else lambda: gym.make(env)
    single = rl.start(lambda: make(), rl.QLearning(), [1, 5], steps=3000, envs_per_seed=2)

    class Opaque(gym.vector.VectorWrapper):
        pass

    from envs.backends.beginning import member_seed

    vector = SyncVectorEnv([make] * 4, autoreset_mode=gym.vector.AutoresetMode.SAME_STEP)
    stepped = rl.start(Opaque(vector), rl.QLearning(), [1, 5], steps=3000, envs_per_seed=2)
    assert stepped.loop.executor.kind == "a VectorEnv"
    assert stepped.loop.executor.rows.seeds == [member_seed(s, e) for s in (1, 5) for e in (0, 1)]
    stepped.loop.executor.rows.reset = lambda: (vector.reset(seed=stepped.loop.executor.rows.seeds)[0], None)
    single.advance(3000), stepped.advance(3000)
    if env == "FrozenLake-v1":  # compiled on one side, stepped on the other
        assert single.model is not None
    assert_same(single, stepped)


def test_rows_invented_by_next_step_mode_are_not_learned_from():
    class Opaque(gym.vector.VectorWrapper):
        pass

    run = rl.start(Opaque(SyncVectorEnv([lambda: Counting(3)] * 2)), rl.QLearning(), 2, steps=400)
    run.advance(400)
    # Of four calls three are steps, and each state (episode, step) is left once, the last of an episode never.
    assert run.agent.visits.sum() == 2 * 300
    visits = run.agent.visits.sum((0, 2)).reshape(1000, 4)
    assert (visits[:99, :3] == 2).all()
    assert (visits[:, 3] == 0).all()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 4), st.integers(2, 5), st.booleans(), st.sampled_from(AGENTS + FAMILY))
def test_any_finite_model(seed, outcomes, actions, limited, agent):
    """Random models: repeated next states, sure and unlikely outcomes, with and without a time limit."""
    from envs import TableEnv

    rng = np.random.default_rng(seed)

    def make():
        r = np.random.default_rng(seed)
        P = {}
        for s in range(4):
            P[s] = {}
            for a in range(actions):
                p = r.dirichlet(np.ones(int(r.integers(1, outcomes + 1))) * 0.3)
                P[s][a] = [(float(x), int(r.integers(4)), float(r.normal()), bool(r.random() < 0.1)) for x in p]
        env = TableEnv(P, r.dirichlet(np.ones(4)).tolist())
        return gym.wrappers.TimeLimit(env, 9) if limited else env

    fast = rl.start(make, agent, [int(rng.integers(1000))], steps=500)
    assert fast.model is not None
    read = tables.read
    tables.read = lambda env: (_ for _ in ()).throw(tables.NoModelError("refused"))
    try:
        plain = rl.start(make, agent, fast.seeds, steps=500)
    finally:
        tables.read = read
    fast.advance(500), plain.advance(500)
    assert_same(fast, plain)


def test_without_numba_the_same_functions_run(monkeypatch):
    fast = rl.start("Taxi-v4", rl.QLearning(), 2, steps=2000)
    monkeypatch.setattr(jit, "compiled", lambda function, **parts: None)
    slow = rl.start("Taxi-v4", rl.QLearning(), 2, steps=2000)
    assert slow.loop.executor.loop is not fast.loop.executor.loop
    fast.advance(2000), slow.advance(2000)
    assert_same(fast, slow)


def test_the_absence_of_numba_is_said_in_a_sentence(monkeypatch):
    import builtins

    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "numba":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    jit.have_numba.cache_clear()
    monkeypatch.setattr(builtins, "__import__", without)
    try:
        with pytest.warns(RuntimeWarning, match="numba is not installed"):
            assert not jit.have_numba()
    finally:
        jit.have_numba.cache_clear()


def test_an_edited_rule_is_compiled_anew():
    """numba's cache knows a function by its name alone; ours changes with the byte code of all that is called."""

    def rule(table, t, rng):
        table.q[t.s, t.a] += 1.0
        return 0.0

    def edited(table, t, rng):
        table.q[t.s, t.a] += 2.0
        return 0.0

    names = {jit.specialize(loop, learn=f, ENVS=e).__qualname__ for f in (rule, edited) for e in (1, 2)}
    assert len(names) == 4
    found = []
    for f in (rule, edited):
        run = rl.start("FrozenLake-v1", rl.QLearning(), 1, steps=100)
        run.loop.executor.loop = jit.compiled(
            loop, learn=f, world_step=tables.model_step, world_reset=tables.model_reset, ENVS=1
        )
        run.advance(100)
        found.append(run.agent.table.sum())
    assert found == [100.0, 200.0]
