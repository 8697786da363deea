"""Answers beside their labels, counted in the log: see `labelled_counts.py` for what comes of it.

An answer counts when its version gave it itself: `ok`, and nothing stood in. Copies for shadows do not. Its
label is the effective outcome `label` of its request and row, else of its unit: late ones, corrections and
repetitions are settled there (`outcomes.py`).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import msgspec
import pyarrow as pa

from fairlead.predictions.ingest import Snapshot
from fairlead.predictions.known import ANSWERED, KNOWN, counted_by, narrowed
from fairlead.predictions.labelled_counts import (
    SCORE_BINS,
    SIZE_BASE,
    SIZE_LEAST,
    Cell,
    Delays,
    ErrorCell,
    Labelled,
    PlaceCell,
    Sampled,
    Sure,
    sure_together,
)
from fairlead.predictions.query import Queries

__all__ = ["MOST_SAMPLED", "Cut", "Question", "coverage", "delays", "labelled", "sampled"]

OTHER = "(other)"
MISSING = "(missing)"
MOST_SAMPLED = 10_000
_MOST_PARTS = 50
_MOST_CELLS = 20_000
"""Of a classifier with very many classes the rarest pairs of answer and label are left out."""


class Cut(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A feature by which answers are told apart: by its values, or by the ranges between `edges`."""

    feature: str
    edges: list[float] = []


class Question(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which answers are counted, and how.

    Those of `model` from `since` to `until`, in steps of `step` seconds that begin at multiples of it, or in
    one where it is 0. `kind` is what the model answers; of a class, `classes` are the names in their order.
    `cuts` are counted over the whole period and without bins of the score; without `scores` everything is.
    """

    model: str
    since: datetime
    until: datetime
    kind: Literal["class", "number", "ranking"]
    classes: list[str] = []
    version: str | None = None
    step: Annotated[int, msgspec.Meta(ge=0)] = 0
    cuts: list[Cut] = []
    scores: bool = True


def labelled(queries: Queries, asked: Question) -> list[Labelled]:
    """The counts, per step, version and arm, and then per part of each cut, in this order. A step without
    answers is none. Of a cut by values the 50 most frequent parts are told apart, the rest is `(other)`."""
    queries.ingest.catch_up()
    with queries.ingest.snapshot() as snapshot:
        held = narrowed(snapshot, asked.model, asked.since, asked.until)
        known = _features(held)
        cuts = [None, *(cut for cut in asked.cuts if cut.feature.lower() in known)]
        rows = _rows(queries, held, asked, cuts)
    found = []
    for place, cut in enumerate(cuts):
        members = [row for row in rows if row["cut"] == place]
        found += _groups(members, asked, "") if cut is None else _merged(_groups(members, asked, cut.feature))
    return found


def delays(queries: Queries, model: str, since: datetime, until: datetime) -> Delays:
    """How long after their answers the labels came that are there for answers of that time."""
    queries.ingest.catch_up()
    with queries.ingest.snapshot() as snapshot:
        held = narrowed(snapshot, model, since, until)
        sql = f"""{KNOWN} SELECT count(*) AS answers, count(label_received_at) AS labelled,
            quantile_cont(greatest(epoch(label_received_at) - epoch("at"), 0), [0.5, 0.95, 0.99]) AS shares
            FROM known"""
        (row,) = counted_by(queries, held, sql, [model, since, until, None])
    p50, p95, p99 = row["shares"] or (None, None, None)
    return Delays(answers=row["answers"], labelled=row["labelled"], p50=p50, p95=p95, p99=p99)


def coverage(queries: Queries, model: str, since: datetime, until: datetime) -> int:
    """How many different items the rankings of that time held."""
    queries.ingest.catch_up()
    with queries.ingest.snapshot() as snapshot:
        held = narrowed(snapshot, model, since, until)
        sql = f"""WITH asked AS ({ANSWERED})
            SELECT count(DISTINCT item) AS items FROM (
                SELECT unnest(json_extract_string(prediction, '$[*].id')) AS item FROM asked)"""
        (row,) = counted_by(queries, held, sql, [model, since, until, None])
    return int(row["items"])


def sampled(
    queries: Queries, model: str, version: str, since: datetime, until: datetime, *, known: bool, limit: int
) -> Sampled:
    """Up to `limit` rows of a model of numbers, the same ones whenever the same is asked; with `known` only
    those that have a label."""
    queries.ingest.catch_up()
    with queries.ingest.snapshot() as snapshot:
        held = narrowed(snapshot, model, since, until)
        rows = counted_by(queries, held, _SAMPLED, [model, since, until, version, known, limit])
    names = dict.fromkeys(name for row in rows for name in row["features"] or {})
    return Sampled(
        columns={name: [(row["features"] or {}).get(name) for row in rows] for name in names},
        answers=[row["answer"] for row in rows],
        labels=[row["label"] for row in rows],
    )


# --- the statements -----------------------------------------------------------------------------------------

_KEYS = "{slot} AS slot, version, arm, {part} AS part"

_SURE = """count(size) AS told, coalesce(fsum(size), 0) AS told_size,
    count(size) FILTER (label IS NOT NULL) AS told_labelled, count(*) FILTER (within) AS covered"""
_CLASSES = f"""WITH told AS (
    SELECT {_KEYS}, json_extract_string(prediction, '$') AS answered,
        {{label}} AS label,
        {{score}} AS score, {{others}} AS others,
        CASE WHEN probabilities IS NOT NULL THEN conformal_quantile END AS most
    FROM known
), sure AS (
    SELECT *, CASE WHEN most IS NOT NULL THEN {{size}} END AS size,
        CASE WHEN most IS NOT NULL AND label IS NOT NULL THEN {{within}} END AS within
    FROM told
)
SELECT slot, version, arm, part, answered, label,
    {{bin}} AS bin, count(*) AS n, coalesce(fsum(score) FILTER (isfinite(score)), 0) AS score, {_SURE}
FROM sure GROUP BY ALL
"""
_ERRORS = f"""WITH told AS (
    SELECT {_KEYS}, try_cast(prediction AS DOUBLE) AS answer, label,
        try_cast(prediction AS DOUBLE) - label AS error, conformal_quantile AS most
    FROM known
), sure AS (
    SELECT *, CASE WHEN isfinite(answer) THEN 2 * most END AS size,
        isfinite(answer) AND label BETWEEN answer - most AND answer + most AS within
    FROM told
)
SELECT slot, version, arm, part, CASE WHEN error IS NULL OR NOT isfinite(error) THEN NULL
        WHEN abs(error) < {SIZE_LEAST} THEN 0
        ELSE 1 + floor(ln(abs(error) / {SIZE_LEAST}) / ln({SIZE_BASE}))::INT END AS bucket,
    count(*) AS n, coalesce(fsum(error), 0) AS error, coalesce(fsum(abs(error)), 0) AS size,
    coalesce(fsum(error * error), 0) AS square, coalesce(fsum(pow(error, 4)), 0) AS fourth,
    coalesce(fsum(answer), 0) AS answer, {_SURE}
FROM sure GROUP BY ALL
"""
_PLACES = f"""WITH told AS (
    SELECT {_KEYS}, CASE WHEN label_text IS NULL AND label IS NULL THEN NULL ELSE coalesce(list_position(
        json_extract_string(prediction, '$[*].id'), coalesce(label_text, {{number}})), 0) END AS place
    FROM known
)
SELECT slot, version, arm, part, place, count(*) AS n FROM told GROUP BY ALL
"""
_SAMPLED = f"""{KNOWN}
SELECT features, try_cast(prediction AS DOUBLE) AS answer, label FROM known
WHERE (NOT $5 OR label IS NOT NULL) AND try_cast(prediction AS DOUBLE) IS NOT NULL
ORDER BY hash(prediction_id) LIMIT $6
"""
_WHOLE = """CASE WHEN label = floor(label) AND abs(label) < 9e15 THEN CAST(CAST(label AS BIGINT) AS VARCHAR)
    ELSE CAST(label AS VARCHAR) END"""
PROBABILITIES = "try_cast(probabilities::JSON AS MAP(VARCHAR, DOUBLE))"
_PATH = """try_cast(json_extract_string(probabilities, '$."' || ${}::VARCHAR || '"') AS DOUBLE)"""
# Each as an answer is told: of a class that is in the set one minus the probability is at most the quantile.
_SIZE_OF_TWO = "coalesce(1.0 - score <= most, false)::INT + coalesce(1.0 - others <= most, false)::INT"
_WITHIN_TWO = (
    "coalesce(CASE label WHEN $5 THEN 1.0 - score <= most WHEN $6 THEN 1.0 - others <= most END, false)"
)
_SIZE_OF_MANY = "len(list_filter(map_values(others), lambda share: 1.0 - share <= most))"
_WITHIN_MANY = "coalesce(1.0 - others[label] <= most, false)"
_TRUTH = "CASE label WHEN 1 THEN 'true' WHEN 0 THEN 'false' ELSE CAST(label AS VARCHAR) END"


def _rows(
    queries: Queries, held: Snapshot, asked: Question, cuts: Sequence[Cut | None]
) -> list[dict[str, Any]]:
    """The counts of all cuts, each by its place: labels are found once for all of them."""
    parameters: list[Any] = [asked.model, asked.since, asked.until, asked.version]
    if asked.kind == "class" and len(asked.classes) == 2:
        parameters += reversed(asked.classes)
    selects = [f"SELECT {place} AS cut, * FROM ({_counts(asked, cut)})" for place, cut in enumerate(cuts)]
    return counted_by(queries, held, f"{KNOWN} {' UNION ALL '.join(selects)}", parameters)


def _counts(asked: Question, cut: Cut | None) -> str:
    """The SQL that counts `known` by steps of time, or by the parts of a cut."""
    slot = f'floor(epoch("at") / {int(asked.step)})::BIGINT' if asked.step and cut is None else "0"
    part = "''" if cut is None else _part(cut)
    values: dict[str, str] = {"slot": slot, "part": part, "number": _WHOLE}
    match asked.kind:
        case "class":
            where = f"greatest(0, least({SCORE_BINS - 1}, floor(score * {SCORE_BINS})))::INT"
            values["bin"] = (
                f"CASE WHEN isfinite(score) THEN {where if asked.scores and cut is None else 0} END"
            )
            values["label"] = class_of_label(asked.classes)
            values |= {
                "score": f"{PROBABILITIES}[json_extract_string(prediction, '$')]",
                "others": PROBABILITIES,
            }
            values |= {"size": _SIZE_OF_MANY, "within": _WITHIN_MANY}
            if len(asked.classes) == 2:
                values |= {"score": _share(5, asked.classes[1]), "others": _share(6, asked.classes[0])}
                values |= {"size": _SIZE_OF_TWO, "within": _WITHIN_TWO}
            values["others"] = f"CASE WHEN conformal_quantile IS NOT NULL THEN {values['others']} END"
            sql = _CLASSES
        case "number":
            sql = _ERRORS
        case "ranking":
            sql = _PLACES
    return sql.format(**values)


def _share(place: int, name: str) -> str:
    """The probability of the class whose name is the parameter at that place."""
    # A path is five times as fast, and none holds every name.
    return _PATH.format(place) if name.isalnum() else f"{PROBABILITIES}[${place}::VARCHAR]"


def class_of_label(classes: Sequence[str]) -> str:
    """The name of the class that a label means, as SQL; null without a label."""
    text, number = (
        ("lower(label_text)", _TRUTH) if set(classes) == {"true", "false"} else ("label_text", _WHOLE)
    )
    return f"CASE WHEN label_text IS NOT NULL THEN {text} WHEN label IS NOT NULL THEN {number} END"


def _part(cut: Cut) -> str:
    column = 'features."' + cut.feature.replace('"', '""') + '"'
    if not cut.edges:
        return f"coalesce(CAST({column} AS VARCHAR), '{MISSING}')"
    edges = [float(edge) for edge in cut.edges]
    names = [f"below {edges[0]:g}"]
    names += [f"{low:g} to below {high:g}" for low, high in itertools.pairwise(edges)]
    number = f"try_cast({column} AS DOUBLE)"
    ranges = " ".join(
        f"WHEN {number} < {edge!r} THEN '{name}'" for edge, name in zip(edges, names, strict=True)
    )
    return f"CASE WHEN {number} IS NULL THEN '{MISSING}' {ranges} ELSE 'from {edges[-1]:g}' END"


# --- what comes of them -------------------------------------------------------------------------------------


def _groups(rows: Iterable[dict[str, Any]], asked: Question, feature: str) -> list[Labelled]:
    grouped: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        grouped.setdefault((row["slot"], row["version"], row["arm"], row["part"]), []).append(row)
    found = []
    for (slot, version, arm, part), members in sorted(grouped.items(), key=lambda item: _order(item[0])):
        start = asked.since
        if asked.step and not feature:
            start = max(asked.since, datetime.fromtimestamp(slot * asked.step, UTC))
        answers = sum(row["n"] for row in members)
        unknown = sum(row["n"] for row in members if row[_LABEL[asked.kind]] is None)
        found.append(
            Labelled(
                start=start,
                version=version,
                arm=arm,
                feature=feature,
                part=part,
                answers=answers,
                labelled=answers - unknown,
                sure=_sure(members),
                **_cells(asked.kind, members),
            )
        )
    return found


def _sure(rows: list[dict[str, Any]]) -> Sure:
    names = ("told", "told_size", "told_labelled", "covered")
    if not rows or "told" not in rows[0]:  # of rankings nothing is told
        return Sure()
    return sure_together(Sure(*(row[name] for name in names)) for row in rows)


_LABEL = {"class": "label", "number": "bucket", "ranking": "place"}


def _order(key: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(("" if value is None else value) for value in key)


def _cells(kind: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    match kind:
        case "class":
            rows = sorted(rows, key=lambda row: (-row["n"], *map(str, row.values())))
            return {
                "classes": tuple(
                    Cell(str(row["answered"]), row["label"], row["bin"], row["n"], float(row["score"]))
                    for row in rows[:_MOST_CELLS]
                )
            }
        case "number":
            names = ("error", "size", "square", "fourth", "answer")
            return {
                "errors": tuple(
                    ErrorCell(row["bucket"], row["n"], *(float(row[name]) for name in names)) for row in rows
                )
            }
        case _:
            return {"places": tuple(PlaceCell(row["place"], row["n"]) for row in rows)}


def _merged(groups: list[Labelled]) -> list[Labelled]:
    """The parts of a cut with those beyond the most frequent ones as one."""
    rows: dict[str, int] = {}
    for group in groups:
        rows[group.part] = rows.get(group.part, 0) + group.answers
    kept = set(sorted(rows, key=lambda part: -rows[part])[:_MOST_PARTS])
    found = [group for group in groups if group.part in kept]
    others: dict[tuple[str | None, str | None], Labelled] = {}
    for group in groups:
        if group.part in kept:
            continue
        key = (group.version, group.arm)
        before = others.get(key)
        others[key] = msgspec.structs.replace(
            group,
            part=OTHER,
            answers=group.answers + (before.answers if before else 0),
            labelled=group.labelled + (before.labelled if before else 0),
            classes=group.classes + (before.classes if before else ()),
            errors=group.errors + (before.errors if before else ()),
            places=group.places + (before.places if before else ()),
            sure=sure_together([group.sure, *([before.sure] if before else [])]),
        )
    return [*found, *others.values()]


def _features(held: Snapshot) -> set[str]:
    """The names of the features that some record has, in small letters, as SQL takes them."""
    found = {name.lower() for file in held.files for name in file.features or ()}
    for tables in held.fresh.predictions.values():
        for table in tables:
            kind = table.schema.field("features").type
            found |= {field.name.lower() for field in kind} if pa.types.is_struct(kind) else set()
    return found
