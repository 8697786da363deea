"""What the ingest process can be asked: each operation's name, arguments and answer.

| operation | arguments | answer |
|---|---|---|
| `sql` | `sql`, `params`, `limit` | `columns` (name, type), `rows` (objects), `truncated`, `seconds` |
| `find` | `request_id` | the records of the request; [] when unknown |
| `answered` | `model`, `since`, `until`, `where`, `before`, `limit` | records of requests, newest first |
| `windows` | `model`, `since`, `until`, `step` | a `Window` per step, version, arm, role, source |
| `version_metrics` | `model`, `version`, `window_seconds`, `source` | a `Window` |
| `profiles` | see `counted.counted_windows` | a `CountedWindow` per step, contract, bins and slice |
| `bins` | `model`, `bins` | the `Binning` of that id, or null |
| `reach` | `model` | `Reach`: how far back the log and the counts reach |
| `rebuild` | `model`, `start` | begins a `Rebuild` of its profiles, or tells how far one is |
| `outcomes` | `model`, `since`, `until`, `source` | an `OutcomeSummary` per version and arm |
| `labelled` | `asked`: a `Question` | `Labelled`s: answers beside their labels, counted |
| `label_marks` | `model`, `version`, `since`, `until` | a `LabelMark` per hour |
| `sampled` | `model`, `version`, `since`, `until`, `known`, `limit` | `Sampled`: rows of a model of numbers |
| `offs` | `model`, `version`, `since`, `until`, `kind`, `classes`, `limit` | by how much labels were off |
| `delays` | `model`, `since`, `until` | `Delays`: how long labels took to come |
| `coverage` | `model`, `since`, `until` | how many different items rankings held |
| `shadow` | `model`, `since`, `until`, `version`, `slices` | a `ShadowReport` |
| `assignments`, `exposures` | `model`, `experiment`, `part`, `parts` | a portion of `exposures.py` |
| `labelled_rows` | `model`, `since`, `until`, `path`, `limit` | `LabelledRows`; they lie in that file |
| `status` | | a `Status`; `uncounted` are models of whose log only the later part is counted |
| `flush` | | `flushed`: whether there was anything to bring to Parquet |

Times are ISO 8601 text or Unix seconds; answers are JSON. No answer of `sql` exceeds 10,000 rows.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import pyarrow as pa
from msgspec import Meta

from fairlead.errors import MalformedRequest
from fairlead.predictions.counted import Reach, Rebuild
from fairlead.predictions.exposures import assignments, exposures
from fairlead.predictions.label_marks import label_marks
from fairlead.predictions.labelled import MOST_SAMPLED, Question, coverage, delays, labelled, sampled
from fairlead.predictions.labelled_rows import export_labelled
from fairlead.predictions.offs import MOST_OFFS, offs
from fairlead.predictions.profiles import Profiles
from fairlead.predictions.query import Queries
from fairlead.predictions.reach import reach_of, uncounted_models
from fairlead.predictions.rebuilding import Rebuilds
from fairlead.predictions.record import Source
from fairlead.predictions.shadows import shadow_report
from fairlead.predictions.summaries import Summaries

__all__ = ["MAX_ROWS", "Operations"]

MAX_ROWS = 10_000

_Time = Annotated[datetime, Meta(tz=True)]


class _Arguments(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """An operation without arguments."""


class _Sql(_Arguments):
    sql: str
    params: list[Any] | dict[str, Any] = []
    limit: Annotated[int, Meta(ge=1, le=MAX_ROWS)] = MAX_ROWS


class _Find(_Arguments):
    request_id: str


class _Answered(_Arguments):
    model: str
    since: _Time
    until: _Time
    where: str = ""
    before: tuple[_Time, str] | None = None
    limit: Annotated[int, Meta(ge=1, le=1_000)] = 500


class _Windows(_Arguments):
    model: str
    since: _Time
    until: _Time
    step: int = 60


class _Profiles(_Arguments):
    model: str
    since: _Time
    until: _Time
    step: int | None = None
    version: str | None = None
    arm: str | None = None
    slice: str | None = ""
    source: Source | None = None


class _Bins(_Arguments):
    model: str
    bins: str


class _Model(_Arguments):
    model: str


class _Rebuild(_Arguments):
    model: str
    start: bool = False


class _VersionMetrics(_Arguments):
    model: str
    version: str
    window_seconds: Annotated[float, Meta(gt=0)]
    source: Source = "online"


class _Outcomes(_Arguments):
    model: str
    since: _Time
    until: _Time
    source: Source = "online"


class _Labelled(_Arguments):
    asked: Question


class _Sampled(_Arguments):
    model: str
    version: str
    since: _Time
    until: _Time
    known: bool = False
    limit: Annotated[int, Meta(ge=1, le=MOST_SAMPLED)] = 4_000


class _Offs(_Arguments):
    model: str
    version: str
    since: _Time
    until: _Time
    kind: Literal["class", "number"]
    classes: list[str] = []
    limit: Annotated[int, Meta(ge=1, le=MOST_OFFS)] = MOST_OFFS


class _LabelMarks(_Arguments):
    model: str
    version: str
    since: _Time
    until: _Time


class _Period(_Arguments):
    model: str
    since: _Time
    until: _Time


class _Shadow(_Arguments):
    model: str
    since: _Time
    until: _Time
    version: str | None = None
    slices: list[str] = []


class _LabelledRows(_Arguments):
    model: str
    since: _Time
    until: _Time
    path: str
    limit: Annotated[int, Meta(ge=1, le=1_000_000)]


class _Portion(_Arguments):
    model: str
    experiment: str
    part: Annotated[int, Meta(ge=0)]
    parts: Annotated[int, Meta(ge=1)]


class Operations:
    """The operations over one log, `rebuilds` of profiles among them; any thread may call `answer`."""

    def __init__(self, queries: Queries) -> None:
        self._queries = queries
        self._summaries = Summaries(queries)
        self._profiles = Profiles(queries.ingest)
        self.rebuilds = Rebuilds(queries.ingest)
        self._known: dict[str, tuple[type[_Arguments], Callable[[Any], Any]]] = {
            "sql": (_Sql, self._sql),
            "find": (_Find, lambda asked: queries.find(asked.request_id)),
            "answered": (_Answered, self._answered),
            "windows": (
                _Windows,
                lambda asked: self._summaries.windows(asked.model, asked.since, asked.until, asked.step),
            ),
            "profiles": (
                _Profiles,
                lambda asked: self._profiles.windows(**msgspec.structs.asdict(asked)),
            ),
            "bins": (_Bins, lambda asked: self._profiles.bins(asked.model, asked.bins)),
            "reach": (_Model, self._reach),
            "rebuild": (_Rebuild, self._rebuild),
            "version_metrics": (_VersionMetrics, self._version_metrics),
            "outcomes": (
                _Outcomes,
                lambda asked: self._summaries.outcomes(
                    asked.model, asked.since, asked.until, source=asked.source
                ),
            ),
            "labelled": (_Labelled, lambda asked: labelled(queries, asked.asked)),
            "label_marks": (
                _LabelMarks,
                lambda asked: label_marks(queries, asked.model, asked.version, asked.since, asked.until),
            ),
            "sampled": (
                _Sampled,
                lambda asked: sampled(
                    queries,
                    asked.model,
                    asked.version,
                    asked.since,
                    asked.until,
                    known=asked.known,
                    limit=asked.limit,
                ),
            ),
            "offs": (_Offs, lambda asked: offs(queries, **msgspec.structs.asdict(asked))),
            "delays": (_Period, lambda asked: delays(queries, asked.model, asked.since, asked.until)),
            "coverage": (_Period, lambda asked: coverage(queries, asked.model, asked.since, asked.until)),
            "shadow": (
                _Shadow,
                lambda asked: shadow_report(
                    queries,
                    asked.model,
                    asked.since,
                    asked.until,
                    version=asked.version,
                    slices=asked.slices,
                ),
            ),
            "assignments": (
                _Portion,
                lambda asked: assignments(queries, asked.model, asked.experiment, asked.part, asked.parts),
            ),
            "exposures": (
                _Portion,
                lambda asked: exposures(queries, asked.model, asked.experiment, asked.part, asked.parts),
            ),
            "labelled_rows": (
                _LabelledRows,
                lambda asked: export_labelled(
                    queries, asked.model, asked.since, asked.until, Path(asked.path), asked.limit
                ),
            ),
            "status": (_Arguments, self._status),
            "flush": (_Arguments, self._flush),
        }

    def answer(self, operation: str, arguments: dict[str, Any]) -> bytes:
        """The answer as JSON. Raises the errors of the operation, `MalformedRequest` for wrong arguments."""
        if operation not in self._known:
            raise MalformedRequest(
                f"There is no operation {operation!r}.", remedy=f"There are {', '.join(self._known)}."
            )
        shape, work = self._known[operation]
        try:
            asked = msgspec.convert(arguments, shape, strict=False)
        except msgspec.ValidationError as error:
            raise MalformedRequest(
                f"Arguments of {operation}: {error}.", remedy=f"It takes {_names(shape)}."
            ) from error
        return msgspec.json.encode(work(asked), enc_hook=str)

    def _sql(self, asked: _Sql) -> dict[str, Any]:
        began = time.perf_counter()
        table, truncated = self._queries.sql(asked.sql, asked.params, limit=asked.limit)
        table = table.rename_columns(_distinct(table.column_names))
        return {
            "columns": [{"name": field.name, "type": str(field.type)} for field in table.schema],
            "rows": _plain_rows(table),
            "truncated": truncated,
            "seconds": round(time.perf_counter() - began, 6),
        }

    def _answered(self, asked: _Answered) -> list[dict[str, Any]]:
        return self._queries.answered(
            asked.model,
            asked.since,
            asked.until,
            where=asked.where,
            before=asked.before,
            limit=asked.limit,
        )

    def _version_metrics(self, asked: _VersionMetrics) -> Any:
        return self._summaries.version_metrics(
            asked.model, asked.version, asked.window_seconds, now=datetime.now(UTC), source=asked.source
        )

    def _reach(self, asked: _Model) -> Reach:
        with self._queries.ingest.snapshot() as held:
            return reach_of(asked.model, held.files, held.fresh.predictions.get(asked.model, ()))

    def _status(self, _: _Arguments) -> dict[str, Any]:
        with self._queries.ingest.snapshot() as held:
            uncounted = uncounted_models(held.files)
        return {**msgspec.structs.asdict(self._queries.ingest.status()), "uncounted": uncounted}

    def _rebuild(self, asked: _Rebuild) -> Rebuild | None:
        return self.rebuilds.start(asked.model) if asked.start else self.rebuilds.state(asked.model)

    def _flush(self, _: _Arguments) -> dict[str, bool]:
        self._queries.ingest.catch_up()
        return {"flushed": self._queries.ingest.flush()}


def _names(shape: type[_Arguments]) -> str:
    return ", ".join(shape.__struct_fields__) or "none"


def _distinct(names: list[str]) -> list[str]:
    """The names, numbered where one occurs again: rows are objects and must not lose a column."""
    seen: Counter[str] = Counter()
    found = []
    for name in names:
        seen[name] += 1
        found.append(name if seen[name] == 1 else f"{name}_{seen[name]}")
    return found if len(set(found)) == len(found) else [f"{name}_{i}" for i, name in enumerate(names)]


def _plain_rows(table: pa.Table) -> list[dict[str, Any]]:
    """The rows as objects, with decimals (sums of integers are such) as numbers."""
    rows: list[dict[str, Any]] = table.to_pylist()
    decimals = [field.name for field in table.schema if pa.types.is_decimal(field.type)]
    for row in rows:
        for name in decimals:
            row[name] = _number(row[name])
    return rows


def _number(value: Decimal | None) -> int | float | None:
    if value is None:
        return None
    whole = int(value)
    return whole if whole == value and abs(whole) < 2**63 else float(value)
