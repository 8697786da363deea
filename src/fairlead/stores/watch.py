"""Waiting for a commit, without asking the database the same question all day."""

from __future__ import annotations

import sqlite3
import time
from typing import Any, Protocol

import sqlalchemy as sa

from fairlead.errors import StoreUnavailable
from fairlead.stores.database import CHANNEL

__all__ = ["Watcher", "watcher"]

_POLL_SECONDS = 0.01


class Watcher(Protocol):
    """Hears of commits. One thread at a time may wait."""

    def wait(self, timeout: float) -> bool:
        """True as soon as something may have been committed since the last True; False after `timeout` s.

        Raises `StoreUnavailable` when the database is away; the next call tries again, and is True once it
        is back, because a commit may have been missed meanwhile.
        """
        ...

    def close(self) -> None:
        """Gives back the connection."""
        ...


def watcher(url: sa.URL) -> Watcher:
    """A watcher for that database, listening from now on."""
    return SqliteWatcher(url) if url.get_backend_name() == "sqlite" else PostgresqlWatcher(url)


class SqliteWatcher:
    """Polls `PRAGMA data_version`, which changes when another connection commits: 2 µs, no disk."""

    def __init__(self, url: sa.URL) -> None:
        self._path = str(url.database)
        self._connection: sqlite3.Connection | None = None
        self._seen = -1
        self._connect()

    def wait(self, timeout: float) -> bool:
        if self._connection is None:
            self._connect()
            return True
        deadline = time.monotonic() + timeout
        while True:
            version = self._version()
            if version != self._seen:
                self._seen = version
                return True
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            time.sleep(min(left, _POLL_SECONDS))

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connect(self) -> None:
        try:
            self._connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        except sqlite3.Error as error:
            raise StoreUnavailable(f"The database {self._path} cannot be watched: {error}.") from error
        self._seen = self._version()

    def _version(self) -> int:
        assert self._connection is not None
        try:
            return int(self._connection.execute("PRAGMA data_version").fetchone()[0])
        except sqlite3.Error as error:
            self.close()
            raise StoreUnavailable(f"The database {self._path} cannot be watched: {error}.") from error


class PostgresqlWatcher:
    """LISTENs on the channel that every writing transaction notifies."""

    def __init__(self, url: sa.URL) -> None:
        self._url = url.set(drivername="postgresql")
        self._connection: Any = None
        self._connect()

    def wait(self, timeout: float) -> bool:
        import psycopg

        if self._connection is None:
            self._connect()
            return True
        try:
            return any(True for _ in self._connection.notifies(timeout=timeout, stop_after=1))
        except psycopg.OperationalError as error:
            self.close()
            raise self._unavailable(error) from error

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connect(self) -> None:
        import psycopg

        try:
            self._connection = psycopg.connect(
                self._url.render_as_string(hide_password=False), autocommit=True, connect_timeout=5
            )
            self._connection.execute(f"LISTEN {CHANNEL}")
        except psycopg.OperationalError as error:
            self.close()
            raise self._unavailable(error) from error

    def _unavailable(self, error: Exception) -> StoreUnavailable:
        where = self._url.render_as_string(hide_password=True)
        return StoreUnavailable(f"The database {where} cannot be watched: {str(error).strip()}.")
