"""A table is checked like its rows one by one: the same rows, the same flags, the same refusals."""

import math
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fairlead.contracts.arrays import Checked, Table, TableCheck, as_array, python_values
from fairlead.contracts.check import check_row
from fairlead.contracts.contract import Contract, Field, Output
from fairlead.errors import DataContractViolation, InvalidContract

NUMBER = Output(kind="number")


def contract(*fields: Field) -> Contract:
    return Contract(inputs=fields, output=NUMBER).verify()


def rows_of(made: Contract, checked: Checked) -> list[tuple[Any, ...]]:
    """The checked rows as the row path has them."""
    kinds = [f"list<{field.type}>" if field.shape else field.type for field in made.inputs]
    if checked.matrix is not None:
        columns = [python_values(kind, checked.matrix[:, i]) for i, kind in enumerate(kinds)]
    else:
        columns = [python_values(kind, *column) for kind, column in zip(kinds, checked.columns, strict=True)]
    return list(zip(*columns, strict=True))


def sent(array: Any, index: int) -> Any:
    """What a caller who sends this row alone, as JSON, would send."""
    value = array[index]
    value = value.tolist() if isinstance(value, np.ndarray | np.generic) else value
    return None if isinstance(value, float) and math.isnan(value) else value


def one_by_one(made: Contract, table: Table) -> tuple[list[Any], list[Any], list[Any]]:
    """Rows, flags and violations, each with its row, as the check of single rows finds them."""
    rows, flags, violations = [], [], []
    for index in range(table.rows):
        columns = [(field.name, table.column(i)) for i, field in enumerate(made.inputs)]
        features = {name: sent(column, index) for name, column in columns if column is not None}
        try:
            row, found = check_row(made, features)
        except DataContractViolation as error:
            violations += [{"row": index, **violation} for violation in error.violations]
        else:
            rows.append(row)
            flags += [(index, flag) for flag in found]
    return rows, flags, violations


def in_order(made: Contract, checked: Checked) -> list[Any]:
    found = [pair for breach in checked.flags for pair in breach.findings()]
    return sorted(found, key=lambda pair: (pair[0], made.names.index(pair[1].field)))


def assert_same(made: Contract, table: Table) -> None:
    rows, flags, violations = one_by_one(made, table)
    if violations:
        with pytest.raises(DataContractViolation) as caught:
            TableCheck(made)(table)
        assert caught.value.violations == violations[:100]
        assert caught.value.details["broken"] == len(violations)
        return
    checked = TableCheck(made)(table)
    assert repr(rows_of(made, checked)) == repr(rows)
    assert msgspec.to_builtins(in_order(made, checked)) == msgspec.to_builtins(flags)


# --- the property -------------------------------------------------------------------------------------------

NUMBERS = [np.float16, np.float32, np.float64, np.int8, np.uint16, np.int32, np.int64, np.uint64]
EDGES = [0.0, 1.0, -1.0, 0.5, 10.0, 1e300, 2.0**53, 2.0**63, -(2.0**63), math.inf, -math.inf, math.nan]
WORDS = st.sampled_from(["DE", "FR", "XX", "größe", "", "\ud800"])
PLAIN = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 12), st.sampled_from([2**63, -(2**70)]), st.floats(), WORDS,
    st.lists(st.one_of(st.integers(-5, 12), st.floats()), max_size=3),
)  # fmt: skip


@st.composite
def fields(draw: st.DrawFn, name: str) -> Field:
    kind = draw(st.sampled_from(["float", "int", "bool", "string"]))
    shape: tuple[int, ...] = ()
    if kind in ("float", "int"):
        shape = draw(st.sampled_from([(), (), (2,), (-1,)]))
    rules: dict[str, Any] = {"nullable": draw(st.booleans()), "required": draw(st.booleans())}
    if kind in ("float", "int") and draw(st.booleans()):
        low = draw(st.sampled_from([None, -3, -2.5, 0.1, -(2.0**63)]))
        rules |= {"minimum": low, "maximum": draw(st.sampled_from([None, 7, 9.5, 2.0**53, 1e300]))}
    if kind in ("int", "string") and not shape and draw(st.booleans()):
        rules["categories"] = ("DE", "FR") if kind == "string" else (0, 1, 5)
    if not shape and draw(st.booleans()):
        rules["default"] = {"float": 0.1, "int": 5, "bool": True, "string": "FR"}[kind]
    for action in ("on_missing", "on_range", "on_category", "on_type"):
        allowed = ["reject", "impute"] if action == "on_type" else ["reject", "flag", "impute"]
        rules[action] = draw(st.sampled_from(allowed))
    rules["sensitivity"] = draw(st.sampled_from(["none", "sensitive"]))
    try:
        return contract(Field(name=name, type=kind, shape=shape, **rules)).inputs[0]
    except InvalidContract:
        return Field(name=name, type=kind, shape=shape, nullable=rules["nullable"])


@st.composite
def columns(draw: st.DrawFn, field: Field, rows: int) -> Any:
    choice = draw(st.integers(0, 9))
    if choice == 0:
        return None
    if choice == 1:
        return as_array(draw(st.lists(PLAIN, min_size=rows, max_size=rows)))
    if field.type == "string":
        texts = st.one_of(WORDS, st.none()) if choice == 2 else st.sampled_from(["DE", "FR"])
        return np.array(draw(st.lists(texts, min_size=rows, max_size=rows)), object)
    if field.type == "bool":
        return draw(hnp.arrays(np.bool_, rows))
    dtype = draw(st.sampled_from(NUMBERS))
    shape = (rows, draw(st.integers(1, 3))) if field.shape else (rows,)
    if np.dtype(dtype).kind == "f":
        whole = st.integers(-4, 9).map(float)
        wild = st.sampled_from(EDGES) | st.floats(-20, 20, width=16)
        elements = (wild if choice < 6 else whole).filter(lambda value: _holds(dtype, value))
        return draw(hnp.arrays(dtype, shape, elements=elements))
    return draw(hnp.arrays(dtype, shape, elements=None if choice < 4 else st.integers(0, 9)))


def _holds(dtype: Any, value: float) -> bool:
    with np.errstate(over="ignore"):
        held = float(dtype(value))
    return held == value or value != value


@st.composite
def tables(draw: st.DrawFn) -> tuple[Contract, Table]:
    made = contract(*[draw(fields(f"f{index}")) for index in range(draw(st.integers(1, 4)))])
    rows = draw(st.integers(1, 5))
    return made, Table(rows, columns=[draw(columns(field, rows)) for field in made.inputs])


@settings(max_examples=600, deadline=None)
@given(tables())
def test_a_table_is_checked_like_its_rows_one_by_one(case: tuple[Contract, Table]) -> None:
    assert_same(*case)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_matrix_is_checked_like_its_rows_one_by_one(data: st.DataObject) -> None:
    width, rows = data.draw(st.integers(1, 3)), data.draw(st.sampled_from([1, 2, 7, 64, 65, 131]))
    made = contract(
        *[
            data.draw(
                fields(f"f{i}").filter(lambda field: field.type in ("float", "int") and not field.shape)
            )
            for i in range(width)
        ]
    )
    dtype = data.draw(st.sampled_from([np.float32, np.float64, np.int32, np.int64]))
    matrix = np.random.default_rng(data.draw(st.integers(0, 9))).integers(0, 6, (rows, width)).astype(dtype)
    for _ in range(data.draw(st.integers(0, 2))):
        value = data.draw(st.sampled_from(EDGES[:7] if np.dtype(dtype).kind == "i" else EDGES))
        with np.errstate(over="ignore"):
            place = data.draw(st.integers(0, rows - 1)), data.draw(st.integers(0, width - 1))
            matrix[place] = int(value) % 2**31 if np.dtype(dtype).kind == "i" else value
    assert_same(made, Table(rows, matrix=matrix))


# --- what it says -------------------------------------------------------------------------------------------

AGE = Field(name="age", type="float", minimum=0, maximum=120)


def test_a_clean_matrix_is_passed_on_as_it_came() -> None:
    matrix = np.full((100, 1), 31, np.float32)
    assert TableCheck(contract(AGE))(Table(100, matrix=matrix)).matrix is matrix


def test_a_refusal_names_row_field_and_rule_and_how_many_there_are() -> None:
    column = np.array([1, 2, 500, 4, -1], np.float32)
    with pytest.raises(DataContractViolation) as caught:
        TableCheck(contract(AGE))(Table(5, columns=[column]))
    assert "Row 2: field 'age' breaks rule 'range': expected 0 to 120 and 1 more." in str(caught.value)
    assert caught.value.violations[1] == {
        "row": 4, "field": "age", "rule": "range", "value": -1.0, "expected": "0 to 120",
    }  # fmt: skip
    assert caught.value.refused == {"2": {"age": 500.0}, "4": {"age": -1.0}}


def test_single_precision_does_not_round_a_bound() -> None:
    made = contract(Field(name="x", type="float", maximum=0.1))
    for value, fine in ((np.float32(0.1), False), (np.nextafter(np.float32(0.1), np.float32(0)), True)):
        matrix = np.full((3, 1), value, np.float32)
        if fine:
            TableCheck(made)(Table(3, matrix=matrix))
        else:
            with pytest.raises(DataContractViolation):
                TableCheck(made)(Table(3, matrix=matrix))


def test_sensitive_values_are_named_nowhere() -> None:
    secret = msgspec.structs.replace(AGE, sensitivity="sensitive")
    with pytest.raises(DataContractViolation) as caught:
        TableCheck(contract(secret))(Table(1, columns=[np.array([777.0])]))
    assert "777" not in str(caught.value) + repr(caught.value.violations) + repr(caught.value.refused)
