"""Everything that is known of how a version did in a time: one document for people and programs."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import msgspec

from fairlead.errors import FairleadError
from fairlead.monitoring.answered import calibration_of, fairness_of, performance_of
from fairlead.monitoring.calibration import Calibration
from fairlead.monitoring.drift_report import DriftReport, drift_findings
from fairlead.monitoring.drifting import Drifting
from fairlead.monitoring.fairness import Fairness
from fairlead.monitoring.findings import Finding
from fairlead.monitoring.measured import Performance
from fairlead.monitoring.performing import Performing
from fairlead.monitoring.verdicts import findings_of

__all__ = ["MonitoringReport", "Reports"]


class MonitoringReport(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a version from `start` to `end`, in one `sentence` and in every figure.

    `drift` compares with the training data and is null where that could not be done: `drift_problem` says why
    not. `findings` has what was looked at, alarms first.
    """

    model: str
    version: str
    start: datetime
    end: datetime
    made_at: datetime
    sentence: str
    performance: Performance
    calibration: Calibration | None
    fairness: tuple[Fairness, ...]
    drift: DriftReport | None
    drift_problem: str = ""
    findings: tuple[Finding, ...] = ()


class Reports:
    """Makes reports from the log. `StoreUnavailable` while ingest is away."""

    def __init__(
        self,
        performing: Performing,
        drifting: Drifting,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._performing = performing
        self._drifting = drifting
        self._clock = clock

    def of(self, model: str, version: str, since: datetime, until: datetime) -> MonitoringReport:
        """The report of one version between the two times; `ModelNotFound` and `VersionNotFound`."""
        seen = self._performing.seen(model, version, since, until)
        rules = self._performing.rules(model)
        found = findings_of(seen, rules)
        drift, problem = None, ""
        try:
            drift = self._drifting.report(model, since, until, version=version)
            found += drift_findings(drift)
        except FairleadError as error:  # a report without its drift is worth more than none
            problem = str(error)
        return MonitoringReport(
            model=model,
            version=version,
            start=since,
            end=until,
            made_at=self._clock(),
            sentence=_sentence(version, found),
            performance=performance_of(seen, tolerance=rules.tolerance, needed=rules.steps),
            calibration=calibration_of(seen),
            fairness=tuple(fairness_of(seen)),
            drift=drift,
            drift_problem=problem,
            findings=tuple(sorted(found, key=lambda one: _ORDER[one.status])),
        )


_ORDER = {"alarm": 0, "error": 1, "ok": 2, "insufficient": 3}


def _sentence(version: str, found: list[Finding]) -> str:
    alarms = [one for one in found if one.status == "alarm"]
    known = sum(one.status == "ok" for one in found)
    if not alarms and not known:
        return f"Too little is known of {version} in this time to say anything."
    if not alarms:
        return f"{version} does well in all of {known} things that were looked at."
    more = f" And {len(alarms) - 1} more." if len(alarms) > 1 else ""
    return f"{alarms[0].sentence}{more}"
