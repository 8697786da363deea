"""Which changes of a contract callers notice."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.contracts.check import check_row
from fairlead.contracts.contract import Contract, Field, Output
from fairlead.errors import DataContractViolation, InvalidContract
from fairlead.gate.compatibility import breaks

AGE = Field(name="age", type="int", minimum=0, maximum=120)
LAND = Field(name="land", type="string", categories=("DE", "FR"))
NUMBER = Output(kind="number")


def contract(*fields: Field, output: Output = NUMBER) -> Contract:
    return Contract(inputs=fields, output=output)


def changed(field: Field, **changes: Any) -> Field:
    return msgspec.structs.replace(field, **changes)


def texts(before: Contract, after: Contract) -> list[str]:
    return [found.text for found in breaks(before, after)]


def test_the_same_contract_breaks_nobody() -> None:
    assert texts(contract(AGE, LAND), contract(LAND, AGE)) == []


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ((AGE,), (AGE, LAND), "land is new and required"),
        ((AGE, LAND), (AGE,), "land is no longer known"),
        ((AGE,), (changed(AGE, type="string", minimum=None, maximum=None),), "age was a int and is a string"),
        ((changed(AGE, type="float"),), (AGE,), "age was a float and is a int"),
        ((AGE,), (changed(AGE, shape=(3,)),), "age was a single value and is a list of 3"),
        ((AGE,), (changed(AGE, minimum=18),), "age has to be 18 or more, and had to be 0"),
        ((changed(AGE, maximum=None),), (AGE,), "age has to be 120 or less, and had no bound"),
        ((changed(AGE, on_range="flag"),), (AGE,), "age has to be 0 or more, and had no bound"),
        ((changed(AGE, on_type="impute", default=1),), (AGE,), "age took a value of any type"),
        ((changed(AGE, on_missing="impute", default=1),), (AGE,), "age has become required"),
        ((LAND,), (changed(LAND, categories=("DE",)),), "land no longer takes 'FR'"),
        ((changed(LAND, categories=None),), (LAND,), "land took any value and takes only 2"),
        ((changed(LAND, nullable=True),), (LAND,), "land no longer may be null"),
        ((changed(LAND, required=False, default="DE"),), (LAND,), "land has become required"),
    ],
)
def test_what_callers_would_be_refused_for_is_named(
    before: tuple[Field, ...], after: tuple[Field, ...], said: str
) -> None:
    found = texts(contract(*before), contract(*after))
    assert any(text.startswith(said) for text in found), found


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((AGE,), (changed(AGE, type="float"),)),
        ((AGE,), (AGE, changed(LAND, required=False, default="DE"))),
        ((AGE,), (changed(AGE, minimum=-5, maximum=None),)),
        ((AGE,), (changed(AGE, minimum=18, on_range="flag"),)),
        ((LAND,), (changed(LAND, categories=("DE", "FR", "IT")),)),
        ((LAND,), (changed(LAND, categories=("DE",), on_category="impute", default="DE"),)),
        ((changed(AGE, shape=(2,)),), (changed(AGE, shape=(-1,)),)),
    ],
)
def test_what_takes_more_or_refuses_nothing_breaks_nobody(
    before: tuple[Field, ...], after: tuple[Field, ...]
) -> None:
    assert texts(contract(*before), contract(*after)) == []


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (NUMBER, Output(kind="class", classes=(0, 1)), "was a number and is a class"),
        (Output(kind="class", classes=(0, 1)), Output(kind="class", classes=(0, 1, 2)), "do not know: 2"),
        (Output(kind="class", classes=(0, 1)), Output(kind="class", classes=(False, True)), "know: False"),
        (Output(kind="vector", length=3), Output(kind="vector", length=4), "had 3 numbers and has 4"),
    ],
)
def test_an_answer_of_another_form_is_named(before: Output, after: Output, said: str) -> None:
    (found,) = breaks(contract(AGE, output=before), contract(AGE, output=after))
    assert found.field == "output"
    assert said in found.text


def test_fewer_classes_break_nobody() -> None:
    before, after = Output(kind="class", classes=(0, 1, 2)), Output(kind="class", classes=(0, 1))
    assert texts(contract(AGE, output=before), contract(AGE, output=after)) == []


VALUES = st.sampled_from([None, 0, 1, 2.5, -7, 300, "DE", "FR", "", True, [1], [1, 2], [0.5, 1.5]])


@st.composite
def fields(draw: st.DrawFn, name: str) -> Field:
    kind = draw(st.sampled_from(["float", "int", "bool", "string"]))
    number = kind in ("float", "int")
    shape = draw(st.sampled_from([(), (), (-1,), (2,)])) if number else ()
    categories: tuple[Any, ...] | None = None
    if kind == "string":
        categories = draw(st.sampled_from([None, ("DE",), ("DE", "FR")]))
    action = st.sampled_from(["reject", "impute"]) if not shape else st.just("reject")
    default: Any = {"float": 1.0, "int": 1, "bool": True, "string": "DE"}[kind]
    return Field(
        name=name,
        type=kind,
        shape=shape,
        required=draw(st.booleans()) or bool(shape),
        nullable=draw(st.booleans()),
        minimum=draw(st.sampled_from([None, 0, 1])) if number else None,
        maximum=draw(st.sampled_from([None, 2, 100])) if number else None,
        categories=categories,
        default=None if shape else default,
        on_missing=draw(action),
        on_type=draw(action),
        on_range=draw(action),
        on_category=draw(action),
    )


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Contract, Contract]:
    """Two contracts that differ in few rules, so that often nothing breaks."""
    before = draw(contracts())
    other = draw(contracts())
    rules = ("required", "nullable", "minimum", "maximum", "on_missing", "on_type", "on_range", "on_category")
    rule = draw(st.sampled_from(rules))
    by_name = {field.name: field for field in other.inputs}
    moved = tuple(
        changed(field, **{rule: getattr(by_name.get(field.name, field), rule)}) for field in before.inputs
    )
    try:
        return before, contract(*moved).verify()
    except InvalidContract:
        return before, other


@st.composite
def contracts(draw: st.DrawFn) -> Contract:
    names = draw(st.lists(st.sampled_from("ab"), min_size=1, max_size=2, unique=True))
    try:
        return contract(*(draw(fields(name)) for name in names)).verify()
    except InvalidContract:
        return contract(AGE)


def takes(held: Contract, row: dict[str, Any]) -> bool:
    try:
        check_row(held, row)
    except DataContractViolation:
        return False
    return True


@settings(max_examples=300, deadline=None)
@given(
    both=pairs(),
    rows=st.lists(st.dictionaries(st.sampled_from("ab"), VALUES), max_size=12),
)
def test_where_nothing_breaks_every_row_that_production_takes_is_taken(
    both: tuple[Contract, Contract], rows: list[dict[str, Any]]
) -> None:
    production, candidate = both
    if breaks(production, candidate):
        return
    for row in rows:
        assert not takes(production, row) or takes(candidate, row), row
