"""Fresh rows: read from the segments, not yet in Parquet, and visible to every query."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from fairlead.predictions.columns import OUTCOMES, combine, outcome_table, prediction_tables
from fairlead.predictions.record import Outcome, PredictionRecord, SchemaFrame

__all__ = ["FreshRows"]

_MERGE_AT = 64
"""So many small tables of a model are joined into one: each query looks at every table."""

_NOT_STORABLE = (pa.ArrowException, OverflowError, TypeError, ValueError)


class FreshRows:
    """Arrow tables per model, and the outcomes. Tables are never changed, so readers may keep them.

    `unstorable` counts records that no column can hold, such as a time beyond 64 bits; they are left out.
    """

    def __init__(self) -> None:
        self.predictions: dict[str, tuple[pa.Table, ...]] = {}
        self.outcomes: tuple[pa.Table, ...] = ()
        self.rows = 0
        self.unstorable = 0

    def add(
        self,
        records: Sequence[PredictionRecord],
        outcomes: Sequence[Outcome],
        contracts: Mapping[str, SchemaFrame],
    ) -> None:
        """Takes the records and outcomes in, with features named by `contracts`."""
        for model, table in self._tables(records, contracts):
            held = (*self.predictions.get(model, ()), table)
            if len(held) >= _MERGE_AT:
                held = (combine(held).combine_chunks(),)
            self.predictions[model] = held
            self.rows += table.num_rows
        for table in self._outcome_tables(outcomes):
            held = (*self.outcomes, table)
            self.outcomes = held if len(held) < _MERGE_AT else (pa.concat_tables(held).combine_chunks(),)
            self.rows += table.num_rows

    def before(self, later: FreshRows) -> FreshRows:
        """These rows and then the later ones, as one."""
        joined = FreshRows()
        for part in (self, later):
            for model, tables in part.predictions.items():
                joined.predictions[model] = (*joined.predictions.get(model, ()), *tables)
            joined.outcomes += part.outcomes
            joined.rows += part.rows
            joined.unstorable += part.unstorable
        return joined

    def find(self, request_id: str) -> list[pa.Table]:
        """The predictions of that request, one table per model and contract."""
        found = []
        for tables in self.predictions.values():
            for table in tables:
                rows = table.filter(pc.equal(table.column("request_id"), request_id))
                if rows.num_rows:
                    found.append(rows)
        return found

    def outcome_events(self) -> pa.Table:
        """All outcomes as one table."""
        return pa.concat_tables([OUTCOMES.empty_table(), *self.outcomes])

    def _tables(
        self, records: Sequence[PredictionRecord], contracts: Mapping[str, SchemaFrame]
    ) -> list[tuple[str, pa.Table]]:
        """Tables of the records; one that cannot be stored is found by halving and left out."""
        try:
            return prediction_tables(records, contracts)
        except _NOT_STORABLE:
            if len(records) == 1:
                self.unstorable += 1
                return []
            half = len(records) // 2
            return [*self._tables(records[:half], contracts), *self._tables(records[half:], contracts)]

    def _outcome_tables(self, outcomes: Sequence[Outcome]) -> list[Any]:
        if not outcomes:
            return []
        try:
            return [outcome_table(outcomes)]
        except _NOT_STORABLE:
            if len(outcomes) == 1:
                self.unstorable += 1
                return []
            half = len(outcomes) // 2
            return [*self._outcome_tables(outcomes[:half]), *self._outcome_tables(outcomes[half:])]
