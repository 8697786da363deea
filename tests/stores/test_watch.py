"""A watcher hears of every commit, and of nothing else."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from fairlead.errors import StoreUnavailable
from fairlead.stores.database import Database
from fairlead.stores.tables import models
from tests.waiting import wait_until


def commit(database: Database, name: str) -> None:
    with database.write() as connection:
        connection.execute(
            models.insert().values(name=name, description="", created_by="a", created_at=datetime.now(UTC))
        )


def test_nothing_committed_is_nothing_heard(database: Database) -> None:
    watcher = database.watch()
    assert watcher.wait(0.03) is False
    assert watcher.wait(0) is False
    watcher.close()


def test_a_commit_from_before_the_wait_is_heard_once(database: Database) -> None:
    watcher = database.watch()
    commit(database, "one")
    assert watcher.wait(5) is True
    assert watcher.wait(0.03) is False
    watcher.close()


def test_a_commit_during_the_wait_ends_it(database: Database) -> None:
    watcher = database.watch()
    thread = threading.Timer(0.05, commit, [database, "soon"])
    thread.start()
    began = time.monotonic()
    assert watcher.wait(60) is True
    assert time.monotonic() - began < 30
    thread.join()
    watcher.close()


def test_a_commit_of_another_process_is_heard(database: Database, migrated_url: str) -> None:
    watcher = database.watch()
    code = (
        "import sys; from fairlead.stores.database import Database;"
        "from tests.stores.test_watch import commit; commit(Database(sys.argv[1]), 'elsewhere')"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, migrated_url], cwd=Path(__file__).parents[2], stdout=subprocess.DEVNULL
    )
    assert watcher.wait(30) is True
    assert process.wait(30) == 0
    watcher.close()


def test_what_was_rolled_back_is_not_heard(database: Database) -> None:
    watcher = database.watch()
    commit(database, "kept")
    assert watcher.wait(5) is True
    with pytest.raises(sa.exc.IntegrityError):
        commit(database, "kept")
    assert watcher.wait(0.05) is False
    watcher.close()


def test_every_watcher_hears_for_itself(database: Database) -> None:
    first, second = database.watch(), database.watch()
    commit(database, "both")
    assert first.wait(5) is True
    assert second.wait(5) is True
    first.close()
    second.close()


def test_a_watcher_whose_connection_died_says_so_and_comes_back(postgres_url: str) -> None:
    database = Database(postgres_url)
    database.migrate()
    watcher = database.watch()
    with database.write() as connection:
        connection.execute(
            sa.text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND query LIKE 'LISTEN%'"
            )
        )
    with pytest.raises(StoreUnavailable, match="watched"):
        wait_until(lambda: watcher.wait(0.05) is None)
    assert watcher.wait(5) is True  # something may have been missed
    commit(database, "after")
    assert watcher.wait(5) is True
    watcher.close()
    database.close()


def test_a_database_that_is_not_there_cannot_be_watched(tmp_path: Path, free_port: int) -> None:
    for url in (f"sqlite:///{tmp_path}/no/f.db", f"postgresql://127.0.0.1:{free_port}/x"):
        with pytest.raises(StoreUnavailable):
            Database(url).watch()
