"""Explanations, for the Python client of the admin API."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from fairlead.client.paths import path_of
from fairlead.client.session import Call, Session, reading

__all__ = ["Explanation", "ExplanationCalls", "Part"]


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


class ExplanationCalls(Session):
    """Asks why."""

    def explain(self, request_id: str, *, row: int | None = None) -> Explanation:
        """Why that row of the request was answered as it was; `row` is needed where there are several. What
        was found is kept: asked again, it is the same."""
        path = path_of("predictions", request_id, "explanation")
        query = {} if row is None else {"row": str(row)}
        return self.send(Call(method="GET", path=path, query=query, read=reading(Explanation)))
