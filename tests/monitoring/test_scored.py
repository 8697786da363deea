"""Scores with their labels as cells; the area under the curve."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.monitoring.scored import auc, scored, scored_cells
from fairlead.predictions.labelled_counts import Cell

rows = st.lists(
    st.tuples(st.integers(0, 6), st.booleans(), st.sampled_from([0.0, 1.0])), min_size=2, max_size=40
)


@given(rows)
def test_the_area_is_the_share_of_pairs_in_the_right_order_with_ties_as_halves(
    drawn: list[tuple[int, bool, float]],
) -> None:
    yes = [score for score, _, label in drawn if label]
    no = [score for score, _, label in drawn if not label]
    cells = scored([one[0] for one in drawn], [one[1] for one in drawn], [one[2] for one in drawn])
    found = auc(cells.score, cells.positive, cells.negative)
    if not yes or not no:
        assert found is None
        return
    wins = sum((a > b) + 0.5 * (a == b) for a in yes for b in no)
    assert found is not None
    assert found[0] == pytest.approx(wins / len(yes) / len(no))


def test_delongs_error_is_that_of_the_placements_of_each_row() -> None:
    yes, no = np.array([0.9, 0.8, 0.35]), np.array([0.7, 0.3, 0.2, 0.1])
    above = [(no < one).mean() for one in yes]
    below = [(yes > one).mean() for one in no]
    expected = (np.var(above, ddof=1) / 3 + np.var(below, ddof=1) / 4) ** 0.5
    cells = scored([*yes, *no], [True] * 7, [1.0] * 3 + [0.0] * 4)
    found = auc(cells.score, cells.positive, cells.negative)
    assert found is not None
    assert found[1] == pytest.approx(expected)


def test_rows_without_label_are_counted_apart_and_scores_that_are_no_numbers_are_left_out() -> None:
    cells = scored([0.5, 0.5, np.inf, np.nan], [True, True, True, True], [np.nan, 1.0, 1.0, 1.0])
    assert cells.rows.tolist() == [2.0]
    assert cells.unknown.tolist() == [1.0]


def test_cells_of_the_log_are_by_the_positive_class_or_by_being_right() -> None:
    cells = [
        Cell("yes", "yes", 180, 2, 1.8),
        Cell("no", "yes", 20, 1, 0.1),
        Cell("no", None, 20, 3, 0.3),
        Cell("no", "no", None, 9, 0.0),
    ]
    by_class = scored_cells(cells, "yes")
    assert by_class.score.tolist() == pytest.approx([0.1, 0.9])
    assert by_class.chosen.tolist() == [False, True]
    assert by_class.positive.tolist() == [1.0, 2.0]
    assert by_class.unknown.tolist() == [3.0, 0.0]
    by_right = scored_cells(cells, None)
    assert by_right.chosen.all()
    assert by_right.positive.tolist() == [0.0, 2.0]
    assert by_right.negative.tolist() == [1.0, 0.0]


def test_no_cells_are_no_rows() -> None:
    assert scored_cells([], "yes").rows.sum() == 0.0
    assert scored([], []).rows.sum() == 0.0
