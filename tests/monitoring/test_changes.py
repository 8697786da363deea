"""What changed, in words: the largest changes first, in shares of all rows."""

from __future__ import annotations

import numpy as np
import pytest

from fairlead.contracts.counts import FieldCounts, reference_counts, tally
from fairlead.monitoring.changes import changes, median, share_text
from tests.monitoring.made import categories, numbers

AGES = np.linspace(20.0, 42.0, 2000)


def test_nulls_and_the_median_are_told_before_and_after() -> None:
    bins = numbers(AGES, nulls=2)
    found = changes(bins, reference_counts(bins), tally(bins, 10.0 * AGES[:948], nulls=52))
    assert found == ("median 31 → 252", "from 42 on 0 % → 94.8 %", "nulls 0.0999 % → 5.2 %")


def test_categories_are_told_by_name_and_new_ones_by_theirs() -> None:
    bins = categories(["DE"] * 800 + ["FR"] * 200)
    current = tally(bins, ["DE"] * 500 + ["FR"] * 200 + ["中"] * 200 + ["<b>"] * 100)
    assert changes(bins, reference_counts(bins), current) == (
        "'DE' 80 % → 50 %",
        "unseen ('中', '<b>') 0 % → 30 %",
    )


def test_what_did_not_change_is_not_told() -> None:
    for bins in (numbers(AGES), categories(["DE"] * 100), numbers([])):
        held = reference_counts(bins)
        if held.rows:
            assert changes(bins, held, held) == ()


def test_a_name_that_is_too_long_is_cut() -> None:
    bins = categories(["a" * 500] * 1000 + ["b"] * 1000)
    found = changes(bins, reference_counts(bins), tally(bins, ["b"] * 100))
    assert max(map(len, found)) < 80


@pytest.mark.parametrize("share", [0.25, 0.5, 0.9])
def test_a_quantile_of_counts_is_near_that_of_the_numbers(share: float) -> None:
    values = np.random.default_rng(3).normal(0.0, 1.0, 5000)
    bins = numbers(values)
    assert median(bins, reference_counts(bins), share) == pytest.approx(np.quantile(values, share), abs=0.05)


def test_without_numbers_there_is_no_median() -> None:
    bins = numbers(AGES)
    assert median(bins, FieldCounts(counts=(0,) * len(bins.counts), nulls=5)) is None
    assert median(numbers([]), FieldCounts(counts=(0,))) is None


def test_shares_are_short_and_never_hide_something_behind_nothing_or_all() -> None:
    shares = (0.0, 0.00001, 0.001, 0.052, 0.5, 0.9996, 1.0)
    assert [share_text(share) for share in shares] == [
        "0 %", "<0.01 %", "0.1 %", "5.2 %", "50 %", "99.96 %", "100 %",
    ]  # fmt: skip
