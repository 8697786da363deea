"""The looker that sees, once a day, whether models lean on other features than on their training data."""

from __future__ import annotations

from datetime import datetime, timedelta

from fairlead.errors import FairleadError, NotExplainable, TrustRequired
from fairlead.explanations.leaning import LEAST_CHANGE, LEAST_NDCG, ImportanceReport, Leaning
from fairlead.monitoring.findings import Finding
from fairlead.registry.registry import Registry

__all__ = ["ImportanceLooker", "importance_findings"]

_DAY = timedelta(days=1)


class ImportanceLooker:
    """Looks at the last day of every version in production, in a process that gives way to others. Models
    that cannot be explained are passed over."""

    name = "importance"
    seconds = 86_400.0

    def __init__(self, leaning: Leaning, registry: Registry) -> None:
        self._leaning = leaning
        self._registry = registry

    def look(self, now: datetime) -> list[Finding]:
        """One finding for the ranking and one for each feature, or one that says what is missing."""
        found: list[Finding] = []
        for model in self._registry.models():
            if model.production is None:
                continue
            try:
                report = self._leaning.report(model.name, now - _DAY, now, version=model.production)
            except (NotExplainable, TrustRequired):
                continue
            except FairleadError as error:
                found.append(
                    Finding(
                        model=model.name,
                        kind="importance",
                        subject="ranking",
                        measure="ndcg",
                        against="training",
                        version=model.production,
                        status="error",
                        sentence=error.message,
                        start=now - _DAY,
                        end=now,
                    )
                )
                continue
            found += importance_findings(report)
        return found


def importance_findings(report: ImportanceReport) -> list[Finding]:
    """The report as findings: the ranking's nDCG, and the change of each feature's share."""
    known = [one for one in report.changes if one.p <= report.level]
    rows = report.live.rows if report.live is not None else 0
    turned = report.ndcg is not None and report.ndcg < LEAST_NDCG and bool(known)
    status = "ok" if report.status == "alarm" else report.status
    ranking = Finding(
        model=report.model,
        kind="importance",
        subject="ranking",
        measure="ndcg",
        against="training",
        version=report.version,
        status="alarm" if turned else status,
        sentence=report.sentence,
        start=report.start,
        end=report.end,
        n=rows,
        value=report.ndcg,
        threshold=LEAST_NDCG,
    )
    return [
        ranking,
        *(
            Finding(
                model=report.model,
                kind="importance",
                subject=one.feature,
                measure="share",
                against="training",
                version=report.version,
                status="alarm" if one in known and abs(one.change) >= LEAST_CHANGE else "ok",
                sentence=f"{one.feature} makes up {one.seen:.0%} of what moves the answers, and made up "
                f"{one.expected:.0%} on the training data.",
                start=report.start,
                end=report.end,
                n=rows,
                value=one.seen,
                expected=one.expected,
                low=one.expected + one.low,
                high=one.expected + one.high,
                threshold=LEAST_CHANGE,
                p=one.p,
            )
            for one in report.changes
        ),
    ]
