"""Live models beside their references: training data, what was before, another version."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
import uvicorn
from fastapi import APIRouter, FastAPI

from fairlead.admin.drift import drift_routes
from fairlead.admin.problems import refuse_as_problems
from fairlead.cli.main import fairlead
from fairlead.client.admin import Admin
from fairlead.contracts.counts import FieldKey
from fairlead.contracts.sliced import reference_of
from fairlead.contracts.table import read_table
from fairlead.errors import MalformedRequest, ModelNotFound, StoreUnavailable, VersionNotFound
from fairlead.monitoring.drift_report import DriftFound, DriftReport, drift_findings
from fairlead.monitoring.drifting import Drifting
from fairlead.monitoring.references import training_slices
from fairlead.monitoring.separating import Separating
from fairlead.predictions.binning import ContractNote, binning_of
from fairlead.predictions.counted import counted_windows
from fairlead.predictions.ingest import Ingest
from fairlead.predictions.operations import Operations
from fairlead.predictions.query import Queries
from fairlead.predictions.record import SchemaFrame
from fairlead.predictions.segments import SegmentWriter, frame
from fairlead.registry.registry import Registry
from fairlead.stores.blobs import Blobs
from fairlead.stores.database import Database
from tests.monitoring.counted import Counted
from tests.monitoring.served import Here
from tests.monitoring.shop import CONTRACT, reference, rows, shop
from tests.predictions.records import make_record

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture
def database_kind() -> str:
    """Nothing here is about the database."""
    return "sqlite"


@pytest.fixture
def log() -> Counted:
    held = reference()
    return Counted(CONTRACT, binning_of(CONTRACT.id, held, fields=CONTRACT.inputs, origin="v1"))


@pytest.fixture
def registry(database: Database, blobs: Blobs) -> Registry:
    return shop(database, blobs)


@pytest.fixture
def drifting(registry: Registry, log: Counted) -> Drifting:
    return Drifting(registry, log)


def last_hour(drifting: Drifting, **more: Any) -> DriftReport:
    return drifting.report("shop", NOW - HOUR, NOW, **more)


def alarms(report: DriftReport) -> list[tuple[str, str, str]]:
    return [(one.subject, one.slice, one.measure) for one in report.found if one.status == "alarm"]


def test_traffic_like_the_training_data_is_told_so_with_what_was_looked_at(
    drifting: Drifting, log: Counted
) -> None:
    log.add(NOW - HOUR / 2, rows(3000, 2))
    report = last_hour(drifting)
    assert alarms(report) == []
    assert (report.version, report.against, report.rows, report.reference_rows) == (
        "v1",
        "training",
        3000,
        10_000,
    )
    assert report.level == pytest.approx(1 / (30 * 48))
    assert report.sentence == (
        "Nothing drifted from the training data of v1: 2 fields, 3,000 rows, at most one false alarm "
        "in 30 days."
    )


def test_a_shift_and_a_surge_of_nulls_are_told_with_what_changed(drifting: Drifting, log: Counted) -> None:
    log.add(NOW - HOUR / 2, rows(3000, 2, shift=5.0, nulls=0.05))
    report = last_hour(drifting)
    assert alarms(report) == [("age", "", "moved-share"), ("age", "", "null-share")]
    assert report.sentence.startswith(
        "1 of 2 fields drifted from the training data of v1: age (median 39.9 → 44.9"
    )
    finding = drift_findings(report)[0]
    assert (finding.kind, finding.subject, finding.status, finding.against) == (
        "drift",
        "age",
        "alarm",
        "training",
    )
    assert finding.sentence.startswith("age, against training: ")
    assert finding.value is not None
    assert finding.threshold is not None
    assert finding.value > finding.threshold == 0.05


def test_without_traffic_nothing_can_be_told(drifting: Drifting) -> None:
    report = last_hour(drifting)
    assert report.found == ()
    assert report.sentence == (
        "Whether anything drifted from training cannot be told: there was no traffic that could be counted."
    )


def test_too_little_traffic_is_told_as_too_little(drifting: Drifting, log: Counted) -> None:
    log.add(NOW - HOUR / 2, rows(7, 2))
    report = last_hour(drifting)
    assert {one.status for one in report.found} == {"insufficient"}
    assert report.sentence.endswith("cannot be told: there were 7 rows; 100 are needed.")


def test_bins_that_came_from_the_log_have_no_training_data(registry: Registry) -> None:
    held = binning_of(CONTRACT.id, reference(), fields=CONTRACT.inputs, origin=None)
    log = Counted(CONTRACT, held)
    log.add(NOW - HOUR / 2, rows(3000, 2))
    report = last_hour(Drifting(registry, log))
    assert [(one.subject, one.status) for one in report.found] == [("(reference)", "insufficient")]
    assert "no version under this contract brought a profile" in report.sentence


def test_a_version_without_a_profile_is_held_against_the_one_that_lent_its_bins(
    drifting: Drifting, log: Counted
) -> None:
    log.add(NOW - HOUR / 2, rows(3000, 2), version="v2")
    assert last_hour(drifting, version="v2").reference == "the training data of v1"


def test_what_was_always_so_did_not_drift_from_before(drifting: Drifting, log: Counted) -> None:
    log.add(NOW - 30 * HOUR, rows(9000, 3, shift=5.0))
    log.add(NOW - HOUR / 2, rows(3000, 2, shift=5.0))
    assert alarms(last_hour(drifting)) != []
    report = last_hour(drifting, against="before")
    assert alarms(report) == []
    assert report.reference == "the 7 days before (counted since 2026-11-19 06:00 UTC)"
    assert report.reference_rows == 9000


def test_a_daily_rhythm_is_held_against_the_same_time_a_week_before(drifting: Drifting, log: Counted) -> None:
    log.add(NOW - timedelta(days=7) - HOUR / 2, rows(3000, 3, shift=5.0))
    log.add(NOW - timedelta(days=3), rows(9000, 4))
    log.add(NOW - HOUR / 2, rows(3000, 2, shift=5.0))
    assert alarms(last_hour(drifting, against="before")) != []
    assert alarms(last_hour(drifting, against="week-before")) == []


def test_one_slice_can_drift_alone(drifting: Drifting, log: Counted) -> None:
    for slice, shift in (("", 0.5), ("land=AT", 6.0), ("land=DE", 0.0)):
        log.add(NOW - 30 * HOUR, rows(9000, 3), slice=slice)
        log.add(NOW - HOUR / 2, rows(3000, 2, shift=shift), slice=slice)
    report = last_hour(drifting, against="before")
    assert {(subject, slice) for subject, slice, _ in alarms(report)} == {("age", "land=AT")}
    assert "age where land=AT (median" in report.sentence
    assert last_hour(drifting, against="before", slices=False).sentence.startswith("Nothing drifted")


def test_a_slice_is_held_against_the_slice_of_the_training_data(
    database: Database, blobs: Blobs, log: Counted
) -> None:
    drifting = Drifting(shop(database, blobs, sliced=True), log)
    for slice, shift in (("", 0.5), ("land=AT", 6.0), ("land=DE", 0.0)):
        log.add(NOW - HOUR / 2, rows(3000, 2, shift=shift), slice=slice)
    report = last_hour(drifting)
    assert {(subject, slice) for subject, slice, _ in alarms(report)} == {("age", "land=AT")} | {
        ("land", slice) for slice in ("land=AT", "land=DE")
    }
    austrian = next(one for one in report.found if (one.slice, one.subject) == ("land=AT", "age"))
    assert 800 < austrian.reference_n < 1200
    assert "(slices)" not in {one.subject for one in report.found}


def test_a_version_from_before_slices_were_counted_says_so(drifting: Drifting, log: Counted) -> None:
    log.add(NOW - HOUR / 2, rows(3000, 2))
    log.add(NOW - HOUR / 2, rows(3000, 3), slice="land=AT")
    report = last_hour(drifting)
    told = {one.subject: one for one in report.found if not one.slice}["(slices)"]
    assert told.status == "insufficient"
    assert told.sentence == "There is no reference for slices: v1 was registered without counts of them."
    assert report.sentence.startswith("Nothing drifted from the training data of v1: 2 fields")
    assert [one.subject for one in drift_findings(report) if one.status == "insufficient"] == ["(slices)"]


def test_a_reference_from_before_all_counts_is_told_as_missing(drifting: Drifting, log: Counted) -> None:
    log.add(NOW - HOUR / 2, rows(3000, 2))
    for against, words in (
        ("before", "the 7 days before"),
        ("week-before", "the same time 1 week(s) before"),
    ):
        report = last_hour(drifting, against=against)
        assert alarms(report) == []
        assert report.sentence.endswith(
            f"cannot be told: nothing is counted of {words}: counts begin at 2026-11-20 11:30 UTC."
        )
        assert [(one.subject, one.status) for one in report.found] == [("(reference)", "insufficient")]


def test_minutes_of_a_week_ago_are_said_to_be_hours_by_now(drifting: Drifting, log: Counted) -> None:
    for days in (8, 7, 0):
        log.add(NOW - timedelta(days=days, minutes=5), rows(3000, 3))
    report = drifting.report("shop", NOW - timedelta(minutes=10), NOW, against="week-before")
    assert report.reference == "the same time 1 week(s) before, in whole hours"


def test_what_the_log_has_and_nobody_counted_is_said_with_the_remedy(
    drifting: Drifting, log: Counted
) -> None:
    log.add(NOW - HOUR / 2, rows(3000, 2))
    assert last_hour(drifting).notes == ()
    log.logged = NOW - timedelta(days=9)
    (note,) = last_hour(drifting).notes
    assert note == (
        "The log has traffic since 2026-11-11 12:00 UTC, and is counted only since 2026-11-20 11:30 UTC. "
        "`fairlead monitoring rebuild shop` counts all of the log anew."
    )


def test_a_profile_that_could_not_be_had_is_asked_for_again(
    registry: Registry, blobs: Blobs, log: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    drifting = Drifting(registry, log)
    log.add(NOW - HOUR / 2, rows(3000, 2))

    def away(*_: Any) -> None:
        raise StoreUnavailable("The blobs are away.", remedy="Wait.")

    with monkeypatch.context() as broken:
        broken.setattr(registry.blobs, "get_to", away)
        assert alarms(last_hour(drifting)) == []
    assert drifting._profile("shop", "v1") == reference()


def test_two_versions_at_the_same_time_are_held_against_each_other(drifting: Drifting, log: Counted) -> None:
    log.add(NOW - HOUR / 2, rows(3000, 2))
    log.add(NOW - HOUR / 2, rows(3000, 3, shift=8.0), version="v2")
    report = last_hour(drifting, version="v2", against="version", other="v1")
    assert (report.version, report.against) == ("v2", "version v1")
    assert [subject for subject, _, _ in alarms(report)] == ["age"]


def test_rules_broken_more_often_than_before_are_told(drifting: Drifting, log: Counted) -> None:
    log.add(NOW - 30 * HOUR, rows(9000, 3), rejected=9, breaches={"age": {"range": 9}})
    log.add(NOW - HOUR / 2, rows(2000, 2), rejected=200, breaches={"age": {"range": 200}})
    report = last_hour(drifting, against="before")
    assert [one.field for one in report.quality if one.status == "alarm"] == ["", "age"]
    assert report.sentence.endswith(
        "More rules are broken than before: refused requests 0.0999 % → 9.09 % of 2,200 rows; "
        "age: range 0.0999 % → 9.09 % of 2,200 rows."
    )
    kinds = {(one.kind, one.subject) for one in drift_findings(report) if one.status == "alarm"}
    assert kinds == {("quality", "refused requests"), ("quality", "age: range")}


def test_the_budget_and_the_floor_are_settings_of_the_model(
    drifting: Drifting, registry: Registry, log: Counted
) -> None:
    log.add(NOW - HOUR / 2, rows(3000, 2, shift=3.0))
    assert alarms(last_hour(drifting)) == [("age", "", "moved-share")]
    registry.configure("shop", None, {"drift_moved_share": 0.3, "drift_alarm_days": 365.0}, who="ann")
    report = last_hour(drifting)
    assert alarms(report) == []
    assert (report.days, report.level) == (365.0, pytest.approx(1 / (365 * 48)))


def test_unknown_models_versions_and_halves_of_a_question_are_refused(drifting: Drifting) -> None:
    with pytest.raises(ModelNotFound):
        drifting.report("nowhere", NOW - HOUR, NOW)
    with pytest.raises(VersionNotFound):
        last_hour(drifting, version="v9")
    with pytest.raises(VersionNotFound):
        last_hour(drifting, against="version", other="v9")
    with pytest.raises(MalformedRequest, match="names that version"):
        last_hour(drifting, against="version")
    with pytest.raises(MalformedRequest, match="names that version"):
        last_hour(drifting, other="v2")


@pytest.fixture
def admin_url(drifting: Drifting, registry: Registry, log: Counted) -> Iterator[str]:
    """The route of drift, over HTTP; the last hour has drifted in age."""
    log.add(datetime.now(UTC) - HOUR / 2, rows(3000, 2, shift=5.0))
    log.add(datetime.now(UTC) - 30 * HOUR, rows(3000, 3))
    app = FastAPI()
    routes = APIRouter(prefix="/api/v1")
    routes.include_router(drift_routes(drifting, Separating(registry, log)))
    app.include_router(routes)
    refuse_as_problems(app)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        thread.join(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


def spoken(url: str, capsys: pytest.CaptureFixture[str], *options: str) -> str:
    with pytest.raises(SystemExit) as ended:
        fairlead.main(["--admin-url", url, "drift", "shop", "--since", "1h", *options])
    assert ended.value.code == 0
    return capsys.readouterr().out


def test_a_person_reads_what_changed_and_a_program_every_number(
    admin_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = spoken(admin_url, capsys)
    assert "1 of 2 fields drifted from the training data of v1" in shown
    assert "median 39.9 → 44.9" in shown
    document = json.loads(spoken(admin_url, capsys, "--json"))
    first = document["found"][0]
    assert (first["subject"], first["status"], first["measure"]) == ("age", "alarm", "moved-share")
    assert {"psi", "js-distance-base-2", "wasserstein-1-over-std"} <= set(first["distances"])
    assert document["level"] == pytest.approx(1 / 1440, rel=0.01)


def test_a_person_reads_what_is_not_well_first_and_small_slices_in_one_line(
    admin_url: str, log: Counted, capsys: pytest.CaptureFixture[str]
) -> None:
    for slice, people in (("land=DE", rows(3000, 2)), ("land=AT", rows(60, 3)), ("land=FR", rows(7, 4))):
        log.add(datetime.now(UTC) - HOUR / 2, people, slice=slice)
        log.add(datetime.now(UTC) - 30 * HOUR, rows(3000, 5), slice=slice)
    shown = spoken(admin_url, capsys, "--against", "before").splitlines()
    words = [line.split()[0] for line in shown if line.strip()]
    first = [word for word in words if word in ("drifted", "unknown", "ok")]
    assert first == sorted(first, key=["drifted", "unknown", "ok"].index)
    assert {"drifted", "ok"} <= set(first)
    assert "Too small to tell: land=AT (60 rows), land=FR (7 rows)" in shown
    everything = spoken(admin_url, capsys, "--against", "before", "--all").splitlines()
    assert any("land=AT" in line for line in everything)
    # What changed a little where all is well is no news.
    well = next(line for line in shown if line.startswith("ok"))
    assert "→" not in well


def test_all_fields_together_are_asked_of_rows_and_training_data_have_none(
    admin_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = spoken(admin_url, capsys, "--multivariate")
    assert "Rows can be told from before" in shown
    assert "age" in shown
    document = json.loads(spoken(admin_url, capsys, "--multivariate", "--json"))
    assert document["found"]["auc"] > 0.6
    with pytest.raises(SystemExit) as ended:
        fairlead.main(["--admin-url", admin_url, "drift", "shop", "--multivariate", "--against", "training"])
    assert ended.value.code == 2


def test_the_client_reads_the_same_and_says_whether_anything_drifted(admin_url: str) -> None:
    with Admin(admin_url) as admin:
        assert admin.drift("shop", since="1h").drifted
        assert not admin.drift("shop", since="1h", version="v1", against="version", other="v1").drifted
        assert not admin.drift("shop", since="700000d", against="week-before").drifted
        with pytest.raises(ModelNotFound):
            admin.drift("nowhere")
        with pytest.raises(MalformedRequest):
            admin.drift("shop", since="tomorrow")


def test_a_report_reads_back_as_it_was_written(drifting: Drifting, log: Counted) -> None:
    log.add(NOW - HOUR / 2, rows(3000, 2, shift=5.0))
    report = last_hour(drifting)
    assert msgspec.json.decode(msgspec.json.encode(report), type=DriftReport) == report
    assert isinstance(report.found[0], DriftFound)


@pytest.fixture
def logged(tmp_path: Any) -> Iterator[Here]:
    """A real log: 2,000 rows of yesterday, and as many of the last hour, half a deviation older."""
    folder = tmp_path / "data"
    note = ContractNote(contract=CONTRACT, version="v1", reference=reference())
    (folder / "bins" / "shop").mkdir(parents=True)
    (folder / "bins" / "shop" / f"{CONTRACT.id}.json").write_bytes(msgspec.json.encode(note))
    writer = SegmentWriter(folder / "log" / "g0")
    writer.register_schema(SchemaFrame(CONTRACT.id, CONTRACT.names, ("float", "string"), ("none", "none")))
    for hours_ago, shift, seed in ((30.0, 0.0, 3), (0.5, 5.0, 2)):
        held = rows(2000, seed, shift=shift)
        at = round((NOW - hours_ago * HOUR).timestamp() * 1e6)
        for place, features in enumerate(zip(held["age"], held["land"], strict=True)):
            writer.append(frame(make_record(features, contract_id=CONTRACT.id, at=at + place)))
    writer.close()
    ingest = Ingest(folder)
    ingest.flush()
    yield Here(Operations(Queries(ingest)))
    ingest.close()


def test_what_was_logged_is_held_against_training_data_and_the_days_before(
    registry: Registry, logged: Here
) -> None:
    drifting = Drifting(registry, logged)
    report = last_hour(drifting)
    assert (report.rows, report.reference_rows) == (2000, 10_000)
    assert [(one.subject, one.slice) for one in report.found if one.status == "alarm"] == [("age", "")]
    assert "median 39.9 → 44.7" in report.sentence
    report = last_hour(drifting, against="before")
    assert (report.rows, report.reference_rows) == (2000, 2000)
    # Of the two hundred from Austria half a standard deviation is not yet beyond chance.
    drifted = {(subject, slice) for subject, slice, _ in alarms(report)}
    assert drifted == {("age", ""), ("age", "land=DE"), ("age", "land=FR")}


def test_slices_of_a_reference_count_as_the_same_rows_count_when_they_are_served(logged: Here) -> None:
    held = reference_of(read_table(rows(2000, 3)), CONTRACT, like=reference())
    counted = counted_windows(logged, "shop", NOW - 31 * HOUR, NOW - 29 * HOUR, slice=None)
    served = {window.slice: window for window in counted if window.slice}
    bins = binning_of(CONTRACT.id, reference(), fields=CONTRACT.inputs).bins
    trained = training_slices(bins, held, ())
    assert trained is not None
    assert set(trained) == set(served) == {"land=DE", "land=FR", "land=AT"}
    for name, counts in trained.items():
        assert {key: one.counts for key, one in counts.items()} == {
            key: one.counts for key, one in served[name].counts.items() if key in counts
        }
        assert counts[FieldKey("feature", "age")].mean == pytest.approx(
            served[name].counts[FieldKey("feature", "age")].mean
        )


def test_logged_rows_are_told_apart_by_all_fields_together(registry: Registry, logged: Here) -> None:
    separating = Separating(registry, logged)
    report = separating.report("shop", NOW - HOUR, NOW)
    assert (report.version, report.found.status, report.found.n, report.found.reference_n) == (
        "v1", "alarm", 2000, 2000,
    )  # fmt: skip
    assert report.sentence.startswith("Rows can be told from before: area under the curve 0.6")
    assert report.found.leading[0][0] == "age"
    same = separating.report("shop", NOW - HOUR, NOW, against="version", other="v1")
    assert same.found.status == "ok"
    early = separating.report("shop", NOW - HOUR, NOW, against="week-before")
    assert early.found.status == "insufficient"
    assert early.sentence.startswith(
        "Whether rows can be told from week-before is not known: There are 2,000"
    )
    with pytest.raises(MalformedRequest, match="names that version"):
        separating.report("shop", NOW - HOUR, NOW, against="version")
    with pytest.raises(VersionNotFound):
        separating.report("shop", NOW - HOUR, NOW, against="version", other="v9")
