"""Answers and rows that are made up, for what needs no model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fairlead.contracts.contract import Contract, Field, Output
from fairlead.contracts.table import Table, read_table
from fairlead.gate.answers import Answers
from fairlead.gate.held_out import HeldOut, held_out
from fairlead.gate.spec import GateSpec

__all__ = ["BOUGHT", "answers", "rows"]

BOUGHT = Contract(
    inputs=(Field(name="age", type="float"), Field(name="land", type="string")),
    output=Output(kind="class", classes=(0, 1)),
)


def answers(
    values: Sequence[Any], chances: Sequence[float] | None = None, errors: dict[int, str] | None = None
) -> Answers:
    """Answers of a model; `chances` are those of the class 1, `errors` by row."""
    missing = errors or {}
    return Answers(
        values=list(values),
        probabilities=[None] * len(values)
        if chances is None
        else [{"0": 1 - chance, "1": chance} for chance in chances],
        errors=[missing.get(row) for row in range(len(values))],
    )


def rows(spec: GateSpec, columns: dict[str, Any], contract: Contract = BOUGHT) -> HeldOut:
    """Held-out rows of these columns."""
    table: Table = read_table(columns)
    return held_out(spec, table, contract)
