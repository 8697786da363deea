"""Performance, calibration, fairness and reports of the admin API, for its Python client."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from fairlead.client.paths import path_of
from fairlead.client.session import Call, Session, reading

__all__ = ["MonitoredFinding", "PerformanceCalls", "VersionReport"]


class MonitoredFinding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was looked at: `status` is ok, alarm, insufficient or error, and the sentence says what
    was found. Beyond `threshold` the `value` is an alarm; `low` and `high` enclose it."""

    kind: str
    subject: str
    status: str
    sentence: str
    start: datetime
    end: datetime
    model: str = ""
    version: str | None = None
    slice: str = ""
    measure: str = ""
    against: str = ""
    n: int = 0
    value: float | None = None
    expected: float | None = None
    low: float | None = None
    high: float | None = None
    threshold: float | None = None
    p: float | None = None


class VersionReport(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a version in a time. `findings` begin with alarms; `performance`, `calibration`,
    `fairness` and `drift` have every number, as the reference of the admin API describes."""

    model: str
    version: str
    start: datetime
    end: datetime
    made_at: datetime
    sentence: str
    performance: dict[str, Any]
    calibration: dict[str, Any] | None
    fairness: tuple[dict[str, Any], ...]
    drift: dict[str, Any] | None
    drift_problem: str = ""
    findings: tuple[MonitoredFinding, ...] = ()

    @property
    def alarms(self) -> tuple[MonitoredFinding, ...]:
        """What rings."""
        return tuple(one for one in self.findings if one.status == "alarm")


class PerformanceCalls(Session):
    """Looks at how versions do."""

    def report(
        self, model: str, *, version: str | None = None, since: str = "7d", until: datetime | None = None
    ) -> VersionReport:
        """How a version, the one in production unless named, did since then: `since` is a span such as 24h or
        a time with an offset, `until` is now unless given."""
        query = _asked(version, since, until)
        path = path_of("models", model, "report")
        return self.send(Call(method="GET", path=path, query=query, read=reading(VersionReport)))

    def report_page(
        self, model: str, *, version: str | None = None, since: str = "7d", until: datetime | None = None
    ) -> str:
        """The same as an HTML page that needs nothing else."""
        query = _asked(version, since, until)
        path = path_of("models", model, "report", "page")
        return self.send(Call(method="GET", path=path, query=query, read=bytes.decode))


def _asked(version: str | None, since: str, until: datetime | None) -> dict[str, str]:
    query = {"since": since}
    if version is not None:
        query["version"] = version
    if until is not None:
        query["until"] = until.isoformat()
    return query
