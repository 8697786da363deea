"""One logged prediction again: the same version, the same features, and whether the same comes out.

Nothing is written to the log: a replay answers a question about the past and is no traffic.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from fairlead.contracts.contract import Contract
from fairlead.errors import (
    BlobNotFound,
    DeadlineExceeded,
    DigestMismatch,
    InvalidModelFile,
    MalformedRequest,
    ModelNotFound,
    RecordNotFound,
    RuntimeFailed,
    TrustRequired,
    VersionNotFound,
)
from fairlead.evaluation.agreement import TOLERANCE, Verdict, agreement, same_violations
from fairlead.evaluation.logged import Altered, Unfit, checked_again, row_of
from fairlead.evaluation.scoring import Limits, Scored, Scorer, scoring
from fairlead.predictions.ask import IngestClient
from fairlead.registry.registry import Registry
from fairlead.registry.versions import VersionSpec
from fairlead.serving.folder import DataFolder

__all__ = ["Answered", "Replayed", "records_of", "replay_request", "version_of"]

Record = Mapping[str, Any]

_LIMITS = Limits(seconds=60.0, load_seconds=45.0)
_MODEL_ANSWERED = {None, "runtime_failed"}
_GONE = {
    VersionNotFound: "version_unknown",
    ModelNotFound: "version_unknown",
    BlobNotFound: "artifact_gone",
    DigestMismatch: "artifact_gone",
    InvalidModelFile: "not_loaded",
    TrustRequired: "not_trusted",
}
"""Why a version cannot be asked any more, in a word."""


class Answered(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a row, in the log or in the replay, and what computed it."""

    status: str
    prediction: Any = None
    probabilities: dict[str, float] | None = None
    error_code: str | None = None
    violations: list[dict[str, Any]] = []
    runtime: str | None = None


class Replayed(msgspec.Struct, frozen=True, kw_only=True):
    """A record and its replay.

    `verdict` is `identical` (to the last bit), `within_tolerance` (1e-5), `differs`, or `not_replayable` for
    the `reason`; `explanation` says it in a sentence. `version` is the one that answered then, and now.
    `same_runtime` tells whether library, release and kind of processor are those of the record: then bits are
    expected to agree. `degraded` and `cached` are the record's.
    """

    request_id: str
    row: int
    at: datetime
    model: str
    version: str | None
    source: str
    verdict: Verdict
    explanation: str
    reason: str | None = None
    logged: Answered
    replayed: Answered | None = None
    largest_difference: float | None = None
    same_runtime: bool | None = None
    degraded: str | None = None
    cached: bool = False


def replay_request(
    registry: Registry,
    ingest: IngestClient,
    folder: DataFolder,
    request_id: str,
    *,
    trust_pickle: bool,
    row: int | None = None,
) -> list[Replayed]:
    """Each row of a request again, or one of them; copies for shadows are left out.

    Models run in processes of their own. Raises `RecordNotFound` when the log has no such request or row, and
    `StoreUnavailable` while log or database are away.
    """
    records = records_of(ingest, request_id, row)
    found: list[Replayed] = []
    for model, version in dict.fromkeys((record["model"], version_of(record)) for record in records):
        group = [record for record in records if (record["model"], version_of(record)) == (model, version)]
        found += _Group(registry, folder, trust_pickle).replay(model, version, group)
    return sorted(found, key=lambda replayed: (replayed.row, replayed.at))


def records_of(ingest: IngestClient, request_id: str, row: int | None = None) -> list[Record]:
    """The records of a request, or of one row of it, without copies for shadows, in the order of rows and
    time. Raises `RecordNotFound`, and `StoreUnavailable` while the log is away."""
    records: list[Record] = [
        record for record in ingest.call("find", request_id=request_id) if record["source"] != "shadow"
    ]
    if row is not None:
        records = [record for record in records if record["row"] == row]
    if not records:
        raise RecordNotFound(
            f"There is no record of request {request_id!r}"
            + (f" with row {row}." if row is not None else "."),
            remedy="It was shed, or its record has expired; an answer is in the log within 2 s.",
        )
    return records


def version_of(record: Record) -> str | None:
    """The version that answered; of a row that was not answered, the one that was to."""
    version: str | None = record["served_version"]
    return version if version is not None or record["status"] == "ok" else record["assigned_version"]


class _Group:
    """Rows of one request that one version has answered: they ran together, and do again."""

    def __init__(self, registry: Registry, folder: DataFolder, trust_pickle: bool) -> None:
        self._registry = registry
        self._folder = folder
        self._trust_pickle = trust_pickle

    def replay(self, model: str, version: str | None, records: Sequence[Record]) -> Iterator[Replayed]:
        """A verdict on each of the records."""
        if version is None:
            yield from (_unfit(record, _nobody(record)) for record in records)
            return
        try:
            spec = self._spec(model, version)
        except Unfit as unfit:
            yield from (_unfit(record, unfit) for record in records)
            return
        rows: list[list[Any]] = []
        asked: list[Record] = []
        for record in records:
            try:
                if record["error_code"] == "data_contract_violation" and record["status"] == "rejected":
                    yield _checked(record, spec.contract)
                    continue
                _require_model_answer(record)
                rows.append(row_of(record, spec.contract))
                asked.append(record)
            except Unfit as unfit:
                yield _unfit(record, unfit)
        if rows:
            yield from self._ask(spec, asked, rows)

    def _spec(self, model: str, version: str) -> VersionSpec:
        try:
            return self._registry.spec(model, version)
        except tuple(_GONE) as error:
            raise Unfit(_GONE[type(error)], error.message) from error

    def _ask(self, spec: VersionSpec, records: list[Record], rows: list[list[Any]]) -> Iterator[Replayed]:
        try:
            with scoring(
                spec, self._registry.blobs, self._folder, trust_pickle=self._trust_pickle, limits=_LIMITS
            ) as scorer:
                yield from _asked(scorer, records, rows)
        except tuple(_GONE) as error:
            for record in records:
                yield _unfit(record, Unfit(_GONE[type(error)], error.message))


def _asked(scorer: Scorer, records: list[Record], rows: list[list[Any]]) -> list[Replayed]:
    together = min(len(rows), scorer.spec.settings.max_batch_rows)
    found = [
        _compared(record, scored, scorer.runtime)
        for record, scored in zip(records, _scored(scorer, rows, together), strict=True)
    ]
    if together > 1:
        # Some libraries sum in another order when there are more rows: those that came in another company
        # than they have now are asked alone.
        others = [index for index, replayed in enumerate(found) if replayed.verdict != "identical"]
        for index, scored in zip(others, _scored(scorer, [rows[i] for i in others], 1), strict=True):
            alone = _compared(records[index], scored, scorer.runtime)
            if alone.verdict == "identical":
                found[index] = alone
    return found


def _scored(scorer: Scorer, rows: list[list[Any]], together: int) -> list[Scored]:
    """What the version makes of each row; where it takes its process along, that of all of them."""
    try:
        return list(scorer.score(rows, together=together))
    except (RuntimeFailed, DeadlineExceeded, MalformedRequest) as error:
        return [Scored("failed", error_code=error.code, error=error.message) for _ in rows]


def _nobody(record: Record) -> Unfit:
    return Unfit(
        "nobody_answered",
        f"The contract's default was answered, since version {record['assigned_version']!r} could not "
        f"({record['error_code']}).",
    )


def _require_model_answer(record: Record) -> None:
    if record["status"] != "ok" and record["error_code"] not in _MODEL_ANSWERED:
        raise Unfit(
            "circumstances",
            f"The request ended in {record['error_code']}, which was no answer of the model's.",
        )


# --- verdicts -----------------------------------------------------------------------------------------------


def _compared(record: Record, scored: Scored, runtime: str) -> Replayed:
    replayed = Answered(
        status=scored.status,
        prediction=scored.prediction,
        probabilities=scored.probabilities,
        error_code=scored.error_code,
        violations=scored.violations,
        runtime=runtime,
    )
    same_runtime = record["runtime"] == runtime
    verdict: Verdict = "differs"
    largest = None
    if record["status"] == scored.status == "ok":
        verdict, largest = agreement(
            record["prediction"], scored.prediction, record["probabilities"], scored.probabilities
        )
        explanation = _explained(verdict, record, same_runtime)
    elif record["status"] == scored.status and record["error_code"] == scored.error_code:
        verdict, explanation = "identical", f"The model fails again: {scored.error}"
    elif scored.status == "failed":
        explanation = f"It was answered, and now the model fails: {scored.error}"
    else:
        explanation = f"It failed with {record['error_code']}, and now the model answers."
    return _replayed(
        record,
        verdict,
        explanation,
        replayed=replayed,
        largest_difference=largest,
        same_runtime=same_runtime,
    )


def _explained(verdict: Verdict, record: Record, same_runtime: bool) -> str:
    stood_in = {
        "fallback_version": f" It stood in for version {record['assigned_version']!r}.",
        "stale_cache": " The answer was an old one from the cache.",
    }.get(record["degraded"], " The answer came from the cache." if record["cached"] else "")
    where = (
        "on the same kind of processor with the same release"
        if same_runtime
        else f"where the record was made by {record['runtime'] or 'an unknown library'}"
    )
    match verdict:
        case "identical":
            return f"The same to the last bit.{stood_in}"
        case "within_tolerance":
            return f"Within {TOLERANCE:g}, {where}.{stood_in}"
        case _:
            return f"Another answer, {where}.{stood_in}"


def _checked(record: Record, contract: Contract) -> Replayed:
    refusal = checked_again(record, contract)
    replayed = Answered(
        status="rejected" if refusal.violations else "ok",
        error_code="data_contract_violation" if refusal.violations else None,
        violations=refusal.violations,
    )
    if same_violations(record["violations"], refusal.violations):
        return _replayed(record, "identical", "The same rules are broken again.", replayed=replayed)
    if not refusal.exact:
        raise Unfit("values_cut", "The log keeps long values cut, and with them other rules are broken.")
    return _replayed(record, "differs", "Other rules are broken than then.", replayed=replayed)


def _unfit(record: Record, unfit: Unfit) -> Replayed:
    verdict: Verdict = "differs" if isinstance(unfit, Altered) else "not_replayable"
    return _replayed(record, verdict, unfit.text, reason=unfit.reason)


def _replayed(record: Record, verdict: Verdict, explanation: str, **more: Any) -> Replayed:
    at = record["at"]
    return Replayed(
        request_id=record["request_id"],
        row=record["row"],
        at=datetime.fromisoformat(at) if isinstance(at, str) else at,
        model=record["model"],
        version=version_of(record),
        source=record["source"],
        verdict=verdict,
        explanation=explanation,
        logged=Answered(
            status=record["status"],
            prediction=record["prediction"],
            probabilities=record["probabilities"],
            error_code=record["error_code"],
            violations=record["violations"] or [],
            runtime=record["runtime"],
        ),
        degraded=record["degraded"],
        cached=record["cached"],
        **more,
    )
