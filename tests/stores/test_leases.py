"""Leases: one holder at a time, on SQLite and PostgreSQL."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from fairlead.stores import leases
from fairlead.stores.database import Database

T0 = datetime(2026, 11, 1, 12, tzinfo=UTC)
LONG = timedelta(seconds=10)


def take(database: Database, holder: str, seconds: float) -> bool:
    now = T0 + timedelta(seconds=seconds)
    with database.read() as connection:
        free = leases.is_free(connection, "monitoring", holder, now)
    with database.write() as connection:
        taken = leases.take(connection, "monitoring", holder, now=now, until=now + LONG)
    assert taken == free, "who asks first is told what would come of it"
    return taken


def holds(database: Database, holder: str, seconds: float) -> bool:
    with database.read() as connection:
        return leases.holds(connection, "monitoring", holder, T0 + timedelta(seconds=seconds))


def test_one_holds_a_lease_until_it_runs_out(database: Database) -> None:
    assert take(database, "first", 0)
    assert not take(database, "second", 9)
    assert take(database, "first", 9), "its holder prolongs it"
    assert not take(database, "second", 18)
    assert (holds(database, "first", 18), holds(database, "second", 18)) == (True, False)
    assert take(database, "second", 19)
    assert (holds(database, "first", 19), holds(database, "second", 19)) == (False, True)


def test_a_lease_that_was_given_back_is_free_at_once_and_only_its_holder_gives_it_back(
    database: Database,
) -> None:
    take(database, "first", 0)
    with database.write() as connection:
        leases.give_back(connection, "monitoring", "second")
    assert not take(database, "second", 1)
    with database.write() as connection:
        leases.give_back(connection, "monitoring", "first")
    assert take(database, "second", 1)


def test_leases_of_different_names_do_not_meet(database: Database) -> None:
    take(database, "first", 0)
    with database.write() as connection:
        assert leases.take(connection, "größe 💶", "second", now=T0, until=T0 + LONG)
