"""The looker at drift: which windows it looks at, what it tells of each, and what holds it up."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fairlead.alerts import ledger
from fairlead.alerts.alerting import Alerting
from fairlead.alerts.reading import Config
from fairlead.errors import StoreUnavailable
from fairlead.monitoring.drift_looker import DriftLooker
from fairlead.monitoring.drifting import Drifting
from fairlead.monitoring.loop import LEASE, Loop
from fairlead.predictions.binning import Binning, binning_of
from fairlead.registry.registry import Registry
from fairlead.stores import leases
from fairlead.stores.blobs import Blobs
from fairlead.stores.database import Database
from tests.monitoring.counted import Counted
from tests.monitoring.shop import CONTRACT, reference, rows, shop

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture
def database_kind() -> str:
    """Nothing here is about the database."""
    return "sqlite"


@pytest.fixture
def log() -> Counted:
    return Counted(CONTRACT, lent("v1"))


@pytest.fixture
def registry(database: Database, blobs: Blobs) -> Registry:
    return shop(database, blobs)


@pytest.fixture
def drifting(registry: Registry, log: Counted) -> Drifting:
    return Drifting(registry, log)


def lent(origin: str | None) -> Binning:
    return binning_of(CONTRACT.id, reference(), fields=CONTRACT.inputs, origin=origin)


def test_the_looker_tells_of_each_question_once_by_the_window_that_shows_most(
    drifting: Drifting, registry: Registry, log: Counted
) -> None:
    log.add(NOW - 20 * HOUR, rows(20_000, 3))
    log.add(NOW - timedelta(minutes=5), rows(1000, 2, shift=8.0))
    found = DriftLooker(drifting, registry).look(NOW)
    assert len({one.key for one in found}) == len(found)
    told = {(one.subject, one.measure, one.against): one for one in found if one.kind == "drift"}
    age = told["age", "moved-share", "training"]
    assert (age.status, age.n, age.model, age.version) == ("alarm", 1000, "shop", "v1")
    assert told["age", "moved-share", "before"].status == "alarm"
    assert told["land", "moved-share", "training"].status == "ok"


def test_the_looker_sees_what_came_in_the_minute_that_runs(
    drifting: Drifting, registry: Registry, log: Counted
) -> None:
    log.add(NOW, rows(1000, 2, shift=8.0))
    found = DriftLooker(drifting, registry).look(NOW + timedelta(seconds=10))
    assert ("age", "alarm") in {(one.subject, one.status) for one in found}


def test_whoever_looks_more_often_asks_for_more_evidence_at_each_look(
    drifting: Drifting, registry: Registry, log: Counted
) -> None:
    log.add(NOW - timedelta(minutes=5), rows(800, 2, nulls=0.015))

    def statuses(seconds: float) -> set[str]:
        found = DriftLooker(drifting, registry, seconds=seconds).look(NOW)
        return {one.status for one in found if (one.subject, one.measure) == ("age", "null-share")}

    assert statuses(300.0) == {"alarm"}
    assert statuses(1e-12) == {"ok"}


def test_the_looker_says_nothing_of_models_that_are_not_in_production(
    database: Database, blobs: Blobs, log: Counted
) -> None:
    registry = Registry(database, blobs)
    registry.declare_contract("idle", CONTRACT, who="ann")
    assert DriftLooker(Drifting(registry, log), registry).look(NOW) == []


def test_a_version_without_traffic_has_nothing_to_tell(drifting: Drifting, registry: Registry) -> None:
    found = DriftLooker(drifting, registry).look(NOW)
    assert {(one.kind, one.status, one.n) for one in found} == {("quality", "insufficient", 0)}


def test_without_a_reference_it_says_so_and_rings_for_nothing(registry: Registry) -> None:
    log = Counted(CONTRACT, lent(None))
    log.add(NOW - timedelta(minutes=5), rows(3000, 2, shift=8.0))
    found = DriftLooker(Drifting(registry, log), registry).look(NOW)
    told = {(one.subject, one.against): one for one in found if one.kind == "drift"}
    assert set(told) == {("(reference)", "training"), ("(reference)", "before")}
    assert {one.status for one in found} == {"insufficient"}
    assert (
        "no version under this contract brought a profile" in told["(reference)", "training"].sentence.lower()
    )


def test_too_few_rows_are_told_as_too_few(drifting: Drifting, registry: Registry, log: Counted) -> None:
    log.add(NOW - timedelta(minutes=5), rows(99, 2, shift=80.0))
    found = DriftLooker(drifting, registry).look(NOW)
    assert {one.status for one in found if one.kind == "drift"} == {"insufficient"}
    assert "alarm" not in {one.status for one in found}
    assert {one.n for one in found if one.subject == "age"} == {99}


def test_within_a_slice_the_last_hour_is_held_against_training_data(
    database: Database, blobs: Blobs, log: Counted
) -> None:
    registry = shop(database, blobs, sliced=True)
    log.add(NOW - HOUR / 2, rows(3000, 2))
    log.add(NOW - HOUR / 2, rows(600, 3, shift=8.0), slice="land=AT")
    found = DriftLooker(Drifting(registry, log), registry).look(NOW)
    told = {(one.subject, one.slice, one.measure, one.against): one for one in found}
    age = told["age", "land=AT", "moved-share", "training"]
    assert (age.status, age.n, age.version) == ("alarm", 600, "v1")
    assert told["age", "", "moved-share", "training"].status == "ok"


def test_the_same_drift_looked_at_again_and_again_is_one_alert(
    drifting: Drifting, registry: Registry, log: Counted, database: Database, tmp_path: Path
) -> None:
    log.add(NOW - timedelta(minutes=5), rows(3000, 2, shift=8.0))
    looker = DriftLooker(drifting, registry)
    first, second = looker.look(NOW), looker.look(NOW)
    assert first == second
    with database.write() as connection:
        leases.take(connection, LEASE, "a", now=NOW, until=NOW + timedelta(days=1))
    alerting = Alerting(database, Config(), queued=lambda: None, shown=tmp_path / "alerts.json")
    loop = Loop(database, [], [alerting], name="a", clock=lambda: NOW)

    def told() -> list[tuple[str, str]]:
        with database.read() as connection:
            fires = [(one.rule, one.finding.subject) for one in ledger.every(connection, ended=True)]
            return sorted(fires)

    for _ in range(4):
        loop.look(looker)
    once = told()
    assert [subject for _, subject in once] == ["age"]
    for _ in range(4):
        loop.look(looker)
    assert told() == once


def test_a_log_that_is_away_is_an_error_of_the_look_and_no_finding(
    drifting: Drifting, registry: Registry, log: Counted, database: Database,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    log.add(NOW - timedelta(minutes=5), rows(3000, 2, shift=8.0))
    looker = DriftLooker(drifting, registry)
    loop = Loop(database, [], name="a", clock=lambda: NOW)

    def away(op: str, **_: Any) -> Any:
        raise StoreUnavailable("The prediction log cannot be asked.", remedy="Wait.")

    with monkeypatch.context() as broken:
        broken.setattr(log, "call", away)
        with pytest.raises(StoreUnavailable):
            looker.look(NOW)
        look = loop.look(looker)
        assert look.findings == ()
        assert "cannot be asked" in (look.error or "")
    assert "alarm" in {one.status for one in loop.look(looker).findings}


def test_one_model_that_cannot_be_looked_at_hides_no_other(
    drifting: Drifting, registry: Registry, log: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.add(NOW - timedelta(minutes=5), rows(3000, 2, shift=8.0))
    registry.declare_contract("attic", CONTRACT, who="ann")
    held = registry.models()
    broken = [msgspec.structs.replace(one, production="v9") if one.name == "attic" else one for one in held]
    monkeypatch.setattr(registry, "models", lambda: broken)
    found = DriftLooker(drifting, registry).look(NOW)
    (attic,) = [one for one in found if one.model == "attic"]
    assert (attic.status, attic.subject) == ("error", "all fields")
    assert "v9" in attic.sentence
    assert ("age", "alarm") in {(one.subject, one.status) for one in found if one.model == "shop"}
