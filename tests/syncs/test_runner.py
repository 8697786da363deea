"""Outcomes from somebody else's database, which is a real SQLite or PostgreSQL one."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from fairlead.errors import InvalidName, InvalidSync, ModelNotFound, SyncNotFound
from fairlead.predictions.ingest import Ingest
from fairlead.predictions.query import Queries
from fairlead.registry.audit import entries
from fairlead.registry.registry import Registry
from fairlead.stores.blobs import Blobs
from fairlead.stores.database import Database
from fairlead.syncs import source
from fairlead.syncs.runner import Syncs
from fairlead.syncs.sync import Sync, SyncState
from tests.rollouts.shop import register

T0 = datetime(2026, 11, 1, 12, tzinfo=UTC)
SQL = """SELECT customer AS unit, 'revenue' AS metric, total AS value, paid_at AS "at", id AS outcome_id
FROM orders -- a remark"""
VARIABLE = "SHOP_DATABASE_URL"


class Shop:
    """A shop's own database with a table of orders, and a Fairlead that reads it."""

    def __init__(self, url: str, folder: Path, blobs: Blobs) -> None:
        self.url = url
        self.engine = sa.create_engine(
            sa.make_url(url).set(drivername="postgresql+psycopg") if "postgres" in url else url
        )
        self.run("CREATE TABLE orders (id TEXT, customer TEXT, total NUMERIC(10, 2), paid_at TIMESTAMP)")
        self.database = Database(f"sqlite:///{folder}/fairlead.db")
        self.database.migrate()
        register(Registry(self.database, blobs), blobs, "v1")
        self.folder = folder
        self.now = T0 + timedelta(days=1)
        self.syncs = self.control("first")
        self.ingest = Ingest(folder)

    def control(self, name: str) -> Syncs:
        return Syncs(self.database, self.folder / "log", name=name, clock=lambda: self.now)

    def run(self, sql: str, **values: Any) -> None:
        with self.engine.begin() as connection:
            connection.execute(sa.text(sql), values)

    def order(
        self, identifier: str | None, minutes: float, total: float = 10.0, customer: str = "u1"
    ) -> None:
        at = (T0 + timedelta(minutes=minutes)).replace(tzinfo=None)
        self.run(
            "INSERT INTO orders VALUES (:id, :customer, :total, :at)",
            id=identifier, customer=customer, total=total, at=at,
        )  # fmt: skip

    def put(self, sql: str = SQL, **changes: Any) -> SyncState:
        return self.syncs.put(
            Sync(**{"name": "orders", "model": "shop", "sql": sql, "url_env": VARIABLE, **changes}), who="ann"
        )

    def look(self, seconds: float = 1_000.0) -> SyncState:
        self.now += timedelta(seconds=seconds)
        self.syncs.look()
        return self.syncs.all()[0]

    def events(self) -> list[tuple[Any, ...]]:
        table = (
            Queries(self.ingest)
            .sql("SELECT unit, metric, value, mode, outcome_id FROM outcome_events ORDER BY outcome_id, unit")
            .table
        )
        return [tuple(row.values()) for row in table.to_pylist()]

    def close(self) -> None:
        self.syncs.stop()
        self.ingest.close()
        self.database.close()
        self.engine.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def shop(
    request: pytest.FixtureRequest, tmp_path: Path, blobs: Blobs, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Shop]:
    url = f"sqlite:///{tmp_path}/shop.db"
    if request.param == "postgresql":
        url = str(request.getfixturevalue("postgres_url"))
    monkeypatch.setenv(VARIABLE, url)
    made = Shop(url, tmp_path, blobs)
    yield made
    made.close()


def test_rows_become_outcomes_once_however_often_they_are_read(shop: Shop) -> None:
    shop.order("o1", 0, 19.9)
    shop.order("o2", 5, 5, customer="größe 💶")
    assert shop.put().state == "waiting"
    state = shop.look()
    assert (state.accepted, state.watermark) == (2, T0 + timedelta(minutes=5))
    assert shop.events() == [
        ("u1", "revenue", 19.9, "add", "o1"), ("größe 💶", "revenue", 5.0, "add", "o2"),
    ]  # fmt: skip
    shop.order("o3", 4)  # committed late, within the overlap
    state = shop.look()
    assert (state.accepted, len(shop.events())) == (3, 3)
    shop.syncs.stop()
    shop.syncs = shop.control("second")  # knows nothing of what was written: the id makes it count once
    shop.look()
    totals = Queries(shop.ingest).sql("SELECT unit, value, events FROM outcomes ORDER BY unit").table
    assert totals.to_pylist() == [
        {"unit": "größe 💶", "value": 5.0, "events": 1}, {"unit": "u1", "value": 29.9, "events": 2},
    ]  # fmt: skip


def test_a_row_without_an_id_gets_one_of_its_content(shop: Shop) -> None:
    shop.order(None, 0, 1)
    shop.order(None, 1, 1)
    shop.put()
    shop.look()
    shop.syncs.stop()
    shop.syncs = shop.control("second")
    shop.look()
    (total,) = Queries(shop.ingest).sql("SELECT value, events FROM outcomes").table.to_pylist()
    assert total == {"value": 2.0, "events": 2}
    assert all(event[4].startswith("sync-") for event in shop.events())


def test_it_reads_in_portions_until_nothing_waits(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(25):
        shop.order(f"o{number}", number)
    read = source.read
    monkeypatch.setattr("fairlead.syncs.runner.read", lambda *given: read(*given, most=10))
    shop.put(overlap=0.0)
    assert shop.look().accepted == 10
    assert shop.syncs.all()[0].next_at == shop.now, "the rest is read at once"
    state = shop.syncs.run_now("orders")
    assert (state.accepted, len(shop.events())) == (25, 25)


def test_more_rows_of_one_moment_than_fit_are_refused_and_not_skipped(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(12):
        shop.order(f"o{number}", 0)
    read = source.read
    monkeypatch.setattr("fairlead.syncs.runner.read", lambda *given: read(*given, most=10))
    shop.put()
    with pytest.raises(InvalidSync, match="have the same time"):
        shop.syncs.run_now("orders")
    assert "have the same time" in (shop.syncs.all()[0].error or "")


def test_rows_that_break_a_rule_are_counted_and_the_others_come(shop: Shop) -> None:
    shop.order("o1", 0)
    shop.order("o2", 1, customer="")
    shop.order("o3", 2)
    shop.run("UPDATE orders SET total = NULL WHERE id = 'o1'")
    shop.put()
    state = shop.look()
    assert (state.accepted, state.refused, state.state) == (1, 2, "waiting")
    assert state.problem is not None
    assert "value is neither a number nor a text" in state.problem


@pytest.mark.parametrize(
    ("sql", "told"),
    [
        ("SELECT customer AS unit, 'm' AS metric, paid_at AS \"at\" FROM orders", "lacks the column value"),
        ("SELECT 'm' AS metric, 1 AS value, paid_at AS \"at\" FROM orders", "unit or request_id"),
        (SQL.replace("AS unit", "AS unit, 1 AS country"), "unknown column 'country'"),
        ("SELECT * FROM nothing", "cannot read its database"),
        ("DELETE FROM orders", "cannot read its database"),
        ("SELECT 1) x; DELETE FROM orders; --", "cannot read its database"),
        (" ", "empty or too long"),
    ],
)
def test_a_query_that_cannot_run_is_refused_before_it_is_kept(shop: Shop, sql: str, told: str) -> None:
    shop.order("o1", 0)
    with pytest.raises(InvalidSync, match=told):
        shop.put(sql)
    assert shop.syncs.all() == []
    with shop.engine.connect() as connection:
        assert connection.scalar(sa.text("SELECT count(*) FROM orders")) == 1


def test_colons_in_a_query_are_no_parameters(shop: Shop) -> None:
    shop.order("o1", 0)
    shop.put(SQL.replace("'revenue'", "'a:b'"))
    shop.look()
    assert shop.events()[0][1] == "a:b"


def test_nothing_is_said_of_a_password_and_nothing_kept(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "postgresql://reader:hunter2@127.0.0.1:1/shop"
    monkeypatch.setenv(VARIABLE, secret)
    with pytest.raises(InvalidSync) as refused:
        shop.put()
    assert "hunter2" not in str(refused.value)
    monkeypatch.setenv(VARIABLE, "hunter2 is no URL")
    with pytest.raises(InvalidSync) as refused:
        shop.put()
    assert "hunter2" not in str(refused.value)
    monkeypatch.setenv(VARIABLE, shop.url)
    shop.put()
    assert shop.url.encode() not in (shop.folder / "fairlead.db").read_bytes()


def test_the_url_may_lie_in_a_file(shop: Shop, tmp_path: Path) -> None:
    place = tmp_path / "url"
    with pytest.raises(InvalidSync, match="cannot be read"):
        shop.put(url_env=None, url_file=str(place))
    place.write_text(f"{shop.url}\n")
    shop.order("o1", 0)
    shop.put(url_env=None, url_file=str(place))
    assert shop.look().accepted == 1
    for wrong in ({"url_env": None}, {"url_file": str(place)}, {"every": 1.0}, {"overlap": -1.0}):
        with pytest.raises(InvalidSync):
            shop.put(**wrong)


def test_a_database_that_is_away_is_tried_later_and_later_and_comes_back(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.order("o1", 0)
    shop.put()
    monkeypatch.setenv(VARIABLE, "sqlite:////nowhere/shop.db")
    pauses = []
    for _ in range(4):
        state = shop.look()
        pauses.append((state.next_at - shop.now).total_seconds())
    assert (state.state, state.failures) == ("failing", 4)
    assert pauses == [30, 60, 120, 240]
    assert "no file" in (state.error or "")
    shop.look(seconds=10)
    assert shop.syncs.all()[0].failures == 4, "it waits"
    monkeypatch.setenv(VARIABLE, shop.url)
    state = shop.look()
    assert (state.state, state.error, state.accepted) == ("waiting", None, 1)


def test_one_control_runs_it_and_another_takes_over_when_that_died(shop: Shop) -> None:
    from fairlead.syncs import ledger

    shop.order("o1", 0)
    shop.put()
    with shop.database.write() as connection:
        until = shop.now + timedelta(minutes=5)
        assert ledger.hold(connection, "orders", "died", now=shop.now, until=until) is not None
    assert shop.look(seconds=60).accepted == 0
    with pytest.raises(InvalidSync, match="another control"):
        shop.syncs.run_now("orders")
    assert shop.look(seconds=300).accepted == 1


def test_controls_that_look_at_once_write_every_row_once(shop: Shop) -> None:
    for number in range(200):
        shop.order(f"o{number}", number / 10)
    shop.put()
    others = [shop.control(f"c{number}") for number in range(4)]
    threads = [threading.Thread(target=one.look) for one in others]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one in others:
        one.stop()
    assert len(shop.events()) == 200


def test_another_query_begins_at_the_first_row_and_another_pace_does_not(shop: Shop) -> None:
    shop.order("o1", 0)
    shop.put()
    shop.look()
    assert shop.put(every=60.0).watermark == T0
    assert shop.put(SQL.replace("'revenue'", "'sales'")).watermark is None
    shop.look()
    assert {event[1] for event in shop.events()} == {"revenue", "sales"}


def test_a_sync_that_is_removed_leaves_its_outcomes_and_a_note(shop: Shop) -> None:
    shop.order("o1", 0)
    shop.put()
    shop.look()
    shop.syncs.remove("orders", who="bob")
    assert shop.syncs.all() == []
    assert len(shop.events()) == 1
    with shop.database.read() as connection:
        assert [(entry.action, entry.who) for entry in entries(connection, "shop", 2)] == [
            ("unsync", "bob"), ("sync", "ann"),
        ]  # fmt: skip
    for ask in (shop.syncs.run_now, lambda name: shop.syncs.remove(name, who="bob")):
        with pytest.raises(SyncNotFound):
            ask("orders")


def test_names_and_models_have_to_be_right(shop: Shop) -> None:
    with pytest.raises(InvalidName):
        shop.put(name="no name!")
    with pytest.raises(ModelNotFound):
        shop.put(model="shoes")


@pytest.mark.parametrize(
    "times",
    [
        ("2026-11-01 12:00:00", "2026-11-01 12:30:00"),
        ("2026-11-01T12:00:00Z", "2026-11-01T12:30:00.5Z"),
        (1_793_534_400, 1_793_536_200.25),
    ],
)
def test_times_may_be_text_or_numbers(tmp_path: Path, blobs: Blobs, monkeypatch: pytest.MonkeyPatch,
                                      times: tuple[Any, Any]) -> None:  # fmt: skip
    url = f"sqlite:///{tmp_path}/shop.db"
    monkeypatch.setenv(VARIABLE, url)
    shop = Shop(url, tmp_path, blobs)
    try:
        shop.run("CREATE TABLE events (id TEXT, moment)")
        shop.run("INSERT INTO events VALUES ('a', :at)", at=times[0])
        shop.put("SELECT 'u' AS unit, 'm' AS metric, 1 AS value, moment AS at, id AS outcome_id FROM events")
        assert shop.look().accepted == 1
        shop.run("INSERT INTO events VALUES ('b', :at)", at=times[1])
        assert shop.look().accepted == 2
        shop.run("INSERT INTO events VALUES ('c', 'soon')")
        assert "cannot be put in order" in (shop.look().error or "")
    finally:
        shop.close()
