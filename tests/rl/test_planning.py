import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs import TableEnv, tables
from rl import planning


def model_of(name, **kwargs):
    return tables.read(gym.make(name, **kwargs))


# Dynamic programming on env.unwrapped.P, done independently of this package
@pytest.mark.parametrize(
    ("name", "gamma", "best", "stationary"),
    [
        ("FrozenLake-v1", 0.99, 0.744190, 0.7402),
        ("FrozenLake-v1", 0.95, 0.744190, 0.7298),
        ("FrozenLake8x8-v1", 0.95, 0.913220, 0.7386),
        ("FrozenLake8x8-v1", 0.98, 0.913220, 0.8621),
        ("FrozenLake8x8-v1", 0.99, 0.913220, 0.8630),
        ("FrozenLake8x8-v1", 0.999, 0.913220, 0.8857),
        ("CliffWalking-v1", 0.99, -13, -13),
        ("Taxi-v4", 0.99, 7.93, 7.93),
    ],
)
def test_known_optima(name, gamma, best, stationary):
    model = model_of(name)
    horizon = model.limit or 200
    finite = planning.optimum_within(model, horizon)
    policy = planning.value_iteration(model, gamma).policy
    assert planning.at_start(model, finite.v[-1]) == pytest.approx(best, abs=5e-3 if "Taxi" in name else 5e-7)
    value = planning.at_start(model, planning.evaluate_policy(model, policy, 1.0, horizon))
    assert value == pytest.approx(stationary, abs=5e-3 if "Taxi" in name else 5e-5)


def test_without_a_limit_the_lake_is_14_17ths():
    model = model_of("FrozenLake-v1")
    solution = planning.value_iteration(model, 1.0)
    assert planning.at_start(model, solution.v) == pytest.approx(14 / 17, abs=1e-9)
    assert planning.at_start(
        model_of("FrozenLake8x8-v1"), planning.value_iteration(model_of("FrozenLake8x8-v1"), 1.0).v
    ) == (pytest.approx(1.0, abs=1e-9))


WAYS = (
    planning.value_iteration,
    planning.gauss_seidel,
    planning.asynchronous_value_iteration,
    planning.modified_policy_iteration,
)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("name", "kwargs"),
    [
        ("FrozenLake-v1", {"is_slippery": False}),
        ("FrozenLake-v1", {}),
        ("FrozenLake8x8-v1", {"is_slippery": False}),
        ("CliffWalking-v1", {}),
    ],
)
def test_at_gamma_1_the_policy_attains_the_value(way, name, kwargs):
    """From every state: where steps are free, walking into a wall is worth as much as walking on, but never gets there."""
    model = model_of(name, **kwargs)
    solution = way(model, 1.0)
    np.testing.assert_allclose(planning.evaluate_policy(model, solution.policy, 1.0), solution.v, atol=1e-9)


def stay_or_go(stay, *go):
    """One state: action 0 stays, which costs `stay`; the others end with these rewards."""
    return tables.read(
        TableEnv({0: {0: [(1.0, 0, stay, False)]} | {i: [(1.0, 0, r, True)] for i, r in enumerate(go, 1)}}, [1.0])
    )


@pytest.mark.parametrize(
    ("model", "policy"),
    [
        (stay_or_go(0.0, 1.0), [1]),
        (stay_or_go(0.0, 0.5, 1.0, 1.0), [2]),
        (stay_or_go(0.0, -1.0), [0]),  # to stay forever is best
        (stay_or_go(-1.0, -3.0), [1]),
        # Two states that lead to one another for nothing, or to an end worth 1; then one half of which goes back.
        (
            tables.read(
                TableEnv(
                    {
                        0: {0: [(1.0, 1, 0.0, False)], 1: [(1.0, 0, 0.0, False)]},
                        1: {0: [(1.0, 0, 0.0, False)], 1: [(0.5, 0, 0.0, False), (0.5, 1, 1.0, True)]},
                    },
                    [1.0, 0.0],
                )
            ),
            [0, 1],
        ),
        # Reward at once and then nothing forever, beside waiting: to wait is worth as much, and never gets it.
        (
            tables.read(
                TableEnv(
                    {
                        0: {0: [(1.0, 0, 0.0, False)], 1: [(1.0, 1, 2.0, False)]},
                        1: {0: [(1.0, 1, 0.0, False)], 1: [(1.0, 1, 0.0, False)]},
                    },
                    [1.0, 0.0],
                )
            ),
            [1, 0],
        ),
    ],
)
def test_of_tied_actions_the_one_that_gets_there(model, policy):
    assert planning.value_iteration(model, 1.0).policy.tolist() == policy


def test_policies_below_gamma_1_take_the_first_of_tied_actions():
    model = stay_or_go(0.0, 1.0, 1.0)
    assert planning.greedy(model, np.array([[0.9, 1.0, 1.0]]), 0.9).tolist() == [1]


def random_model(seed, states=5, actions=3, outcomes=2):
    rng = np.random.default_rng(seed)
    P = {}
    for s in range(states):
        P[s] = {}
        for a in range(actions):
            p = rng.dirichlet(np.ones(outcomes))
            P[s][a] = [(float(x), int(rng.integers(states)), float(rng.normal()), bool(rng.random() < 0.2)) for x in p]
    return tables.read(TableEnv(P, [1 / states] * states))


def naive_value(model, policy, gamma, horizon, s):
    if horizon == 0:
        return 0.0
    total = 0.0
    for a in range(model.actions):
        for k in range(model.probability.shape[2]):
            p = policy[s, a] * model.probability[s, a, k]
            future = (
                0.0
                if model.terminated[s, a, k]
                else naive_value(model, policy, gamma, horizon - 1, model.next_state[s, a, k])
            )
            total += p * (model.reward[s, a, k] + gamma * future)
    return total


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.floats(0, 1))
def test_evaluation_against_the_naive_recursion(seed, gamma):
    model = random_model(seed)
    rng = np.random.default_rng(seed)
    random = rng.dirichlet(np.ones(3), size=5)
    certain = rng.integers(3, size=5)
    for policy in (random, certain):
        spread = np.eye(3)[policy] if policy.ndim == 1 else policy
        expected = [naive_value(model, spread, gamma, 3, s) for s in range(5)]
        np.testing.assert_allclose(planning.evaluate_policy(model, policy, gamma, 3), expected, atol=1e-12)


def test_the_best_that_can_be_had_while_exploring():
    """Its v is what the epsilon-greedy policy is worth by the linear system, and no single change of that policy is better."""
    model, epsilon = model_of("FrozenLake-v1"), 0.3
    solution = planning.value_iteration(model, 0.95, epsilon=epsilon)

    def worth(policy):
        return planning.evaluate_policy(model, (1 - epsilon) * np.eye(4)[policy] + epsilon / 4, 0.95)

    np.testing.assert_allclose(worth(solution.policy), solution.v, atol=1e-9)
    for s, a in np.ndindex(16, 4):
        other = solution.policy.copy()
        other[s] = a
        assert (worth(other) <= solution.v + 1e-9).all()
    assert (solution.v <= planning.value_iteration(model, 0.95).v + 1e-12).all()
    with pytest.raises(ValueError, match="epsilon must lie in"):
        planning.value_iteration(model, 0.95, epsilon=1.5)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.floats(0, 0.98))
def test_value_iteration_policy_iteration_and_the_linear_system_agree(seed, gamma):
    model = random_model(seed)
    one, two = planning.value_iteration(model, gamma), planning.policy_iteration(model, gamma)
    np.testing.assert_allclose(one.q, two.q, atol=1e-9)
    np.testing.assert_allclose(planning.evaluate_policy(model, two.policy, gamma), one.v, atol=1e-9)
    np.testing.assert_allclose(planning.evaluate_policy(model, two.policy, gamma, horizon=3000), one.v, atol=1e-9)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000))
def test_no_policy_beats_the_finite_optimum(seed):
    model = random_model(seed, states=3, actions=2)
    best = planning.optimum_within(model, 4).v[-1]
    rng = np.random.default_rng(seed)
    for _ in range(20):
        policy = rng.integers(2, size=3)
        assert (planning.evaluate_policy(model, policy, 1.0, 4) <= best + 1e-12).all()


def test_many_policies_at_once_are_each_alone():
    model = model_of("FrozenLake-v1")
    policies = np.random.default_rng(0).integers(4, size=(3, 2, 16))
    values = planning.evaluate_policy(model, policies, 1.0, 100)
    assert np.array_equal(values[2, 1], planning.evaluate_policy(model, policies[2, 1], 1.0, 100))


def test_exact_success_agrees_with_episodes():
    import rl

    run = rl.train("FrozenLake-v1", rl.QLearning(), steps=50_000, seeds=1, progress=False)
    exact = run.exact.value(run.agent.table.argmax(-1))[0]
    evaluation = run.evaluate(20_000)
    assert abs(evaluation.mean - exact) < 4 * np.sqrt(exact * (1 - exact) / 20_000)


def test_what_has_no_answer_is_a_sentence():
    endless = model_of("envs/Endless-v0")
    with pytest.raises(ValueError, match="rewards never end"):
        planning.value_iteration(endless, 1.0)
    with pytest.raises(ValueError, match="give a horizon"):
        planning.evaluate_policy(endless, np.zeros(1, int), 1.0)
    with pytest.raises(ValueError, match=r"gamma must lie in \[0, 1\]"):
        planning.value_iteration(endless, 1.1)
    with pytest.raises(ValueError, match="must give one of"):
        planning.evaluate_policy(endless, np.ones(1, int), 0.9)
    with pytest.raises(ValueError, match="that sum to 1"):
        planning.evaluate_policy(endless, np.full((1, 1), 0.5), 0.9)


@pytest.mark.parametrize("env", ["FrozenLake-v1", "CliffWalking-v1", "Taxi-v4"])
@pytest.mark.parametrize("gamma", [0.9, 0.99])
def test_every_way_to_plan_comes_to_the_same(env, gamma):
    model = model_of(env)
    ways = [planning.gauss_seidel, planning.asynchronous_value_iteration, planning.modified_policy_iteration]
    ways += [lambda m, g: planning.modified_policy_iteration(m, g, evaluations=0)]
    whole = planning.value_iteration(model, gamma)
    for way in ways:
        found = way(model, gamma)
        np.testing.assert_allclose(found.q, whole.q, atol=1e-9)
        np.testing.assert_allclose(found.v, found.q.max(-1), atol=1e-9)
    assert planning.gauss_seidel(model, gamma).sweeps <= whole.sweeps
    if env == "FrozenLake-v1":  # where outcomes are certain, sweeps alone are through soon
        assert planning.modified_policy_iteration(model, gamma).sweeps < whole.sweeps / 2


def test_rewards_without_end_are_told_by_every_way():
    model = tables.read(TableEnv({0: {0: [(1.0, 0, 1.0, False)]}}, [1.0]))
    for way in (planning.gauss_seidel, planning.asynchronous_value_iteration, planning.modified_policy_iteration):
        with pytest.raises(ValueError, match="Use a gamma below 1"):
            way(model, 1.0)
    with pytest.raises(ValueError, match="evaluations must be a whole number"):
        planning.modified_policy_iteration(model, 0.9, evaluations=-1)
