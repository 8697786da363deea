"""Features keep their types; contracts that differ meet in the narrowest common one."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from fairlead.predictions.features import NO_FEATURES, conform, feature_array, struct_type, unify
from fairlead.predictions.record import SchemaFrame
from tests.predictions.records import SCHEMA

KINDS = ("float", "int", "bool", "string", "list<float>", "list<int>")


def schema(*types: str, names: tuple[str, ...] | None = None) -> SchemaFrame:
    return SchemaFrame("c", names or tuple(f"f{i}" for i in range(len(types))), types)


def test_a_struct_has_the_contracts_types_in_its_order() -> None:
    assert struct_type(SCHEMA) == pa.struct(
        [
            ("age", pa.float64()),
            ("visits", pa.int64()),
            ("member", pa.bool_()),
            ("country", pa.string()),
            ("basket", pa.list_(pa.float64())),
        ]
    )


def test_rows_are_typed_and_null_where_they_hold_nothing() -> None:
    rows = [[31, 4, True, "DE", [1, 2.5]], None, [None, None, None, None, None]]
    assert feature_array(rows, SCHEMA).to_pylist() == [
        {"age": 31.0, "visits": 4, "member": True, "country": "DE", "basket": [1.0, 2.5]},
        None,
        {"age": None, "visits": None, "member": None, "country": None, "basket": None},
    ]


def test_a_value_of_the_wrong_type_is_null_and_its_neighbours_stay() -> None:
    rows: list[Any] = [
        ["old", 4.5, 1, 7, "x"],
        [True, "4", "yes", None, [1.0, None]],
        [2**70, 2**63, None, ["DE"], [[1]]],
        [1.5, 4.0, False, "DE", []],
    ]
    found = feature_array(rows, SCHEMA).to_pylist()
    blank = dict.fromkeys(SCHEMA.names)
    assert found[0] == blank
    assert found[1] == blank
    assert found[2] == {**blank, "age": float(2**70)}
    assert found[3] == {"age": 1.5, "visits": 4, "member": False, "country": "DE", "basket": []}


def test_a_row_of_another_length_is_cut_or_filled() -> None:
    rows = [[1.0], [1.0, 2.0, 3.0]]
    assert feature_array(rows, schema("float", "float")).to_pylist() == [
        {"f0": 1.0, "f1": None},
        {"f0": 1.0, "f1": 2.0},
    ]


def test_a_sensitive_feature_is_not_stored_and_a_personal_one_is() -> None:
    secret = SchemaFrame("c", ("iban", "name"), ("string", "string"), ("sensitive", "personal"))
    assert feature_array([["DE89", "Zoë"]], secret).to_pylist() == [{"iban": None, "name": "Zoë"}]


def test_names_that_differ_only_in_case_stay_apart_within_a_contract() -> None:
    two = schema("int", "int", "int", names=("Age", "age", "AGE"))
    assert struct_type(two).names == ["Age", "age_2", "AGE_3"]


def test_a_contract_that_gains_and_loses_fields_is_united_by_name() -> None:
    first, second = schema("int", "bool", names=("a", "b")), schema("string", "float", names=("c", "A"))
    common = unify([struct_type(first), struct_type(second)])
    assert common == pa.struct([("a", pa.float64()), ("b", pa.bool_()), ("c", pa.string())])
    old = conform(feature_array([[1, True], None], first), common)
    new = conform(feature_array([["x", 1.5]], second), common)
    assert old.to_pylist() == [{"a": 1.0, "b": True, "c": None}, None]
    assert new.to_pylist() == [{"a": 1.5, "b": None, "c": "x"}]


def test_types_in_conflict_become_text() -> None:
    values = {
        "int": (7, "7"),
        "float": (7.5, "7.5"),
        "bool": (True, "true"),
        "string": ("x", "x"),
        "list<float>": ([1.5, 2.0], "[1.5, 2.0]"),
        "list<int>": ([1, 2], "[1, 2]"),
    }
    text = pa.struct([("f0", pa.string())])
    for kind, (value, expected) in values.items():
        array = conform(feature_array([[value], [None]], schema(kind)), text)
        assert array.to_pylist() == [{"f0": expected}, {"f0": None}]


def test_lists_of_int_and_float_meet_in_float() -> None:
    common = unify([struct_type(schema("list<int>")), struct_type(schema("list<float>"))])
    assert conform(feature_array([[[1, 2]]], schema("list<int>")), common).to_pylist() == [{"f0": [1.0, 2.0]}]


def test_rows_without_a_contract_fit_any_struct() -> None:
    assert conform(pa.nulls(2, NO_FEATURES), struct_type(SCHEMA)).to_pylist() == [None, None]


structs = st.lists(
    st.tuples(st.sampled_from("abcd"), st.sampled_from(KINDS)), max_size=4, unique_by=lambda pair: pair[0]
).map(lambda pairs: struct_type(schema(*(k for _, k in pairs), names=tuple(n for n, _ in pairs))))


def as_dict(struct: pa.StructType) -> dict[str, pa.DataType]:
    return {field.name: field.type for field in struct}


@given(structs, structs, structs)
def test_uniting_does_not_depend_on_order_or_grouping(
    one: pa.StructType, two: pa.StructType, three: pa.StructType
) -> None:
    together = as_dict(unify([one, two, three]))
    assert as_dict(unify([three, two, one])) == together
    assert as_dict(unify([one, unify([two, three])])) == together
    assert as_dict(unify([one, one])) == as_dict(one)


@given(st.lists(structs, min_size=1, max_size=4))
def test_every_struct_conforms_to_the_union(types: list[pa.StructType]) -> None:
    common = unify(types)
    for given_type in types:
        assert conform(pa.nulls(2, given_type), common).type == common


junk = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=5,
)


@given(st.lists(st.none() | st.lists(junk, max_size=8), min_size=1, max_size=5))
def test_whatever_lies_in_features_gives_a_column_of_the_right_type_and_length(rows: list[Any]) -> None:
    everything = schema(*KINDS)
    found = feature_array(rows, everything)
    assert found.type == struct_type(everything)
    assert [row is None for row in found.to_pylist()] == [row is None for row in rows]
