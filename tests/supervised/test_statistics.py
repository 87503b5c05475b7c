import math

import numpy as np
import pytest

from supervised.statistics import describe, interval


def test_student_t_by_hand():
    # mean 3, s = sqrt(2.5), t(4, .975) = 2.7764451
    low, high = interval([1, 2, 3, 4, 5])
    half = 2.7764451051977987 * math.sqrt(2.5) / math.sqrt(5)
    assert (low, high) == pytest.approx((3 - half, 3 + half))


def test_one_seed_says_why_there_is_no_interval():
    assert all(math.isnan(x) for x in interval([4.0]))
    assert "one seed: no interval" in describe([4.0])


def test_coverage_is_what_the_level_says():
    rng = np.random.default_rng(0)
    hits = [low <= 0 <= high for low, high in (interval(rng.standard_normal(5), 0.9) for _ in range(4000))]
    assert abs(np.mean(hits) - 0.9) < 0.02


@pytest.mark.parametrize("level", [0, 1, 95, -1])
def test_levels_are_shares(level):
    with pytest.raises(ValueError, match="must lie in"):
        interval([1, 2], level)
