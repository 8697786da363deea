"""A prediction log that tests write as gateways would, and a way to ask it."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

from fairlead.predictions.ingest import Ingest
from fairlead.predictions.operations import Operations
from fairlead.predictions.query import Queries
from fairlead.predictions.segments import SegmentWriter, frame
from fairlead.routing.assign import slot_of
from fairlead.routing.plan import Plan
from tests.predictions.records import SCHEMA, make_outcome, make_record

__all__ = ["ShopLog"]


class ShopLog:
    """The log of the model `shop`."""

    def __init__(self, folder: Path) -> None:
        self.writer = SegmentWriter(folder / "log" / "g0")
        self.writer.register_schema(SCHEMA)
        self.ingest = Ingest(folder)
        self.operations = Operations(Queries(self.ingest))

    def call(self, op: str, **args: Any) -> Any:
        return json.loads(self.operations.answer(op, args))

    def rows(self, sql: str) -> list[dict[str, Any]]:
        answer: list[dict[str, Any]] = self.call("sql", sql=sql)["rows"]
        return answer

    def request(self, plan: Plan, unit: str, at: datetime, **changes: Any) -> str:
        """A request of that unit, answered by the arm that the plan gives it; its id."""
        arm = plan.arms[plan.slots[slot_of(plan.salt, unit)]]
        self.raw(
            at,
            unit=unit,
            **{
                "arm": arm.name, "role": arm.role, "assigned_version": arm.version,
                "served_version": arm.version, "generation": plan.generation,
                "experiment": plan.experiment, **changes,
            },
        )  # fmt: skip
        return arm.name

    def raw(self, at: datetime, **columns: Any) -> None:
        self.writer.append(frame(make_record(at=_micros(at), **columns)))

    def outcome(self, at: datetime, *, unit: str | None = None, value: float = 1.0, **more: Any) -> None:
        by = {"unit": unit, "request_id": None, "row": None} if unit is not None else {}
        told = make_outcome(**{"received_at": _micros(at), "at": _micros(at), "value": value, **by, **more})
        self.writer.append(frame(told))

    def close(self) -> None:
        self.writer.close()
        self.ingest.close()


def _micros(at: datetime) -> int:
    return round(at.timestamp() * 1_000_000)
