"""A finding: one thing that was looked at in one window, and what came of it. Data; whoever looks makes them,
alerts and triggers read them.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec

__all__ = ["Finding", "Kind", "Status"]

Kind = Literal[
    "errors", "latency", "traffic", "rejections", "quality", "drift", "performance", "estimate",
    "calibration", "fairness", "importance", "rollout", "gate", "retraining", "ingest", "gateways",
    "monitoring",
]  # fmt: skip
"""What was looked at. The last three are of the server itself, and of no model: then `model` is empty."""

Status = Literal["ok", "alarm", "insufficient", "error"]
"""`alarm`: beyond chance and large enough to matter. `insufficient`: too little was seen to tell. `error`: it
could not be looked at; the sentence says why. Neither of the last two is ever an alarm."""


class Finding(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was found of one subject of a model, or of one of its versions, from `start` to `end`.

    `subject` is the feature, output or metric, `measure` the exact variant of what was measured (such as
    "psi" or "js-distance-base-2"), `slice` the part of the traffic ("" is all of it, else "country=DE").
    `value` is what was measured and `expected` the reference's value where there is one; beyond `threshold`,
    with `p` below what was asked for, it is an alarm. `n` rows were seen, `against` is the reference:
    "training", "before", "week-before", "version v1". `low` and `high` enclose the value where that is known.
    """

    model: str
    kind: Kind
    subject: str
    status: Status
    sentence: str
    start: datetime
    end: datetime
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

    @property
    def key(self) -> tuple[str, ...]:
        """What makes two findings of different windows the same thing."""
        place = (self.model, self.kind, self.subject, self.slice, self.version or "")
        return (*place, self.measure, self.against)
