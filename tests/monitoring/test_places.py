"""Two machines over one database: what each control sees of its own is told once, whoever tells of it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fairlead.alerts import ledger
from fairlead.alerts.alerting import Alerting
from fairlead.alerts.reading import Config
from fairlead.errors import StoreUnavailable
from fairlead.monitoring.findings import Finding, Status
from fairlead.monitoring.loop import LEASE, Look, Loop
from fairlead.monitoring.places import Everywhere
from fairlead.monitoring.pulse import Pulse
from fairlead.serving.folder import DataFolder
from fairlead.stores.database import Database
from fairlead.telemetry.counters import ArmKey, CounterBlock
from tests.waiting import wait_until

T0 = datetime(2026, 11, 1, 12, tzinfo=UTC)


@pytest.fixture
def database_kind() -> str:
    return "sqlite"  # whose SQL is the same; two controls at once have the other


class Eye:
    """A looker that sees what it is told to."""

    name, seconds = "eye", 1.0

    def __init__(self) -> None:
        self.sees: list[Finding] | StoreUnavailable = []

    def look(self, now: datetime) -> list[Finding]:
        if isinstance(self.sees, StoreUnavailable):
            raise self.sees
        return self.sees


class Machine:
    """A data folder, and a control that looks at it."""

    def __init__(self, folder: Path, database: Database, name: str) -> None:
        self.folder = DataFolder(folder / name).make()
        self.eye = Eye()
        self.everywhere = Everywhere(
            self.eye, database, place=self.folder.place, host=name, tells_of_missing=True
        )

    def sees(
        self, status: Status = "alarm", subject: str = "failed answers", sentence: str = "12 failed."
    ) -> None:
        self.eye.sees = [
            Finding(
                model="shop", version="v2", kind="errors", subject=subject, status=status, sentence=sentence,
                start=T0, end=T0,
            )
        ]  # fmt: skip


@pytest.fixture
def pair(database: Database, tmp_path: Path) -> tuple[Machine, Machine]:
    return Machine(tmp_path, database, "größe"), Machine(tmp_path, database, "b")


def told(machine: Machine, seconds: float = 0.0) -> list[tuple[str, str, str]]:
    """What is found, but that a machine could be looked at."""
    found = machine.everywhere.look(T0 + timedelta(seconds=seconds))
    return [
        (one.subject, one.status, one.sentence) for one in found
        if (one.kind, one.status) != ("monitoring", "ok")
    ]  # fmt: skip


def test_a_machine_alone_tells_what_it_sees(pair: tuple[Machine, Machine]) -> None:
    pair[0].sees()
    assert told(pair[0]) == [("failed answers", "alarm", "12 failed.")]


def test_what_the_other_machine_sees_is_told_by_the_one_that_tells(pair: tuple[Machine, Machine]) -> None:
    first, second = pair
    first.sees("ok", sentence="All is well.")
    second.sees()
    second.everywhere.glance(T0)
    assert told(first, 1.0) == [("failed answers", "alarm", "On b: 12 failed.")]
    second.sees("ok")
    second.everywhere.glance(T0 + timedelta(seconds=2))
    assert told(first, 3.0) == [("failed answers", "ok", "On größe: All is well.")]


def test_requests_have_stopped_only_where_they_have_stopped_everywhere(pair: tuple[Machine, Machine]) -> None:
    first, second = pair
    first.sees(subject="silence")
    second.sees("ok", subject="silence")
    second.everywhere.glance(T0)
    assert [status for _, status, _ in told(first, 1.0)] == ["ok"]
    second.sees(subject="silence")
    second.everywhere.glance(T0 + timedelta(seconds=2))
    assert [status for _, status, _ in told(first, 3.0)] == ["alarm"]


def test_controls_of_one_folder_count_once(database: Database, tmp_path: Path) -> None:
    first, second = (Machine(tmp_path, database, "a") for _ in range(2))
    first.sees("ok", sentence="All is well.")
    second.sees()
    second.everywhere.glance(T0)
    assert told(first, 1.0) == [("failed answers", "ok", "All is well.")]


def test_a_machine_that_nobody_looks_at_is_told_of_for_an_hour(pair: tuple[Machine, Machine]) -> None:
    first, second = pair
    second.sees()
    second.everywhere.glance(T0)
    ((subject, status, sentence),) = told(first, 60.0)
    assert (subject, status) == ("eye of b", "alarm")
    assert sentence == "Nobody looks at the gateways of b: its control was heard of 60 s ago."
    assert told(first, 3_700.0) == []
    second.everywhere.glance(T0 + timedelta(seconds=3_800))
    (found,) = [one for one in first.everywhere.look(T0 + timedelta(seconds=3_801)) if one.subject == subject]
    assert found.status == "ok", "so that the alert ends"


def test_of_two_folders_of_one_host_the_one_that_nobody_looks_at_is_told_of(
    database: Database, tmp_path: Path
) -> None:
    first, second = (Machine(tmp_path / name, database, "a") for name in ("x", "y"))
    second.everywhere.glance(T0)
    found = first.everywhere.look(T0 + timedelta(seconds=60))
    assert [(one.subject, one.status) for one in found] == [("eye of a", "alarm"), ("eye of a", "ok")]


def test_one_that_ends_in_order_is_missed_by_nobody(pair: tuple[Machine, Machine]) -> None:
    first, second = pair
    second.sees()
    second.everywhere.glance(T0)
    second.everywhere.leave()
    assert told(first, 60.0) == []


def test_one_that_cannot_look_is_told_of_and_hides_no_other(pair: tuple[Machine, Machine]) -> None:
    first, second = pair
    second.eye.sees = StoreUnavailable("The counters cannot be read.", remedy="")
    second.everywhere.glance(T0)
    assert told(first, 1.0) == [("eye of b", "alarm", "The counters cannot be read.")]
    second.sees()
    second.everywhere.glance(T0 + timedelta(seconds=2))
    first.eye.sees = StoreUnavailable("Nor here.", remedy="")
    assert told(first, 3.0) == [
        ("failed answers", "alarm", "On b: 12 failed."), ("eye of größe", "alarm", "Nor here."),
    ]  # fmt: skip


def test_what_is_well_is_put_every_few_seconds_and_what_is_not_at_once(
    pair: tuple[Machine, Machine], database: Database
) -> None:
    second = pair[1]

    def put_at() -> datetime:
        with database.read() as connection:
            found: datetime = connection.exec_driver_sql("SELECT at FROM sightings").scalar_one()
        return found

    second.sees("ok")
    second.everywhere.glance(T0)
    before = put_at()
    second.everywhere.glance(T0 + timedelta(seconds=1))
    assert put_at() == before
    second.sees()
    second.everywhere.glance(T0 + timedelta(seconds=2))
    assert (changed := put_at()) != before
    second.sees("ok")
    second.everywhere.glance(T0 + timedelta(seconds=3))
    assert put_at() != changed, "that it is over, too"


class Control:
    """A control's loop over a machine's real counters, in threads of its own."""

    def __init__(self, folder: Path, database: Database, name: str) -> None:
        data = DataFolder(folder / name).make()
        self.block = CounterBlock(data.counters / "g0")
        self.heard: list[Look] = []
        local = Pulse(data.counters)
        local.seconds = 0.2
        pulse = Everywhere(local, database, place=data.place, host=name, tells_of_missing=True)
        alerting = Alerting(database, Config())
        self.loop = Loop(database, [pulse], [alerting, lambda look, _: self.heard.append(look)], name=name)

    def answer(self, status: str) -> None:
        self.block.row(ArmKey("shop", "v1", "stable", "stable")).answered(status, 0.005, 60)


@pytest.fixture
def shared(migrated_postgres_url: str) -> Iterator[Database]:
    opened = Database(migrated_postgres_url)
    yield opened
    opened.close()


def test_an_outage_of_the_machine_whose_control_does_not_lead_is_one_alert_and_one_message(
    shared: Database, tmp_path: Path
) -> None:
    leads, follows = (Control(tmp_path, shared, name) for name in ("a", "b"))
    leads.loop.start()
    wait_until(lambda: leads.heard, 20)
    follows.loop.start()
    try:

        def fires() -> list[ledger.Alert]:
            leads.answer("ok")
            follows.answer("failed")
            with shared.read() as connection:
                return ledger.firing(connection, "shop")

        (alert,) = wait_until(fires, 30)
        assert alert.finding.sentence.startswith("On b: ")
        assert follows.heard == [], "it puts what it sees, and tells nobody"
        with shared.read() as connection:
            assert [one.message.rule for one in ledger.deliveries(connection)] == ["errors"]
            holder = connection.exec_driver_sql(f"SELECT holder FROM leases WHERE name = '{LEASE}'").scalar()
        assert holder == "a"
        leads.loop.stop()  # the other one goes on where it stopped
        wait_until(lambda: follows.heard, 20)
        with shared.read() as connection:
            assert [one.id for one in ledger.firing(connection, "shop")] == [alert.id]
            assert len(ledger.deliveries(connection)) == 1
    finally:
        leads.loop.stop()
        follows.loop.stop()
