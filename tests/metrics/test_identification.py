import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from dp3_jax.metrics import identification
from dp3_jax.metrics.identification import Rate

SCORES = arrays.arrays(np.float32, st.integers(1, 60), elements=st.integers(-3, 3).map(float))


def test_a_rate_has_the_textbook_error_and_interval():
    rate = Rate(20, 100)
    assert rate.value == 0.2
    assert rate.standard_error == pytest.approx(0.04)
    # Agresti & Coull 1998 tabulate Wilson's interval; none of 10 gives 0 to 0.2775.
    assert Rate(0, 10).interval == pytest.approx((0.0, 0.2775), abs=1e-4)
    assert Rate(10, 10).interval == pytest.approx((0.7225, 1.0), abs=1e-4)
    assert Rate(0, 0).as_dict() == {
        "value": None, "standard_error": None, "interval_95": None, "n": 0,
    }  # fmt: skip


@given(st.integers(0, 50), st.integers(1, 50))
def test_the_interval_holds_the_rate(successes, count):
    rate = Rate(min(successes, count), count)
    low, high = rate.interval
    assert 0 <= low <= rate.value <= high <= 1


def test_the_threshold_lets_exactly_the_asked_share_through():
    different = np.arange(1000) / 1000  # 0, 0.001, ..., 0.999
    threshold = identification.threshold_at_far(different, 0.01)
    assert (different >= threshold).sum() == 10
    assert 0.989 < threshold < 0.990
    assert (
        identification.true_accept_rate(np.array([0.5, 0.9895, 1.0, 1.0]), threshold).value == 0.75
    )


def test_a_false_accept_rate_that_the_pairs_cannot_resolve_has_no_threshold():
    assert identification.threshold_at_far(np.zeros(999), 1e-3) is None
    assert identification.threshold_at_far(np.arange(1000.0), 1e-3) is not None
    assert identification.threshold_at_far(np.zeros(0), 0.1) is None
    with pytest.raises(ValueError, match="false accept rate"):
        identification.threshold_at_far(np.zeros(5), 1.0)


@given(SCORES, st.floats(0, 0.9))
def test_never_more_than_the_asked_share_and_no_lower_threshold_would_do(different, far):
    threshold = identification.threshold_at_far(different, far)
    if threshold is None:
        assert far * len(different) < 1
        return
    assert (different >= threshold).mean() <= far + 1e-9
    below = different[different < threshold].max()
    assert (different >= below).mean() > far


def test_rank_one_of_a_known_table():
    scores = np.array([[0.9, 0.1, 0.2], [0.3, 0.2, 0.8], [0.1, 0.5, 0.6]])
    same = identification.same_person(np.array([7, 8, 9]), np.array([7, 8, 9]))
    rate = identification.rank_one(scores, same)
    assert (rate.successes, rate.count) == (2.0, 3)


def test_probes_of_people_outside_the_gallery_do_not_count():
    same = identification.same_person(np.array([7, 5]), np.array([7, 8]))
    assert identification.rank_one(np.array([[1.0, 0.0], [1.0, 0.0]]), same) == Rate(1.0, 1)
    assert identification.rank_one(np.zeros((0, 2)), np.zeros((0, 2), bool)) == Rate(0, 0)


@given(st.integers(2, 20))
def test_a_recognizer_that_tells_nothing_identifies_by_chance(people):
    everyone = np.arange(people)
    same = identification.same_person(everyone, everyone)
    rate = identification.rank_one(np.full((people, people), 0.5), same)
    assert rate.value == pytest.approx(1 / people)


def test_area_under_the_curve_of_known_scores():
    area = identification.area_under_curve
    assert area(np.array([2.0, 3.0]), np.array([0.0, 1.0])) == 1.0
    assert area(np.array([0.0]), np.array([1.0, 2.0])) == 0.0
    assert area(np.array([1.0, 3.0]), np.array([1.0, 2.0])) == pytest.approx(0.625)
    assert area(np.zeros(0), np.zeros(3)) is None


@given(SCORES, SCORES)
def test_the_area_is_the_share_of_ordered_pairs(same, different):
    pairs = same[:, None] - different[None, :]
    expected = (pairs > 0).mean() + 0.5 * (pairs == 0).mean()
    assert math.isclose(identification.area_under_curve(same, different), expected, abs_tol=1e-9)
