"""What a notebook holds becomes what JSON carries, or is refused by name."""

from __future__ import annotations

import json
from datetime import date
from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.client.values import plain_features, plain_value, rows_of
from fairlead.errors import DataContractViolation, MalformedRequest


@pytest.mark.parametrize(
    ("given_value", "expected"),
    [
        (np.float64(1.5), 1.5),
        (np.float32(0.5), 0.5),
        (np.int64(2**62), 2**62),
        (np.uint64(2**64 - 1), 2**64 - 1),
        (np.bool_(True), True),
        (np.str_("Zoë"), "Zoë"),
        (np.array([1, 2]), [1, 2]),
        (np.array(3.0), 3.0),
        ((1, np.float32(2)), [1, 2.0]),
        (Decimal("1.25"), 1.25),
        (float("nan"), None),
        (np.float32("nan"), None),
        (pd.NA, None),
        (pd.NaT, None),
        (None, None),
        ([1.0, float("nan")], [1.0, None]),
    ],
)
def test_scalars_of_numpy_and_pandas_become_plain_values(given_value: object, expected: object) -> None:
    found = plain_value(given_value, "age")
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize("value", [float("inf"), -np.inf, np.float32("inf"), [1.0, float("-inf")]])
def test_infinity_is_a_violation_before_anything_is_sent(value: object) -> None:
    with pytest.raises(DataContractViolation) as refused:
        plain_features({"age": value})
    assert refused.value.violations[0]["field"] == "age"
    assert refused.value.violations[0]["rule"] == "not_finite"


def test_what_json_cannot_carry_is_refused_naming_the_field_and_its_type() -> None:
    with pytest.raises(MalformedRequest, match=r"'born'.*datetime\.date"):
        plain_features({"born": date(1990, 1, 1)})


def test_features_that_are_no_mapping_are_refused() -> None:
    with pytest.raises(MalformedRequest, match="mapping"):
        plain_features([1, 2, 3])  # type: ignore[arg-type]


def test_a_pandas_row_is_a_mapping_of_features() -> None:
    frame = pd.DataFrame({"age": [31], "country": ["DE"], 7: [1.0]})
    assert plain_features(frame.iloc[0]) == {"age": 31, "country": "DE", "7": 1.0}


@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame, pa.table], ids=["pandas", "polars", "pyarrow"])
def test_every_kind_of_frame_gives_the_same_rows(make: object) -> None:
    frame = make({"age": [31.0, None], "country": ["DE", "日本"]})  # type: ignore[operator]
    assert rows_of(frame) == [{"age": 31.0, "country": "DE"}, {"age": None, "country": "日本"}]


def test_an_empty_list_has_no_rows() -> None:
    assert rows_of([]) == []


_SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
)


@given(st.dictionaries(st.text(), _SCALARS | st.lists(_SCALARS)))
def test_plain_values_stay_exactly_as_they_are(features: dict[str, object]) -> None:
    found = plain_features(features)
    assert found == features
    assert json.loads(json.dumps(found)) == found
