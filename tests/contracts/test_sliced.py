"""Profiles with slices: what is cut, on which bins it is counted, and what is left out."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.contracts.contract import Contract, Field, Output
from fairlead.contracts.counts import FieldCounts, FieldKey, bins_of, reference_counts
from fairlead.contracts.profile import ReferenceProfile, profile
from fairlead.contracts.sliced import reference_of, slices_of
from fairlead.contracts.table import Table, read_table

AGE, LAND, ANSWER = FieldKey("feature", "age"), FieldKey("feature", "land"), FieldKey("prediction", "")


def contract(**land: Any) -> Contract:
    return Contract(
        inputs=(
            Field(name="age", type="float", nullable=True),
            Field(name="land", type="string", nullable=True, **{"slice": True, **land}),
        ),
        output=Output(kind="class", classes=("no", "yes")),
    )


def people(lands: list[str | None]) -> Table:
    ages = [None if place % 7 == 3 else float(place) for place in range(len(lands))]
    return read_table(pa.table({"age": pa.array(ages, pa.float64()), "land": pa.array(lands, pa.string())}))


def any_land(lands: list[str | None]) -> bool:
    """A column of nothing but nulls has no type, and is refused before."""
    return any(land is not None for land in lands)


def counts_of(held: ReferenceProfile, slice: str) -> dict[FieldKey, FieldCounts]:
    assert held.slices is not msgspec.UNSET
    return dict(held.slices[slice].fields)


@given(
    lands=st.lists(st.sampled_from(["DE", "FR", "Ö ☃", "", None]), min_size=1, max_size=60).filter(any_land)
)
def test_slices_and_the_rows_in_none_add_up_to_all(lands: list[str | None]) -> None:
    table = people(lands)
    answers = ["yes" if place % 3 else "no" for place in range(len(lands))]
    held = reference_of(table, contract(), predictions=answers)
    whole = {key: reference_counts(bins) for key, bins in bins_of(held, ("no", "yes")).items()}
    rest = [place for place, land in enumerate(lands) if land is None]
    slices = {} if held.slices is msgspec.UNSET else held.slices
    assert sum(one.rows for one in slices.values()) + len(rest) == len(lands)
    for key in (AGE, ANSWER):
        summed = np.sum([dict(one.fields)[key].counts for one in slices.values()], axis=0) if slices else 0
        missing = len([place for place in rest if key == ANSWER or place % 7 != 3])
        assert int(np.sum(summed)) + missing == whole[key].n
    assert msgspec.json.decode(msgspec.json.encode(held), type=ReferenceProfile) == held


def test_a_contract_without_slices_has_the_profile_that_it_always_had() -> None:
    table = people(["DE", "FR"] * 20)
    held = reference_of(table, contract(slice=False))
    assert held == profile(table, contract(slice=False))
    assert b"slices" not in msgspec.json.encode(held)


def test_who_says_what_is_cut_may_be_another_contract() -> None:
    plain, marked = contract(slice=False), contract(categories=("FR", "DE", "XX"))
    held = reference_of(people(["DE", "FR", "FR"] * 20), plain, cut_by=marked.inputs)
    assert held.slices is not msgspec.UNSET
    assert {name: one.rows for name, one in held.slices.items()} == {"land=FR": 40, "land=DE": 20}


def test_slices_lie_on_the_bins_that_another_profile_lends() -> None:
    lender = reference_of(people(["DE", "FR"] * 50), contract())
    held = reference_of(people(["FR", "AT"] * 30), contract(), like=lender)
    assert held.slices is not msgspec.UNSET
    assert set(held.slices) == {"land=FR"}
    assert len(counts_of(held, "land=FR")[AGE].counts) == len(bins_of(lender)[AGE].counts)
    assert counts_of(held, "land=FR")[LAND].counts == (0, 30, 0)


def test_numbers_are_cut_at_quarters_or_one_by_one_and_nulls_are_in_no_part() -> None:
    inputs = (
        Field(name="age", type="float", nullable=True, slice=True),
        Field(name="stars", type="int", slice=True),
    )
    numbers = Contract(inputs=inputs, output=Output(kind="number"))
    ages = [None if place % 10 == 0 else float(place) for place in range(200)]
    held = reference_of(read_table({"age": ages, "stars": [1, 2, 3, 4] * 50}), numbers)
    assert held.slices is not msgspec.UNSET
    rows = {name: one.rows for name, one in held.slices.items()}
    assert [rows[f"stars={stars}"] for stars in (1, 2, 3, 4)] == [50] * 4
    assert sum(count for name, count in rows.items() if name.startswith("age")) == 180


def test_a_sensitive_feature_is_counted_in_no_slice_and_cuts_nothing() -> None:
    held = contract(sensitivity="sensitive")
    assert reference_of(people(["DE", "FR"] * 20), held).slices is msgspec.UNSET
    ages = Field(name="age", type="float", nullable=True, sensitivity="sensitive")
    hidden = Contract(inputs=(ages, contract().inputs[1]), output=Output(kind="number"))
    found = reference_of(people(["DE", "FR"] * 20), hidden)
    assert AGE not in counts_of(found, "land=DE")
    assert LAND in counts_of(found, "land=DE")


@pytest.mark.parametrize("lands", [[None] * 30 + ["DE"], ["DE"]])
def test_columns_that_say_nothing_cut_what_there_is(lands: list[str | None]) -> None:
    held = reference_of(people(lands), contract())
    slices = {} if held.slices is msgspec.UNSET else held.slices
    assert set(slices) == {f"land={land}" for land in lands if land is not None}


def test_lists_cut_nothing() -> None:
    field = Field(name="tags", type="float", shape=(-1,), slice=True)
    assert slices_of([field], {}) == ()
