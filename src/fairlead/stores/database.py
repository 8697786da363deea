"""The database: transactions on SQLite and PostgreSQL that mean the same on both.

A writing transaction is alone: what it has read stays true until it ends, so read-then-update loses nothing.
SQLite gives that with BEGIN IMMEDIATE, PostgreSQL with one advisory lock. The registry writes a few rows per
second at most; being simple to reason about is worth more here than writing side by side.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy import event

from fairlead.errors import (
    InvalidSetting,
    MalformedRequest,
    MissingExtra,
    StorageFull,
    StoreUnavailable,
)

if TYPE_CHECKING:
    from fairlead.stores.watch import Watcher

__all__ = ["CHANNEL", "Database", "UtcDateTime"]

CHANNEL = "fairlead"
"""The PostgreSQL channel on which every writing transaction announces its commit."""

_WRITERS_LOCK = 0x6661_6972_6C65_6164  # "fairlead" in ASCII
_BUSY_SECONDS = 5
_MIGRATION_SECONDS = 60
_DISK_FULL = "53100"


class UtcDateTime(sa.types.TypeDecorator[datetime]):
    """A point in time: takes aware datetimes of any zone, always answers aware UTC ones."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value} has no time zone")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        if value is None:
            return None
        # SQLite keeps no zone; what stands there was UTC when it went in.
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Database:
    """The registry's database, by URL: `sqlite:///path` or `postgresql://…`.

    Opening connects to nothing; the first transaction does. Safe to share between threads, not between
    processes that fork. Whatever keeps the database from answering is `StoreUnavailable`; a disk without
    room is `StorageFull`, and then nothing was changed.
    """

    def __init__(self, url: str) -> None:
        self.url = _parse(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self._writing = self._engine("BEGIN IMMEDIATE", query_only=False)
        self._reading = self._engine("BEGIN", query_only=True)

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """One writing transaction: commits at the end of the block, changes nothing when it raises.

        No other writing transaction runs meanwhile, in any process; one that waits over 5 s for its turn is
        refused with `StoreUnavailable`. Watchers hear of the commit.
        """
        with self._translating(), self._writing.begin() as connection:
            yield connection
            self.notify(connection)

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """One reading transaction: sees a single moment of the database and cannot change it."""
        with self._translating(), self._reading.begin() as connection:
            yield connection

    def notify(self, connection: sa.Connection) -> None:
        """Tells all watchers once this transaction commits. `write()` does it by itself."""
        if not self.is_sqlite:
            connection.exec_driver_sql(f"NOTIFY {CHANNEL}")

    def watch(self) -> Watcher:
        """A watcher that hears of every commit from now on, of this process or another."""
        from fairlead.stores.watch import watcher

        return watcher(self.url)

    def migrate(self) -> None:
        """Brings the schema to this release's. Several processes may call it at once."""
        from fairlead.stores import schema

        # Its own engine: rebuilding a table needs foreign keys off, which a transaction cannot switch.
        engine = self._engine(
            "BEGIN IMMEDIATE", query_only=False, foreign_keys=False, busy_seconds=_MIGRATION_SECONDS
        )
        try:
            with self._translating(), engine.begin() as connection:
                schema.upgrade(connection)
                self.notify(connection)
        finally:
            engine.dispose()

    def is_current(self) -> bool:
        """Whether the schema is this release's: neither older, nor newer, nor missing."""
        from fairlead.stores import schema

        with self.read() as connection:
            return schema.is_current(connection)

    def close(self) -> None:
        """Gives back all connections."""
        self._writing.dispose()
        self._reading.dispose()

    @contextmanager
    def _translating(self) -> Iterator[None]:
        try:
            yield
        except (sa.exc.DBAPIError, sa.exc.TimeoutError) as error:
            raise self._translated(error) from error

    def _translated(self, error: sa.exc.SQLAlchemyError) -> Exception:
        where = self.url.render_as_string(hide_password=True)
        cause = getattr(error, "orig", None) or error
        text = str(cause).strip().partition("\n")[0]
        if getattr(cause, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL or _state(cause) == _DISK_FULL:
            return StorageFull(
                f"The database {where} has no room left; nothing was changed.", remedy="Free some disk space."
            )
        if isinstance(error, sa.exc.DataError):
            return MalformedRequest(f"The database cannot hold a value: {text}.")
        if "no such table" in text or _state(cause) == "42P01":
            return StoreUnavailable(
                f"The database {where} lacks a table: {text}.", remedy="Run `fairlead migrate`."
            )
        # The plain class is SQLite's for a file that is no database, or a damaged one.
        away = sa.exc.OperationalError, sa.exc.InterfaceError, sa.exc.TimeoutError
        if isinstance(error, away) or type(error) is sa.exc.DatabaseError:
            return StoreUnavailable(
                f"The database {where} does not answer: {text}.",
                remedy="Check that it runs and that FAIRLEAD_DATABASE_URL names it, then try again.",
            )
        return error

    def _engine(
        self,
        begin: str,
        *,
        query_only: bool,
        foreign_keys: bool = True,
        busy_seconds: int = _BUSY_SECONDS,
    ) -> sa.Engine:
        if self.is_sqlite:
            return _sqlite_engine(self.url, begin, query_only, foreign_keys, busy_seconds)
        return _postgresql_engine(self.url, query_only, busy_seconds)


def _sqlite_engine(
    url: sa.URL, begin: str, query_only: bool, foreign_keys: bool, busy_seconds: int
) -> sa.Engine:
    engine = sa.create_engine(url, pool_timeout=busy_seconds)

    @event.listens_for(engine, "connect")
    def prepare(connection: sqlite3.Connection, _record: Any) -> None:
        # Python's driver would open transactions by itself, too late and deferred; ours begin below.
        connection.isolation_level = None
        connection.execute(f"PRAGMA busy_timeout = {busy_seconds * 1000}")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(f"PRAGMA foreign_keys = {'ON' if foreign_keys else 'OFF'}")
        connection.execute(f"PRAGMA query_only = {'ON' if query_only else 'OFF'}")

    @event.listens_for(engine, "begin")
    def start(connection: sa.Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine


def _postgresql_engine(url: sa.URL, query_only: bool, busy_seconds: int) -> sa.Engine:
    try:
        engine = sa.create_engine(
            url,
            pool_timeout=busy_seconds,
            pool_pre_ping=True,
            connect_args={} if "connect_timeout" in url.query else {"connect_timeout": _BUSY_SECONDS},
        )
    except ModuleNotFoundError as error:
        raise MissingExtra(
            "PostgreSQL needs the psycopg driver.", remedy="Run `pip install 'fairlead[postgres]'`."
        ) from error
    if query_only:
        return engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)

    @event.listens_for(engine, "begin")
    def start(connection: sa.Connection) -> None:
        # READ COMMITTED: each statement after the lock sees all that earlier holders committed. A holder that
        # was stopped in the middle loses its connection, so that it cannot block the others for ever.
        connection.exec_driver_sql(
            f"SET LOCAL lock_timeout = '{busy_seconds}s';"
            f" SET LOCAL idle_in_transaction_session_timeout = '{_MIGRATION_SECONDS}s';"
            f" SELECT pg_advisory_xact_lock({_WRITERS_LOCK})"
        )

    return engine


def _parse(text: str) -> sa.URL:
    try:
        url = sa.make_url(text)
    except sa.exc.ArgumentError:
        url = None
    if url is not None and url.drivername == "sqlite" and url.database not in (None, "", ":memory:"):
        return url
    if url is not None and url.drivername in ("postgresql", "postgres", "postgresql+psycopg"):
        return url.set(drivername="postgresql+psycopg")
    shown = text if url is None else url.render_as_string(hide_password=True)
    raise InvalidSetting(
        f"Database URL {shown!r} is not understood.", remedy="Use sqlite:///path/to/file.db or postgresql://…"
    )


def _state(cause: Any) -> str | None:
    state = getattr(cause, "sqlstate", None)
    return state if isinstance(state, str) else None
