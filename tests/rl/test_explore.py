import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rl import explore
from rl.core.jit import compiled
from supervised import Streams
from supervised.streams import generator

Q = np.array([[1.0, 2.0, 2.0, -1.0], [0.0, 0.0, 0.0, 0.0], [5.0, 1.0, 2.0, 3.0]])


def shares(draw, n=40_000):
    counts = np.zeros(4)
    for _ in range(n):
        counts[draw()] += 1
    return counts / n


def test_epsilon_greedy_has_the_right_probabilities():
    rng = generator(0, "agent")
    found = shares(lambda: explore.choose(Q, None, 0, explore.EPSILON_GREEDY, 0.4, True, rng))
    np.testing.assert_allclose(found, [0.1, 0.4, 0.4, 0.1], atol=0.01)
    found = shares(lambda: explore.choose(Q, None, 0, explore.EPSILON_GREEDY, 0.4, False, rng))
    np.testing.assert_allclose(found, [0.1, 0.7, 0.1, 0.1], atol=0.01)


def test_boltzmann_has_the_right_probabilities():
    rng = generator(0, "agent")
    weight = np.exp(Q[2] / 2.0)
    found = shares(lambda: explore.choose(Q, None, 2, explore.BOLTZMANN, 2.0, True, rng))
    np.testing.assert_allclose(found, weight / weight.sum(), atol=0.01)
    assert explore.choose(1e100 * Q, None, 2, explore.BOLTZMANN, 1e-9, True, rng) == 0


def test_upper_bounds_by_hand():
    q, visits = np.array([[1.0, 0.0, 0.5]]), np.array([[8, 1, 0]])
    assert explore.choose(q, visits, 0, explore.UPPER_BOUND, 1.0, True, generator(0, "agent")) == 2  # never tried
    visits[0, 2] = 1
    bounds = q[0] + 1.0 * np.sqrt(np.log(10) / visits[0])  # 1.54, 1.52, 2.02
    assert [explore.upper_bound(q, visits, 0, a, 1.0, np.log(10)) for a in range(3)] == pytest.approx(bounds.tolist())
    assert explore.upper_bound_action(q, visits, 0, 1.0, 0.9) == 2
    assert explore.upper_bound_action(q, visits, 0, 0.0, 0.9) == 0  # greedy
    nothing = np.zeros((1, 3), np.int64)
    found = [explore.upper_bound_action(q, nothing, 0, 1.0, u) for u in (0.0, 0.34, 0.67, 0.9999999)]
    assert found == [0, 1, 2, 2]  # all untried: any


def test_noise_fades_to_greedy():
    rng = generator(0, "agent")
    assert explore.choose(Q, None, 2, explore.GAUSSIAN_NOISE, 0.0, True, rng) == 0
    np.testing.assert_allclose(
        shares(lambda: explore.choose(Q, None, 1, explore.GAUSSIAN_NOISE, 1.0, True, rng)), 0.25, atol=0.01
    )


@given(
    st.lists(st.sampled_from([-1.0, 0.0, 0.5, 2.0]), min_size=1, max_size=6),
    st.floats(0, 1),
    st.floats(0, 1, exclude_max=True),
    st.booleans(),
)
def test_the_action_is_always_one_of_those_meant(row, epsilon, u, ties):
    a = explore.epsilon_greedy_action(np.array([row]), 0, epsilon, u, ties)
    assert 0 <= a < len(row)
    if u >= epsilon:
        assert row[a] == max(row)
        assert ties or a == row.index(max(row))


@given(st.floats(1e-300, 1), st.integers(1, 10))
def test_the_last_number_below_epsilon_is_in_range(epsilon, n):
    q = np.zeros((1, n))
    assert explore.epsilon_greedy_action(q, 0, epsilon, math.nextafter(epsilon, 0), True) == n - 1
    assert explore.epsilon_greedy_action(q, 0, 0.0, math.nextafter(1.0, 0), True) == n - 1


@pytest.mark.parametrize("kind", [explore.EPSILON_GREEDY, explore.BOLTZMANN, explore.GAUSSIAN_NOISE])
def test_arrays_choose_as_the_scalar_rule_does(kind):
    q = np.random.default_rng(0).integers(0, 3, (2, 50, 4)).astype(float)
    over = {
        explore.EPSILON_GREEDY: lambda s: explore.epsilon_greedy(torch.from_numpy(q), 0.3, s),
        explore.BOLTZMANN: lambda s: explore.boltzmann(torch.from_numpy(q), 0.3, s),
        explore.GAUSSIAN_NOISE: lambda s: explore.noisy_greedy(torch.from_numpy(q), 0.3, s),
    }[kind](Streams([3, 8]))
    for k, seed in enumerate([3, 8]):
        rng = generator(seed, "agent")
        assert over[k].tolist() == [explore.choose(q[k], None, e, kind, 0.3, True, rng) for e in range(50)]


def test_each_environment_draws_for_itself():
    actions = explore.epsilon_greedy(torch.zeros(1, 1000, 4), 1.0, Streams([0]))
    np.testing.assert_allclose(np.bincount(actions[0], minlength=4) / 1000, 0.25, atol=0.05)


@pytest.mark.parametrize("epsilon", [0.0, 0.5, 1.0])
def test_masks_are_never_broken(epsilon):
    mask = torch.tensor([True, False, True, False]).expand(2, 200, 4)
    q = torch.tensor([0.0, 9.0, 1.0, 9.0]).expand(2, 200, 4)
    streams = Streams([0, 1])
    for actions in (
        explore.epsilon_greedy(q, epsilon, streams, mask),
        explore.boltzmann(q, 1.0, streams, mask),
        explore.noisy_greedy(q, 5.0, streams, mask),
        explore.greedy(q, mask=mask),
    ):
        assert set(actions.unique().tolist()) <= {0, 2}
    with pytest.raises(ValueError, match=r"at \[1, 0\] allows no action"):
        explore.greedy(q[:, :1], mask=torch.tensor([[[True] * 4], [[False] * 4]]))


def test_greedy_breaks_ties_at_random_only_with_streams():
    q = torch.zeros(1, 500, 3)
    assert explore.greedy(q).unique().tolist() == [0]
    assert explore.greedy(q, Streams([0])).unique().tolist() == [0, 1, 2]


def test_compiled_draws_are_those_of_numpy_to_the_bit():
    """Ten million normal numbers go through the rare branches of numpy's algorithm too."""
    one, two = generator(0, "agent"), generator(0, "agent")
    fast = compiled(sum_of_normals)
    if fast is None:
        pytest.skip("numba is not installed")
    expected = np.empty(10_000_000)
    found = np.empty(10_000_000)
    expected[:] = one.standard_normal(10_000_000)
    fast(found, two)
    assert np.array_equal(found, expected)


def sum_of_normals(out, rng):
    for i in range(out.shape[0]):
        out[i] = rng.standard_normal()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: explore.EpsilonGreedy(1.5), r"epsilon must lie in \[0, 1\]"),
        (lambda: explore.EpsilonGreedy(0.1, ties="last"), "There is no ties 'last'"),
        (lambda: explore.Boltzmann(0.0), "temperature must lie"),
        (lambda: explore.DecayingNoise(-1.0), "scale must lie"),
        (lambda: explore.epsilon_greedy(torch.zeros(1, 1, 2), 2.0, Streams([0])), "epsilon must lie in"),
        (lambda: explore.boltzmann(torch.zeros(1, 1, 2), 0.0, Streams([0])), "above 0"),
    ],
)
def test_senseless_settings_are_sentences(make, words):
    with pytest.raises(ValueError, match=words):
        make()
