"""Whether scores mean what they say: reliability, ECE and its floor, Brier's parts."""

from __future__ import annotations

import numpy as np
import pytest

from fairlead.monitoring.calibration import brier, calibration, ece, reliability
from fairlead.monitoring.scored import scored
from tests.data.employment import employment


@pytest.mark.parametrize(
    ("year", "expected", "score"),
    [
        (2015, 0.006176, 0.122893),
        (2016, 0.010276, 0.123686),
        (2017, 0.011373, 0.121690),
        (2018, 0.012077, 0.121288),
    ],
)
def test_real_scores_are_as_far_off_as_an_independent_count_says(
    year: int, expected: float, score: float
) -> None:
    people = employment().of(year)
    found = calibration(scored(people.probability, people.prediction == 1, people.label))
    assert found is not None
    assert found.ece == pytest.approx(expected, abs=5e-7)
    assert found.brier.score == pytest.approx(score, abs=5e-7)


@pytest.mark.parametrize(("n", "floor"), [(500, 0.046), (1_000, 0.033), (5_000, 0.0146)])
def test_the_floor_is_what_right_scores_read_by_chance(n: int, floor: float) -> None:
    generator = np.random.default_rng(7)
    read = []
    for _ in range(100):
        score = generator.random(n)
        found = calibration(scored(score, score > 0.5, generator.random(n) < score))
        assert found is not None
        read.append((found.ece_mass, found.floor))
    mean, expected = np.mean(read, axis=0)
    assert mean == pytest.approx(expected, rel=0.07)
    assert expected == pytest.approx(floor, rel=0.05)


def test_right_scores_are_beyond_the_limit_about_once_in_a_thousand_times() -> None:
    generator = np.random.default_rng(11)
    beyond = 0
    for _ in range(1_000):
        score = generator.random(1_000)
        found = calibration(scored(score, score > 0.5, generator.random(1_000) < score))
        assert found is not None
        beyond += found.excess > found.limit
    assert beyond <= 8


@pytest.mark.parametrize("alpha", [0.05, 0.01])
def test_right_scores_are_beyond_a_limit_no_more_often_than_was_asked_for(alpha: float) -> None:
    generator = np.random.default_rng(5)
    beyond = 0
    for _ in range(500):
        score = generator.random(1_000)
        cells = scored(score, score > 0.5, generator.random(1_000) < score)
        found = calibration(cells, alpha=alpha)
        assert found is not None
        beyond += found.excess > found.limit
    assert beyond <= 500 * alpha


def test_scores_without_doubt_leave_nothing_to_chance() -> None:
    found = calibration(scored([0.0, 1.0] * 50, [False, True] * 50, [0, 1] * 50))
    assert found is not None
    assert (found.ece, found.floor, found.limit) == (0.0, 0.0, 0.0)


def test_scores_that_are_too_sure_are_far_beyond_the_limit() -> None:
    generator = np.random.default_rng(3)
    truth = generator.random(3_000)
    sure = np.clip(truth * 1.6 - 0.3, 0.0, 1.0)
    found = calibration(scored(sure, sure > 0.5, generator.random(3_000) < truth))
    assert found is not None
    assert found.excess > 5 * found.limit


def test_the_parts_of_briers_score_add_up_to_it() -> None:
    # Wilks, Statistical Methods in the Atmospheric Sciences: with one score per bin nothing lies within bins.
    cells = scored([0.15] * 10 + [0.85] * 10, [False] * 10 + [True] * 10, [0.0] * 8 + [1.0] * 2 + [1.0] * 10)
    found = brier(cells)
    assert found.within == pytest.approx(0.0, abs=1e-12)
    assert found.reliability == pytest.approx((0.05**2 + 0.15**2) / 2)
    assert found.resolution == pytest.approx((0.4**2 + 0.4**2) / 2)
    assert found.uncertainty == pytest.approx(0.24)
    assert found.score == pytest.approx(found.reliability - found.resolution + found.uncertainty)


def test_one_row_and_none_and_one_class_are_told_without_an_exception() -> None:
    assert calibration(scored([0.4], [False])) is None
    one = calibration(scored([1.0], [True], [0.0]))
    assert one is not None
    assert one.ece == 1.0
    same = calibration(scored([0.5] * 50, [True] * 50, [1.0] * 50))
    assert same is not None
    assert same.shift == 0.5
    assert reliability(scored([], [])) == []
    assert ece([]) == 0.0
