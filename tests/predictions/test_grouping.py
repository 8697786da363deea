"""Groups by several columns are those that sorting finds."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.predictions.grouping import grouped

numbers = st.integers(-3, 3) | st.integers(-(2**60), 2**60)


@given(rows=st.lists(st.tuples(numbers, st.integers(-1, 2), numbers), min_size=1, max_size=40))
@settings(deadline=None)
def test_groups_are_the_different_rows_in_order_and_each_row_is_in_its_own(
    rows: list[tuple[int, int, int]],
) -> None:
    columns = [np.array(column, np.int64) for column in zip(*rows, strict=True)]
    found, group = grouped(columns)
    listed = list(zip(*found.tolist(), strict=True))
    assert listed == sorted(set(rows))
    assert [listed[place] for place in group.tolist()] == rows


def test_nothing_has_no_groups() -> None:
    found, group = grouped([np.empty(0, np.int64), np.empty(0, np.int64)])
    assert found.shape == (2, 0)
    assert group.shape == (0,)
