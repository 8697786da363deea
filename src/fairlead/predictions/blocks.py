"""Counted traffic as arrays: a row per minute, version, arm, source and slice, which add.

A row holds the counts of every field of its contract side by side, so that adding up a day of minutes is one
sum over a matrix. Which columns belong to which field is told by the binning (`binning.py`), whose id stands
in the row.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fairlead.contracts.counts import MOST_NEW, FieldCounts, FieldKey
from fairlead.predictions.binning import Binning

__all__ = ["KEYS", "PROFILES", "SUMS", "Block", "Totals", "widths"]

Array = npt.NDArray[Any]
Names = dict[str, dict[str, int]]
"""Counts by the name of a field, then by what was counted."""

KEYS = ("minute", "seconds", "contract_id", "bins", "version", "arm", "source", "slice")
SUMS = ("rows", "ok", "rejected", "failed", "unread")
_MOMENTS = ("mean", "m2", "low", "high")

PROFILES = pa.schema(
    [
        ("minute", pa.timestamp("us", tz="UTC")),
        ("seconds", pa.int32()),
        *((name, pa.string()) for name in KEYS[2:]),
        *((name, pa.int64()) for name in SUMS),
        ("counts", pa.list_(pa.int64())),
        ("nulls", pa.list_(pa.int64())),
        ("misfits", pa.list_(pa.int64())),
        *((name, pa.list_(pa.float64())) for name in _MOMENTS),
        ("new", pa.string()),
        ("breaches", pa.string()),
    ]
)
"""One row is what came from `minute` on, for `seconds` (a minute, or an hour of what is old). `counts` holds
the bins of all fields of the binning in its order, the other lists one value per field; `low` and `high` are
infinite where there was no number. `new` and `breaches` are JSON by field, or null."""

_decode_names = msgspec.json.Decoder(Names).decode


class Totals(NamedTuple):
    """What a row counts, fields aside."""

    rows: int
    ok: int
    rejected: int
    failed: int
    unread: int


class Block:
    """Counts of n groups under one binning, as arrays whose first axis is the group."""

    __slots__ = ("breaches", "counts", "high", "low", "m2", "mean", "misfits", "new", "nulls", "sums")

    def __init__(
        self,
        sums: Array,
        counts: Array,
        nulls: Array,
        misfits: Array,
        moments: tuple[Array, Array, Array, Array],
        new: Sequence[Names],
        breaches: Sequence[Names],
    ) -> None:
        self.sums = sums  # [n, len(SUMS)]
        self.counts = counts  # [n, all bins]
        self.nulls, self.misfits = nulls, misfits  # [n, fields]
        self.mean, self.m2, self.low, self.high = moments  # [n, fields]
        self.new, self.breaches = new, breaches

    @classmethod
    def empty(cls, groups: int, binning: Binning | None) -> Block:
        """Nothing counted, for so many groups."""
        sizes = widths(binning)
        fields = len(sizes)
        moments = np.zeros((4, groups, fields))
        moments[2], moments[3] = np.inf, -np.inf
        return cls(
            np.zeros((groups, len(SUMS)), np.int64),
            np.zeros((groups, int(sizes.sum())), np.int64),
            np.zeros((groups, fields), np.int64),
            np.zeros((groups, fields), np.int64),
            (moments[0], moments[1], moments[2], moments[3]),
            [{} for _ in range(groups)],
            [{} for _ in range(groups)],
        )

    def __len__(self) -> int:
        return len(self.sums)

    def summed(self, to: Array, groups: int, binning: Binning | None) -> Block:
        """The rows added up: row i goes to group `to[i]` of so many; nowhere where that is negative.

        Counts are exact. Moments are merged as Chan, Golub and LeVeque (1983) do.
        """
        found = Block.empty(groups, binning)
        taken = np.argsort(to, kind="stable")[int((to < 0).sum()) :]
        to = to[taken]
        if not taken.size:
            return found
        into, starts = np.unique(to, return_index=True)

        def gathered(values: Array, how: np.ufunc = np.add) -> Array:
            return how.reduceat(values, starts, axis=0)

        for name in ("sums", "counts", "nulls", "misfits"):
            getattr(found, name)[into] = gathered(getattr(self, name)[taken])
        found.low[into] = gathered(self.low[taken], np.minimum)
        found.high[into] = gathered(self.high[taken], np.maximum)
        n = _per_field(self.counts[taken], binning)
        both = np.maximum(_per_field(found.counts, binning), 1)
        with np.errstate(over="ignore", invalid="ignore"):
            found.mean[into] = gathered(self.mean[taken] * (n / both[to]))
            away = self.mean[taken] - found.mean[to]
            found.m2[into] = gathered(self.m2[taken] + n * away * away)
        for moment in (found.mean, found.m2):
            moment[~np.isfinite(moment)] = 0.0
        for source, target in zip(taken.tolist(), to.tolist(), strict=True):
            _add_names(found.new[target], self.new[source])
            _add_names(found.breaches[target], self.breaches[source])
        for held in found.new:
            for name, seen in held.items():
                if len(seen) > MOST_NEW:
                    held[name] = dict(Counter(seen).most_common(MOST_NEW))
        return found

    def to_table(self, keys: Mapping[str, Any]) -> pa.Table:
        """The rows as `PROFILES` has them; `keys` holds a value or an array for each of `KEYS`."""
        n = len(self)
        columns = [_column(keys[name], n, PROFILES.field(name).type) for name in KEYS]
        columns += [pa.array(self.sums[:, index]) for index in range(len(SUMS))]
        columns += [
            _lists(getattr(self, name), PROFILES.field(name).type)
            for name in ("counts", "nulls", "misfits", *_MOMENTS)
        ]
        columns += [
            pa.array(map(_names_text, held), pa.string(), size=n) for held in (self.new, self.breaches)
        ]
        return pa.Table.from_arrays(columns, schema=PROFILES)

    @classmethod
    def from_table(cls, table: pa.Table, binning: Binning | None) -> Block:
        """The counts of rows as `PROFILES` has them, all under that binning; without it fields are unread."""
        if binning is None:
            bare = cls.empty(table.num_rows, None)
            for index, name in enumerate((*SUMS[:-1], "rows")):
                bare.sums[:, index] = table.column(name).to_numpy()
            return bare
        sums = np.stack([table.column(name).to_numpy() for name in SUMS], axis=1)
        counts, nulls, misfits = (_matrix(table.column(name)) for name in ("counts", "nulls", "misfits"))
        mean, m2, low, high = (_matrix(table.column(name)) for name in _MOMENTS)
        new, breaches = (
            [{} if text is None else _decode_names(text) for text in table.column(name).to_pylist()]
            for name in ("new", "breaches")
        )
        return cls(sums, counts, nulls, misfits, (mean, m2, low, high), new, breaches)

    def totals(self, row: int) -> Totals:
        """What one row counts, fields aside."""
        return Totals(*self.sums[row].tolist())

    def fields(self, row: int, binning: Binning | None) -> Iterator[tuple[FieldKey, FieldCounts]]:
        """The counts of one row, field by field."""
        start = 0
        for index, entry in enumerate(binning.entries if binning is not None else ()):
            end = start + len(entry.bins.counts)
            low, high = float(self.low[row, index]), float(self.high[row, index])
            yield (
                entry.key,
                FieldCounts(
                    counts=tuple(self.counts[row, start:end].tolist()),
                    nulls=int(self.nulls[row, index]),
                    misfits=int(self.misfits[row, index]),
                    mean=float(self.mean[row, index]),
                    m2=float(self.m2[row, index]),
                    low=low if low <= high else None,
                    high=high if low <= high else None,
                    new=self.new[row].get(str(index), {}),
                ),
            )
            start = end


def widths(binning: Binning | None) -> Array:
    """How many bins each field has, in the binning's order."""
    entries = binning.entries if binning is not None else ()
    return np.array([len(entry.bins.counts) for entry in entries], np.int64)


def _per_field(counts: Array, binning: Binning | None) -> Array:
    """How many values lie in the bins of each field: shape [groups, fields]."""
    sizes = widths(binning)
    if not sizes.size or not len(counts):
        return np.zeros((len(counts), sizes.size), np.int64)
    return np.add.reduceat(counts, np.concatenate([[0], np.cumsum(sizes)[:-1]]), axis=1)


def _add_names(into: Names, names: Names) -> None:
    for field, seen in names.items():
        held = into.setdefault(field, {})
        for name, count in seen.items():
            held[name] = held.get(name, 0) + count


def _names_text(names: Names) -> str | None:
    return msgspec.json.encode(names).decode() if names else None


def _column(value: Any, n: int, kind: pa.DataType) -> pa.Array:
    if isinstance(value, np.ndarray):
        return pa.array(value).cast(kind)
    if isinstance(value, list | tuple):
        return pa.array(value, kind)
    return pa.repeat(pa.scalar(value, kind), n)


def _lists(matrix: Array, kind: pa.DataType) -> pa.Array:
    n, width = matrix.shape
    offsets = np.arange(n + 1, dtype=np.int32) * width
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(matrix.reshape(-1)), type=kind)


def _matrix(column: pa.ChunkedArray) -> Array:
    """A column of lists of one length as a matrix."""
    n = len(column)
    values: Array = column.combine_chunks().flatten().to_numpy()
    return values.reshape(n, values.size // n if n else 0)
