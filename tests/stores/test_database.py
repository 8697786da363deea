"""Transactions, time and errors mean the same on SQLite and PostgreSQL."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
import sqlalchemy as sa

from fairlead.errors import InvalidSetting, MalformedRequest, StorageFull, StoreUnavailable
from fairlead.stores.database import Database
from fairlead.stores.tables import audit, idempotency, models, versions

NOW = datetime(2026, 11, 20, 12, 30, tzinfo=UTC)


def add_model(connection: sa.Connection, name: str, description: str = "") -> None:
    connection.execute(
        models.insert().values(name=name, description=description, created_at=NOW, created_by="ada")
    )


def names(database: Database) -> list[str]:
    with database.read() as connection:
        return list(connection.scalars(sa.select(models.c.name).order_by(models.c.name)))


def test_what_a_block_wrote_is_there_for_the_next_reader(database: Database) -> None:
    with database.write() as connection:
        add_model(connection, "größe-推荐-🚢")
    assert names(database) == ["größe-推荐-🚢"]


def test_a_block_that_raises_changes_nothing(database: Database) -> None:
    def half() -> None:
        with database.write() as connection:
            add_model(connection, "half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        half()
    assert names(database) == []


def test_a_reading_transaction_cannot_write(database: Database) -> None:
    with pytest.raises((StoreUnavailable, sa.exc.DBAPIError)), database.read() as connection:
        add_model(connection, "smuggled")
    assert names(database) == []


def test_a_reading_transaction_sees_one_moment(database: Database) -> None:
    with database.read() as reader:
        assert reader.scalar(sa.select(sa.func.count()).select_from(models)) == 0
        with database.write() as writer:
            add_model(writer, "later")
        assert reader.scalar(sa.select(sa.func.count()).select_from(models)) == 0
    assert names(database) == ["later"]


def test_a_foreign_key_is_enforced(database: Database) -> None:
    row = {"digest": "d", "framework": "onnx", "spec": "{}", "metrics": {}, "tags": {}, "stage": "none"}
    with pytest.raises(sa.exc.IntegrityError), database.write() as connection:
        connection.execute(
            versions.insert().values(model="nobody", version="1", created_by="ada", created_at=NOW, **row)
        )


@pytest.mark.parametrize("moment", [NOW, NOW.astimezone(timezone(timedelta(hours=-9, minutes=-30)))])
def test_time_comes_back_aware_and_in_utc(database: Database, moment: datetime) -> None:
    with database.write() as connection:
        connection.execute(idempotency.insert().values(key="k", command="c", response={}, at=moment))
    with database.read() as connection:
        found = connection.scalar(sa.select(idempotency.c.at))
    assert found == moment
    assert found.tzinfo is UTC


def test_a_time_without_a_zone_is_refused(database: Database) -> None:
    with pytest.raises(sa.exc.StatementError, match="no time zone"), database.write() as connection:
        connection.execute(
            idempotency.insert().values(key="k", command="c", response={}, at=datetime(2026, 1, 1))
        )


def test_time_is_compared_as_time_not_as_text(database: Database) -> None:
    with database.write() as connection:
        for second in (0, 1):
            connection.execute(
                idempotency.insert().values(
                    key=str(second), command="c", response={}, at=NOW + timedelta(microseconds=second)
                )
            )
    tokyo = (NOW + timedelta(microseconds=1)).astimezone(timezone(timedelta(hours=9)))
    with database.read() as connection:
        assert connection.scalars(sa.select(idempotency.c.key).where(idempotency.c.at >= tokyo)).all() == [
            "1"
        ]


def test_a_schema_that_was_never_made_says_to_migrate(database_url: str) -> None:
    fresh = Database(database_url)
    with pytest.raises(StoreUnavailable, match="fairlead migrate"), fresh.read() as connection:
        connection.execute(sa.select(models))
    fresh.close()


def test_text_that_postgresql_cannot_hold_is_the_callers_fault(postgres_url: str) -> None:
    database = Database(postgres_url)
    database.migrate()
    with pytest.raises(MalformedRequest), database.write() as connection:
        add_model(connection, "nul", description="\x00")
    database.close()


def test_a_sqlite_folder_that_is_missing_is_store_unavailable(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/nowhere/fairlead.db")
    with pytest.raises(StoreUnavailable, match="nowhere"), database.write():
        pass


def test_a_dead_postgresql_is_store_unavailable_and_its_password_stays_hidden(free_port: int) -> None:
    database = Database(f"postgresql://ada:geheim@127.0.0.1:{free_port}/fairlead")
    with pytest.raises(StoreUnavailable, match="does not answer") as caught, database.read():
        pass
    assert "geheim" not in str(caught.value)


def test_a_postgresql_connection_that_died_is_replaced(postgres_url: str) -> None:
    database = Database(postgres_url)
    database.migrate()
    killer = sa.create_engine(database.url, isolation_level="AUTOCOMMIT")
    with database.write() as connection:
        add_model(connection, "before")
    kill = sa.text(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    with killer.connect() as connection:
        connection.execute(kill)
    assert names(database) == ["before"]

    def doomed() -> None:
        with database.write() as writer:
            add_model(writer, "lost")
            with killer.connect() as connection:
                connection.execute(kill)
            add_model(writer, "lost too")

    with pytest.raises(StoreUnavailable):
        doomed()
    assert names(database) == ["before"]
    killer.dispose()
    database.close()


def test_a_full_sqlite_is_storage_full_and_changes_nothing(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/fairlead.db")
    database.migrate()

    def fill() -> None:
        with database.write() as connection:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
            connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
            for index in range(100):
                add_model(connection, f"m{index}", "x" * 10_000)

    with pytest.raises(StorageFull, match="nothing was changed"):
        fill()
    assert names(database) == []
    database.close()


@pytest.mark.parametrize("url", ["mysql://x/y", "sqlite://", "sqlite:///:memory:", "fairlead.db", ""])
def test_a_url_of_another_kind_is_refused(url: str) -> None:
    with pytest.raises(InvalidSetting, match="sqlite:///"):
        Database(url)


# --- lost updates -------------------------------------------------------------------------------------------

INCREMENTS = 150


def increment(database: Database, times: int) -> None:
    for _ in range(times):
        with database.write() as connection:
            seen = connection.execute(sa.select(idempotency.c.response)).scalar_one()
            connection.execute(idempotency.update().values(response={"count": seen["count"] + 1}))


def start_counting(database: Database) -> None:
    with database.write() as connection:
        connection.execute(
            idempotency.insert().values(key="counter", command="", response={"count": 0}, at=NOW)
        )


def counted(database: Database) -> int:
    with database.read() as connection:
        return int(connection.execute(sa.select(idempotency.c.response)).scalar_one()["count"])


def test_concurrent_increments_from_threads_lose_none(database: Database) -> None:
    start_counting(database)
    with ThreadPoolExecutor(15) as threads:
        for done in [threads.submit(increment, database, INCREMENTS // 15) for _ in range(15)]:
            done.result()
    assert counted(database) == INCREMENTS


def test_concurrent_increments_from_processes_lose_none(database: Database, migrated_url: str) -> None:
    start_counting(database)
    code = (
        "import sys; from fairlead.stores.database import Database;"
        "from tests.stores.test_database import increment;"
        "database = Database(sys.argv[1]); sys.stdin.readline(); increment(database, int(sys.argv[2]))"
    )
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", code, migrated_url, str(INCREMENTS // 3)]
    processes = [subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, text=True) for _ in range(3)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        process.communicate(timeout=60)
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert counted(database) == INCREMENTS


def test_writers_take_turns_even_when_they_touch_different_rows(database: Database) -> None:
    inside = threading.Event()
    order: list[str] = []

    def second() -> None:
        assert inside.wait(10)
        with database.write() as connection:
            order.append("second")
            add_model(connection, "second")

    thread = threading.Thread(target=second)
    thread.start()
    with database.write() as connection:
        add_model(connection, "first")
        inside.set()
        thread.join(0.1)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]


def test_audit_ids_follow_the_order_of_commits(database: Database) -> None:
    def append(who: str) -> None:
        with database.write() as connection:
            connection.execute(
                audit.insert().values(at=NOW, who=who, action="test", why="", details={"who": who})
            )

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(append, [str(index) for index in range(24)]))
    with database.read() as connection:
        ids = connection.scalars(sa.select(audit.c.id).order_by(audit.c.id)).all()
    assert ids == list(range(1, 25))
