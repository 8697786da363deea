"""What models, their versions and their callers cost: hours of compute from the database, callers from the
log, prices from settings."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import msgspec

from fairlead.errors import MalformedRequest
from fairlead.monitoring.cost import By, CostLine, Share, by_use_case, by_version
from fairlead.monitoring.metering import used_between
from fairlead.predictions.ask import IngestClient
from fairlead.registry.registry import Registry
from fairlead.registry.settings import effective, stated
from fairlead.settings import Settings

__all__ = ["CostReport", "Costing"]

_HOUR = timedelta(hours=1)
_CALLERS_OF_ALL, _CALLERS_OF_ONE = 20, 200
"""So many callers of each model get a line of their own; tags are free text, and there may be any number."""

_SHARES = """
WITH counted AS (
    SELECT model, coalesce(served_version, assigned_version) AS version, use_case, count(*) AS answers,
        count(*) FILTER (
            NOT cached AND coalesce(degraded, '') NOT IN ('stale_cache', 'contract_default')
        ) AS computed
    FROM predictions
    WHERE status = 'ok' AND source IN ('online', 'batch')
        AND "at" >= $1::TIMESTAMPTZ AND "at" < $2::TIMESTAMPTZ AND ($3::VARCHAR IS NULL OR model = $3)
    GROUP BY ALL
), ranked AS (
    SELECT model, use_case, row_number() OVER (
        PARTITION BY model ORDER BY sum(computed) DESC, sum(answers) DESC, use_case
    ) AS place
    FROM counted WHERE use_case IS NOT NULL GROUP BY model, use_case
), named AS (
    SELECT c.model, c.version, c.answers, c.computed,
        CASE WHEN c.use_case IS NULL THEN 'unnamed' WHEN r.place <= $4 THEN 'use-case' ELSE 'others' END
            AS shown,
        CASE WHEN r.place <= $4 THEN c.use_case END AS use_case
    FROM counted c LEFT JOIN ranked r ON c.model = r.model AND c.use_case = r.use_case
)
SELECT model, coalesce(version, '') AS version, shown, use_case, sum(answers)::BIGINT AS answers,
    sum(computed)::BIGINT AS computed
FROM named GROUP BY ALL ORDER BY ALL
"""


class CostReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was used in the whole hours from `start` to `end`; `currency` is what costs are in."""

    start: datetime
    end: datetime
    by: By
    currency: str
    lines: list[CostLine]


class Costing:
    """Answers what models cost; any thread may ask."""

    def __init__(self, registry: Registry, ingest: IngestClient, settings: Settings) -> None:
        self._registry = registry
        self._ingest = ingest
        self._price = settings.price_per_core_hour
        self._currency = settings.price_currency

    def report(
        self, begin: datetime, end: datetime, *, model: str | None = None, by: By = "version"
    ) -> CostReport:
        """By version or by caller, of one model or all, with `begin` and `end` taken to whole hours.

        Raises `ModelNotFound`; by caller what ingest raises, and `MalformedRequest` where there are too many.
        """
        if model is not None:
            self._registry.model(model)
        first, last = _hour_of(begin), _hour_of(end - timedelta(microseconds=1)) + _HOUR
        with self._registry.database.read() as connection:
            used = used_between(connection, first, last, model)
            own = {
                name: effective(stated(connection, name), None).price_per_core_hour
                for name in sorted({name for name, _ in used})
            }
        server = self._price or None
        prices = {name: server if price is None else price for name, price in own.items()}
        if by == "version":
            lines = by_version(used, prices)
        else:
            lines = by_use_case(used, self._shares(first, last, model), prices)
        return CostReport(start=first, end=last, by=by, currency=self._currency, lines=lines)

    def _shares(self, first: datetime, last: datetime, model: str | None) -> list[Share]:
        most = _CALLERS_OF_ALL if model is None else _CALLERS_OF_ONE
        asked: list[Any] = [first.isoformat(), last.isoformat(), model, most]
        answer = self._ingest.call("sql", sql=_SHARES, params=asked)
        if answer["truncated"]:
            raise MalformedRequest(
                "There are too many callers of too many versions.", remedy="Name a model, or a shorter time."
            )
        return msgspec.convert(answer["rows"], list[Share])


def _hour_of(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)
