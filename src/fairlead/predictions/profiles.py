"""Reading profiles: the traffic of any stretch of time, counted, as a sum of minutes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import dataset

from fairlead.errors import InvalidQuery
from fairlead.predictions.binning import Binning
from fairlead.predictions.blocks import PROFILES, Block
from fairlead.predictions.columns import combine
from fairlead.predictions.counted import CountedField, CountedWindow
from fairlead.predictions.grouping import grouped
from fairlead.predictions.ingest import Ingest, Snapshot
from fairlead.predictions.profile_files import add_up, alike
from fairlead.predictions.record import Source

__all__ = ["Profiles"]

_MOST_WINDOWS = 100_000
_HELD_ROWS = 2_000
_SOME_AT_A_TIME = {"batch_size": 500, "batch_readahead": 1, "fragment_readahead": 1}
_TRAFFIC = ("online", "batch", "stream", "edge")


class Profiles:
    """The counted traffic of the log that `ingest` keeps; any thread may ask."""

    def __init__(self, ingest: Ingest) -> None:
        self._ingest = ingest

    def bins(self, model: str, identifier: str) -> Binning | None:
        """The bins of that id; None when there are none."""
        return self._ingest.profiler.bins.of_id(model, identifier)

    def windows(
        self,
        model: str,
        since: datetime,
        until: datetime,
        *,
        step: int | None = None,
        version: str | None = None,
        arm: str | None = None,
        slice: str | None = "",
        source: Source | None = None,
    ) -> list[CountedWindow]:
        """What `counted.counted_windows` promises. Raises `InvalidQuery` for a step that is none."""
        first, last = _whole_minutes(since, until)
        if step is not None and (step <= 0 or step % 60):
            raise InvalidQuery(f"A step of {step} s is not whole minutes.", remedy="Use 60, 300, 3600, …")
        if step is not None and (last - first) / (step * 1_000_000) > _MOST_WINDOWS:
            raise InvalidQuery(
                f"More than {_MOST_WINDOWS} windows were asked for.", remedy="Use a longer step."
            )
        chosen = pc.field("source").isin(_TRAFFIC if source is None else (source,))
        for name, value in (("version", version), ("arm", arm), ("slice", slice)):
            if value is not None:
                chosen &= pc.field(name) == value
        self._ingest.catch_up()
        with self._ingest.snapshot() as snapshot:
            rows = self._folded(model, self._rows(snapshot, model, first, last, chosen), first, last, step)
        return self._summed(model, rows, first, last, step)

    def _rows(
        self, snapshot: Snapshot, model: str, first: int, last: int, chosen: pc.Expression
    ) -> Iterator[pa.Table]:
        """The profile rows from `first` up to `last`, in microseconds."""
        kind = PROFILES.field("minute").type
        within = chosen & (pc.field("minute") < pa.scalar(last, kind))
        for file in snapshot.files:
            if file.dataset != "profiles" or file.model != model or file.first_at >= last:
                continue
            start = first - first % (file.seconds * 1_000_000)
            if file.last_at >= start:
                asked = within & (pc.field("minute") >= pa.scalar(start, kind))
                stored = dataset.dataset(snapshot.root / file.path, schema=PROFILES)
                for batch in stored.to_batches(filter=asked, use_threads=False, **_SOME_AT_A_TIME):
                    if batch.num_rows:
                        yield pa.Table.from_batches([batch])
        fresh = snapshot.fresh.predictions.get(model, ())
        if fresh:
            profiler, contracts = self._ingest.profiler, self._ingest.contracts
            for table in profiler.profiles(model, combine(fresh), contracts, keep=False):
                yield table.filter(within & (pc.field("minute") >= pa.scalar(first, kind)))

    def _folded(
        self, model: str, tables: Iterable[pa.Table], first: int, last: int, step: int | None
    ) -> pa.Table:
        """The rows with those of one window and slice added up as they come, so that few are held."""
        width = last if step is None else step * 1_000_000
        held, count = [PROFILES.empty_table()], 0
        for table in tables:
            held.append(table)
            count += table.num_rows
            if count >= _HELD_ROWS:
                held = [self._fold(model, pa.concat_tables(held), width)]
                count = 0
        return self._fold(model, pa.concat_tables(held), width)

    def _fold(self, model: str, rows: pa.Table, width: int) -> pa.Table:
        folded = [PROFILES.empty_table()]
        for identifier, chosen in alike(rows):
            binning = None if identifier is None else self.bins(model, identifier)
            minute = chosen.column("minute").cast(pa.int64()).to_numpy()
            starts = minute - minute % width
            by = ("contract_id", "bins", "slice")
            folded.append(
                chosen
                if identifier is not None and binning is None
                else add_up(chosen, binning, 60, starts=starts, by=by)
            )
        return pa.concat_tables(folded)

    def _summed(
        self, model: str, rows: pa.Table, first: int, last: int, step: int | None
    ) -> list[CountedWindow]:
        """The rows added up, those of each binning on their own."""
        found: list[CountedWindow] = []
        for identifier, chosen in alike(rows):
            binning = None if identifier is None else self.bins(model, identifier)
            found += _windows(chosen, binning, first, last, step)
        found.sort(key=lambda held: (held.start, held.slice, held.contract_id or "", held.bins or ""))
        return found


def _windows(
    rows: pa.Table, binning: Binning | None, first: int, last: int, step: int | None
) -> Iterator[CountedWindow]:
    """The windows of rows that all lie on the same bins."""
    minute = rows.column("minute").cast(pa.int64()).to_numpy()
    width = last - first if step is None else step * 1_000_000
    slot = np.zeros(len(minute), np.int64) if step is None else minute // width
    encoded = rows.column("slice").combine_chunks().dictionary_encode()
    pairs, to = grouped([slot, encoded.indices.cast(pa.int64()).to_numpy(zero_copy_only=False)])
    summed = Block.from_table(rows, binning).summed(to, pairs.shape[1], binning)
    names = encoded.dictionary.to_pylist()
    contract_id, bins = rows.column("contract_id")[0].as_py(), rows.column("bins")[0].as_py()
    for row, (place, name) in enumerate(zip(*pairs.tolist(), strict=True)):
        start = first if step is None else place * width
        totals = summed.totals(row)
        yield CountedWindow(
            start=_moment(start),
            end=_moment(start + width),
            contract_id=contract_id,
            bins=bins,
            slice=names[name],
            rows=totals.rows,
            ok=totals.ok,
            rejected=totals.rejected,
            failed=totals.failed,
            unread=totals.unread,
            fields=tuple(CountedField(key, counts) for key, counts in summed.fields(row, binning)),
            breaches=summed.breaches[row],
        )


def _moment(microseconds: int) -> datetime:
    return datetime.fromtimestamp(microseconds / 1e6, UTC)


def _whole_minutes(since: datetime, until: datetime) -> tuple[int, int]:
    """The times in Unix microseconds, the first rounded down to the minute and the other up."""
    minute = 60_000_000
    first, last = (round(time.timestamp() * 1e6) for time in (since, until))
    return first - first % minute, last + -last % minute
