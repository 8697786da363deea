"""What became of exposed units: one text of SQL for the judge and for the report, so that both say the same.

An event counts at its own time: from its unit's first exposure to the end of the metric's window after it. It
may come by the unit or by any of the unit's requests. Events of one key that count are folded as in the table
`outcomes` (`predictions/effective.py`), so that neither a purchase of last week nor a correction after the
window changes what counts in between. A unit counts once its window is over.

Who was exposed, and when first, is the caller's: a list of common table expressions that ends with `exposed`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec

from fairlead.experiments.aggregates import Mean, Proportion, Ratio
from fairlead.predictions.effective import effective_sql, labelled_sql
from fairlead.predictions.outcomes import LABEL

__all__ = ["QUALITY", "Ask", "Whom", "arm_of", "names_told", "quoted", "sums_of"]

Ask = Callable[[str], Sequence[Mapping[str, Any]]]
"""Answers a query with its rows."""

QUALITY = {
    "accuracy": "CASE WHEN correct THEN 1 ELSE 0 END",
    "brier": """power(1 - coalesce((probabilities->>('$."' || coalesce(label_text,
        CAST(CAST(label AS BIGINT) AS VARCHAR)) || '"'))::DOUBLE, 0), 2)""",
    "absolute_error": "abs(try_cast(prediction::VARCHAR AS DOUBLE) - label)",
}
"""How well a prediction met its label: a number for each row that has one. `brier` is the squared miss of the
probability that was given to what came true."""

_EVENTS = """
told AS (
  SELECT * FROM outcome_events WHERE model = {model} AND metric IN ({metrics})
), requests AS (
  SELECT DISTINCT unit, request_id, row FROM predictions
  WHERE model = {model} AND {asked} AND request_id IN (SELECT request_id FROM told)
), events AS (
  SELECT r.unit AS who, t.* FROM told t JOIN requests r ON r.request_id = t.request_id AND r.row = t.row
  UNION ALL
  SELECT t.unit AS who, t.* FROM told t WHERE t.request_id IS NULL
), timed AS (
  SELECT t.*, t."at" >= e.first AS since FROM events t JOIN exposed e ON e.unit = t.who
  WHERE t."at" >= e.first - INTERVAL {lookback} DAY
    AND ({window} = 0 OR t."at" < e.first OR t."at" <= e.first + INTERVAL {window} SECOND)
), folded AS ({folded})
"""
_TOLD = """
summed AS (
  SELECT {by}, e.unit,
    coalesce(sum(f.value) FILTER (f.since AND f.metric = {top}), 0) AS y,
    coalesce(sum(f.value) FILTER (f.since AND f.metric = {bottom}), 0) AS d,
    coalesce(sum(f.value) FILTER (NOT f.since AND f.metric = {top}), 0) AS x,
    count(f.value) FILTER (NOT f.since AND f.metric = {top}) > 0 AS known
  FROM exposed e LEFT JOIN folded f ON f.who = e.unit
  WHERE e.first <= TIMESTAMPTZ '{mature}' GROUP BY {by}, e.unit
)
"""
_JUDGED = """
answered AS (
  SELECT p.* FROM (SELECT * FROM predictions WHERE {records}) p
  JOIN exposed e ON e.unit = p.unit AND p."at" >= e.first
), judged AS (
  SELECT unit, {value} AS value FROM ({labelled}) l
  WHERE status = 'ok' AND (label IS NOT NULL OR label_text IS NOT NULL)
), summed AS (
  SELECT {by}, e.unit, coalesce(sum(j.value), 0) AS y, count(j.value) AS d, 0 AS x, false AS known
  FROM exposed e LEFT JOIN judged j ON j.unit = e.unit
  WHERE e.first <= TIMESTAMPTZ '{mature}' GROUP BY {by}, e.unit
)
"""
_SUMS = """
SELECT {columns}, count(*) AS n, sum(y) AS y, sum(y * y) AS yy, sum(d) AS d, sum(d * d) AS dd,
  sum(y * d) AS yd, sum(x) AS x, sum(x * x) AS xx, sum(y * x) AS yx, bool_and(y IN (0, 1)) AS yes_or_no,
  count(*) FILTER (known) AS known
FROM summed GROUP BY {columns}
"""
_FOLD_KEY = "who, since, model, request_id, row, unit, metric"


class Whom(msgspec.Struct, frozen=True, kw_only=True):
    """The units whose outcomes are asked for.

    `exposed` is a list of common table expressions, the last of which is called `exposed`: one row per `unit`
    with its `first` exposure and the columns `by`, by which sums are told apart. `asked` is a condition on
    the model's records: outcomes of their requests are the unit's. `records` is one on those whose answers
    labels are held against.
    """

    model: str
    exposed: str
    by: tuple[str, ...]
    asked: str
    records: str


def sums_of(
    ask: Ask, whom: Whom, top: str, bottom: str, window: float, now: datetime, *, lookback: int = 0
) -> Sequence[Mapping[str, Any]]:
    """The sums over the units whose window of so many seconds is over by `now`, a row for each of `whom.by`.

    `n` units; `y` is the sum of `top`, `d` that of `bottom`. Where both are one of `QUALITY`, `y` is the sum
    of its numbers and `d` how many there are. `x` is the sum of `top` in the `lookback` days before the first
    exposure, for as many units as are `known`; `yy`, `dd`, `yd`, `xx` and `yx` are sums of products per unit.
    `yes_or_no`: every unit's `y` is 0 or 1.
    """
    quality = top == bottom and top in QUALITY
    names = {LABEL} if quality else {top, bottom}
    events = _EVENTS.format(
        model=quoted(whom.model),
        metrics=", ".join(quoted(name) for name in sorted(names)),
        asked=whom.asked,
        lookback=lookback,
        window=f"{window:.3f}",
        folded=effective_sql("timed", _FOLD_KEY),
    )
    by = ", ".join(f"e.{column}" for column in whom.by)
    mature = (now - timedelta(seconds=window)).isoformat()
    if quality:
        sums = _JUDGED.format(
            records=whom.records,
            value=QUALITY[top],
            labelled=labelled_sql("answered", "(SELECT * FROM folded WHERE since)"),
            by=by,
            mature=mature,
        )
    else:
        sums = _TOLD.format(by=by, top=quoted(top), bottom=quoted(bottom), mature=mature)
    return ask(f"WITH {whom.exposed}, {events}, {sums} {_SUMS.format(columns=', '.join(whom.by))}")


def arm_of(row: Mapping[str, Any] | None, *, ratio: bool, yes_or_no: bool) -> Proportion | Mean | Ratio:
    """A row of `sums_of` as an aggregate; without a row one of nobody."""
    if ratio:
        return Ratio() if row is None else Ratio(
            int(row["n"]), *(float(row[name]) for name in ("y", "d", "yy", "dd", "yd"))
        )  # fmt: skip
    if yes_or_no:
        return Proportion() if row is None else Proportion(int(row["n"]), int(row["y"]))
    return Mean() if row is None else Mean(int(row["n"]), float(row["y"]), float(row["yy"]))


def names_told(ask: Ask, model: str) -> set[str]:
    """The names of all outcomes that have come of the model, labels among them."""
    rows = ask(f"SELECT DISTINCT metric FROM outcome_events WHERE model = {quoted(model)}")
    return {str(row["metric"]) for row in rows}


def quoted(value: str) -> str:
    """A text as SQL has it."""
    return "'" + value.replace("'", "''") + "'"
