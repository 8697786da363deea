"""Logged traffic again, by another version: what would have changed. Nothing is written to the log."""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any

import msgspec

from fairlead.contracts.contract import Contract
from fairlead.errors import DeadlineExceeded, RuntimeFailed
from fairlead.evaluation.change_report import ChangeReport
from fairlead.evaluation.changes import Changes
from fairlead.evaluation.logged import Unfit, features_of
from fairlead.evaluation.scoring import Limits, Scored, scoring
from fairlead.predictions.ask import IngestClient
from fairlead.registry.registry import Registry
from fairlead.serving.folder import DataFolder

__all__ = ["replay_traffic"]

_PAGE_ROWS = 500
_SECONDS = 1_800.0
_LEAST_SECONDS = 1.0
_MOST_ENDED = 10
"""So many rows may end the version's process, which is started anew, before the replay is given up."""

Record = Mapping[str, Any]


def replay_traffic(
    registry: Registry,
    ingest: IngestClient,
    folder: DataFolder,
    model: str,
    version: str,
    since: datetime,
    until: datetime,
    *,
    trust_pickle: bool,
    limit: int = 10_000,
    where: str = "",
    examples: int = 20,
    advance: Callable[[int], None] = lambda done: None,
) -> ChangeReport:
    """What would have changed had that version answered the model's latest `limit` requests between the two
    times, or those of them on which the SQL condition `where` holds.

    A row that ends the version's process, or takes longer than the version may, counts as an error; the
    eleventh of them ends the replay with that error. `version` is a name or an alias. `advance` hears how
    many records have been read; what it raises ends the replay. Use from one thread: see `scoring`, whose
    errors this raises, besides `VersionNotFound`, `InvalidQuery` for a wrong condition and `StoreUnavailable`
    while the log is away.
    """
    name = registry.resolve(model, version)
    spec = registry.spec(model, name)
    contracts = {held.spec.contract.id: held.spec.contract for held in registry.versions(model)}
    changes = Changes(spec.contract, examples=examples)
    known = frozenset(each for contract in contracts.values() for each in contract.names)
    asked: deque[tuple[Record, dict[str, Any]]] = deque()
    read = 0

    def rows() -> Iterator[dict[str, Any]]:
        nonlocal read
        for record in _answered(ingest, model, since, until, where, limit + 1):
            read += 1
            if read > limit:
                return
            advance(read)
            try:
                features = _features(record, contracts, spec.contract)
            except Unfit as unfit:
                changes.skip(unfit.reason)
                continue
            asked.append((record, features))
            yield features

    source = rows()
    deadline = time.monotonic() + _SECONDS
    peak, runtime, ended = 0, "", 0
    while True:
        limits = Limits(seconds=max(deadline - time.monotonic(), _LEAST_SECONDS))
        with scoring(
            spec, registry.blobs, folder, trust_pickle=trust_pickle, limits=limits, also_known=known
        ) as scorer:
            runtime = scorer.runtime
            # What was read ahead when the process before ended is asked again, save the row that ended it.
            again = [features for _, features in asked]
            try:
                for scored in scorer.score(itertools.chain(again, source)):
                    record, features = asked.popleft()
                    changes.add(record, features, scored)
                break
            except (DeadlineExceeded, RuntimeFailed) as error:
                ended += 1
                # The log may be late as well, which is no fault of a row.
                is_of_row = scorer.ended and asked and time.monotonic() < deadline
                if not is_of_row or ended > _MOST_ENDED:
                    raise
                record, features = asked.popleft()
                changes.add(record, features, Scored("failed", error_code=error.code, error=error.message))
            finally:
                peak = max(peak, scorer.peak_bytes)
    return msgspec.structs.replace(
        changes.report(model, name, since, until),
        truncated=read > limit,
        runtime=runtime,
        peak_bytes=peak,
    )


def _answered(
    ingest: IngestClient, model: str, since: datetime, until: datetime, where: str, limit: int
) -> Iterator[Record]:
    before = None
    while limit > 0:
        page = ingest.call(
            "answered",
            model=model,
            since=since,
            until=until,
            where=where,
            before=before,
            limit=min(limit, _PAGE_ROWS),
        )
        if not page:
            return
        yield from page
        limit -= len(page)
        before = (page[-1]["at"], page[-1]["prediction_id"])


def _features(record: Record, contracts: Mapping[str, Contract], wanted: Contract) -> dict[str, Any]:
    """The features that the version is asked with. Raises `Unfit` for what was no answer to them."""
    if record["degraded"] is not None:
        raise Unfit("degraded", "Something stood in for the model.")
    if record["status"] == "rejected":
        raise Unfit("was_rejected", "The request was refused, so the log has no features that were checked.")
    if record["status"] == "failed" and record["error_code"] != "runtime_failed":
        raise Unfit("circumstances", "The request ended in what was no answer of the model's.")
    contract = contracts.get(record["contract_id"])
    if contract is None:
        raise Unfit("contract_unknown", "No version has that contract any more.")
    found = features_of(record, contract, wanted.names)
    # A null may have been sent or left out. It is left out where the version takes none.
    nullable = {field.name for field in wanted.inputs if field.nullable}
    return {name: value for name, value in found.items() if value is not None or name in nullable}
