"""What a window is held against: times that do not overlap it, and counts on the same bins."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from fairlead.contracts.counts import FieldKey, reference_counts, tally
from fairlead.contracts.profile import ListProfile, ReferenceProfile
from fairlead.monitoring.references import before, pairs, seen_of, training_counts, week_before
from fairlead.predictions.counted import CountedField, CountedWindow
from tests.monitoring.made import categories, numbers

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
AGE, LAND = FieldKey("feature", "age"), FieldKey("feature", "land")
BINS = {AGE: numbers([20.0, 30.0, 40.0]), LAND: categories(["DE", "FR"])}


def window(slice: str, *, bins: str | None = "b1", rows: int = 10) -> CountedWindow:
    return CountedWindow(
        start=NOW - HOUR, end=NOW, contract_id="c1", bins=bins, slice=slice, rows=rows, ok=rows, rejected=0,
        failed=0, unread=0, fields=(CountedField(AGE, tally(BINS[AGE], [25.0] * rows)),),
    )  # fmt: skip


def test_before_is_seven_days_or_as_long_as_the_window() -> None:
    assert before(NOW - HOUR, NOW) == (NOW - HOUR - 7 * DAY, NOW - HOUR)
    assert before(NOW - 30 * DAY, NOW) == (NOW - 60 * DAY, NOW - 30 * DAY)


@given(st.timedeltas(timedelta(minutes=1), timedelta(days=400)))
def test_the_same_time_then_is_whole_weeks_earlier_and_does_not_overlap(span: timedelta) -> None:
    start, end = week_before(NOW - span, NOW)
    assert (end - start, (NOW - end) % (7 * DAY)) == (span, timedelta(0))
    assert end <= NOW - span


def test_what_would_lie_before_the_calendar_begins_with_it() -> None:
    long_ago = datetime(3, 1, 1, tzinfo=UTC)
    first = datetime.min.replace(tzinfo=UTC)
    assert before(long_ago, NOW) == (first, long_ago)
    assert week_before(long_ago, NOW)[0] == first


def test_windows_are_put_together_by_bins_and_rows_are_those_of_all_traffic() -> None:
    others = [window("", bins="b2"), window("", bins=None)]
    found = seen_of([window("", rows=100), window("land=DE", rows=60), *others])
    assert set(found) == {"b1", "b2"}
    assert found["b1"].rows.rows == 100
    assert set(found["b1"].counts) == {"", "land=DE"}
    assert seen_of([window("land=DE")])["b1"].rows.rows == 0


def test_only_what_was_counted_on_both_sides_is_paired() -> None:
    counts = {key: reference_counts(held) for key, held in BINS.items()}
    found = pairs(BINS, {"": counts}, {"": {AGE: counts[AGE]}, "land=DE": counts})
    assert [(pair.slice, pair.key) for pair in found] == [("", AGE)]


def test_numbers_of_lists_are_as_many_things_as_there_are_lists() -> None:
    lengths, elements = FieldKey("feature", "seen"), FieldKey("elements", "seen")
    bins = {lengths: numbers([1.0, 2.0]), elements: numbers([1.0, 2.0, 3.0])}
    counts = {key: reference_counts(held) for key, held in bins.items()}
    found = {pair.key: pair.units for pair in pairs(bins, {"": counts}, {"": counts})}
    assert found == {lengths: None, elements: (2, 2)}


def test_a_version_has_its_own_training_counts_only_on_the_same_bins() -> None:
    # Both ages lie on the edges of the first profile, so the bins are the same; the lands have other names.
    own = ReferenceProfile(
        contract_id="c1",
        rows=6,
        fields={"age": numbers([20.0, 20.0, 30.0, 30.0, 40.0, 40.0]), "land": categories(["AT"] * 6)},
    )
    found = training_counts(BINS, own, ())
    assert (found[AGE].n, found[LAND].n) == (6, 2)
    assert training_counts(BINS, None, ())[AGE].n == 3


def test_a_field_that_became_a_list_lends_nothing() -> None:
    listed = ListProfile(n=1, nulls=0, lengths=numbers([1.0]), elements=numbers([1.0]))
    own = ReferenceProfile(contract_id="c1", rows=1, fields={"age": listed, "land": categories(["DE"])})
    assert training_counts(BINS, own, ())[AGE].n == 3
