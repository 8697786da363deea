"""Explanations, for the Python client of the admin API."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

import msgspec

from fairlead.client.paths import path_of
from fairlead.client.session import Call, Session, reading

__all__ = [
    "Explanation",
    "ExplanationCalls",
    "Importance",
    "ImportanceChange",
    "ImportanceReport",
    "Part",
    "Share",
]


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """What one feature did: its value in the row, and by how much that moved the answer away from the mean.
    The contribution lies between `low` and `high` with 95 %."""

    feature: str
    value: Any
    contribution: float
    low: float | None = None
    high: float | None = None


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """Why a row was answered as it was.

    The contributions of `features`, the largest first, sum to `value` less `base`: the number that `explains`
    names, for this row and on average over the `background_rows` that it was compared with. `exact` tells
    that only the draw of those was left to chance. `agrees`: the model gave the logged answer again.
    """

    request_id: str
    row: int
    at: datetime
    model: str
    version: str
    prediction: Any
    explains: str
    value: float
    base: float
    features: tuple[Part, ...]
    background: str
    background_rows: int
    failed: int = 0
    exact: bool = False
    agrees: bool = True
    runtime: str = ""
    explained_at: datetime
    sentence: str = ""


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """`mean`: how far the feature moves an answer on average, whichever way. `share`: of what all features
    move, with its standard `error`."""

    mean: float
    share: float
    error: float


class Importance(msgspec.Struct, frozen=True, kw_only=True):
    """What a model goes by in `rows` rows. `failed` rows could not be explained."""

    rows: int
    failed: int = 0
    features: dict[str, Share]


class ImportanceChange(msgspec.Struct, frozen=True, kw_only=True):
    """How a feature's share changed: by between `low` and `high` with 95 %. `p` is adjusted for all
    features."""

    feature: str
    expected: float
    seen: float
    low: float
    high: float
    p: float


class ImportanceReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a version goes by: `reference` on its training data, `live` on rows from `start` to `end`.

    `changes` hold the one against the other, the largest first, and `ndcg` the two rankings (1 is the same
    order). `status` is an alarm where a share has changed by a tenth or nDCG is below 0.9, and chance, up to
    `level`, does not explain it.
    """

    model: str
    version: str
    start: datetime
    end: datetime
    status: Literal["ok", "alarm", "insufficient"]
    sentence: str
    level: float
    reference: Importance | None = None
    live: Importance | None = None
    ndcg: float | None = None
    changes: tuple[ImportanceChange, ...] = ()


class Leading(msgspec.Struct, frozen=True, kw_only=True):
    """What the leading features beside a version's answers are measured in (`scale`), and their mean score,
    by class where it answers classes; or the `reason` why there are none."""

    scale: str | None = None
    base: float | dict[str, float] | None = None
    reason: str | None = None


class VersionFeatures(msgspec.Struct, frozen=True, kw_only=True):
    """What is known since registration of what a version goes by."""

    importance: Importance | None
    leading: Leading


class ExplanationCalls(Session):
    """Asks why."""

    def importance(self, model: str, *, version: str | None = None, since: str = "24h") -> ImportanceReport:
        """Which features a version goes by, the one in production unless given: on its training data, and in
        a sample of what it answered since then."""
        path = path_of("models", model, "importance")
        query = {"since": since} | ({} if version is None else {"version": version})
        return self.send(Call(method="GET", path=path, query=query, read=reading(ImportanceReport)))

    def version_features(self, model: str, version: str) -> VersionFeatures:
        """What a version goes by on its training data, and whether its answers carry leading features."""
        path = path_of("models", model, "versions", version, "features")
        return self.send(Call(method="GET", path=path, read=reading(VersionFeatures)))

    def explain(self, request_id: str, *, row: int | None = None) -> Explanation:
        """Why that row of the request was answered as it was; `row` is needed where there are several. What
        was found is kept: asked again, it is the same."""
        path = path_of("predictions", request_id, "explanation")
        query = {} if row is None else {"row": str(row)}
        return self.send(Call(method="GET", path=path, query=query, read=reading(Explanation)))
