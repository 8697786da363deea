"""The costs of the admin API, for its Python client."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec

from fairlead.client.paths import path_of
from fairlead.client.session import Call, Session, reading

__all__ = ["CostCalls", "CostLine", "CostReport"]


class CostLine(msgspec.Struct, frozen=True, kw_only=True):
    """What one version of a model, or one of its callers, has used: `name` is the version, or the use case.

    Callers may be "unnamed", "others" beyond the largest, or "nobody": shadows, and loads without an answer.
    Seconds are core-seconds; money is in the report's currency and None without a price, what is per thousand
    answers None without an answer.
    """

    model: str
    shown: Literal["version", "use-case", "unnamed", "others", "nobody"]
    name: str | None
    answers: int
    computed: int
    run_seconds: float
    shadow_seconds: float
    load_seconds: float
    compute_seconds: float
    seconds_per_thousand: float | None
    cost: float | None
    cost_per_thousand: float | None


class CostReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was used in the whole hours from `start` to `end`."""

    start: datetime
    end: datetime
    by: Literal["version", "use-case"]
    currency: str
    lines: tuple[CostLine, ...]


class CostCalls(Session):
    """Asks what answers cost."""

    def cost(
        self,
        model: str | None = None,
        *,
        since: str = "30d",
        by: Literal["version", "use-case"] = "version",
    ) -> CostReport:
        """What one model, or all, have used since then, a span such as 30d or a time with an offset."""
        query = {"since": since, "by": by, **({} if model is None else {"model": model})}
        return self.send(Call(method="GET", path=path_of("cost"), query=query, read=reading(CostReport)))
