"""Background rows look like the training data, field by field."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.contracts.check import check_row
from fairlead.contracts.contract import Contract, Field, Output
from fairlead.contracts.profile import ReferenceProfile, profile
from fairlead.contracts.table import read_table
from fairlead.explanations.background import background_rows


def drawn(frame: pd.DataFrame, *fields: Field, rows: int = 100, seed: int = 0) -> list[list[Any]]:
    contract = Contract(inputs=fields, output=Output(kind="number"))
    held = profile(read_table(frame), contract)
    return background_rows(contract, held, np.random.default_rng(seed), rows)


def test_numbers_have_the_mean_and_the_range_of_the_training_data() -> None:
    values = np.random.default_rng(0).normal(50, 10, 5_000)
    rows = drawn(pd.DataFrame({"a": values}), Field(name="a", type="float"), rows=500)
    numbers = np.array(rows)[:, 0]
    assert numbers.mean() == pytest.approx(values.mean(), abs=1.0)
    assert values.min() <= numbers.min()
    assert numbers.max() <= values.max()


def test_few_distinct_values_come_again_as_they_are_in_their_shares() -> None:
    frame = pd.DataFrame({"a": [0.5] * 80 + [7.25] * 20, "b": [1] * 50 + [9] * 50})
    rows = drawn(frame, Field(name="a", type="float"), Field(name="b", type="int"))
    assert sorted(row[0] for row in rows) == [0.5] * 80 + [7.25] * 20
    assert sorted(row[1] for row in rows) == [1] * 50 + [9] * 50
    assert all(type(row[1]) is int for row in rows)


def test_categories_and_nulls_come_in_their_shares() -> None:
    frame = pd.DataFrame({"a": ["DE"] * 60 + ["größe"] * 20 + [None] * 20})
    rows = drawn(frame, Field(name="a", type="string", nullable=True))
    assert [sum(row[0] == value for row in rows) for value in ("DE", "größe", None)] == [60, 20, 20]


def test_a_constant_stays_constant_and_a_field_without_values_is_null() -> None:
    frame = pd.DataFrame({"a": [3.5] * 30, "b": pd.array([None] * 30, dtype="Float64")})
    rows = drawn(frame, Field(name="a", type="float"), Field(name="b", type="float", nullable=True))
    assert rows == [[3.5, None]] * 100


def test_lists_have_their_lengths() -> None:
    frame = pd.DataFrame({"a": [[1.0, 2.0, 3.0]] * 20, "b": [[1.0]] * 10 + [[1.0, 5.0]] * 10})
    rows = drawn(frame, Field(name="a", type="float", shape=(3,)), Field(name="b", type="float", shape=(-1,)))
    assert {len(row[0]) for row in rows} == {3}
    assert sorted(len(row[1]) for row in rows) == [1] * 50 + [2] * 50


def test_the_same_seed_draws_the_same_rows() -> None:
    frame = pd.DataFrame({"a": np.arange(100.0)})
    field = Field(name="a", type="float")
    assert drawn(frame, field, seed=4) == drawn(frame, field, seed=4) != drawn(frame, field, seed=5)


@given(
    st.lists(st.none() | st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=60),
    st.lists(st.integers(-(2**53), 2**53), min_size=1, max_size=60),
)
@settings(max_examples=60, deadline=None)
def test_whatever_the_training_data_held_rows_keep_the_contract(
    numbers: list[float | None], whole: list[int]
) -> None:
    size = min(len(numbers), len(whole))
    present = [value for value in numbers[:size] if value is not None]
    low, high = min(present, default=0.0), max(present, default=0.0)
    fields = (
        Field(name="a", type="float", nullable=True, minimum=low, maximum=high),
        Field(name="b", type="int", minimum=min(whole[:size]), maximum=max(whole[:size])),
    )
    frame = pd.DataFrame({"a": pd.array(numbers[:size], dtype="Float64"), "b": whole[:size]})
    contract = Contract(inputs=fields, output=Output(kind="number"))
    held: ReferenceProfile = profile(read_table(frame), contract)
    for row in background_rows(contract, held, np.random.default_rng(0), 40):
        checked, findings = check_row(contract, dict(zip(contract.names, row, strict=True)), frozenset())
        assert not findings
        assert all(value is None or math.isfinite(value) for value in checked)
