import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rl import targets

T = torch.tensor


def test_q_learning_by_hand():
    next_q = T([[1.0, 3.0], [99.0, 99.0], [math.nan, math.inf], [2.0, 99.0]])
    mask = T([[True, True], [True, True], [True, True], [True, False]])
    reward, discount = T([1.0, 5.0, 7.0, 0.0]), T([0.5, 0.0, 0.0, 0.9])
    assert targets.q_learning(reward, discount, next_q, mask).tolist() == pytest.approx([2.5, 5.0, 7.0, 1.8])


def test_double_q_by_hand():
    value, selector = T([[1.0, 99.0], [99.0, 4.0]]), T([[8.0, 7.0], [0.0, 1.0]])
    assert targets.double_q(T([0.0, 1.0]), T([0.5, 0.5]), value, selector).tolist() == [0.5, 3.0]


def test_expected_sarsa_by_hand():
    found = targets.expected_sarsa(T([1.0]), T([0.5]), T([[2.0, 4.0, math.nan]]), T([[0.25, 0.75, 0.0]]))
    assert found.tolist() == [1 + 0.5 * 3.5]


def test_n_step_by_hand():
    reward = T([[1.0, 2.0, 4.0], [1.0, 2.0, 99.0]])
    discount = T([[0.5, 0.5, 0.5], [0.5, 0.0, 99.0]])
    assert targets.n_step(reward, discount, T([8.0, 99.0])).tolist() == [1 + 0.5 * (2 + 0.5 * (4 + 0.5 * 8)), 2.0]


def naive_lambda(reward, discount, ended, value, lambda_):
    n, out = len(reward), [0.0] * len(reward)
    for t in range(n):
        weight, scale, total = 1.0, 1.0, 0.0
        for u in range(t, n):
            total += scale * reward[u]
            scale *= discount[u]
            last = u == n - 1 or ended[u]
            share = 1.0 if last else 1 - lambda_
            total += weight_scale(weight, share) * scale * value[u] if scale else 0.0
            if last:
                break
            weight *= lambda_
            scale *= lambda_
        out[t] = total
    return out


def weight_scale(weight, share):
    return share  # lambda already lies in scale


@given(st.integers(0, 2**31), st.floats(0, 1), st.integers(1, 8))
def test_lambda_return_against_the_sum_over_windows(seed, lambda_, n):
    rng = np.random.default_rng(seed)
    reward, value = rng.normal(size=n), rng.normal(size=n)
    terminated, truncated = rng.random(n) < 0.2, rng.random(n) < 0.2
    discount = 0.9 * ~terminated
    ended = terminated | truncated
    found = targets.lambda_return(*(torch.from_numpy(x) for x in (reward, discount, ended, value)), lambda_)
    np.testing.assert_allclose(found, naive_lambda(reward, discount, ended, value, lambda_), atol=1e-12)


def test_lambda_0_is_one_step_and_lambda_1_is_the_return():
    reward, discount, ended, value = (
        T([1.0, 2.0, 3.0]),
        T([0.5, 0.5, 0.0]),
        T([False, False, True]),
        T([5.0, 6.0, 99.0]),
    )
    assert targets.lambda_return(reward, discount, ended, value, 0.0).tolist() == [3.5, 5.0, 3.0]
    assert targets.lambda_return(reward, discount, ended, value, 1.0).tolist() == [1 + 0.5 * 3.5, 3.5, 3.0]


def test_any_leading_axes():
    g = torch.Generator().manual_seed(0)
    reward, discount, next_q = (torch.rand(s, generator=g) for s in ((2, 5), (2, 5), (2, 5, 3)))
    whole = targets.q_learning(reward, discount, next_q)
    assert torch.equal(whole[1, 4], targets.q_learning(reward[1, 4], discount[1, 4], next_q[1, 4]))
    steps = targets.n_step(reward, discount, next_q[:, 0, 0])
    assert torch.equal(steps[1], targets.n_step(reward[1], discount[1], next_q[1, 0, 0]))
