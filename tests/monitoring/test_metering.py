"""Hours of compute in the database: from gateways' counters, whatever is killed, lost or set back."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Thread

import pytest
import sqlalchemy as sa

from fairlead.errors import StoreUnavailable
from fairlead.monitoring.cost import Compute
from fairlead.monitoring.metering import Meter, used_between
from fairlead.serving.folder import DataFolder
from fairlead.stores.database import Database
from fairlead.stores.monitoring_tables import compute_hours
from fairlead.telemetry.counters import ArmKey, CounterBlock

NOON = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
HOUR = timedelta(hours=1)
KEY = ArmKey("shop", "v1", "stable", "stable")


class Machine:
    """A data folder with one gateway's counters, and the time there."""

    def __init__(self, database: Database, root: Path) -> None:
        self.database = database
        self.folder = DataFolder(root).make()
        self.now = NOON
        self.block = CounterBlock(self.folder.counters / "g0")
        self.meter = self.another_meter()

    def another_meter(self) -> Meter:
        return Meter(self.database, self.folder, clock=lambda: self.now)

    def ran(self, seconds: float, rows: int = 1, key: ArmKey = KEY) -> None:
        row = self.block.row(key)
        row.ran(rows, seconds)
        row.answered("ok", seconds, rows)

    def used(self, begin: datetime = NOON - HOUR, end: datetime = NOON + 24 * HOUR) -> dict[str, Compute]:
        with self.database.read() as connection:
            return {version: one for (_, version), one in used_between(connection, begin, end).items()}


@pytest.fixture
def machine(migrated_sqlite_url: str, tmp_path: Path) -> Iterator[Machine]:
    database = Database(migrated_sqlite_url)
    yield Machine(database, tmp_path / "data")
    database.close()


def test_what_is_used_lies_in_the_hour_in_which_it_was_read(database: Database, tmp_path: Path) -> None:
    machine = Machine(database, tmp_path / "data")
    machine.ran(2.0, rows=10)
    machine.meter.read()
    machine.ran(1.0)
    machine.meter.read()
    machine.now += HOUR
    machine.ran(4.0)
    machine.block.row(KEY).add("load_ns", 5)
    machine.meter.read()
    noon = NOON.replace(minute=0)
    first = Compute(run_ns=3_000_000_000, rows=11, answers=11)
    second = Compute(run_ns=4_000_000_000, load_ns=5, rows=1, answers=1)
    assert machine.used(noon, noon + HOUR) == {"v1": first}
    assert machine.used(noon + HOUR, noon + 2 * HOUR) == {"v1": second}
    assert machine.used() == {"v1": Compute(run_ns=7_000_000_000, load_ns=5, rows=12, answers=12)}
    assert machine.used(noon + 2 * HOUR, noon + 3 * HOUR) == {}


def test_runs_of_a_shadow_are_told_apart_and_answer_nobody(machine: Machine) -> None:
    machine.ran(1.0, key=ArmKey("shop", "v2", "shadow", "shadow"))
    machine.meter.read()
    assert machine.used() == {"v2": Compute(shadow_ns=1_000_000_000)}


def test_whoever_is_killed_nothing_is_lost_or_counted_twice(machine: Machine) -> None:
    machine.ran(1.0)
    machine.meter.read()
    machine.ran(1.0)  # and the agent was killed before it read that
    machine.block = CounterBlock(machine.folder.counters / "g0")  # so was the gateway
    machine.ran(1.0)
    successor = machine.another_meter()
    successor.read()
    successor.read()
    machine.meter.read()
    assert machine.used() == {"v1": Compute(run_ns=3_000_000_000, rows=3, answers=3)}


def test_two_who_read_at_once_count_once(database: Database, tmp_path: Path) -> None:
    machine = Machine(database, tmp_path / "data")
    for _ in range(5):
        machine.ran(1.0)
        readers = [Thread(target=machine.another_meter().read) for _ in range(4)]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
    assert machine.used() == {"v1": Compute(run_ns=5_000_000_000, rows=5, answers=5)}


def test_a_lost_block_takes_nothing_back_and_counts_nothing_anew(machine: Machine) -> None:
    machine.ran(5.0)
    CounterBlock(machine.folder.counters / "g1").row(KEY).ran(1, 3.0)
    machine.meter.read()
    (machine.folder.counters / "g1").unlink()
    machine.meter.read()
    machine.ran(1.0)
    machine.meter.read()
    assert machine.used()["v1"].run_ns == 9_000_000_000


def test_two_machines_add_up(machine: Machine, tmp_path: Path) -> None:
    other = Machine(machine.database, tmp_path / "other")
    for one in (machine, other):
        one.ran(1.0)
        one.meter.read()
    assert machine.used() == {"v1": Compute(run_ns=2_000_000_000, rows=2, answers=2)}


def test_a_clock_that_is_set_back_counts_nothing_twice(machine: Machine) -> None:
    machine.ran(1.0)
    machine.meter.read()
    machine.now -= 2 * HOUR
    for _ in range(2):
        machine.ran(1.0)
        machine.meter.read()
    machine.now += 4 * HOUR
    machine.ran(1.0)
    machine.meter.read()
    assert machine.used(NOON - 24 * HOUR) == {"v1": Compute(run_ns=4_000_000_000, rows=4, answers=4)}


def test_where_nothing_is_used_nothing_is_written(machine: Machine) -> None:
    machine.block.row(ArmKey()).add("rejected")
    machine.meter.read()
    machine.ran(1.0)
    for _ in range(3):
        machine.meter.read()
        machine.now += HOUR
    with machine.database.read() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(compute_hours)) == 1


def test_what_could_not_be_written_is_in_the_next_reading(tmp_path: Path) -> None:
    machine = Machine(Database(f"sqlite:///{tmp_path}/later.db"), tmp_path / "data")
    machine.ran(1.0)
    with pytest.raises(StoreUnavailable):
        machine.meter.read()
    machine.database.migrate()
    machine.meter.read()
    assert machine.used() == {"v1": Compute(run_ns=1_000_000_000, rows=1, answers=1)}
    machine.database.close()


def test_hours_of_more_than_a_year_ago_are_forgotten_but_for_the_newest_of_each_version(
    machine: Machine,
) -> None:
    resting = ArmKey("shop", "v0", "stable", "stable")
    machine.ran(1.0)
    machine.ran(1.0, key=resting)
    machine.meter.read()
    machine.now += HOUR
    machine.ran(2.0)
    machine.meter.read()
    machine.now += timedelta(days=401)
    machine.ran(4.0)
    machine.meter.read()
    begin, end = NOON - HOUR, machine.now + HOUR
    used = machine.used(begin, end)
    # Of v1 both old hours are gone; what v0's next reading is counted from stays, until there is a newer one.
    assert {version: one.run_ns for version, one in used.items()} == {"v0": 10**9, "v1": 4 * 10**9}
    machine.ran(8.0, key=resting)
    machine.meter.read()
    machine.now += HOUR
    machine.ran(1.0)
    machine.meter.read()
    used = machine.used(begin, end + HOUR)
    # What v0 used now is counted from where it stood then, and is not all that its counters ever saw.
    assert {version: one.run_ns for version, one in used.items()} == {"v0": 8 * 10**9, "v1": 5 * 10**9}
