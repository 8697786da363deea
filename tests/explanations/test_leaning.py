"""What versions go by, from their files and a real log."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pandas as pd
import pytest

from fairlead.client.importances import importance_of_onnx
from fairlead.contracts.contract import Contract, Output
from fairlead.contracts.profile import profile
from fairlead.contracts.table import read_table
from fairlead.errors import MalformedRequest, NotExplainable
from fairlead.explanations.importance import Importance
from fairlead.explanations.leaning import ImportanceReport, Leaning
from fairlead.monitoring.importance import ImportanceLooker, importance_findings
from tests.evaluation.site import ALL, Site, rows_of_iris
from tests.models import IRIS_RUNTIME, iris_contract, iris_onnx


@pytest.fixture(scope="module")
def onnx() -> bytes:
    return iris_onnx(0)


@pytest.fixture(scope="module")
def held(onnx: bytes, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a version as registering leaves them."""
    folder = tmp_path_factory.mktemp("version")
    (folder / "model.onnx").write_bytes(onnx)
    frame = pd.DataFrame(rows_of_iris())
    reference = profile(read_table(frame), iris_contract())
    found = importance_of_onnx(folder, IRIS_RUNTIME, iris_contract(), reference, frame)
    assert found is not None
    return {
        "model.onnx": onnx,
        "reference.json": msgspec.json.encode(reference),
        "importance.json": msgspec.json.encode(found),
    }


def leaning(site: Site) -> Leaning:
    return Leaning(site.registry, site, site.folder, trust_pickle=False)  # type: ignore[arg-type]


def report(site: Site, **options: Any) -> ImportanceReport:
    now = datetime.now(UTC) + timedelta(seconds=1)
    return leaning(site).report("iris", now - timedelta(hours=1), now, version="v1", **options)


def ask_all(site: Site, **changes: float) -> None:
    site.ask_batch([row | changes for row in rows_of_iris()], f"batch-{len(changes)}")


def test_traffic_like_the_training_data_leans_on_the_same_features(
    site: Site, held: dict[str, bytes]
) -> None:
    site.register("v1", held)
    site.serve(ALL)
    ask_all(site)
    told = report(site)
    assert told.status == "ok"
    assert told.reference is not None
    assert told.live is not None
    assert told.live.rows == told.reference.rows == 100
    assert told.ndcg is not None
    assert told.ndcg > 0.95
    assert [one.status for one in importance_findings(told)] == ["ok"] * 5


def test_traffic_that_moves_the_answers_otherwise_is_an_alarm_that_names_the_features(
    site: Site, held: dict[str, bytes]
) -> None:
    site.register("v1", held)
    site.serve(ALL)
    ask_all(site, petal_width=0.8, petal_length=2.5)
    told = report(site)
    assert told.status == "alarm"
    assert "It leans on other features: " in told.sentence
    alarms = [one for one in importance_findings(told) if one.status == "alarm"]
    assert alarms
    assert {one.kind for one in alarms} == {"importance"}
    for one in alarms:
        if one.measure == "share":
            assert one.value is not None
            assert one.expected is not None
            assert abs(one.value - one.expected) >= 0.1


def test_little_traffic_says_nothing_and_shows_the_training_data(site: Site, held: dict[str, bytes]) -> None:
    site.register("v1", held)
    site.serve(ALL)
    site.ask_batch(rows_of_iris()[:10], "few")
    told = report(site)
    assert told.status == "insufficient"
    assert told.reference is not None
    assert told.live is None
    assert "10 rows" in told.sentence
    assert [one.status for one in importance_findings(told)] == ["insufficient"]


def test_a_version_without_importance_of_its_own_shows_that_of_traffic(
    site: Site, held: dict[str, bytes]
) -> None:
    site.register("v1", {name: data for name, data in held.items() if name != "importance.json"})
    site.serve(ALL)
    ask_all(site)
    told = report(site)
    assert told.status == "insufficient"
    assert told.live is not None
    assert told.changes == ()
    assert "petal" in told.sentence


def test_what_cannot_be_told_is_refused_and_passed_over_in_the_loop(site: Site, onnx: bytes) -> None:
    site.register("v1", onnx)
    with pytest.raises(NotExplainable, match="no profile"):
        report(site)
    now = datetime.now(UTC)
    with pytest.raises(MalformedRequest, match="no version in production"):
        leaning(site).report("iris", now - timedelta(hours=1), now)
    assert ImportanceLooker(leaning(site), site.registry).look(now) == []


def test_sensitive_rows_are_not_in_the_log_so_nothing_is_said(site: Site, held: dict[str, bytes]) -> None:
    contract = iris_contract(sensitivity="sensitive")
    site.register("v1", held, contract=contract)
    site.serve(ALL)
    ask_all(site)
    assert report(site).status == "insufficient"


def test_a_matrix_and_a_table_with_more_columns_give_the_importance_of_the_same_rows(
    onnx: bytes, held: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("version")
    (folder / "model.onnx").write_bytes(onnx)
    frame = pd.DataFrame(rows_of_iris())
    reference = profile(read_table(frame), iris_contract())
    wider = frame.assign(target=1)[["target", *frame.columns]]
    expected = msgspec.json.decode(held["importance.json"], type=Importance)
    for rows, target in ((frame.to_numpy(), None), (wider, "target")):
        assert importance_of_onnx(folder, IRIS_RUNTIME, iris_contract(), reference, rows, target) == expected
    ranked = Contract(inputs=iris_contract().inputs, output=Output(kind="vector", length=3))
    assert importance_of_onnx(folder, IRIS_RUNTIME, ranked, reference, frame) is None
    assert importance_of_onnx(folder, IRIS_RUNTIME, iris_contract(), reference, frame[:20]) is None
