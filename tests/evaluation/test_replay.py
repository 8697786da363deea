"""Requests of a real gateway asked again: what comes out the same, what differs, and what cannot be asked."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fairlead.contracts.contract import Output
from fairlead.errors import FairleadError, InvalidQuery, RecordNotFound
from fairlead.evaluation.change_report import ChangeReport
from fairlead.evaluation.replay import Replayed, replay_request
from fairlead.evaluation.traffic import replay_traffic
from fairlead.predictions.ingest import Ingest
from fairlead.predictions.operations import Operations
from fairlead.predictions.query import Queries
from fairlead.predictions.segments import frame
from fairlead.registry.registry import NewVersion, Registry
from fairlead.registry.versions import ModelSettings, VersionSpec
from fairlead.routing.plan import Role
from fairlead.serving.asks import Ask, BatchAsk
from fairlead.serving.folder import DataFolder
from fairlead.stores.blobs import Blobs
from fairlead.stores.database import Database
from tests.evaluation.conftest import stored
from tests.models import FEATURES, SAMPLE, faulty_onnx, iris_contract, iris_onnx, lay_plan, plan_of
from tests.serving.conftest import Gateway


class Site:
    """A gateway, its log, and a registry with its versions; what control would have at hand."""

    def __init__(self, folder: DataFolder, database: Database, blobs: Blobs) -> None:
        self.gateway = Gateway(folder)
        self.folder = folder
        self.blobs = blobs
        self.registry = Registry(database, blobs)
        self.ingest = Ingest(folder.root)
        self._operations = Operations(Queries(self.ingest))
        self.specs: dict[str, VersionSpec] = {}

    def call(self, op: str, **arguments: Any) -> Any:
        """As `IngestClient.call`, without a process and a socket between."""
        plain = msgspec.json.decode(msgspec.json.encode(arguments))
        return msgspec.json.decode(self._operations.answer(op, plain))

    def register(self, version: str, onnx: bytes, **options: Any) -> VersionSpec:
        spec = stored(self.blobs, onnx, version=version, **options)
        self.registry.register(NewVersion(spec=spec, framework="onnx", created_by="ann"))
        self.specs[version] = spec
        place = self.folder.versions / spec.manifest.digest
        place.mkdir(exist_ok=True)
        (place / "model.onnx").write_bytes(onnx)
        return spec

    def serve(self, weights: dict[str, tuple[str, Role, float]], generation: int = 1) -> None:
        plan = plan_of(weights, generation=generation)
        lay_plan(self.folder, plan, *self.specs.values(), keep=tuple(set(self.specs)))
        self.gateway.follow()

    def ask(self, features: Any, **members: Any) -> None:
        """Sends a request; its refusal is in the log, too."""
        model = self.gateway.plane.model("iris")
        body = json.dumps({"features": features, **members}).encode()
        ask = Ask.of(model.reader.read(body), received=time.perf_counter())
        try:
            asyncio.run(self.gateway.plane.infer(model, ask))
        except FairleadError:
            return

    def ask_batch(self, rows: list[Any], request_id: str) -> None:
        model = self.gateway.plane.model("iris")
        body = json.dumps({"instances": [{"features": row} for row in rows], "request_id": request_id})
        ask = BatchAsk(model.reader.read_batch(body.encode()), received=time.perf_counter())
        asyncio.run(self.gateway.plane.infer_batch(model, ask))

    def alter(self, request_id: str, **changes: Any) -> None:
        """Puts a copy of the request's record into the log under another id, altered."""
        (held,) = [record for record in self.gateway.records() if record.request_id == request_id]
        features = changes.pop("features", None)
        if features is not None:
            changes["features"] = msgspec.Raw(msgspec.msgpack.encode(features))
        record = msgspec.structs.replace(held, request_id=f"{request_id}-altered", **changes)
        self.gateway.writer.append(frame(record))

    def replay(self, request_id: str, **options: Any) -> list[Replayed]:
        return replay_request(
            self.registry,
            self,
            self.folder,
            request_id,
            trust_pickle=False,
            **options,  # type: ignore[arg-type]
        )

    def against(self, version: str, **options: Any) -> ChangeReport:
        now = datetime.now(UTC) + timedelta(seconds=1)
        return replay_traffic(
            self.registry, self, self.folder, "iris", version,  # type: ignore[arg-type]
            now - timedelta(hours=1), now, trust_pickle=False, **options,
        )  # fmt: skip


@pytest.fixture(scope="module")
def onnx() -> tuple[bytes, bytes]:
    return iris_onnx(0), iris_onnx(1)


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    """SQLite: nothing here asks more of a database than the registry, which is tested on both."""
    return f"sqlite:///{tmp_path}/fairlead.db"


@pytest.fixture
def site(folder: DataFolder, database: Database, blobs: Blobs) -> Iterator[Site]:
    made = Site(folder, database, blobs)
    yield made
    made.gateway.plane.journal.close()
    made.ingest.close()


ALL: dict[str, tuple[str, Role, float]] = {"stable": ("v1", "stable", 100)}


def rows_of_iris() -> list[dict[str, float]]:
    from sklearn.datasets import load_iris

    return [dict(zip(FEATURES, row, strict=True)) for row in load_iris().data.tolist()]


def test_a_record_that_somebody_altered_is_found_to_differ(site: Site, onnx: tuple[bytes, bytes]) -> None:
    site.register("v1", onnx[0])
    site.serve(ALL)
    for name in ("answer", "features", "probabilities", "elsewhere"):
        site.ask(SAMPLE, request_id=name)
    assert site.replay("answer")[0].verdict == "identical"
    site.alter("answer", prediction="2")
    site.alter("features", features=[6.5, 3.5, 1.4, 0.2])
    held = site.replay("probabilities")[0].logged.probabilities
    assert held is not None
    moved = {name: value + (1e-6 if name == "0" else 0) for name, value in held.items()}
    site.alter("probabilities", probabilities=json.dumps(moved))
    site.alter("elsewhere", runtime="onnxruntime 0.0.1 vax", probabilities=json.dumps(moved))
    (answer,) = site.replay("answer-altered")
    assert (answer.verdict, answer.largest_difference) == ("differs", None)
    assert answer.replayed is not None
    assert (answer.logged.prediction, answer.replayed.prediction) == (2, 0)
    (features,) = site.replay("features-altered")
    assert (features.verdict, features.reason) == ("differs", "features_altered")
    (close,) = site.replay("probabilities-altered")
    assert close.verdict == "within_tolerance"
    assert close.same_runtime
    assert close.largest_difference == pytest.approx(1e-6, rel=1e-3)
    (elsewhere,) = site.replay("elsewhere-altered")
    assert (elsewhere.verdict, elsewhere.same_runtime) == ("within_tolerance", False)
    assert "vax" in elsewhere.explanation


def test_cached_answers_are_compared_with_what_the_model_says(site: Site, onnx: tuple[bytes, bytes]) -> None:
    site.register("v1", onnx[0])
    site.serve(ALL)
    site.ask(SAMPLE, request_id="first")
    site.ask(SAMPLE, request_id="second")
    (found,) = site.replay("second")
    assert (found.cached, found.verdict) == (True, "identical")
    assert "from the cache" in found.explanation


def test_rows_of_a_batch_are_told_apart_and_one_can_be_asked_for(
    site: Site, onnx: tuple[bytes, bytes]
) -> None:
    site.register("v1", onnx[0])
    site.serve(ALL)
    wrong = SAMPLE | {"petal_width": -1}
    site.ask_batch([*rows_of_iris()[::10], wrong], "batch")
    found = site.replay("batch")
    assert [replayed.row for replayed in found] == list(range(16))
    assert {replayed.verdict for replayed in found} == {"identical"}
    assert found[15].logged.error_code == "data_contract_violation"
    assert [replayed.row for replayed in site.replay("batch", row=4)] == [4]
    with pytest.raises(RecordNotFound, match="row 16"):
        site.replay("batch", row=16)


def test_sensitive_features_make_a_record_that_is_reported_and_not_guessed(
    site: Site, onnx: tuple[bytes, bytes]
) -> None:
    contract = iris_contract()
    secret = msgspec.structs.replace(contract.inputs[0], sensitivity="sensitive")
    site.register(
        "v1", onnx[0], contract=msgspec.structs.replace(contract, inputs=(secret, *contract.inputs[1:]))
    )
    site.serve(ALL)
    site.ask(SAMPLE, request_id="secret")
    (found,) = site.replay("secret")
    assert (found.verdict, found.reason) == ("not_replayable", "features_withheld")
    assert "'sepal_length'" in found.explanation
    assert found.replayed is None
    assert site.against("v1").not_replayable == {"features_withheld": 1}


def test_what_stood_in_for_a_version_is_told(site: Site, onnx: tuple[bytes, bytes]) -> None:
    contract = iris_contract()
    with_default = msgspec.structs.replace(
        contract, output=Output(kind="class", classes=(0, 1, 2), default=2)
    )
    settings = ModelSettings(fallback_version="v2", cache_seconds=0)
    failing = SAMPLE | {"sepal_length": 9.0}
    site.register("v1", faulty_onnx(), contract=contract, settings=settings)
    site.register("v2", onnx[1])
    site.register("v3", faulty_onnx(), contract=with_default)
    site.serve(ALL | {"other": ("v2", "canary", 0)})
    site.ask(failing, request_id="fallback")
    (fallback,) = site.replay("fallback")
    assert (fallback.verdict, fallback.version, fallback.degraded) == ("identical", "v2", "fallback_version")
    assert "stood in for version 'v1'" in fallback.explanation
    site.serve({"stable": ("v3", "stable", 100)}, generation=2)
    site.ask(failing, request_id="default")
    (default,) = site.replay("default")
    assert (default.verdict, default.reason, default.version) == ("not_replayable", "nobody_answered", None)
    assert "'v3'" in default.explanation
    assert "runtime_failed" in default.explanation
    assert site.against("v2").not_replayable == {"degraded": 2}


def test_what_failed_fails_again_and_other_ends_were_no_answers(site: Site) -> None:
    site.register("v1", faulty_onnx())
    site.serve(ALL)
    site.ask(SAMPLE | {"sepal_length": 9.0}, request_id="raised")
    site.ask(SAMPLE | {"sepal_length": 8.0}, request_id="not finite")
    site.ask(SAMPLE, request_id="good")
    for name in ("raised", "not finite"):
        (found,) = site.replay(name)
        assert (found.verdict, found.logged.error_code) == ("identical", "runtime_failed")
    site.alter("good", status="failed", error_code="deadline_exceeded", prediction=None)
    (late,) = site.replay("good-altered")
    assert (late.verdict, late.reason) == ("not_replayable", "circumstances")
    assert "deadline_exceeded" in late.explanation
    site.alter("raised", status="ok", error_code=None, prediction="0", served_version="v1")
    (changed,) = site.replay("raised-altered")
    assert (changed.verdict, changed.replayed and changed.replayed.status) == ("differs", "failed")


def test_a_version_that_is_gone_is_told(site: Site, onnx: tuple[bytes, bytes], tmp_path: Path) -> None:
    spec = site.register("v1", onnx[0])
    site.serve(ALL)
    site.ask(SAMPLE, request_id="gone")
    site.alter("gone", served_version="v0")
    (unknown,) = site.replay("gone-altered")
    assert (unknown.verdict, unknown.reason) == ("not_replayable", "version_unknown")
    for path in (
        *(tmp_path / "artifacts").rglob("*"),
        site.folder.versions / spec.manifest.digest / "model.onnx",
    ):
        if path.is_file():
            path.unlink()
    (found,) = site.replay("gone")
    assert (found.verdict, found.reason) == ("not_replayable", "artifact_gone")


# --- traffic ------------------------------------------------------------------------------------------------


def test_a_candidate_is_compared_on_all_that_was_answered_and_nothing_else(
    site: Site, onnx: tuple[bytes, bytes]
) -> None:
    sliced = iris_contract()
    first = msgspec.structs.replace(sliced.inputs[0], slice=True)
    site.register("v1", onnx[0])
    site.register("v2", onnx[1], contract=msgspec.structs.replace(sliced, inputs=(first, *sliced.inputs[1:])))
    site.serve(ALL | {"shadow": ("v2", "shadow", 100)})
    rows = rows_of_iris()
    site.ask_batch(rows[:100], "batch")
    for index, row in enumerate(rows[100:]):
        site.ask(row, request_id=f"r{index}", unit=f"u{index % 5}")
    site.ask(SAMPLE | {"petal_width": "x"}, request_id="refused")
    advanced: list[int] = []
    report = site.against("v2", advance=advanced.append)
    flipped = {f"{one.request_id}#{one.row}" for one in report.examples}
    assert (report.records, report.compared, report.not_replayable) == (151, 150, {"was_rejected": 1})
    assert advanced == list(range(1, 152))
    assert (
        report.changed
        == len(flipped)
        == sum(pair.rows for pair in report.confusion if pair.answered != pair.shadow)
    )
    assert 0 < report.changed < 20
    assert report.against == {"v1": 150}
    assert {segment.feature for segment in report.segments} == {"sepal_length"}
    assert sum(segment.different for segment in report.segments) == report.changed
    assert report.probability_difference is not None
    assert report.latency is not None
    assert report.peak_bytes > 0
    assert site.against("v1").changed == 0
    assert len(site.gateway.records()) == 151 + len(
        [record for record in site.gateway.records() if record.source == "shadow"]
    )


def test_pages_and_limits_and_conditions_choose_the_newest(
    site: Site, onnx: tuple[bytes, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    site.register("v1", onnx[0])
    site.serve(ALL)
    site.ask_batch(rows_of_iris(), "old")
    site.ask_batch(rows_of_iris()[:3], "new")
    monkeypatch.setattr("fairlead.evaluation.traffic._PAGE_ROWS", 7)
    assert site.against("v1").records == 153
    newest = site.against("v1", limit=3)
    assert (newest.records, newest.truncated) == (3, True)
    assert site.against("v1", where="request_id = 'new' -- those").records == 3
    assert site.against("v1", where="features.sepal_length > 100").records == 0
    assert not site.against("v1", limit=153).truncated
    for wrong in (
        "nonsense = 1",
        "true; DROP TABLE predictions",
        "request_id IN (SELECT * FROM '/etc/passwd')",
    ):
        with pytest.raises(InvalidQuery):
            site.against("v1", where=wrong)


def test_new_errors_and_violations_are_counted_by_what_they_are(
    site: Site, onnx: tuple[bytes, bytes]
) -> None:
    site.register("v1", onnx[0])
    site.register("v2", faulty_onnx(), contract=iris_contract(maximum=8.5))
    whole = iris_contract()
    last = msgspec.structs.replace(whole.inputs[3], maximum=1.0)
    site.register("v3", onnx[0], contract=msgspec.structs.replace(whole, inputs=(*whole.inputs[:3], last)))
    site.serve(ALL)
    site.ask(SAMPLE, request_id="good")
    site.ask(SAMPLE | {"sepal_length": 8.0}, request_id="not finite")
    site.ask(SAMPLE | {"sepal_length": 9.0}, request_id="too long")
    site.ask(SAMPLE | {"petal_width": 1.5}, request_id="too wide")
    report = site.against("v2")
    assert (report.failed, report.rejected, report.rejected_rows) == (
        {"runtime_failed": 1}, {"sepal_length: range": 1}, 1,
    )  # fmt: skip
    kinds = {one.request_id: one.kind for one in report.examples}
    assert kinds["not finite"] == "failed"
    assert kinds["too long"] == "rejected"
    strict = site.against("v3")
    assert strict.rejected == {"petal_width: range": 1}
    assert [one.request_id for one in strict.examples] == ["too wide"]


def test_rows_on_which_the_model_failed_may_be_mended(site: Site, onnx: tuple[bytes, bytes]) -> None:
    site.register("v1", faulty_onnx())
    site.register("v2", onnx[0])
    site.serve(ALL)
    site.ask(SAMPLE | {"sepal_length": 9.0}, request_id="raised")
    report = site.against("v2")
    assert (report.mended, report.compared) == (1, 0)
    assert report.changed_share is None
    (example,) = report.examples
    assert (example.kind, example.error_code, example.version) == ("mended", "runtime_failed", "v1")
