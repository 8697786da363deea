"""From a record back to the row: exactly, or not at all."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.contracts.check import check_row
from fairlead.contracts.contract import Contract, Field, Output
from fairlead.contracts.fingerprint import encode_row, feature_hash
from fairlead.errors import DataContractViolation
from fairlead.evaluation.agreement import same_violations
from fairlead.evaluation.logged import Altered, Unfit, checked_again, features_of, row_of

CONTRACT = Contract(
    inputs=(
        Field(name="Age", type="float", minimum=0, maximum=150),
        Field(name="age", type="int", nullable=True),
        Field(name="größe", type="string", categories=("S", "L")),
        Field(name="member", type="bool", required=False, default=False),
        Field(name="basket", type="float", shape=(-1,)),
    ),
    output=Output(kind="number"),
)
SECRET = Contract(
    inputs=(
        Field(name="x", type="float"),
        Field(name="iban", type="string", sensitivity="sensitive", nullable=True),
    ),
    output=Output(kind="number"),
)
ROW = [31.5, 4, "S", True, [0.5, 2.0]]


def record_of(contract: Contract, row: list[Any], held: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        "contract_id": contract.id,
        "features": held,
        "feature_hash": feature_hash(contract.id, encode_row(row)),
        "violations": None,
        "refused": None,
        **changes,
    }


def logged(row: list[Any]) -> dict[str, Any]:
    return dict(zip(("Age", "age_2", "größe", "member", "basket"), row, strict=True))


@given(
    st.tuples(
        st.floats(0, 150),
        st.none() | st.integers(-(2**63), 2**63 - 1),
        st.sampled_from(["S", "L"]),
        st.booleans(),
        st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=3),
    )
)
def test_what_was_logged_comes_back_as_it_was(row: tuple[Any, ...]) -> None:
    held = json.loads(msgspec.json.encode(logged(list(row))))
    assert row_of(record_of(CONTRACT, list(row), held), CONTRACT) == list(row)


def test_a_column_that_other_versions_made_wider_comes_back_as_the_contract_has_it() -> None:
    wide = {"age": 31.5, "Age_2": "4", "größe": "S", "member": "true", "basket": "[0.5, 2.0]"}
    assert row_of(record_of(CONTRACT, ROW, wide), CONTRACT) == ROW
    assert row_of(record_of(CONTRACT, ROW, logged([31.5, 4.0, "S", True, [0.5, 2.0]])), CONTRACT) == ROW


@pytest.mark.parametrize(
    ("place", "value"),
    [("Age", 31.25), ("age_2", 5), ("größe", "L"), ("member", None), ("basket", [0.5]), ("Age", "old")],
)
def test_a_feature_that_was_changed_in_the_log_is_noticed(place: str, value: Any) -> None:
    record = record_of(CONTRACT, ROW, logged(ROW) | {place: value})
    with pytest.raises(Altered, match="feature_hash"):
        row_of(record, CONTRACT)
    with pytest.raises(Altered):
        features_of(record, CONTRACT, ["größe"])


def test_features_that_are_not_there_are_not_guessed() -> None:
    with pytest.raises(Unfit, match="no features") as missing:
        row_of(record_of(CONTRACT, ROW, logged(ROW)) | {"features": None}, CONTRACT)
    assert missing.value.reason == "features_missing"
    with pytest.raises(Unfit) as unknown:
        row_of(record_of(CONTRACT, ROW, logged(ROW), contract_id="c0"), CONTRACT)
    assert unknown.value.reason == "contract_unknown"


def test_sensitive_features_are_named_unless_they_were_null_or_nobody_needs_them() -> None:
    record = record_of(SECRET, [1.0, "DE12"], {"x": 1.0, "iban": None})
    with pytest.raises(Unfit, match="'iban'") as withheld:
        row_of(record, SECRET)
    assert withheld.value.reason == "features_withheld"
    assert features_of(record, SECRET, ["x"])["x"] == 1.0
    with pytest.raises(Unfit, match="'iban'"):
        features_of(record, SECRET, ["x", "iban"])
    assert row_of(record_of(SECRET, [1.0, None], {"x": 1.0, "iban": None}), SECRET) == [1.0, None]


def refused(contract: Contract, features: dict[str, Any]) -> dict[str, Any]:
    """The record of a request with these features."""
    with pytest.raises(DataContractViolation) as caught:
        check_row(contract, features)
    told = msgspec.json.decode(msgspec.json.encode([caught.value.violations, caught.value.refused]))
    return record_of(contract, [], {}, features=None, violations=told[0], refused=told[1])


@pytest.mark.parametrize(
    "changes",
    [
        {"Age": "old"},
        {"Age": 151, "größe": "M"},
        {"Age": float("inf")},
        {"Age": float("nan"), "age": 2**70},
        {"member": None},
        {"basket": 3},
        {"unheard": {"deep": [1]}, "größe": None},
        {"größe": "x" * 300},
    ],
)
def test_a_refused_row_breaks_the_same_rules_again(changes: dict[str, Any]) -> None:
    whole = {"Age": 1.0, "age": 2, "größe": "S", "member": True} | changes
    record = refused(CONTRACT, whole)
    assert same_violations(checked_again(record, CONTRACT).violations, record["violations"])
    assert checked_again(record, CONTRACT).violations


def test_names_that_another_version_knew_then_are_no_violation_now() -> None:
    features = {"Age": "old", "age": 2, "größe": "S", "basket": [1.0], "other": 1}
    with pytest.raises(DataContractViolation) as caught:
        check_row(CONTRACT, features, frozenset({"other"}))
    record = record_of(
        CONTRACT, [], {}, features=None, violations=caught.value.violations, refused=caught.value.refused
    )
    again = checked_again(record, CONTRACT)
    assert not again.exact  # the log holds the list as text
    assert [each for each in again.violations if each["field"] == "other"] == []


def test_a_refused_row_of_which_too_little_is_kept_is_not_judged() -> None:
    hidden = refused(SECRET, {"x": "no", "iban": "DE12"})
    with pytest.raises(Unfit, match="'iban'"):
        checked_again(hidden, SECRET)
    with pytest.raises(Unfit) as others:
        checked_again(refused(SECRET, {"x": "no"}) | {"violations": None}, SECRET)
    assert others.value.reason == "refused_with_others"
    many = {f"f{index}": 1 for index in range(300)} | {"x": 1.0, "iban": None}
    assert not checked_again(refused(SECRET, many), SECRET).exact
