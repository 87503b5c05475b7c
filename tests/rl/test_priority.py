"""The sum tree against a linear scan; importance weights."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl.core import jit
from rl.deep.replay import sum_tree as priority


@given(
    st.lists(st.tuples(st.integers(0, 12), st.floats(0, 10)), min_size=1, max_size=40),
    st.floats(0, 1, exclude_max=True),
)
def test_find_is_a_linear_scan(changes, u):
    total, least = priority.make_trees(2, 13)
    leaves = np.zeros(13)
    for leaf, value in changes:
        priority.set_priority(total, least, 1, leaf, value)
        leaves[leaf] = value
    assert total[0].sum() == 0
    np.testing.assert_allclose(total[1, 1], leaves.sum(), rtol=1e-12)
    assert least[1, 1] == min([x for x in leaves if x > 0], default=np.inf)
    if leaves.sum() > 0:
        found = priority.find(total, 1, u * total[1, 1])
        assert leaves[found] > 0
        below = leaves[:found].sum()
        assert below <= u * leaves.sum() + 1e-9
        assert u * leaves.sum() <= below + leaves[found] + 1e-9


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0])
def test_draws_have_their_probabilities_and_weights_their_formula(exponent):
    total, least = priority.make_trees(1, 4)
    values = [1.0, 0.0, 3.0, 6.0]
    for leaf, value in enumerate(values):
        priority.set_priority(total, least, 0, leaf, value)
    rng = np.random.default_rng(0)
    leaf, weight = np.zeros((1, 64), np.int64), np.zeros((1, 64))
    counts, rewards, n = np.zeros(4), [], 1000
    for _ in range(n):
        priority.draw(total, least, rng.random((1, 64)), np.array([3]), exponent, leaf, weight)
        counts += np.bincount(leaf[0], minlength=4)
        expected = (3 * np.array(values)[leaf[0]] / 10) ** -exponent / (3 * 0.1) ** -exponent
        np.testing.assert_allclose(weight[0], expected, rtol=1e-12)
        rewards.append((weight[0] * leaf[0]).mean() / (3 * 0.1) ** exponent)
    np.testing.assert_allclose(counts / counts.sum(), np.array(values) / 10, atol=0.01)
    if exponent == 1.0:  # without bias: the weighted mean is the mean over the three, (0 + 2 + 3) / 3
        np.testing.assert_allclose(np.mean(rewards), 5 / 3, rtol=0.01)


def test_compiled_is_as_written():
    rng = np.random.default_rng(1)
    for function in (priority.update_priorities, jit.compiled(priority.update_priorities)):
        rng = np.random.default_rng(1)
        total, least = priority.make_trees(2, 50)
        highest = np.ones(2)
        for _ in range(5):
            function(total, least, highest, rng.integers(0, 50, (2, 30)), rng.normal(size=(2, 30)), 0.6, 1e-6)
        if function is priority.update_priorities:
            wanted = total.copy(), least.copy(), highest.copy()
    for mine, theirs in zip((total, least, highest), wanted, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    np.testing.assert_allclose(total[:, 1], total[:, total.shape[1] // 2 :].sum(1))
