"""Syncs of outcomes through the admin API and the command line."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.admin.conftest import Api
from tests.admin.test_experiments import _run, _serving

SQL = "SELECT customer AS unit, 'sale' AS metric, total AS value, paid_at AS at FROM orders"
BODY = {"model": "shop", "sql": SQL, "url_env": "SHOP_DATABASE_URL"}


@pytest.fixture
def there(api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    """The API with a model, and a shop's database with two orders."""
    api.versions("v1")
    made = sqlite3.connect(tmp_path / "shop.db")
    made.execute("CREATE TABLE orders (customer, total, paid_at)")
    orders = [("u1", 5, "2026-11-01 12:00:00"), ("u2", 7, "2026-11-01 12:01:00")]
    made.executemany("INSERT INTO orders VALUES (?, ?, ?)", orders)
    made.commit()
    made.close()
    monkeypatch.setenv("SHOP_DATABASE_URL", f"sqlite:///{tmp_path}/shop.db")
    yield api
    api.syncs.stop()


def test_a_sync_is_made_run_listed_and_removed(there: Api) -> None:
    status, made = there.call("PUT", "/outcomes/syncs/orders", BODY, x_fairlead_user="ann")
    assert (status, made["state"], made["accepted"], made["who"]) == (200, "waiting", 0, "ann")
    assert made["sync"]["url_env"] == "SHOP_DATABASE_URL"
    _, ran = there.call("POST", "/outcomes/syncs/orders/run")
    assert (ran["accepted"], ran["watermark"]) == (2, "2026-11-01T12:01:00Z")
    assert [one["sync"]["name"] for one in there.call("GET", "/outcomes/syncs")[1]] == ["orders"]
    assert there.call("DELETE", "/outcomes/syncs/orders")[0] == 200
    assert there.call("GET", "/outcomes/syncs")[1] == []


def test_what_cannot_be_a_sync_is_refused(there: Api) -> None:
    put = "/outcomes/syncs/orders"
    assert there.refused("PUT", put, BODY | {"model": "shoes"}) == (404, "model_not_found")
    assert there.refused("PUT", put, BODY | {"sql": "SELECT 1 AS value"}) == (400, "invalid_sync")
    assert there.refused("PUT", put, BODY | {"url_env": "NOT_THERE"}) == (400, "invalid_sync")
    assert there.refused("PUT", put, BODY | {"url": "x"}) == (400, "malformed_request")
    assert there.refused("PUT", "/outcomes/syncs/no name", BODY) == (400, "invalid_name")
    for method, path in (("POST", f"{put}/run"), ("DELETE", put)):
        assert there.refused(method, path) == (404, "sync_not_found")


def test_the_command_line_makes_runs_shows_and_removes_syncs(
    there: Api, capsys: pytest.CaptureFixture[str]
) -> None:
    with _serving(there) as url:
        sync = ["--admin-url", url, "outcomes", "sync"]
        source = ["--sql", SQL, "--url-env", "SHOP_DATABASE_URL"]
        assert _run([*sync, "--model", "shop", *source, "--every", "15m", "--once"]) == 0
        assert "waiting" in capsys.readouterr().out
        assert _run(["--admin-url", url, "outcomes", "syncs", "--json"]) == 0
        assert '"accepted":2' in capsys.readouterr().out
        assert _run([*sync, "shop", "--once"]) == 0
        for wrong in (source, ["shop"], ["shop", *source], ["--model", "shop", *source, "--every", "soon"]):
            assert _run([*sync, *wrong]) == 2
        assert _run([*sync, "shop", "--remove"]) == 0
        assert _run([*sync, "shop", "--remove"]) == 1
        assert "There is no sync 'shop'" in capsys.readouterr().err
