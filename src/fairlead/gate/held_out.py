"""The held-out rows as a gate uses them: features as a caller would send them, the truth, weights, slices."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from fairlead.contracts.contract import Contract
from fairlead.contracts.table import Table
from fairlead.errors import InvalidGate
from fairlead.gate.answers import truth_of
from fairlead.gate.slices import parts
from fairlead.gate.spec import MOST_ROWS, GateSpec, Slice

__all__ = ["HeldOut", "held_out"]

Array = npt.NDArray[Any]


class HeldOut(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """`columns` has all columns of each row; `truth` is None where the data do not say. `weights` are by
    column, `parts` by column and then by the part's name; `slices` are the columns whose parts are compared.
    """

    columns: list[dict[str, Any]]
    truth: list[Any]
    weights: dict[str, Array]
    parts: dict[str, dict[str, Array]]
    slices: tuple[str, ...] = ()

    def features(self, contract: Contract) -> list[dict[str, Any]]:
        """The rows as they are sent to a version of that contract. A column that it does not take is no
        feature; what is null is sent as null where that is allowed, and else is left out."""
        held = {field.name: field.nullable for field in contract.inputs}
        return [
            {name: value for name, value in row.items() if value is not None or held[name]}
            for row in ({name: row[name] for name in held if name in row} for row in self.columns)
        ]


def held_out(spec: GateSpec, table: Table | None, contract: Contract) -> HeldOut:
    """The rows that the gate asks about; `contract` is the candidate's. Slices that the contract declares are
    added to the gate's. `InvalidGate` names what the table lacks."""
    if table is None:
        return HeldOut(columns=[], truth=[], weights={}, parts={})
    if table.rows > MOST_ROWS:
        raise InvalidGate(
            f"The data have {table.rows:,} rows; a gate takes {MOST_ROWS:,}.", remedy="Send a sample."
        )
    names = table.names
    wanted = {
        "target": [spec.target] if spec.target else [],
        "weight": [metric.weight for metric in spec.metrics if metric.weight],
        "slice": [cut.column for cut in spec.cuts] + [limit.slice for limit in spec.fairness],
    }
    for what, columns in wanted.items():
        for name in columns:
            if name not in names:
                raise InvalidGate(
                    f"The data have no column {name!r} for the {what}.",
                    remedy=f"They have {', '.join(names[:20])}.",
                )
    cuts = {cut.column: cut for cut in spec.cuts}
    for field in contract.inputs:
        if field.slice and field.name in names:
            cuts.setdefault(field.name, Slice(column=field.name))
    whole = {cut.column: parts(table.column(cut.column), cut) for cut in cuts.values()}
    for limit in spec.fairness:
        if limit.slice not in whole:
            whole[limit.slice] = parts(table.column(limit.slice), Slice(column=limit.slice))
    truth: list[Any] = [None] * table.rows
    if spec.target is not None:
        truth = truth_of(contract.output, table.column(spec.target).to_list(), spec.target)
    return HeldOut(
        columns=[dict(zip(names, row, strict=True)) for row in table.records()],
        truth=truth,
        weights={name: _weights(table, name) for name in wanted["weight"] if name},
        parts=whole,
        slices=tuple(cuts),
    )


def _weights(table: Table, name: str) -> Array:
    column = table.column(name)
    if column.shape or column.type not in ("float", "int"):
        raise InvalidGate(f"Weight {name!r} holds no numbers.", remedy="Choose a column of numbers.")
    values = np.asarray(column.values, np.float64)
    if column.null.any() or not np.isfinite(values).all() or (values < 0.0).any():
        raise InvalidGate(
            f"Weight {name!r} is missing, infinite or below 0 in a row.", remedy="Clean that column."
        )
    return values
