import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervised.schedules import Constant, Exponential, Inverse, Linear, as_schedule, check_range, value_at


def at(schedule, *times, horizon=1000):
    return [value_at(schedule.curve(horizon), t) for t in times]


def test_hand_computed_values():
    assert at(Constant(0.3), 0, 7) == [0.3, 0.3]
    assert at(Linear(1.0, 0.0, 10), 0, 5, 10, 99) == [1.0, 0.5, 0.0, 0.0]
    assert at(Linear(1.0, 0.0), 0, 500, 1000, horizon=1000) == [1.0, 0.5, 0.0]
    assert at(Exponential(1.0, 0.01, 2), 0, 1, 2, 9) == pytest.approx([1.0, 0.1, 0.01, 0.01])
    assert at(Inverse(1.0, every=100, stairs=True, unit="episodes"), 0, 99, 100, 250) == [1.0, 1.0, 0.5, 1 / 3]
    assert at(Inverse(1.0, every=50, offset=10), 0, 50, 500) == [0.1, 1 / 11, 1 / 20]
    assert at(Inverse(1.0, end=0.01, power=0.6, unit="visits"), 0, 1, 10**6) == pytest.approx([1.0, 2**-0.6, 0.01])


def test_a_fraction_of_the_run():
    assert at(Linear(1.0, 0.0, fraction=0.1), 0, 50, 100, 900) == [1.0, 0.5, 0.0, 0.0]
    assert at(Exponential(1.0, 0.01, fraction=0.5), 250, 500, 999) == pytest.approx([0.1, 0.01, 0.01])
    for wrong, said in (
        ({"fraction": 0.0}, r"must lie in \(0, 1\]"),
        ({"fraction": 2}, "must lie in"),
        ({"horizon": 5, "fraction": 0.5}, "not both"),
    ):
        with pytest.raises(ValueError, match=said):
            Linear(1.0, 0.0, **wrong)


@given(
    st.sampled_from(
        [Linear(1.0, 0.1, 50), Linear(0.1, 1.0, 50), Exponential(2.0, 0.5, 7), Inverse(3.0, 0.2, 4, 2.0, 0.7)]
    ),
    st.integers(0, 10**9),
)
def test_values_stay_within_their_bounds_and_move_one_way(schedule, t):
    low, high = schedule.bounds()
    now, later = at(schedule, t, t + 1)
    assert low - 1e-12 <= now <= high + 1e-12
    rising = schedule.end > schedule.start
    assert later >= now if rising else later <= now


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Linear(1.0, 0.0, 0), "horizon must be a whole number of at least 1"),
        (lambda: Linear(1.0, math.nan), "end must lie in .* not nan"),
        (lambda: Linear(1.0, 0.0, unit="episodes"), "needs a horizon"),
        (lambda: Linear(1.0, 0.0, 5, unit="weeks"), "steps, episodes, visits"),
        (lambda: Exponential(1.0, 0.0, 5), "end must lie in"),
        (lambda: Inverse(1.0, offset=0), "offset must lie in"),
    ],
)
def test_senseless_schedules_are_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_numbers_become_constants_and_other_things_do_not():
    assert as_schedule(1) == Constant(1.0)
    for wrong in ("0.1", None, True, [1.0]):
        with pytest.raises(TypeError, match="finite number, or a schedule"):
            as_schedule(wrong)


def test_ranges_and_units():
    with pytest.raises(ValueError, match=r"epsilon must lie in \[0, 1\], not 0.5 to 1.5"):
        check_range("epsilon", Linear(1.5, 0.5), 0, 1, ("steps",))
    with pytest.raises(ValueError, match="in steps, not in visits"):
        check_range("epsilon", Inverse(1.0, unit="visits"), 0, 1, ("steps",))
