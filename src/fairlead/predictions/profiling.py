"""Counting: from rows of the log to profiles (`blocks.py`), with no step in Python per row.

Rows are first put into cells: one for every minute, version, arm, source and combination of slices that
occurs. Each field is then looked up in its bins once and counted per cell, and the cells are added up to all
traffic and to every slice.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fairlead.contracts.counts import MOST_NEW
from fairlead.contracts.profile import CategoryProfile
from fairlead.contracts.sliced import SliceBy
from fairlead.predictions.answers_seen import Answers
from fairlead.predictions.binning import Binning
from fairlead.predictions.blocks import Block, widths
from fairlead.predictions.grouping import grouped
from fairlead.predictions.record import SchemaFrame
from fairlead.predictions.seen import (
    NOT_COUNTABLE,
    Seen,
    SentRows,
    categories_seen,
    elements_seen,
    feature_column,
    fitting,
    numbers_seen,
)

__all__ = ["profile_rows"]

logger = logging.getLogger(__name__)

Array = npt.NDArray[Any]

MINUTE = 60_000_000
MOST_NUMBERS = 4_000_000
MOST_TEXT = 8 << 20
"""So many numbers are counted, and so many bytes of JSON decoded at a time: it bounds the memory."""


class _Groups(NamedTuple):
    """Base groups of rows: `code` has each row's, the others what the groups are."""

    code: Array
    minute: Array
    version: list[str | None]
    arm: list[str | None]
    source: list[str | None]


def profile_rows(table: pa.Table, schema: SchemaFrame | None, binning: Binning | None) -> Iterator[pa.Table]:
    """The profile rows (`PROFILES`) of predictions that all came under one contract, piece by piece.

    Without a binning, or without the contract's schema, rows are counted and their fields are not. So they
    are, with an entry in the server's log, where a field cannot be counted: that must never hold up the log.
    """
    if not table.num_rows:
        return
    if schema is None:
        binning = None
    if _text_bytes(table) > MOST_TEXT and len(table) > 1:
        yield from _halves(table, schema, binning)
        return
    try:
        sent = SentRows(table)
        groups = _groups(table)
        parts = _parts(table, schema, binning, sent)
        cells, cell = grouped([groups.code, *parts])
        numbers = cells.shape[1] * (len(parts) + 1) * max(1, int(widths(binning).sum()))
        if numbers > MOST_NUMBERS and len(table) > 1:
            yield from _halves(table, schema, binning)
            return
        counted = _counted(table, schema, binning, sent, cell, cells.shape[1])
    except NOT_COUNTABLE:
        if binning is None:
            raise
        logger.exception("rows under contract %s cannot be profiled", binning.contract_id)
        yield from profile_rows(table, None, None)
        return
    yield from _added_up(counted, groups, cells, binning, table.column("contract_id")[0].as_py())


def _halves(table: pa.Table, schema: SchemaFrame | None, binning: Binning | None) -> Iterator[pa.Table]:
    half = len(table) // 2
    yield from profile_rows(table.slice(0, half), schema, binning)
    yield from profile_rows(table.slice(half), schema, binning)


def _text_bytes(table: pa.Table) -> int:
    return sum(table.column(name).nbytes for name in ("prediction", "probabilities", "refused"))


def _added_up(
    counted: Block, groups: _Groups, cells: Array, binning: Binning | None, contract_id: str | None
) -> Iterator[pa.Table]:
    """The cells added up to all traffic, and to every slice of each way to slice."""
    cuts: tuple[SliceBy | None, ...] = (None, *(binning.slices if binning is not None else ()))
    for cut, part in zip(cuts, (np.zeros_like(cells[0]), *cells[1:]), strict=True):
        names = ("",) if cut is None else cut.names
        target = np.where(part >= 0, cells[0] * len(names) + part, -1)
        present = np.unique(target[target >= 0])
        to = np.where(target >= 0, np.searchsorted(present, target), -1)
        base, place = present // len(names), present % len(names)
        yield counted.summed(to, len(present), binning).to_table(
            {
                "minute": groups.minute[base],
                "seconds": 60,
                "contract_id": contract_id,
                "bins": None if binning is None else binning.id,
                "version": [groups.version[index] for index in base],
                "arm": [groups.arm[index] for index in base],
                "source": [groups.source[index] for index in base],
                "slice": [names[index] for index in place],
            }
        )


def _groups(table: pa.Table) -> _Groups:
    at = table.column("at").cast(pa.int64()).to_numpy()
    version = pc.coalesce(table.column("served_version"), table.column("assigned_version"))
    codes = [at // MINUTE]
    names: list[list[str | None]] = []
    for column in (version, table.column("arm"), table.column("source")):
        encoded = column.combine_chunks().dictionary_encode()
        held: list[str | None] = encoded.dictionary.to_pylist()
        codes.append(encoded.indices.cast(pa.int64()).fill_null(len(held)).to_numpy(zero_copy_only=False))
        names.append([*held, None])
    present, code = grouped(codes)
    listed = [[held[index] for index in row] for held, row in zip(names, present[1:].tolist(), strict=True)]
    return _Groups(code, present[0] * MINUTE, *listed)


def _parts(
    table: pa.Table, schema: SchemaFrame | None, binning: Binning | None, sent: SentRows
) -> list[Array]:
    """For each way to slice, the part of it that each row is in; -1 for none."""
    if schema is None or binning is None or not binning.slices:
        return []
    features = table.column("features").combine_chunks()
    found = []
    for cut in binning.slices:
        column = feature_column(features, schema, schema.names.index(cut.field))
        part = _part(cut, column)
        rows, values = sent.of(cut.field, False)
        if rows.size:
            part[rows] = _part(cut, fitting(values, column.type))
        found.append(part)
    return found


def _part(cut: SliceBy, column: pa.Array) -> Array:
    if cut.edges:
        numbers = np.array(pc.cast(column, pa.float64()).to_numpy(zero_copy_only=False))
        return np.where(np.isnan(numbers), -1, np.searchsorted(np.asarray(cut.edges), numbers, side="right"))
    places = {value: place for place, value in enumerate(cut.values)}
    encoded = column.dictionary_encode()
    known = np.array([places.get(value, -1) for value in encoded.dictionary.to_pylist()] + [-1], np.int64)
    found: Array = known[encoded.indices.fill_null(len(known) - 1).to_numpy(zero_copy_only=False)]
    return found


def _counted(
    table: pa.Table,
    schema: SchemaFrame | None,
    binning: Binning | None,
    sent: SentRows,
    cell: Array,
    cells: int,
) -> Block:
    """The counts of each cell."""
    block = Block.empty(cells, binning)
    if schema is None or binning is None:
        sent.unread[:] = True
    status = table.column("status")
    marks = [np.ones(len(table), bool)]
    marks += [_mask(pc.equal(status, name)) for name in ("ok", "rejected", "failed")]
    for index, mark in enumerate((*marks, sent.unread)):
        block.sums[:, index] = np.bincount(cell[mark], minlength=cells)
    known = frozenset(schema.names) if schema is not None else frozenset()
    for row, breaches in sent.breaches.items():
        held = block.breaches[cell[row]]
        for breach in breaches:
            rules = held.setdefault(breach.field if breach.field in known else "", {})
            rules[breach.rule] = rules.get(breach.rule, 0) + 1
    if schema is not None and binning is not None:
        start = 0
        for index, (width, seen) in enumerate(
            zip(widths(binning), _each(table, schema, binning, sent), strict=True)
        ):
            _add(block, index, start, int(width), seen, cell, cells)
            start += int(width)
    return block


def _each(table: pa.Table, schema: SchemaFrame, binning: Binning, sent: SentRows) -> Iterator[Seen]:
    """What was seen of each field, in the binning's order."""
    features = table.column("features").combine_chunks()
    answers = Answers(table)
    skip = sent.unread if sent.unread.any() else None
    places = {name: index for index, name in enumerate(schema.names)}
    for entry in binning.entries:
        part, name = entry.key
        if part in ("prediction", "score") or not name:
            yield answers.seen(entry.key, entry.bins)
            continue
        column = feature_column(features, schema, places[name])
        is_list = pa.types.is_list(column.type)
        differing = sent.of(name, is_list)
        if isinstance(entry.bins, CategoryProfile):
            yield categories_seen(entry.bins, column, differing, skip=skip)
        elif part == "elements":
            yield elements_seen(entry.bins, column, differing)
        elif is_list:
            rows, lists = differing
            lengths = [len(held) if isinstance(held, list) else held for held in lists]
            yield numbers_seen(entry.bins, pc.list_value_length(column), (rows, lengths), skip)
        else:
            yield numbers_seen(entry.bins, column, differing, skip)


def _add(block: Block, index: int, start: int, width: int, seen: Seen, cell: Array, cells: int) -> None:
    """Puts the counts of one field into its columns."""
    rows, codes, numbers = seen.rows, seen.codes, seen.numbers
    of = cell if rows is None else cell[rows]
    if codes.size and codes.min() < 0:
        counted = codes >= 0
        of, codes = of[counted], codes[counted]
        numbers = None if numbers is None else numbers[counted]
    table = np.bincount(of * (width + 2) + codes, minlength=cells * (width + 2)).reshape(cells, width + 2)
    block.counts[:, start : start + width] = table[:, :width]
    block.nulls[:, index] = table[:, width]
    block.misfits[:, index] = table[:, width + 1]
    if numbers is not None:
        if table[:, width:].any():
            present = codes < width
            of, numbers = of[present], numbers[present]
        _add_moments(block, index, of, numbers, cells)
    if seen.names:
        _add_names(block, index, seen, cell)


def _add_moments(block: Block, index: int, of: Array, numbers: Array, cells: int) -> None:
    n = np.bincount(of, minlength=cells)
    with np.errstate(over="ignore", invalid="ignore"):
        mean = np.bincount(of, numbers, cells) / np.maximum(n, 1)
        away = numbers - mean[of]
        m2 = np.bincount(of, away * away, cells)
    block.mean[:, index] = np.where(np.isfinite(mean) & np.isfinite(m2), mean, 0.0)
    block.m2[:, index] = np.where(np.isfinite(mean) & np.isfinite(m2), m2, 0.0)
    np.minimum.at(block.low[:, index], of, numbers)
    np.maximum.at(block.high[:, index], of, numbers)


def _add_names(block: Block, index: int, seen: Seen, cell: Array) -> None:
    found: dict[int, Counter[str]] = {}
    for row, name in (seen.names or {}).items():
        found.setdefault(int(cell[row]), Counter())[name] += 1
    for place, counted in found.items():
        block.new[place][str(index)] = dict(counted.most_common(MOST_NEW))


def _mask(column: pa.ChunkedArray) -> Array:
    return np.asarray(column.combine_chunks().to_numpy(zero_copy_only=False), bool)
