"""Gateways, rollouts, gates and the log: what is looked at beside the numbers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from fairlead.alerts.happenings import Happenings, LogHealth
from fairlead.errors import StoreUnavailable
from fairlead.monitoring.findings import Finding
from fairlead.predictions.ask import IngestClient
from fairlead.registry.registry import Registry
from fairlead.rollouts import ledger, states
from fairlead.rollouts.reading import preset
from fairlead.rollouts.states import Rollout
from fairlead.stores.blobs import Blobs
from fairlead.stores.database import Database
from fairlead.stores.tables import gate_runs, gateways
from tests.rollouts.shop import register

T0 = datetime(2026, 11, 1, 12, tzinfo=UTC)


@pytest.fixture
def shop(database: Database, blobs: Blobs) -> Database:
    register(Registry(database, blobs), blobs, "v1", "v2")
    return database


def look(database: Database, seconds: float = 0.0) -> list[Finding]:
    return Happenings(database).look(T0 + timedelta(seconds=seconds))


def gateway(database: Database, name: str, slot: int, started: float, heard: float) -> None:
    with database.write() as connection:
        connection.execute(
            gateways.insert().values(
                name=name, host="größe", pid=1, slot=slot, address="",
                started_at=T0 + timedelta(seconds=started), heartbeat_at=T0 + timedelta(seconds=heard),
            )
        )  # fmt: skip


def test_a_gateway_that_is_not_heard_of_alarms_unless_another_took_its_place(database: Database) -> None:
    gateway(database, "a", 0, started=0, heard=0)
    gateway(database, "b", 1, started=0, heard=0)
    gateway(database, "c", 1, started=5, heard=10)
    assert [one.status for one in look(database, 4)] == ["ok", "ok"]
    found = {one.subject: one for one in look(database, 11)}
    assert (found["größe/0"].status, found["größe/1"].status) == ("alarm", "ok")
    assert "11 s ago" in found["größe/0"].sentence


def test_a_rollout_that_was_rolled_back_alarms_and_one_that_a_person_ended_does_not(shop: Database) -> None:
    def rollout(who: str, identifier: str) -> None:
        begun = Rollout(
            id=identifier,
            model="shop",
            stable="v1",
            candidate="v2",
            spec=preset(),
            entered_at=T0,
            started_at=T0,
        )
        with shop.write() as connection:
            entry = ledger.begin(connection, begun, now=T0, who="ann", why="")
            over = states.rolled_back(states.abort(begun, T0), 3, T0)
            ledger.move(connection, entry, over, who=who, reason="It fails.", now=T0)

    rollout("ann", "r1")
    assert [(one.subject, one.status) for one in look(shop)] == [("r1", "ok")]
    with shop.write() as connection:
        connection.exec_driver_sql("DELETE FROM rollout_events")
        connection.exec_driver_sql("DELETE FROM rollouts")
    rollout("control-host-1", "r2")
    (found,) = look(shop, 60)
    assert (found.subject, found.status, found.model, found.version) == ("r2", "alarm", "shop", "v2")
    assert "It fails." in found.sentence
    assert look(shop, 90_000) == [], "what was yesterday is no news"


def test_the_latest_gate_of_a_version_counts(shop: Database) -> None:
    def gate(number: int, state: str, reason: str | None = None) -> None:
        with shop.write() as connection:
            connection.execute(
                gate_runs.insert().values(
                    id=f"g{number}", number=number, model="shop", version="v2", state=state, spec="{}",
                    spec_digest="", reason=reason, created_at=T0, ended_at=T0, who="ann", why="",
                )
            )  # fmt: skip

    gate(1, "failed")
    (found,) = look(shop, 1)
    assert (found.kind, found.subject, found.status) == ("gate", "v2", "alarm")
    gate(2, "error", "No data.")
    assert [(one.status, one.sentence) for one in look(shop, 1)] == [("alarm", "No data.")]
    gate(3, "passed")
    assert [one.status for one in look(shop, 1)] == ["ok"]


class Ingest(IngestClient):
    """An ingest that answers as it is told to."""

    def __init__(self, answer: dict[str, Any] | None) -> None:
        self.answer = answer

    def call(self, op: str, **args: Any) -> Any:
        if self.answer is None:
            raise StoreUnavailable("Ingest does not answer.")
        return self.answer


@pytest.mark.parametrize(
    ("answer", "status", "told"),
    [
        ({"lag_seconds": 2.0, "trouble": None}, "ok", "2 s behind"),
        ({"lag_seconds": 31.0, "trouble": None}, "alarm", "31 s behind"),
        ({"lag_seconds": 0.0, "trouble": "The disk is full."}, "alarm", "The disk is full."),
        (None, "alarm", "Ingest does not answer."),
    ],
)
def test_a_log_that_is_not_read_alarms(tmp_path: Path, answer: Any, status: str, told: str) -> None:
    lag, disk = LogHealth(Ingest(answer), tmp_path).look(T0)
    assert (lag.status, told in lag.sentence) == (status, True)
    assert disk.value is not None
    assert 0 <= disk.value <= 1
