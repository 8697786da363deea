"""Looks at the drift of live models every few minutes, in several windows at once."""

from __future__ import annotations

from datetime import datetime, timedelta

from fairlead.errors import FairleadError, StoreUnavailable
from fairlead.monitoring.drift_report import drift_findings
from fairlead.monitoring.drifting import Drifting
from fairlead.monitoring.findings import Finding
from fairlead.monitoring.references import Against
from fairlead.registry.registry import Registry

__all__ = ["DriftLooker"]

_DAY = timedelta(days=1)
_SPANS = (timedelta(minutes=10), timedelta(hours=1), _DAY)


class DriftLooker:
    """Looks at every model that has a version in production: at its last ten minutes, hour and day beside
    its training data, and at its last hour beside the week before that; slice by slice at hours and days."""

    name = "drift"

    def __init__(self, drifting: Drifting, registry: Registry, *, seconds: float = 300.0) -> None:
        self._drifting = drifting
        self._registry = registry
        self.seconds = seconds

    def look(self, now: datetime) -> list[Finding]:
        """One finding for each question about each field, of the window that shows the most. Windows begin
        with a minute, and hold what has come of the one that runs."""
        minute = now.replace(second=0, microsecond=0)
        asked: list[tuple[timedelta, Against]] = [(span, "training") for span in _SPANS]
        asked.append((_SPANS[1], "before"))
        looks = len(asked) * _DAY.total_seconds() / self.seconds
        found: list[Finding] = []
        for model in self._registry.models():
            if model.production is None:
                continue
            told: dict[tuple[str, ...], Finding] = {}
            try:
                for span, against in asked:
                    report = self._drifting.report(
                        model.name,
                        minute - span,
                        now,
                        version=model.production,
                        against=against,
                        slices=span > _SPANS[0],
                        looks_a_day=looks,
                    )
                    for one in drift_findings(report):
                        if one.key not in told or _tells_more(one, told[one.key]):
                            told[one.key] = one
            except StoreUnavailable:
                raise  # it is away for all of them
            except FairleadError as error:
                found.append(
                    Finding(
                        model=model.name, version=model.production, kind="drift", subject="all fields",
                        status="error", sentence=f"It cannot be looked at: {error}",
                        start=minute - _DAY, end=now,
                    )
                )  # fmt: skip
            found += told.values()
        return found


def _tells_more(one: Finding, other: Finding) -> bool:
    """Of two windows: an alarm before all else, then what is known, then what is surer."""
    order = {"alarm": 0, "ok": 1, "error": 2, "insufficient": 3}
    if order[one.status] != order[other.status]:
        return order[one.status] < order[other.status]
    return one.p is not None and other.p is not None and one.p < other.p
