"""The rule of two stages: beyond chance, and large enough to matter; a status for whatever cannot be told."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.contracts.counts import Bins, FieldCounts, FieldKey, reference_counts, tally
from fairlead.monitoring.drift import Floors, Pair, Shift, level, shifts, subject
from tests.data.employment import FEATURES, employment
from tests.monitoring.made import categories, numbers

X = FieldKey("feature", "x")
MONTHLY = level(30, 24)
GENERATOR = np.random.default_rng(7)
AGES = GENERATOR.normal(40.0, 10.0, 10_000)
LANDS = GENERATOR.choice(["DE", "FR", "AT"], 10_000, p=[0.6, 0.3, 0.1]).tolist()


def asked(
    bins: Bins,
    values: Iterable[Any],
    *,
    nulls: int = 0,
    misfits: int = 0,
    key: FieldKey = X,
    units: tuple[int, int] | None = None,
    floors: Floors | None = None,
) -> dict[str, Shift]:
    current = tally(bins, values, nulls=nulls, misfits=misfits)
    pair = Pair("", key, bins, reference_counts(bins), current, units)
    return {one.question: one for one in shifts([pair], level=MONTHLY, floors=floors)}


def alarms(found: dict[str, Shift]) -> set[str]:
    return {name for name, one in found.items() if one.status == "alarm"}


def test_the_same_again_is_no_alarm() -> None:
    again = np.random.default_rng(8).normal(40.0, 10.0, 5000)
    found = asked(numbers(AGES), again)
    assert {one.status for one in found.values()} == {"ok"}
    assert set(found) == {"moved-share", "null-share", "misfit-share", "outside-share"}


def test_half_a_standard_deviation_alarms_and_says_what_moved() -> None:
    found = asked(numbers(AGES), np.random.default_rng(8).normal(45.0, 10.0, 5000))["moved-share"]
    assert found.status == "alarm"
    assert found.effect is not None
    assert found.effect > 0.15
    assert found.changes[0] == "median 39.9 → 44.9"
    assert set(found.distances) == {
        "psi", "js-divergence-base-2", "js-distance-base-2", "l-infinity",
        "total-variation", "hellinger", "chi-square", "wasserstein-1-over-std",
    }  # fmt: skip
    assert found.distances["wasserstein-1-over-std"] == pytest.approx(0.5, abs=0.05)


def test_what_is_certain_and_small_is_no_alarm() -> None:
    found = asked(numbers(AGES), np.random.default_rng(8).normal(41.0, 10.0, 1_000_000))["moved-share"]
    assert found.p is not None
    assert found.p < 1e-6
    assert found.status == "ok"


def test_what_is_large_and_may_be_chance_is_no_alarm() -> None:
    found = asked(numbers(AGES), np.random.default_rng(8).normal(40.0, 10.0, 100))["moved-share"]
    assert found.distances["total-variation"] > Floors().moved
    assert found.status == "ok"


def test_a_surge_of_nulls_alarms_within_a_thousand_rows() -> None:
    found = asked(numbers(AGES, nulls=10), np.random.default_rng(8).normal(40.0, 10.0, 950), nulls=50)
    assert alarms(found) == {"null-share"}
    assert found["null-share"].expected == pytest.approx(0.001, abs=1e-5)
    assert found["null-share"].seen == pytest.approx(0.05)


def test_nulls_that_end_are_a_change_as_well() -> None:
    found = asked(numbers(AGES, nulls=10_000), np.random.default_rng(8).normal(40.0, 10.0, 1000))
    assert {"null-share", "moved-share"} <= alarms(found)


def test_a_new_category_of_two_percent_alarms_within_a_thousand_rows_by_name() -> None:
    usual = np.random.default_rng(8).choice(["DE", "FR", "AT"], 980, p=[0.6, 0.3, 0.1]).tolist()
    found = asked(categories(LANDS), [*usual, *["Ελλάδα"] * 20])
    assert alarms(found) == {"unseen-share"}
    assert "unseen ('Ελλάδα') 0 % → 2 %" in found["moved-share"].changes


def test_misfits_alarm_like_nulls() -> None:
    found = asked(numbers(AGES), np.random.default_rng(8).normal(40.0, 10.0, 950), misfits=50)
    assert alarms(found) == {"misfit-share"}


def test_a_mistaken_unit_alarms_within_five_hundred_rows() -> None:
    found = asked(numbers(AGES), 100.0 * np.random.default_rng(8).normal(40.0, 10.0, 500))
    assert alarms(found) == {"moved-share", "outside-share"}


def test_a_prior_that_moves_ten_points_alarms_within_three_thousand_rows() -> None:
    classes = categories(["no"] * 5000 + ["yes"] * 5000)
    found = asked(classes, ["no"] * 1200 + ["yes"] * 1800, key=FieldKey("prediction", ""))
    assert alarms(found) == {"moved-share"}


@pytest.mark.parametrize("rows", [0, 1, 99])
def test_few_rows_are_insufficient_and_say_so(rows: int) -> None:
    found = asked(numbers(AGES), AGES[:rows])
    assert {one.status for one in found.values()} == {"insufficient"}
    assert found["moved-share"].problem == f"There were {rows} rows; 100 are needed."
    assert found["moved-share"].p is None


def test_a_small_reference_is_insufficient_and_says_so() -> None:
    found = asked(numbers(AGES[:20]), AGES)
    assert found["null-share"].problem == "The reference has 20 rows; 100 are needed."


def test_counts_of_other_bins_are_an_error_of_that_field_alone() -> None:
    bins, other = numbers(AGES), categories(LANDS)
    key = FieldKey("feature", "x")
    wrong = Pair("", key, bins, reference_counts(bins), reference_counts(other))
    right = Pair("", FieldKey("feature", "y"), other, reference_counts(other), reference_counts(other))
    found = shifts([wrong, right], level=MONTHLY)
    assert [one.status for one in found] == ["error"] * 4 + ["ok"] * 4
    assert found[0].problem == "The window was counted on other bins than the reference."


@pytest.mark.parametrize(
    ("reference", "nulls", "values", "null", "expected"),
    [
        ([], 1000, [], 1000, set()),  # an empty column stays empty
        ([], 1000, [5.0] * 1000, 0, {"moved-share", "null-share", "outside-share"}),  # and begins to live
        ([5.0] * 1000, 0, [], 1000, {"moved-share", "null-share"}),  # a window of nulls
        ([5.0] * 1000, 0, [5.0] * 1000, 0, set()),  # a constant
        ([5.0] * 1000, 0, [6.0] * 1000, 0, {"moved-share", "outside-share"}),  # that changes
        ([5.0] * 1000, 0, [math.inf] * 1000, 0, {"moved-share", "misfit-share"}),  # not a number
        ([1.0, math.inf] * 500, 0, [1.0] * 1000, 0, {"moved-share", "outside-share"}),
        ([-1.7e308, 1.7e308] * 500, 0, [-1.7e308, 1.7e308] * 500, 0, set()),
    ],
)
def test_odd_columns_have_a_status_and_no_wrong_alarm(
    reference: list[float], nulls: int, values: list[float], null: int, expected: set[str]
) -> None:
    found = asked(numbers(reference, nulls=nulls), values, nulls=null)
    assert {one.status for one in found.values()} <= {"ok", "alarm"}
    assert alarms(found) == expected


def test_one_class_alone_is_no_alarm_while_it_stays_alone() -> None:
    assert alarms(asked(categories(["yes"] * 1000), ["yes"] * 1000)) == set()


field = st.lists(st.integers(0, 5000), min_size=22, max_size=22)


@given(field, st.integers(0, 5000), st.integers(0, 5000))
def test_no_counts_raise(counts: list[int], nulls: int, misfits: int) -> None:
    bins = numbers(AGES)
    places = len(bins.counts)
    current = FieldCounts(counts=tuple(counts[:places]), nulls=nulls, misfits=misfits)
    key = FieldKey("feature", "x")
    for one in shifts([Pair("", key, bins, reference_counts(bins), current)], level=MONTHLY):
        assert one.p is None or 0.0 <= one.p <= 1.0


def test_numbers_of_one_list_count_as_one() -> None:
    bins = numbers(AGES)
    one = float(np.quantile(AGES, 0.9))
    same = [*AGES[:4500], *[one] * 500]
    assert alarms(asked(bins, same)) == {"moved-share"}
    assert alarms(asked(bins, same, units=(300, 150))) == set()
    assert asked(bins, same, units=(300, 99))["moved-share"].status == "insufficient"


def test_the_more_is_asked_the_surer_an_alarm_has_to_be() -> None:
    bins = categories(LANDS)
    moved = tally(bins, ["DE"] * 640 + ["FR"] * 300 + ["AT"] * 60)
    odd = Pair("", FieldKey("feature", "odd"), bins, reference_counts(bins), moved)
    usual = [
        Pair("", FieldKey("feature", str(place)), bins, reference_counts(bins), reference_counts(bins))
        for place in range(1000)
    ]
    alone, among = (shifts([odd, *others], level=MONTHLY)[0] for others in ([], usual))
    assert alone.p is not None
    assert among.p is not None
    assert among.p > 100 * alone.p


def test_a_wish_of_few_false_alarms_is_a_level_for_each_look() -> None:
    assert level(30, 24) == pytest.approx(1 / 720)
    assert level(1, 1) == 0.5
    with pytest.raises(ValueError, match="must be above 0"):
        level(0, 24)


def test_fields_and_answers_have_names_that_tell_them_apart() -> None:
    keys = [
        FieldKey("feature", "age"), FieldKey("elements", "seen"), FieldKey("prediction", ""),
        FieldKey("score", "yes"), FieldKey("score", ""),
    ]  # fmt: skip
    assert [subject(key) for key in keys] == [
        "age", "seen (elements)", "(prediction)", "(score yes)", "(score)",
    ]  # fmt: skip


def test_three_years_of_real_people_alarm_nowhere_but_in_ancestry() -> None:
    people = employment().shuffled(np.random.default_rng(1))
    first = people.of(2015)
    bins: dict[str, Bins] = {
        name: numbers(first.features[name]) if name == "AGEP" else categories(list(first.features[name]))
        for name in FEATURES
    }
    surest: dict[str, float] = {}
    alarmed = set()
    for year in (2016, 2017, 2018):
        one = people.of(year)
        for at in range(0, one.rows - 4999, 5000):
            chunk = one.take(slice(at, at + 5000))
            pairs = [
                Pair(
                    "",
                    FieldKey("feature", name),
                    held,
                    reference_counts(held),
                    tally(held, chunk.features[name]),
                )
                for name, held in bins.items()
            ]
            for found in shifts(pairs, level=MONTHLY):
                assert found.status in ("ok", "alarm")
                assert found.p is not None
                surest[found.key.name] = min(found.p, surest.get(found.key.name, 1.0))
                if found.status == "alarm":
                    alarmed.add(found.key.name)
    assert alarmed <= {"ANC"}
    # Ancestry did change, beyond any doubt; and less than matters.
    assert surest["ANC"] < 1e-12
