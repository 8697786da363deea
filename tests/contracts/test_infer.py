"""What a sample proves rejects; what it only suggests flags."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.contracts.contract import Contract, Field, Output
from fairlead.contracts.infer import infer_contract
from fairlead.errors import InvalidReference

FRAME = pd.DataFrame(
    {
        "age": [31, 44, 18, 90],
        "income": [1e4, 2.5e4, np.nan, 3e4],
        "country": ["DE", "FR", "DE", "FR"],
        "member": [True, True, True, True],
        "email": ["a@x", "b@x", "c@x", "d@x"],
    }
)


def test_a_frame_gives_types_nulls_ranges_and_categories() -> None:
    contract = infer_contract(FRAME, output=Output(kind="number"))
    age, income, country, member, email = contract.inputs
    assert age == Field(
        name="age", type="int", minimum=18.0, maximum=90.0, on_range="flag", inferred=("range",)
    )
    assert (income.type, income.nullable, income.required) == ("int", True, False)
    assert country == Field(
        name="country",
        type="string",
        categories=("DE", "FR"),
        on_category="flag",
        inferred=("categories",),
    )
    assert member.categories == (True,)
    assert email == Field(name="email", type="string")


def test_whatever_was_guessed_only_flags_and_is_listed() -> None:
    for field in infer_contract(FRAME).inputs:
        assert (field.minimum is not None) == ("range" in field.inferred) == (field.on_range == "flag")
        assert (field.categories is not None) == ("categories" in field.inferred)
        assert (field.on_missing, field.on_type) == ("reject", "reject")


@pytest.mark.parametrize(
    "sample", [pl.from_pandas(FRAME), pa.Table.from_pandas(FRAME)], ids=["polars", "pyarrow"]
)
def test_every_library_suggests_the_same_contract(sample: Any) -> None:
    # Only pandas loses integers to nulls; the others know that income was a float.
    pandas = infer_contract(FRAME.drop(columns="income"))
    assert infer_contract(sample.drop(["income"])) == pandas
    assert infer_contract(sample).field("income").type == "float"


def test_the_target_column_is_the_answer_and_no_feature() -> None:
    contract = infer_contract(FRAME, target="country")
    assert "country" not in contract.names
    assert contract.output == Output(kind="class", classes=("DE", "FR"))
    with pytest.raises(InvalidReference, match="no column 'contry'"):
        infer_contract(FRAME, target="contry")


@pytest.mark.parametrize(
    ("target", "output"),
    [
        ([0, 1, 1, 0], Output(kind="class", classes=(0, 1))),
        (np.array([True, False, True, True]), Output(kind="class", classes=(False, True))),
        (pd.Series(["b", "a", "b", "b"]), Output(kind="class", classes=("a", "b"))),
        (pd.DataFrame({"y": [3, 1, 2, 3]}), Output(kind="class", classes=(1, 2, 3))),
        (np.array([[1], [0], [1], [0]]), Output(kind="class", classes=(0, 1))),
        (np.array([0.5, 1.5, 2.0, 3.0]), Output(kind="number")),
        (np.array([[0.5, 1.0], [1.0, 2.0]] * 2), Output(kind="vector", length=2)),
        (None, Output(kind="number")),
    ],
)
def test_the_answers_say_what_the_model_predicts(target: Any, output: Output) -> None:
    assert infer_contract(FRAME, target=target).output == output


def test_integers_with_many_values_are_numbers_and_no_classes() -> None:
    counts = np.arange(30)
    assert infer_contract(counts.reshape(-1, 1), target=counts).output == Output(kind="number")


def test_a_target_of_the_wrong_length_is_refused() -> None:
    with pytest.raises(InvalidReference, match="3 answers for 4 rows"):
        infer_contract(FRAME, target=[1, 2, 3])
    with pytest.raises(InvalidReference, match="2 columns"):
        infer_contract(FRAME, target=FRAME[["age", "income"]])


def test_categories_are_left_out_when_there_are_many_or_nearly_one_per_row() -> None:
    many = pd.DataFrame({"c": [f"c{index % 51}" for index in range(1000)]})
    fifty = pd.DataFrame({"c": [f"c{index % 50}" for index in range(1000)]})
    names = pd.DataFrame({"c": [f"c{index % 30}" for index in range(50)]})
    assert infer_contract(many).inputs[0].categories is None
    assert len(infer_contract(fifty).inputs[0].categories or ()) == 50
    assert infer_contract(names).inputs[0].categories is None


def test_a_boolean_seen_both_ways_has_no_categories_to_break() -> None:
    assert infer_contract({"b": [True, False, True, False]}).inputs[0].categories is None


def test_a_constant_column_has_a_range_of_one_value() -> None:
    field = infer_contract(np.full((3, 1), 7.0)).inputs[0]
    assert (field.minimum, field.maximum) == (7.0, 7.0)


def test_a_list_column_has_its_shape_and_the_range_of_its_numbers() -> None:
    fixed, ragged = infer_contract({"v": [[1.0, 2.0], [0.5, 9.0]], "w": [[1], [2, 3]]}).inputs
    assert (fixed.shape, fixed.minimum, fixed.maximum) == ((2,), 0.5, 9.0)
    assert (ragged.shape, ragged.type, ragged.maximum) == ((-1,), "int", 3.0)


def test_the_bounds_of_integers_that_no_float_can_hold_still_contain_them() -> None:
    values = [2**63 - 1, -(2**63) + 1, 2**53 + 1]
    field = infer_contract({"n": values}).inputs[0]
    assert field.minimum is not None
    assert field.maximum is not None
    assert all(field.minimum <= value <= field.maximum for value in values)


def test_equal_samples_give_the_same_contract_id() -> None:
    assert infer_contract(FRAME).id == infer_contract(FRAME.copy()).id


_COLUMNS = st.dictionaries(
    st.text(min_size=1, max_size=8).filter(
        lambda name: name == name.strip() and name.isprintable() and not set(name) & set('"\\')
    ),
    st.one_of(
        st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=3, max_size=3),
        st.lists(st.integers(-(2**63), 2**63 - 1), min_size=3, max_size=3),
        st.lists(st.booleans(), min_size=3, max_size=3),
        st.lists(st.text(max_size=5), min_size=3, max_size=3),
    ),
    min_size=1,
    max_size=5,
)


@given(_COLUMNS)
def test_the_sample_itself_breaks_no_rule_of_its_contract(columns: dict[str, list[Any]]) -> None:
    contract = infer_contract(columns)
    assert contract.verify() is contract
    assert contract.names == tuple(columns)
    assert isinstance(contract, Contract)
    for field in contract.inputs:
        for value in columns[field.name]:
            assert field.minimum is None or field.minimum <= value
            assert field.maximum is None or value <= field.maximum
            assert field.categories is None or value in field.categories
