"""All fields of a live model together: rows of a window beside rows of a reference, both from the log."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Literal

import msgspec
import numpy as np

from fairlead.contracts.contract import Contract
from fairlead.errors import MalformedRequest
from fairlead.monitoring.drift import level
from fairlead.monitoring.references import before, week_before
from fairlead.monitoring.separable import Separated, separate
from fairlead.predictions.ask import IngestClient
from fairlead.registry.registry import Registry
from fairlead.registry.settings import effective, stated

__all__ = ["SeparatedReport", "Separating"]

_ROWS = 4_000
"""So many rows of each are drawn, the same ones whenever the same is asked."""

_SQL = """
SELECT features FROM predictions
WHERE model = $1 AND contract_id = $2 AND status = 'ok' AND source NOT IN ('shadow', 'replay')
  AND "at" >= $3::TIMESTAMPTZ AND "at" < $4::TIMESTAMPTZ AND served_version = $5
ORDER BY hash(prediction_id)
"""


class SeparatedReport(msgspec.Struct, frozen=True, kw_only=True):
    """How well a model's rows from `start` to `end` can be told from those of a reference, by all their
    fields together."""

    model: str
    version: str
    against: str
    start: datetime
    end: datetime
    days: float
    level: float
    sentence: str
    found: Separated


class Separating:
    """Draws rows from the log and has them told apart. `StoreUnavailable` while ingest is away."""

    def __init__(self, registry: Registry, ingest: IngestClient) -> None:
        self._registry = registry
        self._ingest = ingest

    def report(
        self,
        model: str,
        since: datetime,
        until: datetime,
        *,
        version: str | None = None,
        against: Literal["before", "week-before", "version"] = "before",
        other: str | None = None,
    ) -> SeparatedReport:
        """Rows that a version answered from `since` to `until` beside those of a reference, under the
        contract of that version. Raises `ModelNotFound`, `VersionNotFound`, and `MalformedRequest` where no
        version is named and none is in production."""
        version = version or self._registry.model(model).production
        if version is None:
            raise MalformedRequest(f"{model} has no version in production.", remedy="Name a version.")
        contract = self._registry.version(model, version).spec.contract
        if (against == "version") != (other is not None):
            raise MalformedRequest(
                "A comparison with another version names that version, and no other comparison does.",
                remedy="Give against=version and other, or neither.",
            )
        match against:
            case "before":
                start, end = before(since, until)
            case "week-before":
                start, end = week_before(since, until)
            case "version":
                start, end = since, until
        if other is not None:
            self._registry.version(model, other)
        with self._registry.database.read() as connection:
            days = effective(stated(connection, model), None).drift_alarm_days
        allowed = level(days, timedelta(days=1) / (until - since))
        found = separate(
            self._rows(model, contract, start, end, other or version),
            self._rows(model, contract, since, until, version),
            level=allowed,
            generator=np.random.default_rng(0),
        )
        name = f"version {other}" if other is not None else against
        return SeparatedReport(
            model=model,
            version=version,
            against=name,
            start=since,
            end=until,
            days=days,
            level=allowed,
            sentence=_sentence(found, name),
            found=found,
        )

    def _rows(
        self, model: str, contract: Contract, since: datetime, until: datetime, version: str
    ) -> dict[str, list[Any]]:
        asked = [model, contract.id, since.isoformat(), until.isoformat(), version]
        answer = self._ingest.call("sql", sql=_SQL, params=asked, limit=_ROWS)
        rows: list[Mapping[str, Any]] = [row["features"] or {} for row in answer["rows"]]
        seen = [field for field in contract.inputs if field.sensitivity != "sensitive"]
        return {field.name: [row.get(field.name) for row in rows] for field in seen}


def _sentence(found: Separated, against: str) -> str:
    if found.auc is None:
        return f"Whether rows can be told from {against} is not known: {found.problem}"
    area = f"area under the curve {found.auc:.3f} ({found.low:.3f} to {found.high:.3f})"
    if found.status == "alarm":
        leading = ", ".join(f"{name} ({share:.0%})" for name, share in found.leading[:3])
        return f"Rows can be told from {against}: {area}, most of all by {leading}."
    return f"Nobody could tell rows from {against}: {area}."
