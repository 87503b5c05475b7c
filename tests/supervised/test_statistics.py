import math

import numpy as np
import pytest

from supervised.statistics import aggregate, band, describe, interval


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


RANGES = [
    ((1, 500), [20, 467]),
    ((1, 500), [20, 467, 500]),
    ((1, 500), [9.5] * 3 + [500] * 5),
    ((0, None), [0, 0, 0, 0, 0.3]),
]
RANGES += [((None, -13), [-13, -13, -13, -90, -13, -14]), ((0, 1), [0.9, 1, 1]), ((0, 1), [0.99, 1, 1, 1, 1])]


@pytest.mark.parametrize(("bounds", "values"), RANGES)
@pytest.mark.parametrize("level", [0.5, 0.95, 0.999])
def test_no_interval_beyond_what_is_possible(bounds, values, level):
    low, high = interval(values, level, *bounds)
    assert bounds[0] is None or low >= bounds[0]
    assert bounds[1] is None or high <= bounds[1]
    assert low < np.mean(values) < high
    assert (low, high) == interval(values[::-1], level, *bounds)  # whatever their order, and at each call
    if level == 0.95:
        text = describe(values, digits=2, low=bounds[0], high=bounds[1])
        assert text == f"{np.mean(values):.2f} [{low:.2f}, {high:.2f}]"


def test_a_share_of_seeds_has_wilsons_interval():
    values = [1.0] * 8 + [0.0] * 2
    assert interval(values, 0.95, 0, 1) == pytest.approx((0.49016, 0.94332), abs=1e-5)  # Newcombe's tables of 8 in 10
    assert describe(values, low=0, high=1) == "0.8000 [0.4902, 0.9433] (8 of 10 seeds)"
    assert interval(values) == pytest.approx((0.49837, 1.10163), abs=1e-5)  # numbers of which nothing is known
    assert describe([1.0] * 3, low=0, high=1) == "1.0000 [1.0000, 1.0000] (3 of 3 seeds)"
    assert "seeds)" not in describe([1.0, 0.0, 0.5], low=0, high=1)


def test_the_bootstrap_covers_the_mean_as_often_as_it_says():
    rng = np.random.default_rng(1)
    for n, least in ((5, 0.87), (10, 0.91), (30, 0.92)):
        found = [interval(rng.beta(2, 2, n), 0.95, 0, 1) for _ in range(800)]
        assert least < np.mean([low <= 0.5 <= high for low, high in found]) < 0.98


def test_equal_values_one_value_and_values_that_are_none():
    assert interval([3.0, 3.0], 0.95, 0, 5) == (3.0, 3.0)
    for values in ([3.0], [], [1.0, math.nan], [1.0, math.inf]):
        assert all(math.isnan(bound) for bound in interval(values, 0.95, 0, 5))


def test_bands_are_whole_or_not_there():
    metrics = {
        "a": np.array([0.0, 1.0, math.nan]),
        "b": np.array([1.0, math.nan, math.nan]),
        "c": np.array([1.0, 2, 3]),
    }
    arrays, together = aggregate(metrics, ["a", "b"], {"a": (0.0, 1.0)})
    assert set(together) == {"a", "b", "c", *band("a")}
    mean, low, high = (together[tag] for tag in band("a"))
    assert 0 < low < mean == 0.5 < high < 1
    assert arrays["a"] is metrics["a"]
