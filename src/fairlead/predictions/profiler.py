"""Profiles of one data folder's log: its rows counted on the bins that hold for their contracts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from fairlead.predictions.binning_store import BinningStore
from fairlead.predictions.profiling import profile_rows
from fairlead.predictions.record import SchemaFrame

__all__ = ["Profiler"]


class Profiler:
    """Counts rows; any thread may ask. `bins` are the bins."""

    def __init__(self, data_folder: Path) -> None:
        self.bins = BinningStore(data_folder)

    def profiles(
        self,
        model: str,
        table: pa.Table,
        contracts: Mapping[str, SchemaFrame],
        *,
        keep: bool = True,
        made: set[str | None] | None = None,
    ) -> Iterator[pa.Table]:
        """Profile rows (`PROFILES`) of a model's predictions, piece by piece. `keep` keeps bins that are made
        of these rows.

        With `made`, bins that rows have to give are made of these, unless their contract is in that set, to
        which it is then added. Raises OSError when bins cannot be kept.
        """
        for contract_id in pc.unique(table.column("contract_id")).to_pylist():
            schema = contracts.get(contract_id or "")
            rows = table.filter(_is(table.column("contract_id"), contract_id))
            anew = made is not None and contract_id not in made
            if made is not None:
                made.add(contract_id)
            binning = self.bins.current(model, schema, rows, keep=keep, anew=anew)
            yield from profile_rows(rows, schema, binning)


def _is(column: pa.ChunkedArray, value: str | None) -> pa.ChunkedArray:
    return column.is_null() if value is None else pc.equal(column, value)
