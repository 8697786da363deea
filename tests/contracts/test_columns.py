"""Columns from four libraries become the same numpy values and null masks."""

from __future__ import annotations

import datetime
import decimal
import subprocess
import sys
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from fairlead.contracts.columns import Column, from_arrow, from_pandas, from_polars, from_values
from fairlead.errors import InvalidReference


def read(library: str, values: list[Any], **kind: Any) -> Column:
    match library:
        case "pandas":
            return from_pandas("x", pd.Series(values, **kind))
        case "polars":
            return from_polars("x", pl.Series("x", values, **kind))
        case "pyarrow":
            return from_arrow("x", pa.array(values, **kind))
        case _:
            return from_values("x", values)


LIBRARIES = ["pandas", "polars", "pyarrow", "plain"]


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1, 2, 3], "int"),
        ([1, None, 3], "int"),
        ([1.5, 2.0, None], "float"),
        ([True, False, True], "bool"),
        ([True, None, False], "bool"),
        (["a", "ß", "年齢"], "string"),
        (["a", None, ""], "string"),
    ],
)
def test_every_library_gives_the_same_column(library: str, values: list[Any], kind: str) -> None:
    column = read(library, values)
    assert column.type == kind
    assert column.to_list() == values
    assert column.null.tolist() == [value is None for value in values]


@pytest.mark.parametrize("library", LIBRARIES)
def test_lists_of_one_length_have_it_as_their_shape_and_others_are_of_any_length(library: str) -> None:
    same = read(library, [[1.0, 2.0], [3.0, 4.5]])
    assert (same.type, same.shape, same.to_list()) == ("float", (2,), [[1.0, 2.0], [3.0, 4.5]])
    ragged = read(library, [[1, 2, 3], [], None])
    assert (ragged.type, ragged.shape, ragged.to_list()) == ("int", (-1,), [[1, 2, 3], [], None])


def test_categoricals_become_the_values_they_stand_for() -> None:
    texts = pd.Series(pd.Categorical(["b", "a", None, "b"]))
    assert from_pandas("x", texts).to_list() == ["b", "a", None, "b"]
    numbers = pd.Series(pd.Categorical([3, 1, None]))
    assert (from_pandas("x", numbers).type, from_pandas("x", numbers).to_list()) == ("int", [3, 1, None])
    assert from_polars("x", pl.Series("x", ["b", "a"], dtype=pl.Categorical)).to_list() == ["b", "a"]
    assert from_polars("x", pl.Series("x", ["b"], dtype=pl.Enum(["a", "b"]))).to_list() == ["b"]
    coded = pa.array(["b", None, "a"]).dictionary_encode()
    assert from_arrow("x", pa.chunked_array([coded, coded])).to_list() == ["b", None, "a"] * 2


@pytest.mark.parametrize("dtype", ["Int64", "int64[pyarrow]", "boolean", "Float64", "string", "object"])
def test_pandas_extension_types_keep_their_nulls(dtype: str) -> None:
    values: list[Any] = {"boolean": [True, None], "string": ["a", None]}.get(dtype, [1, None])
    column = from_pandas("x", pd.Series(values, dtype=dtype))
    assert column.to_list() == values
    assert column.type == {"boolean": "bool", "string": "string"}.get(dtype, "int")


def test_whole_floats_with_nulls_are_the_integers_that_pandas_could_not_keep() -> None:
    assert from_pandas("x", pd.Series([1.0, np.nan, 3.0])).type == "int"
    assert from_pandas("x", pd.Series([1.0, 2.0, 3.0])).type == "float"
    assert from_pandas("x", pd.Series([1.0, np.nan, 3.5])).type == "float"
    assert from_pandas("x", pd.Series([1e300, np.nan])).type == "float"
    assert from_arrow("x", pa.array([1.0, None, 3.0])).type == "float"
    assert from_polars("x", pl.Series([1.0, None, 3.0])).type == "float"


def test_nan_is_null_wherever_it_comes_from() -> None:
    for column in (
        from_pandas("x", pd.Series([0.5, np.nan])),
        from_polars("x", pl.Series([0.5, float("nan")])),
        from_arrow("x", pa.array([0.5, float("nan")])),
        from_values("x", np.array([0.5, np.nan])),
        from_values("x", [0.5, float("nan")]),
    ):
        assert column.to_list() == [0.5, None]


def test_numpy_scalars_in_an_object_column_become_plain_values() -> None:
    values = np.array([np.str_("a"), "b", None], dtype=object)
    column = from_values("x", values)
    assert [type(value) for value in column.to_list()] == [str, str, type(None)]
    assert from_values("x", np.array([np.int32(3), 4], dtype=object)).to_list() == [3, 4]
    assert from_values("x", np.array([np.bool_(True), False], dtype=object)).type == "bool"


@pytest.mark.parametrize("unsigned", [pd.Series([2**63], dtype="uint64"), [2**63], [-(2**63) - 1, 0]])
def test_integers_beyond_64_bits_are_refused(unsigned: Any) -> None:
    with pytest.raises(InvalidReference, match=r"'x' holds an integer beyond 64 bits"):
        from_values("x", unsigned)


def test_the_largest_64_bit_integers_are_kept_to_the_last_digit() -> None:
    assert from_values("x", [2**63 - 1, -(2**63)]).to_list() == [2**63 - 1, -(2**63)]
    assert from_values("x", np.array([2**63 - 1], np.uint64)).to_list() == [2**63 - 1]


@pytest.mark.parametrize(
    "values",
    [
        pd.Series(pd.to_datetime(["2024-01-01"])),
        pd.Series(pd.to_timedelta(["1h"])),
        pd.Series([datetime.date(2024, 1, 1)]),
        pd.Series([1 + 2j]),
        pl.Series([datetime.date(2024, 1, 1)]),
        pl.Series([datetime.timedelta(hours=1)]),
        pa.array([datetime.datetime(2024, 1, 1)]),
        pa.array([decimal.Decimal("1.10")]),
        pa.array([b"raw"]),
        [{"a": 1}],
    ],
)
def test_what_is_no_feature_is_refused_with_the_name_of_its_column(values: Any) -> None:
    with pytest.raises(InvalidReference, match=r"Column 'x' is .*, and a feature is") as caught:
        from_values("x", values)
    assert "Convert the column" in caught.value.remedy


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (["a", 1], "mixes int and string"),
        ([True, 1], "mixes bool and int"),
        ([None, None], "nothing but nulls"),
        ([[1, 2], ["a"]], "something else than numbers"),
        ([[1.0], [float("nan")]], "not finite"),
        (np.array([1.0, np.inf]), "infinite"),
    ],
)
def test_a_column_that_contradicts_itself_is_refused(values: Any, reason: str) -> None:
    with pytest.raises(InvalidReference, match=f"Column 'x'.*{reason}"):
        from_values("x", values)


def test_no_library_is_imported_that_the_sample_does_not_bring() -> None:
    code = (
        "import sys, numpy as np\n"
        "from fairlead.contracts.infer import infer_contract\n"
        "infer_contract(np.ones((3, 2)), target=[0, 1, 0])\n"
        "print(sorted({'pandas', 'polars', 'pyarrow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
