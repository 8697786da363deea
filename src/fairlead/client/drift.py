"""The drift of the admin API, for its Python client."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec

from fairlead.client.paths import path_of
from fairlead.client.session import Call, Session, reading

__all__ = [
    "Against",
    "DriftCalls",
    "DriftFound",
    "DriftReport",
    "QualityFound",
    "Separated",
    "SeparatedReport",
]

Against = Literal["training", "before", "week-before", "version"]


class DriftFound(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one question about one field of one slice ("" is all traffic).

    `effect` is a share of rows, an alarm where it is `threshold` or more and `p`, adjusted for all fields,
    slices and questions, is at most the report's level. `expected` and `seen` are shares before and now.
    `distances` holds each distance by the name of its exact variant, `changes` the largest changes in words.
    """

    subject: str
    slice: str
    measure: str
    status: Literal["ok", "alarm", "insufficient", "error"]
    sentence: str
    n: int
    reference_n: int
    effect: float | None = None
    threshold: float | None = None
    expected: float | None = None
    seen: float | None = None
    p: float | None = None
    distances: dict[str, float] = {}
    changes: tuple[str, ...] = ()


class QualityFound(msgspec.Struct, frozen=True, kw_only=True):
    """How often one rule of one field was broken, in shares of rows, now and before; without `rule` it is
    requests that were refused."""

    field: str
    rule: str | None
    status: Literal["ok", "alarm", "insufficient"]
    sentence: str
    n: int
    reference_n: int
    expected: float
    seen: float
    p: float | None = None


class DriftReport(msgspec.Struct, frozen=True, kw_only=True):
    """How a model's traffic from `start` to `end` lies beside a reference; fields with alarms first. At
    `level` there is one false alarm in `days` at most, on average, if one looks once at every such window.
    `notes` say what of the log is not in it."""

    model: str
    version: str | None
    against: str
    reference: str
    start: datetime
    end: datetime
    rows: int
    reference_rows: int
    days: float
    level: float
    sentence: str
    found: tuple[DriftFound, ...] = ()
    quality: tuple[QualityFound, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def drifted(self) -> bool:
        """Whether anything of it is an alarm."""
        return any(one.status == "alarm" for one in self.found) or any(
            one.status == "alarm" for one in self.quality
        )


class Separated(msgspec.Struct, frozen=True, kw_only=True):
    """How well rows of a window can be told from those of a reference: the area under the curve is 0.5 where
    nobody can, and lies between `low` and `high` with 95 %. `leading` names the fields, or pairs of them,
    that tell most, with their share of what the classifier goes by. `problem` says what is missing."""

    status: Literal["ok", "alarm", "insufficient"]
    n: int
    reference_n: int
    auc: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    leading: tuple[tuple[str, float], ...] = ()
    problem: str = ""


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


class DriftCalls(Session):
    """Looks at drift."""

    def drift(
        self,
        model: str,
        *,
        version: str | None = None,
        against: Against = "training",
        other: str | None = None,
        since: str = "24h",
    ) -> DriftReport:
        """How what came since then lies beside a reference.

        `since` is a span such as 24h or a time with an offset, `version` the one in production unless given.
        References are the version's training data, the seven days "before", the same time a "week-before",
        and a "version" named by `other`.
        """
        path, query = path_of("models", model, "drift"), _asked(version, against, other, since)
        return self.send(Call(method="GET", path=path, query=query, read=reading(DriftReport)))

    def multivariate_drift(
        self,
        model: str,
        *,
        version: str | None = None,
        against: Literal["before", "week-before", "version"] = "before",
        other: str | None = None,
        since: str = "24h",
    ) -> SeparatedReport:
        """How well a classifier tells rows that came since then from those of a reference, by all their
        fields together. The arguments are those of `drift`."""
        path = path_of("models", model, "drift", "multivariate")
        query = _asked(version, against, other, since)
        return self.send(Call(method="GET", path=path, query=query, read=reading(SeparatedReport)))


def _asked(version: str | None, against: str, other: str | None, since: str) -> dict[str, str]:
    named = {"version": version, "against": against, "other": other, "since": since}
    return {name: value for name, value in named.items() if value is not None}
