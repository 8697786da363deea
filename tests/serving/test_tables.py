"""The columnar walk answers and logs what the walk of single rows does."""

import asyncio
import json
import time

import msgspec
import numpy as np
import pytest

from fairlead.contracts.fingerprint import feature_hash
from fairlead.contracts.uncertainty import Uncertainty
from fairlead.errors import (
    DataContractViolation,
    DeadlineExceeded,
    FairleadError,
    MalformedRequest,
    Overloaded,
    VersionNotFound,
)
from fairlead.predictions.framing import MAGIC, read_frames
from fairlead.predictions.record import PredictionRecord, SchemaFrame
from fairlead.predictions.tables import TableRecord, records_of, row_id
from fairlead.registry.versions import ModelSettings
from fairlead.serving.asks import Ask
from fairlead.serving.table_records import TableAsk
from fairlead.serving.tables import infer_table
from fairlead.telemetry.counters import read_counters
from tests.models import FEATURES, iris_contract, lay_plan, lay_version, plan_of
from tests.serving.conftest import Gateway

ENTRY = TableRecord | SchemaFrame | PredictionRecord
ROWS = np.random.default_rng(0).uniform(0, 10, (50, 4)).astype(np.float32)


def serve(gateway: Gateway, onnx: bytes, uncertainty: Uncertainty | None = None, **options):
    spec = lay_version(gateway.folder, "v1", onnx, **options)
    spec = msgspec.structs.replace(spec, uncertainty=uncertainty)
    lay_plan(gateway.folder, plan_of({"stable": ("v1", "stable", 100)}), spec)
    gateway.follow()
    return gateway.plane.model("iris")


def ask_table(gateway: Gateway, model, tensors=None, **options):
    ask = TableAsk({"X": ROWS} if tensors is None else tensors, received=time.perf_counter(), **options)
    return asyncio.run(infer_table(gateway.plane, model, ask))


def ask_row(gateway: Gateway, model, row, **options):
    features = dict(zip(FEATURES, [float(value) for value in row], strict=True))
    body = json.dumps({"features": features}).encode()
    ask = Ask.of(model.reader.read(body), received=time.perf_counter(), **options)
    return asyncio.run(gateway.plane.infer(model, ask))


def logged(gateway: Gateway) -> list[TableRecord | SchemaFrame | PredictionRecord]:
    found = []
    for path in sorted((gateway.folder.log / "g-0").glob("*.seg")):
        frames = read_frames(path.read_bytes(), len(MAGIC))
        found += [
            msgspec.msgpack.decode(p, type=TableRecord | SchemaFrame | PredictionRecord)
            for p in frames.payloads
        ]
    return found


def tables_of(gateway: Gateway) -> tuple[list[TableRecord], dict[str, SchemaFrame]]:
    entries = logged(gateway)
    schemas = {entry.contract_id: entry for entry in entries if isinstance(entry, SchemaFrame)}
    return [entry for entry in entries if isinstance(entry, TableRecord)], schemas


def rows_of(gateway: Gateway) -> list[PredictionRecord]:
    tables, schemas = tables_of(gateway)
    return [row for table in tables for row in records_of(table, schemas.get(table.contract_id or ""))]


def test_a_table_is_logged_in_one_frame_like_its_rows_one_by_one(gateway, onnx):
    said = Uncertainty(kind="set", quantile=0.5, n=100)
    model = serve(gateway, onnx[0], said, settings=ModelSettings(cache_seconds=0))
    for row in ROWS:
        ask_row(gateway, model, row, request_id="r-1", unit="u")
    answer = ask_table(gateway, model, request_id="r-1", unit="u", use_case="tests", trace_id="t")
    assert answer.rows == 50
    tables, _ = tables_of(gateway)
    assert len(tables) == 1
    alone = [entry for entry in logged(gateway) if isinstance(entry, PredictionRecord)]
    together = rows_of(gateway)
    own = {"prediction_id", "at", "latency_ms", "row", "use_case", "trace_id"}
    for index, (one, other) in enumerate(zip(alone, together, strict=True)):
        for name in PredictionRecord.__struct_fields__:
            if name not in own:
                assert getattr(one, name) == getattr(other, name), name
        assert (other.row, other.use_case, other.trace_id) == (index, "tests", "t")
        assert other.conformal_quantile == 0.5
        assert other.feature_hash == feature_hash(other.contract_id, bytes(other.features))
    ids = [record.prediction_id for record in together]
    assert ids == sorted(set(ids))
    assert ids[0] == tables[0].prediction_id


@pytest.mark.parametrize("names", ["own input", "fields", "fields as columns of one"])
def test_the_models_own_input_and_the_contracts_fields_are_the_same_to_it(gateway, onnx, names):
    model = serve(gateway, onnx[0])
    tensors = {"X": ROWS}
    if names != "own input":
        shape = (50,) if names == "fields" else (50, 1)
        tensors = {name: ROWS[:, i].astype(np.float64).reshape(shape) for i, name in enumerate(FEATURES)}
    answer = ask_table(gateway, model, tensors)
    expected = model.arms[0].version.engine.run_now({"X": ROWS})
    assert set(answer.outputs) == {"label", "probabilities"}
    for name, array in expected.items():
        np.testing.assert_array_equal(answer.outputs[name], array)


def test_rows_of_a_table_go_to_one_arm_by_its_unit_and_a_pin_chooses_another(gateway, onnx):
    one, two = lay_version(gateway.folder, "v1", onnx[0]), lay_version(gateway.folder, "v2", onnx[1])
    arms = {"stable": ("v1", "stable", 50), "canary": ("v2", "canary", 50)}
    lay_plan(gateway.folder, plan_of(arms), one, two)
    gateway.follow()
    model = gateway.plane.model("iris")
    for unit in ("a", "b", "c", "d"):
        assert ask_table(gateway, model, unit=unit).arm is model.route(unit)
    assert ask_table(gateway, model, unit="a", pin="v2").arm.version_name == "v2"
    assert {record.served_version for record in rows_of(gateway)[-50:]} == {"v2"}
    with pytest.raises(VersionNotFound):
        ask_table(gateway, model, pin="v9")
    assert {record.error_code for record in rows_of(gateway)[-50:]} == {"version_not_found"}


def test_a_table_is_run_in_pieces_of_at_most_max_batch_rows(gateway, onnx):
    model = serve(gateway, onnx[0], settings=ModelSettings(max_batch_rows=7))
    answer = ask_table(gateway, model)
    expected = model.arms[0].version.engine.run_now({"X": ROWS})
    np.testing.assert_array_equal(answer.outputs["probabilities"], expected["probabilities"])
    cells = read_counters(gateway.folder.counters)[0].cells
    assert (cells["runs"], cells["run_rows"], cells["ok"]) == (8, 50, 50)
    assert (cells["cache_hits"], cells["cache_misses"]) == (0, 0)


def test_one_bad_row_refuses_the_table_and_every_row_is_logged_as_rejected(gateway, onnx):
    model = serve(gateway, onnx[0])
    rows = ROWS.copy()
    rows[17, 2] = 11
    with pytest.raises(DataContractViolation) as caught:
        ask_table(gateway, model, {"X": rows})
    assert "Row 17: field 'petal_length' breaks rule 'range'" in str(caught.value)
    records = rows_of(gateway)
    assert len(records) == 50
    assert {(record.status, record.error_code) for record in records} == {
        ("rejected", "data_contract_violation")
    }
    assert {record.served_version for record in records} == {None}
    assert {record.assigned_version for record in records} == {"v1"}
    assert [record.row for record in records if record.violations] == [17]
    assert json.loads(records[17].violations)[0]["value"] == 11.0
    assert json.loads(records[17].refused)["petal_length"] == 11.0
    assert read_counters(gateway.folder.counters)[0].cells["rejected"] == 50


def test_flags_and_what_was_imputed_are_in_the_log_as_for_single_rows(gateway, onnx):
    contract = iris_contract(on_range="impute", default=5.5, on_missing="impute")
    model = serve(gateway, onnx[0], contract=contract)
    rows = ROWS[:3].copy()
    rows[0, 1], rows[2, 3] = 77, np.nan
    answer = ask_table(gateway, model, {"X": rows})
    assert answer.flagged == 2
    records = rows_of(gateway)
    assert json.loads(records[0].flags) == [{"field": "sepal_width", "rule": "range", "value": 77.0}]
    assert records[1].flags is None
    assert json.loads(records[2].flags) == [{"field": "petal_width", "rule": "missing", "value": None}]
    assert msgspec.msgpack.decode(records[0].features)[1] == 5.5
    envelope, _ = ask_row(gateway, model, [rows[0, 0], 77, rows[0, 2], rows[0, 3]])
    assert envelope.feature_hash == records[0].feature_hash


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({"Y": ROWS}, "no input 'Y'"),
        ({"X": ROWS, "Y": ROWS}, "no input 'Y'"),
        ({"X": ROWS.astype(np.float64)}, "float64, and the model takes float32"),
        ({"X": ROWS[:, :3]}, "shape [50, 3]"),
        ({"X": ROWS.reshape(-1)}, "shape [200]"),
        ({"X": ROWS[:0]}, "no rows"),
        ({"X": np.float32(1).reshape(())}, "shape []"),
        ({}, "no input"),
        ({name: ROWS[: i + 1, i] for i, name in enumerate(FEATURES)}, "shape [2]"),
        (dict.fromkeys(FEATURES, ROWS), "shape [50, 4]"),
    ],
)
def test_tensors_that_are_none_of_the_models_are_refused_in_words(gateway, onnx, tensors, words):
    model = serve(gateway, onnx[0])
    with pytest.raises(MalformedRequest) as caught:
        ask_table(gateway, model, tensors)
    assert words in str(caught.value)
    assert rows_of(gateway) == []


def test_a_table_whose_time_is_up_is_not_run(gateway, onnx):
    model = serve(gateway, onnx[0])
    with pytest.raises(DeadlineExceeded):
        ask_table(gateway, model, deadline=time.monotonic() - 1)
    assert read_counters(gateway.folder.counters)[0].cells["runs"] == 0
    assert {record.status for record in rows_of(gateway)} == {"failed"}


def test_a_model_that_fails_fails_the_table_and_its_features_are_kept(gateway, onnx):
    model = serve(gateway, onnx[0], contract=iris_contract())
    engine = model.arms[0].version.engine
    asyncio.run(engine.stop())
    with pytest.raises(Exception) as caught:
        ask_table(gateway, model)
    assert caught.value.code == "not_ready"
    records = rows_of(gateway)
    assert {record.status for record in records} == {"failed"}
    assert msgspec.msgpack.decode(records[3].features) == [float(value) for value in ROWS[3]]


def test_a_version_that_only_fails_is_left_alone_for_tables_too(gateway, onnx):
    model = serve(gateway, onnx[0])
    asyncio.run(model.arms[0].version.engine.stop())
    codes = []
    for _ in range(8):
        with pytest.raises(FairleadError) as caught:
            ask_table(gateway, model)
        codes.append(caught.value.code)
    assert (codes[0], codes[-1]) == ("not_ready", "circuit_open")
    assert read_counters(gateway.folder.counters)[0].cells["faults"] == 50 * codes.count("not_ready")


@pytest.mark.parametrize("on_full", ["shed", "serve"])
def test_a_log_that_takes_nothing_sheds_the_table_or_serves_it_unlogged(folder, onnx, on_full, monkeypatch):
    made = Gateway(folder, on_full)
    model = serve(made, onnx[0])

    def refuse(*frames: bytes) -> None:
        raise Overloaded("The disk is full.")

    monkeypatch.setattr(made.writer, "append", refuse)
    if on_full == "shed":
        with pytest.raises(Overloaded):
            ask_table(made, model)
        assert read_counters(folder.counters)[0].cells["shed"] == 50
    else:
        assert ask_table(made, model).rows == 50
        assert read_counters(folder.counters)[0].cells["unlogged"] == 50


def test_rows_of_a_table_whose_caller_goes_away_are_counted_and_logged(gateway, onnx):
    model = serve(gateway, onnx[0], settings=ModelSettings(max_batch_rows=10))
    ask = TableAsk({"X": ROWS}, received=time.perf_counter())

    async def leave() -> None:
        walk = asyncio.create_task(infer_table(gateway.plane, model, ask))
        await asyncio.sleep(0)  # the first piece runs, and the table lets others have their turn
        walk.cancel()
        with pytest.raises(asyncio.CancelledError):
            await walk

    asyncio.run(leave())
    (table,), _ = tables_of(gateway)
    assert (table.rows, table.error_code, table.status) == (50, "cancelled", "rejected")
    cells = read_counters(gateway.folder.counters)[0].cells
    assert (cells["cancelled"], cells["ok"], cells["rejected"]) == (50, 0, 0)


def test_a_very_long_table_takes_several_frames_and_its_rows_count_on(gateway, onnx):
    model = serve(gateway, onnx[0])
    rows = np.tile(ROWS, (1400, 1))
    ask_table(gateway, model, {"X": rows})
    tables, schemas = tables_of(gateway)
    assert [(table.first, table.rows) for table in tables] == [(0, 65_536), (65_536, 70_000 - 65_536)]
    last = records_of(tables[1], schemas[tables[1].contract_id])[-1]
    assert last.row == 69_999
    assert last.prediction_id == row_id(tables[0].prediction_id, 69_999)
    assert msgspec.msgpack.decode(last.features) == [float(value) for value in rows[-1]]
