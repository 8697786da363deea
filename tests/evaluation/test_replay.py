"""Requests of a real gateway asked again: what comes out the same, what differs, and what cannot be asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fairlead.contracts.contract import Output
from fairlead.errors import DeadlineExceeded, InvalidQuery, RecordNotFound, RuntimeFailed
from fairlead.registry.registry import NewVersion
from fairlead.registry.versions import ModelSettings
from tests.evaluation.made import pickled
from tests.evaluation.site import ALL, Site, rows_of_iris
from tests.models import SAMPLE, faulty_onnx, iris_contract, iris_onnx


@pytest.fixture(scope="module")
def onnx() -> tuple[bytes, bytes]:
    return iris_onnx(0), iris_onnx(1)


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


CRASHING = """
import os, time
import numpy as np

def model(columns):
    width = columns["petal_width"][0]
    if width == 7.0: os._exit(9)
    if width == 8.0: time.sleep(60)
    chosen = np.array([0])
    return {"label": chosen, "probabilities": np.eye(3)[chosen]}
"""


def test_rows_that_end_the_process_of_a_version_are_errors_and_the_others_are_compared(
    site: Site, onnx: tuple[bytes, bytes]
) -> None:
    site.register("v1", onnx[0])
    site.serve(ALL)
    for name, width in (("a", 7.0), ("b", 0.2), ("c", 8.0), ("d", 7.0), ("e", 0.2)):
        site.ask(SAMPLE | {"petal_width": width}, request_id=name)
    site.ask_batch([SAMPLE] * 70, "batch")
    settings = ModelSettings(timeout_ms=500)
    spec = pickled(site.blobs, CRASHING, iris_contract(), version="v2", settings=settings)
    site.registry.register(NewVersion(spec=spec, framework="sklearn", created_by="ann"))
    report = site.against("v2", trust_pickle=True)
    assert (report.records, report.replayed) == (75, 75)
    assert report.failed == {"runtime_failed": 2, "deadline_exceeded": 1}
    assert report.compared == 72
    errors = {one.request_id: one.error or "" for one in report.examples if one.kind == "failed"}
    assert {*errors} == {"a", "c", "d"}
    assert "ended with status 9" in errors["a"]
    assert "longer than" in errors["c"]
    assert report.peak_bytes > 0
    assert report.runtime.startswith("python")


def test_a_log_that_takes_too_long_is_no_error_of_the_version(
    site: Site, onnx: tuple[bytes, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fairlead.evaluation.traffic._PAGE_ROWS", 2)
    site.register("v1", onnx[0])
    site.serve(ALL)
    site.ask_batch([SAMPLE] * 3, "batch")
    answer = site.call

    def late(op: str, **arguments: Any) -> Any:
        if arguments["before"] is not None:
            raise DeadlineExceeded("The query took longer than 60 s.")
        return answer(op, **arguments)

    monkeypatch.setattr(site, "call", late)
    with pytest.raises(DeadlineExceeded, match="The query"):
        site.against("v1")


def test_a_version_that_keeps_ending_its_process_ends_the_replay(
    site: Site, onnx: tuple[bytes, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fairlead.evaluation.traffic._MOST_ENDED", 2)
    site.register("v1", onnx[0])
    site.serve(ALL)
    site.ask_batch([SAMPLE | {"petal_width": 7.0}] * 3, "batch")
    spec = pickled(site.blobs, CRASHING, iris_contract(), version="v2")
    site.registry.register(NewVersion(spec=spec, framework="sklearn", created_by="ann"))
    with pytest.raises(RuntimeFailed, match="ended with status 9"):
        site.against("v2", trust_pickle=True)
    assert site.against("v2", trust_pickle=True, limit=2).failed == {"runtime_failed": 2}
