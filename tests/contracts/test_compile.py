import json
import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.contracts.compile import CompiledContract
from fairlead.contracts.contract import Contract, Field, Output
from fairlead.contracts.fingerprint import decode_row, encode_row, feature_hash
from fairlead.errors import DataContractViolation, InvalidContract, MalformedRequest

NUMBER = Output(kind="number")


def contract(*fields: Field) -> CompiledContract:
    return CompiledContract(Contract(inputs=fields, output=NUMBER).verify())


def read(compiled: CompiledContract, features: object, **members: object):
    body = json.dumps({"features": features, **members}).encode()
    return compiled.read(body).row(compiled)


def violations(compiled: CompiledContract, features: object) -> list[dict]:
    with pytest.raises(DataContractViolation) as caught:
        read(compiled, features)
    return caught.value.violations


AGE = Field(name="age", type="float", minimum=0, maximum=120)
COUNT = Field(name="count", type="int")
LAND = Field(name="land", type="string", categories=("DE", "FR"))


def test_a_clean_request_becomes_a_row_in_contract_order():
    row, flags = read(contract(AGE, COUNT, LAND), {"land": "FR", "age": 31, "count": 2})
    assert row == (31.0, 2, "FR")
    assert flags == []


def test_whole_floats_are_integers_and_integers_are_floats():
    row, flags = read(contract(AGE, COUNT), {"age": 31, "count": 3.0})
    assert row == (31.0, 3)
    assert [type(value) for value in row] == [float, int]
    assert flags == []


@pytest.mark.parametrize("value", ["31", True, [31], {"x": 1}])
def test_text_and_truth_are_never_numbers(value):
    found = violations(contract(AGE), {"age": value})
    assert [(v["field"], v["rule"], v["expected"]) for v in found] == [("age", "type", "number")]


def test_every_violation_is_named_with_field_rule_value_and_expectation():
    found = violations(contract(AGE, COUNT, LAND), {"age": 121, "land": "XX", "agee": 1})
    assert found == [
        {"field": "age", "rule": "range", "value": 121, "expected": "0 to 120"},
        {"field": "count", "rule": "missing", "value": None, "expected": "a value of type integer"},
        {"field": "land", "rule": "category", "value": "XX", "expected": "one of 'DE', 'FR'"},
        {
            "field": "agee",
            "rule": "unknown",
            "value": 1,
            "expected": "a feature of the contract; did you mean 'age'?",
        },
    ]


def test_infinity_is_refused_by_name_and_the_literal_nan_is_malformed():
    compiled = contract(AGE)
    with pytest.raises(DataContractViolation) as caught:
        compiled.read(b'{"features":{"age":1e999}}').row(compiled)
    assert caught.value.violations[0]["rule"] == "not_finite"
    for literal in (b"NaN", b"Infinity", b"-Infinity"):
        with pytest.raises(MalformedRequest):
            compiled.read(b'{"features":{"age":' + literal + b"}}")


def test_a_flag_passes_the_value_on_and_reports_it():
    compiled = contract(msgspec.structs.replace(AGE, on_range="flag"))
    row, flags = read(compiled, {"age": 400})
    assert row == (400.0,)
    assert [(flag.field, flag.rule, flag.value) for flag in flags] == [("age", "range", 400)]


def test_an_unknown_category_can_be_flagged_or_imputed():
    flagged = contract(msgspec.structs.replace(LAND, on_category="flag"))
    assert read(flagged, {"land": "ES"})[0] == ("ES",)
    imputed = contract(msgspec.structs.replace(LAND, on_category="impute", default="DE"))
    row, flags = read(imputed, {"land": "ES"})
    assert row == ("DE",)
    assert flags[0].rule == "category"


def test_a_missing_value_can_be_imputed_and_says_so():
    compiled = contract(msgspec.structs.replace(COUNT, on_missing="impute", default=7))
    for features in ({}, {"count": None}):
        row, flags = read(compiled, features)
        assert row == (7,)
        assert [flag.rule for flag in flags] == ["missing"]


def test_an_optional_field_takes_its_default_or_null_without_a_flag():
    compiled = contract(
        Field(name="a", type="float", required=False, default=2),
        Field(name="b", type="float", required=False, nullable=True),
    )
    assert read(compiled, {}) == ((2.0, None), [])


def test_null_is_missing_unless_the_field_is_nullable():
    assert violations(contract(AGE), {"age": None})[0]["rule"] == "missing"
    nullable = contract(msgspec.structs.replace(AGE, nullable=True))
    assert read(nullable, {"age": None}) == ((None,), [])


def test_a_name_that_another_live_version_knows_is_dropped():
    base = Contract(inputs=(AGE,), output=NUMBER)
    compiled = CompiledContract(base, frozenset({"age", "height"}))
    assert read(compiled, {"age": 3, "height": 180})[0] == (3.0,)
    assert read(compiled, {"age": 300 / 10, "height": "any"})[0] == (30.0,)
    assert violations(compiled, {"age": 3, "width": 1})[0]["rule"] == "unknown"


def test_a_request_read_with_one_contract_gives_its_row_under_another():
    first = CompiledContract(Contract(inputs=(AGE,), output=NUMBER), frozenset({"count"}))
    second = CompiledContract(Contract(inputs=(COUNT, AGE), output=NUMBER), frozenset({"age"}))
    reading = first.read(b'{"features":{"age":3,"count":4},"unit":"u"}')
    assert reading.row(first)[0] == (3.0,)
    assert reading.row(second)[0] == (4, 3.0)
    broken_for_first = first.read(b'{"features":{"age":-3,"count":4},"unit":17}')
    assert broken_for_first.unit == "17"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"3",
        b'"x"',
        b"null",
        b'{"features":3}',
        b'{"feature":{}}',
        b'{"features":{},"units":1}',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"features":{"age":1}}x',
        b'{"features":{"age":1},"unit":true}',
        b'{"features":{"age":1},"unit":{"a":1}}',
        b'{"features":{"age":' + b"9" * 5000 + b"}}",
    ],
)
def test_what_is_no_predict_request_is_malformed_and_never_a_crash(body):
    compiled = contract(AGE)
    with pytest.raises((MalformedRequest, DataContractViolation)):
        compiled.read(body).row(compiled)


def test_what_is_kept_of_a_refused_row_is_short_and_holds_nothing_sensitive():
    compiled = contract(AGE, Field(name="name", type="string", sensitivity="sensitive"), LAND)
    with pytest.raises(DataContractViolation) as caught:
        read(compiled, {"age": -1, "name": "Ann", "land": "x" * 500, "password": "secret"})
    kept = caught.value.refused
    assert kept == {"age": -1, "name": "…", "land": "x" * 100 + "…", "password": "…"}
    with pytest.raises(DataContractViolation) as caught:
        read(compiled, {f"f{index}": index for index in range(10_000)})
    assert len(caught.value.refused) == 200


def test_a_finding_about_a_sensitive_field_does_not_repeat_its_value():
    compiled = contract(Field(name="illness", type="string", categories=("a",), sensitivity="sensitive"))
    assert violations(compiled, {"illness": "plague"})[0]["value"] == "…"
    assert violations(compiled, {"illness": None})[0]["value"] is None


def test_an_integer_that_no_model_can_hold_is_refused():
    assert violations(contract(COUNT), {"count": 2**63})[0]["rule"] == "range"
    assert read(contract(COUNT), {"count": -(2**63)})[0] == (-(2**63),)


def test_lists_have_their_length_and_element_type():
    compiled = contract(Field(name="v", type="float", shape=(2,)), Field(name="w", type="int", shape=(-1,)))
    assert read(compiled, {"v": [1, 2], "w": []})[0] == ([1.0, 2.0], [])
    assert [v["rule"] for v in violations(compiled, {"v": [1], "w": [1.5]})] == ["shape", "type"]


def test_a_feature_may_be_called_anything():
    names = ["class", "größe (cm)", "__init__", "a.b", "日本", "f0", "x0", "'quoted'", "features"]
    compiled = contract(*(Field(name=name, type="float") for name in names))
    row, _ = read(compiled, {name: index for index, name in enumerate(names)})
    assert row == tuple(float(index) for index in range(len(names)))


def test_a_batch_reads_each_row_alone():
    compiled = contract(AGE)
    body = b'{"instances":[{"features":{"age":1},"unit":"a"},{"features":{"age":-1}},{"features":{"age":2}}]}'
    batch = compiled.read_batch(body)
    assert batch.units == ["a", None, None]
    assert batch.row(0, compiled)[0] == (1.0,)
    with pytest.raises(DataContractViolation):
        batch.row(1, compiled)
    assert batch.row(2, compiled)[0] == (2.0,)


def test_a_contradictory_contract_is_refused_with_its_field():
    for field in (
        Field(name="a", type="float", minimum=2, maximum=1),
        Field(name="a", type="string", minimum=1),
        Field(name="a", type="float", on_missing="impute"),
        Field(name="a", type="int", default=1.5),
        Field(name="", type="int"),
        Field(name='a"b', type="int"),
        Field(name="a\nb", type="int"),
        Field(name="a", type="float", shape=(2, 2)),
        Field(name="a", type="float", required=False),
    ):
        with pytest.raises(InvalidContract) as caught:
            Contract(inputs=(field,), output=NUMBER).verify()
        assert repr(field.name) in str(caught.value)


# --- laws ---------------------------------------------------------------------------------------------------

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=4,
)


@st.composite
def fields(draw, index=0):
    kind = draw(st.sampled_from(["float", "int", "bool", "string"]))
    low = draw(st.none() | st.integers(-5, 5)) if kind in ("float", "int") else None
    high = None if low is None else low + draw(st.integers(0, 9))
    categories = draw(st.none() | st.just(("a", "b"))) if kind == "string" else None
    return Field(
        name=f"f{index}",
        type=kind,
        minimum=low,
        maximum=high,
        categories=categories,
        nullable=draw(st.booleans()),
        on_range=draw(st.sampled_from(["reject", "flag"])),
        on_category=draw(st.sampled_from(["reject", "flag"])),
    )


@given(fields(), json_values)
def test_the_native_pass_and_the_thorough_check_agree(field, value):
    """Whatever a caller sends, the fast way accepts only what the slow way accepts, with the same row."""
    compiled = contract(field)
    features = {field.name: value}
    body = json.dumps({"features": features}).encode()
    try:
        row, flags = compiled.read(body).row(compiled)
    except (DataContractViolation, MalformedRequest) as error:
        row, flags, refused = None, [], error
    else:
        refused = None
    try:
        expected, expected_flags = compiled.check(features)
    except DataContractViolation:
        assert refused is not None
        return
    if isinstance(refused, MalformedRequest):
        assert not math.isfinite(value) if isinstance(value, float) else True
        return
    assert row == expected
    assert [flag.rule for flag in flags] == [flag.rule for flag in expected_flags]


@given(
    st.lists(
        st.none() | st.booleans() | st.floats(allow_nan=False) | st.integers(-(2**63), 2**63 - 1) | st.text()
    )
)
def test_an_encoded_row_reads_back_and_names_itself(values):
    encoded = encode_row(tuple(values))
    assert decode_row(encoded) == values
    assert feature_hash("c1", encoded) == feature_hash("c1", encode_row(tuple(decode_row(encoded))))
    assert feature_hash("c1", encoded) != feature_hash("c2", encoded)


def test_the_published_feature_hash_does_not_change():
    encoded = encode_row((31.0, 2, "DE", None, True, [1.5]))
    assert encoded.hex() == "96cb403f00000000000002a24445c0c391cb3ff8000000000000"
    assert feature_hash("c0123456789abcde", encoded) == "4095808dbc5a0957726ad8cd06c11a84"


def test_equal_contracts_have_equal_ids_and_any_change_changes_it():
    one = Contract(inputs=(AGE, COUNT), output=NUMBER)
    same = Contract(inputs=(AGE, COUNT), output=Output(kind="number"))
    other = Contract(inputs=(COUNT, AGE), output=NUMBER)
    assert one.id == same.id
    assert one.id != other.id
    assert len(one.id) == 16
    whole, broken = (Field(name="a", type="float", maximum=bound) for bound in (10, 10.0))
    assert Contract(inputs=(whole,), output=NUMBER).id == Contract(inputs=(broken,), output=NUMBER).id
