"""The rows of a retraining: what the trainer gets, and what only the gate sees."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.contracts.contract import Contract, Field, Output
from fairlead.errors import InvalidRetraining
from fairlead.retraining.data import Split, is_held_out, split, target_beside

T0 = datetime(2026, 11, 1, tzinfo=UTC)
CLASSES = Output(kind="class", classes=(0, 1))


def rows(count: int = 200, **columns: Any) -> pa.Table:
    """Rows as `export_labelled` writes them: unit u0 … each a minute after the last."""
    held = {
        "age": [float(index) for index in range(count)],
        "_unit": [f"u{index}" for index in range(count)],
        "_at": [T0 + timedelta(minutes=index) for index in range(count)],
        "_label": [float(index % 2) for index in range(count)],
        "_label_text": pa.nulls(count, pa.string()),
    }
    return pa.table(held | columns)


def contract(*fields: Field, output: Output = CLASSES) -> Contract:
    return Contract(inputs=fields or (Field(name="age", type="float"),), output=output)


def made(table: pa.Table, held: Contract | None = None, **options: Any) -> Split:
    options = {"share": 0.25, "least": 10, "after": None} | options
    return split(table, held or contract(), "shop", **options)


def test_every_row_goes_to_the_trainer_or_to_the_gate_and_a_unit_never_to_both() -> None:
    table = rows(units := 200, _unit=[f"u{index % 40}" for index in range(units)])
    parts = made(table)
    assert parts.train.num_rows + parts.held.num_rows == 200
    ages = [set(part.column("age").to_pylist()) for part in (parts.train, parts.held)]
    units_of = [{int(age) % 40 for age in of} for of in ages]
    assert not units_of[0] & units_of[1]
    assert parts.train.column_names == ["age", "label"]
    assert set(parts.train.column("label").to_pylist()) == {0, 1}


@given(st.text(), st.text(), st.floats(0.05, 0.95), st.floats(0.05, 0.95))
def test_a_unit_that_is_held_out_stays_so_when_more_are(
    model: str, unit: str, one: float, two: float
) -> None:
    less, more = sorted((one, two))
    assert is_held_out(model, unit, more) or not is_held_out(model, unit, less)


def test_about_the_asked_share_of_the_units_is_held_out() -> None:
    share = sum(is_held_out("shop", f"kunde-{index}-größe", 0.25) for index in range(10_000)) / 10_000
    assert 0.23 < share < 0.27


def test_after_an_alarm_only_what_came_since_is_taken_where_that_is_enough() -> None:
    after = T0 + timedelta(minutes=150)
    parts = made(rows(), after=after)
    assert (parts.since, parts.train.num_rows + parts.held.num_rows) == (after, 50)
    assert made(rows(), after=after, least=60).since == T0


def test_after_an_alarm_what_came_since_is_judged_by_only_where_enough_of_it_is_held_out() -> None:
    after = T0 + timedelta(minutes=150)
    held = made(rows(), after=after).held.num_rows
    assert 0 < held < 50
    assert made(rows(), after=after, least_held=held).since == after
    assert made(rows(), after=after, least_held=held + 1).since == T0
    all_held = made(rows()).held.num_rows
    assert made(rows(), least_held=all_held).held.num_rows == all_held
    with pytest.raises(InvalidRetraining, match=f"{all_held} of the 200 labelled rows .* held out"):
        made(rows(), least_held=all_held + 1)


def test_labels_are_written_as_the_champion_answers_and_others_are_counted() -> None:
    texts = Output(kind="class", classes=("ja", "größer"))
    table = rows(
        _label=pa.nulls(200, pa.float64()),
        _label_text=["ja" if index % 2 else "größer" for index in range(190)] + ["vielleicht"] * 10,
    )
    parts = made(table, contract(output=texts))
    assert parts.unknown == 10
    assert set(parts.held.column("label").to_pylist()) == {"ja", "größer"}
    truths = made(rows(), contract(output=Output(kind="class", classes=(False, True))))
    assert set(truths.train.column("label").to_pylist()) == {False, True}
    numbers = made(rows(), contract(output=Output(kind="number")))
    assert numbers.train.column("label").type == pa.float64()


def test_sensitive_features_are_left_out_and_named() -> None:
    secret = Field(name="income", type="float", nullable=True, sensitivity="sensitive")
    parts = made(rows(income=pa.nulls(200, pa.float64())), contract(Field(name="age", type="float"), secret))
    assert parts.left_out == ("income",)
    assert parts.train.column_names == ["age", "label"]
    needed = Field(name="income", type="float", sensitivity="sensitive")
    with pytest.raises(InvalidRetraining, match="sensitive feature 'income'"):
        made(rows(), contract(Field(name="age", type="float"), needed))


def test_rows_without_a_value_that_the_contract_needs_are_left_out() -> None:
    table = rows(age=[None] * 20 + [1.0] * 180)
    parts = made(table)
    assert parts.train.num_rows + parts.held.num_rows == 180
    nullable = made(table, contract(Field(name="age", type="float", nullable=True)))
    assert nullable.train.num_rows + nullable.held.num_rows == 200


def test_names_that_differ_in_case_alone_find_their_columns() -> None:
    fields = (Field(name="Age", type="float"), Field(name="AGE", type="float"))
    parts = made(rows(age_2=[-1.0] * 200), contract(*fields))
    assert parts.train.column("AGE").to_pylist() == [-1.0] * parts.train.num_rows
    assert parts.train.column("Age").to_pylist() != parts.train.column("AGE").to_pylist()


def test_a_feature_that_is_called_label_keeps_its_name() -> None:
    assert target_beside(("label", "label_")) == "label__"
    parts = made(rows(label=[7.0] * 200), contract(Field(name="label", type="float")))
    assert parts.target == "label_"
    assert set(parts.train.column("label").to_pylist()) == {7.0}


@pytest.mark.parametrize(
    ("table", "told"),
    [
        (rows(0), "0 rows"),
        (rows(9), "9 rows"),
        (rows(_label=pa.nulls(200, pa.float64())), "0 rows"),
        (rows(_label=[2.0] * 200), "0 rows"),
        (rows(_unit=["one"] * 200), "too few units"),
        (rows().drop_columns("age"), "keeps no feature"),
    ],
)
def test_rows_that_nothing_can_be_learnt_from_are_refused(table: pa.Table, told: str) -> None:
    with pytest.raises(InvalidRetraining, match=told):
        made(table)
