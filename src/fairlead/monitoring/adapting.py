"""The looker that lets intervals and sets follow their labels, where a model's settings ask for it.

Labels teach in the order of their answers, once they have come as far as they will; those of an answer teach
once. What they come to is kept beside the version (`registry/levels.py`), and reaches gateways as its
settings do.
"""

from __future__ import annotations

import math
from datetime import datetime

from fairlead.contracts.adaptive import LEAST, learnt, quantile_at
from fairlead.contracts.contract import class_name
from fairlead.contracts.uncertainty import Uncertainty
from fairlead.errors import FairleadError
from fairlead.monitoring.findings import Finding, Status
from fairlead.monitoring.performing import WINDOW, Performing
from fairlead.predictions.ask import IngestClient
from fairlead.registry import levels
from fairlead.registry.registry import Registry
from fairlead.registry.versions import Version

__all__ = ["AdaptingLooker"]


class AdaptingLooker:
    """Looks at every version that has answered in the last seven days, says how sure it is, and shall follow
    its labels. At first the labels of those seven days teach."""

    name = "adaptation"

    def __init__(self, registry: Registry, ingest: IngestClient, *, seconds: float = 600.0) -> None:
        self._registry = registry
        self._ingest = ingest
        self._performing = Performing(registry, ingest)
        self.seconds = seconds

    def look(self, now: datetime) -> list[Finding]:
        """How far each version reaches now."""
        found: list[Finding] = []
        for model in self._registry.models():
            wanted = {
                held.version: held
                for held in self._registry.versions(model.name)
                if held.spec.settings.adaptive_coverage and held.spec.uncertainty is not None
            }
            if not wanted:
                continue
            try:
                names = self._performing.serving(model.name, now - WINDOW, now)
                found += [self._adapted(wanted[name], now) for name in names if name in wanted]
            except FairleadError as error:
                sentence = f"The labels cannot be read: {error}"
                found.append(_finding(model.name, None, "error", sentence, now))
        return found

    def _adapted(self, held: Version, now: datetime) -> Finding:
        model, version, said = held.model, held.version, held.spec.uncertainty
        assert said is not None
        with self._registry.database.read() as connection:
            level = levels.level_of(connection, model, version)
        if level is None:
            sentence = (
                f"{version} was registered without the scores of its calibration: register it anew, and it "
                "can follow its labels."
            )
            return _finding(model, version, "insufficient", sentence, now)
        until = self._performing.mature(model, version, now)
        since = max(now - WINDOW, held.created_at, level.through or now - WINDOW)
        scores = self._offs(held, since, until) if since < until else []
        if not scores:
            return _told(held, said, level.outside, level.quantile, level.labels, now)
        rate = held.spec.settings.adaptive_coverage
        outside = learnt(said, level.scores, level.outside, scores, rate)
        quantile = quantile_at(said, level.scores, outside)
        with self._registry.database.write() as connection:
            # Another control that was first has counted the same labels: then its level holds.
            levels.teach(
                connection, model, version, level, outside=outside, quantile=quantile,
                labels=len(scores), through=until, at=now,
            )  # fmt: skip
        return _told(held, said, outside, quantile, level.labels + len(scores), now)

    def _offs(self, held: Version, since: datetime, until: datetime) -> list[float]:
        output = held.spec.contract.output
        found: list[float | None] = self._ingest.call(
            "offs", model=held.model, version=held.version, since=since, until=until, kind=output.kind,
            classes=[class_name(one) for one in output.classes],
        )  # fmt: skip
        return [math.inf if one is None else one for one in found]


def _told(
    held: Version, said: Uncertainty, outside: float, quantile: float, labels: int, now: datetime
) -> Finding:
    if not labels:
        return _finding(held.model, held.version, "insufficient", "No label has taught it yet.", now)
    what = "Intervals" if said.kind == "interval" else "Sets"
    sentence = f"{what} of {held.version} follow {labels:,} labels: their quantile is {quantile:.4g} now"
    status: Status = "alarm" if outside <= LEAST else "ok"
    sentence += ". It grows no further, and labels lie outside." if outside <= LEAST else "."
    return _finding(held.model, held.version, status, sentence, now, n=labels, value=quantile)


def _finding(
    model: str, version: str | None, status: Status, sentence: str, now: datetime, n: int = 0,
    value: float | None = None,
) -> Finding:  # fmt: skip
    return Finding(
        model=model, version=version, kind="calibration", subject="adaptation", status=status,
        sentence=sentence, start=now - WINDOW, end=now, measure="adaptive-conformal", n=n, value=value,
    )  # fmt: skip
