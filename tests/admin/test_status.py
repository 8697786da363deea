"""What goes on now: rates from the counters, gateways from their reports, health from the database."""

from __future__ import annotations

from pathlib import Path

import pytest
from fastapi.routing import APIRoute

from fairlead.admin.sampler import Pulse, Sampler
from fairlead.admin.status import status_routes
from fairlead.alerts.following import Following
from fairlead.predictions.ask import IngestClient
from fairlead.stores.database import Database
from fairlead.telemetry.counters import ArmKey, CounterBlock
from tests.admin.conftest import Api
from tests.rollouts.fakes import put_gateway, report

STABLE = ArmKey("shop", "v1", "stable", "stable")
CONTROL = ArmKey("shop", "v1", "control", "control")
CANARY = ArmKey("shop", "v2", "canary", "canary")


class Clock:
    """A clock that a test turns."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """Stands still until it is turned."""
    return Clock()


def test_rates_are_those_of_the_last_seconds_and_arms_of_a_version_add_up(
    tmp_path: Path, clock: Clock
) -> None:
    sampler = Sampler(tmp_path, clock)
    first, second = CounterBlock(tmp_path / "g0"), CounterBlock(tmp_path / "g1")
    for _ in range(1000):
        first.row(STABLE).answered("ok", 0.5)  # long ago
    assert sampler.pulse("shop", "v1") == Pulse()
    for tick in range(61):
        sampler.look()
        clock.now += 1
        for block in (first, second):
            block.row(STABLE).answered("ok", 0.001)
            block.row(CONTROL).answered("failed" if tick % 2 else "rejected", 0.001)
            block.row(STABLE).looked_up(hit=tick % 4 == 0)
        if tick >= 50:
            second.row(CANARY).answered("ok", 0.02)
    sampler.look()
    pulse = sampler.pulse("shop", "v1")
    assert pulse.rate_10s == pulse.rate_60s == 4.0
    assert pulse.error_rate == pytest.approx(0.25)
    assert pulse.rejected_rate == pytest.approx(0.25)
    assert pulse.cache_hit_rate == pytest.approx(0.25, abs=0.01)
    assert pulse.p50_ms == pytest.approx(1.0, rel=0.2)
    assert pulse.p99_ms == pytest.approx(1.0, rel=0.2)
    canary = sampler.pulse("shop", "v2")
    assert (canary.rate_10s, canary.rate_60s) == (1.0, round(11 / 60, 3))
    assert canary.p50_ms == pytest.approx(20, rel=0.2)


def test_a_version_without_answers_has_rates_of_zero_and_nothing_else(tmp_path: Path, clock: Clock) -> None:
    sampler = Sampler(tmp_path, clock)
    for _ in range(3):
        sampler.look()
        clock.now += 1
    assert sampler.pulse("shop", "v1") == Pulse()


def test_counters_that_were_lost_count_as_nothing(tmp_path: Path, clock: Clock) -> None:
    sampler = Sampler(tmp_path, clock)
    block = CounterBlock(tmp_path / "g0")
    block.row(STABLE).answered("ok", 0.001)
    sampler.look()
    clock.now += 1
    (tmp_path / "g0").unlink()
    sampler.look()
    assert sampler.pulse("shop", "v1") == Pulse()


def test_status_shows_models_versions_and_gateways(shop: Api) -> None:
    shop.call("POST", "/models/shop/deploy", {"version": "v2", "weight": 10})
    shop.call("POST", "/models/shop/versions/v3/stage", {"stage": "archived"})
    report(shop.database, "g0", "shop", override="v1")
    status, answer = shop.call("GET", "/status")
    assert status == 200
    (model,) = answer["models"]
    assert (model["name"], model["generation"], model["production"]) == ("shop", 2, "v1")
    assert [(v["version"], v["stage"], v["weight"]) for v in model["versions"]] == [
        ("v1", "production", 90.0),
        ("v2", "canary", 10.0),
    ]
    assert [arm["name"] for arm in model["versions"][0]["arms"]] == ["stable", "control"]
    assert model["versions"][0]["rate_10s"] == 0.0
    assert model["overrides"] == [{"gateway": "g0", "version": "v1"}]
    (gateway,) = answer["gateways"]
    assert (gateway["name"], gateway["live"]) == ("g0", True)
    assert gateway["models"]["shop"]["active"] == 2


def test_status_says_what_it_could_not_find_out(api: Api) -> None:
    _, answer = api.call("GET", "/status")
    assert answer["ingest"] is None
    assert "prediction log cannot be asked" in answer["lacking"][0]


def test_status_says_which_models_are_counted_only_in_part(api: Api, tmp_path: Path, clock: Clock) -> None:
    class PartlyCounted(IngestClient):
        def call(self, op: str, **_: object) -> object:
            assert op == "status"
            return {"lag_bytes": 0, "uncounted": ["shop"]}

    sampler = Sampler(tmp_path, clock)
    routes = status_routes(api.database, sampler, PartlyCounted("nowhere"), Following(""))
    (route,) = [one for one in routes.routes if isinstance(one, APIRoute) and one.path == "/status"]
    assert route.endpoint().lacking == [
        "Of shop only the later part of the log is counted: fairlead monitoring rebuild shop."
    ]


def test_gateways_that_are_silent_are_listed_as_such(api: Api) -> None:
    put_gateway(api.database, "g0")
    put_gateway(api.database, "g1", silent_for=60)
    _, gateways = api.call("GET", "/gateways")
    assert [(gateway["name"], gateway["live"]) for gateway in gateways] == [("g0", True), ("g1", False)]


def test_control_is_live_always_and_ready_with_a_current_database(api: Api, database: Database) -> None:
    from fairlead.stores import schema

    for root in ("", "/api/v1"):
        assert api.call("GET", "/health/live", root=root) == (200, {"status": "live"})
        assert api.call("GET", "/health/ready", root=root) == (200, {"status": "ready"})
    with database.write() as connection:
        schema.downgrade(connection)
    assert api.refused("GET", "/health/ready") == (503, "not_ready")
    assert api.call("GET", "/health/live")[0] == 200
