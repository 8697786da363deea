"""Counts on a profile's bins add up: over any split of the rows they come to those of the whole."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.contracts.contract import Contract, Field, Output
from fairlead.contracts.counts import FieldKey, bins_of, merge, reference_counts, tally
from fairlead.contracts.profile import ReferenceProfile, profile
from fairlead.contracts.table import read_table

CONTRACT = Contract(
    inputs=(
        Field(name="age", type="float"),
        Field(name="land", type="string"),
        Field(name="seen", type="float", shape=(-1,)),
    ),
    output=Output(kind="class", classes=("no", "yes")),
)
ROWS = {
    "age": [20.0, 30.0, 40.0, 50.0],
    "land": ["DE", "DE", "FR", "AT"],
    "seen": [[1.0], [2.0, 3.0], [], [4.0]],
}


def reference() -> ReferenceProfile:
    answers = {"predictions": ["no", "yes", "no", "no"], "probabilities": [[0.9, 0.1]] * 4}
    return profile(read_table(ROWS), CONTRACT, **answers)


def test_every_field_and_answer_has_bins_of_its_own() -> None:
    found = bins_of(reference(), CONTRACT.output.classes)
    assert set(found) == {
        FieldKey("feature", "age"),
        FieldKey("feature", "land"),
        FieldKey("feature", "seen"),
        FieldKey("elements", "seen"),
        FieldKey("prediction", ""),
        FieldKey("score", "no"),
        FieldKey("score", "yes"),
    }
    for bins in found.values():
        counts = reference_counts(bins)
        assert (counts.n, counts.counts) == (bins.n, bins.counts)


def test_what_fits_no_bin_has_a_place_of_its_own() -> None:
    bins = bins_of(reference())
    ages = tally(bins[FieldKey("feature", "age")], [20.0, -1.0, 1e9, math.inf, math.nan], nulls=3, misfits=2)
    assert (ages.counts[0], ages.counts[-1], ages.n, ages.misfits, ages.nulls, ages.rows) == (
        1,
        1,
        3,
        4,
        3,
        10,
    )
    lands = tally(bins[FieldKey("feature", "land")], ["DE", "日本", "日本", "XX"])
    assert (lands.counts[-1], lands.new) == (3, {"日本": 2, "XX": 1})


def test_nothing_counted_is_no_error() -> None:
    for bins in bins_of(reference()).values():
        nothing = tally(bins, [])
        assert (nothing.rows, nothing.variance, nothing.low) == (0, None, None)
        assert merge([nothing, nothing]).rows == 0


def test_counts_on_different_bins_do_not_add() -> None:
    bins = bins_of(reference())
    with pytest.raises(ValueError, match="different bins"):
        merge([tally(bins[FieldKey("feature", "age")], []), tally(bins[FieldKey("feature", "land")], [])])
    with pytest.raises(ValueError, match="different bins"):
        merge([])


numbers = st.lists(st.floats(-1e6, 1e6) | st.just(math.nan), max_size=40)


@given(numbers, numbers, numbers)
def test_windows_add_up_to_the_window_of_all(one: list[float], two: list[float], three: list[float]) -> None:
    bins = bins_of(reference())[FieldKey("feature", "age")]
    whole = tally(bins, [*one, *two, *three])
    merged = merge([tally(bins, one), merge([tally(bins, two), tally(bins, three)])])
    assert (merged.counts, merged.misfits, merged.low, merged.high) == (
        whole.counts,
        whole.misfits,
        whole.low,
        whole.high,
    )
    assert merged.mean == pytest.approx(whole.mean, rel=1e-9, abs=1e-6)
    assert merged.m2 == pytest.approx(whole.m2, rel=1e-6, abs=1e-3)


def test_the_moments_of_large_numbers_keep_their_spread() -> None:
    bins = bins_of(reference())[FieldKey("feature", "age")]
    values = 1e9 + np.arange(1000.0)
    merged = merge(tally(bins, part) for part in np.split(values, 10))
    assert merged.variance == pytest.approx(values.var(ddof=1), rel=1e-9)
