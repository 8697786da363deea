"""How far two distributions lie apart: what is shown of it is never more than there is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.experiments.distributions import Shift, total_variation

counts = st.lists(st.integers(0, 500), min_size=2, max_size=8)


def test_a_unit_of_length_that_was_confused_shows_within_some_fifty_units() -> None:
    assert total_variation([40, 0], [0, 40], alpha=0.003).low > 0.25
    assert total_variation([5, 0], [0, 5], alpha=0.003).low == 0.0
    eight = total_variation([10, 10, 10, 10, 10, 10, 10, 0], [0, 0, 0, 0, 0, 0, 0, 70], alpha=0.003)
    assert eight.low > 0.25


def test_the_distance_is_the_share_that_would_have_to_move() -> None:
    assert total_variation([50, 30, 20], [20, 30, 50]).estimate == pytest.approx(0.3)
    assert total_variation([50, 50], [500, 500]) == Shift(0.0, 0.0, 100)


@pytest.mark.parametrize("arms", [([], []), ([0, 0], [3, 4]), ([3, 4], [0, 0]), ([9], [9])])
def test_nothing_to_compare_is_no_shift(arms: tuple[list[int], list[int]]) -> None:
    assert total_variation(*arms).low == 0.0


def test_other_classes_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="2 classes are compared with 3"):
        total_variation([1, 2], [1, 2, 3])


@given(counts.flatmap(lambda one: st.tuples(st.just(one), st.permutations(one))))
def test_the_bound_is_below_the_estimate_and_the_arms_may_change_places(
    arms: tuple[list[int], list[int]],
) -> None:
    one, other = arms
    found, turned = total_variation(one, other), total_variation(other, one)
    assert 0.0 <= found.low <= max(found.estimate, 0.0) <= 1.0
    assert turned.estimate == pytest.approx(found.estimate)
    assert (turned.low > 0.3) <= (found.estimate > 0.3)


def test_two_arms_alike_looked_at_all_the_time_are_shown_to_differ_as_rarely_as_promised() -> None:
    random = np.random.default_rng(5)
    shares = [0.4, 0.3, 0.2, 0.1]
    wrong = 0
    for _ in range(60):
        looks = (random.multinomial(20, shares, size=(2, 15))).cumsum(axis=1)
        wrong += any(total_variation(*map(list, looks[:, look])).low > 0 for look in range(15))
    assert wrong <= 3  # 5 % of 60
