import asyncio
import json
import time
import uuid

import msgspec
import numpy as np
import pytest

from fairlead.contracts.contract import Contract, Output
from fairlead.contracts.fingerprint import decode_row, feature_hash
from fairlead.errors import (
    DataContractViolation,
    MalformedRequest,
    ModelNotFound,
    Overloaded,
    RuntimeFailed,
    VersionNotFound,
)
from fairlead.registry.versions import ModelSettings
from fairlead.serving.asks import Ask, BatchAsk, id_text, new_prediction_id
from fairlead.telemetry.counters import read_counters
from tests.models import FEATURES, SAMPLE, iris_contract, lay_plan, lay_version, plan_of
from tests.serving.conftest import Gateway, Sink


def serve_one(gateway: Gateway, onnx: bytes, **options):
    spec = lay_version(gateway.folder, "v1", onnx, **options)
    lay_plan(gateway.folder, plan_of({"stable": ("v1", "stable", 100)}), spec)
    gateway.follow()
    return gateway.plane.model("iris")


def ask_for(model, features=SAMPLE, *, pin=None, **members) -> Ask:
    body = json.dumps({"features": features, **members}).encode()
    return Ask.of(model.reader.read(body), received=time.perf_counter(), pin=pin)


def predict(gateway: Gateway, model, *arguments, **members):
    return asyncio.run(gateway.plane.infer(model, ask_for(model, *arguments, **members)))


def predict_batch(gateway: Gateway, model, instances, **members):
    body = json.dumps({"instances": instances, **members}).encode()
    ask = BatchAsk(model.reader.read_batch(body), received=time.perf_counter())
    return asyncio.run(gateway.plane.infer_batch(model, ask))


def test_a_prediction_has_its_envelope_and_its_record(gateway, onnx):
    model = serve_one(gateway, onnx[0])
    envelope, arm = predict(gateway, model, unit="user-42", request_id="r-1", return_probabilities=True)
    assert envelope.prediction == 0
    assert set(envelope.probabilities) == {"0", "1", "2"}
    assert sum(envelope.probabilities.values()) == pytest.approx(1.0, abs=1e-5)
    assert (envelope.model, envelope.model_version, envelope.stage) == ("iris", "v1", "production")
    assert (envelope.request_id, envelope.training_data) == ("r-1", "iris-1936")
    assert envelope.variant is None
    assert arm.name == "stable"
    (record,) = gateway.records()
    assert record.request_id == "r-1"
    assert (record.unit, record.unit_kind, record.status) == ("user-42", "given", "ok")
    assert json.loads(record.prediction) == 0
    assert record.served_version == record.assigned_version == "v1"
    assert decode_row(record.features) == [SAMPLE[name] for name in FEATURES]
    assert record.feature_hash == envelope.feature_hash == feature_hash(envelope.contract_id, record.features)


def test_the_same_inputs_are_answered_from_the_cache_whoever_asks(gateway, onnx):
    model = serve_one(gateway, onnx[0])
    first, _ = predict(gateway, model, unit="a")
    second, _ = predict(gateway, model, unit="b", request_id="other")
    assert (first.cached, second.cached) == (False, True)
    assert second.prediction == first.prediction
    assert second.request_id == "other"
    cells = read_counters(gateway.folder.counters)[0].cells
    assert (cells["cache_hits"], cells["cache_misses"], cells["runs"]) == (1, 1, 1)
    assert [record.cached for record in gateway.records()] == [False, True]


def test_probabilities_come_from_the_cache_too_and_only_when_asked_for(gateway, onnx):
    model = serve_one(gateway, onnx[0])
    assert predict(gateway, model)[0].probabilities is None
    envelope, _ = predict(gateway, model, return_probabilities=True)
    assert envelope.cached
    assert envelope.probabilities is not None


def test_a_version_may_switch_its_cache_off(gateway, onnx):
    model = serve_one(gateway, onnx[0], settings=ModelSettings(cache_seconds=0))
    assert [predict(gateway, model)[0].cached for _ in range(2)] == [False, False]


def test_a_violation_is_refused_logged_and_counted(gateway, onnx):
    model = serve_one(gateway, onnx[0])
    with pytest.raises(DataContractViolation):
        predict(gateway, model, {**SAMPLE, "petal_width": -1})
    (record,) = gateway.records()
    assert (record.status, record.error_code) == ("rejected", "data_contract_violation")
    assert json.loads(record.violations)[0]["field"] == "petal_width"
    assert json.loads(record.refused) == {**SAMPLE, "petal_width": -1}
    assert record.served_version is None
    assert msgspec.msgpack.decode(record.features) is None
    assert read_counters(gateway.folder.counters)[0].cells["rejected"] == 1


def test_a_flag_travels_in_the_answer_and_in_the_log(gateway, onnx):
    model = serve_one(gateway, onnx[0], contract=iris_contract(on_range="flag"))
    envelope, _ = predict(gateway, model, {**SAMPLE, "petal_width": 99})
    assert [(flag.field, flag.rule, flag.value) for flag in envelope.flags] == [("petal_width", "range", 99)]
    assert json.loads(gateway.records()[0].flags)[0]["field"] == "petal_width"


def test_the_unit_is_the_given_one_else_the_entity_else_the_request(gateway, onnx):
    model = serve_one(gateway, onnx[0])
    predict(gateway, model, unit="u", entity="e", request_id="r")
    predict(gateway, model, entity="e", request_id="r")
    predict(gateway, model, request_id="r")
    predict(gateway, model, unit=17)
    kinds = [(record.unit, record.unit_kind) for record in gateway.records()]
    assert kinds == [("u", "given"), ("e", "entity"), ("r", "request"), ("17", "given")]


def test_each_unit_gets_its_arm_and_the_answer_says_which(gateway, onnx):
    one = lay_version(gateway.folder, "v1", onnx[0])
    two = lay_version(gateway.folder, "v2", onnx[1])
    arms = {"stable": ("v1", "stable", 50), "control": ("v1", "control", 25), "canary": ("v2", "canary", 25)}
    lay_plan(gateway.folder, plan_of(arms), one, two)
    gateway.follow()
    model = gateway.plane.model("iris")
    seen = {}
    for index in range(200):
        envelope, arm = predict(gateway, model, unit=f"u{index}")
        seen.setdefault(arm.name, set()).add((envelope.variant, envelope.model_version, envelope.stage))
        assert predict(gateway, model, unit=f"u{index}")[1] is arm
    assert seen == {
        "stable": {("stable", "v1", "production")},
        "control": {("control", "v1", "production")},
        "canary": {("canary", "v2", "canary")},
    }


def test_versions_never_share_a_cached_answer(gateway, onnx):
    one = lay_version(gateway.folder, "v1", onnx[0])
    two = lay_version(gateway.folder, "v2", onnx[1])
    lay_plan(gateway.folder, plan_of({"stable": ("v1", "stable", 50), "b": ("v2", "variant", 50)}), one, two)
    gateway.follow()
    model = gateway.plane.model("iris")
    borderline = {"sepal_length": 6.0, "sepal_width": 2.7, "petal_length": 5.0, "petal_width": 1.7}
    answers = {
        pin: predict(gateway, model, borderline, pin=pin, return_probabilities=True)[0].probabilities
        for pin in ("v1", "v2", "v1", "v2")
    }
    assert answers["v1"] != answers["v2"]


def test_a_pin_chooses_the_version_and_an_unknown_one_is_refused(gateway, onnx):
    model = serve_one(gateway, onnx[0])
    assert predict(gateway, model, pin="v1")[0].model_version == "v1"
    with pytest.raises(VersionNotFound):
        predict(gateway, model, pin="v9")
    assert gateway.records()[-1].error_code == "version_not_found"


def test_a_pinned_answer_is_of_no_arm_of_the_plan(gateway, onnx):
    one = lay_version(gateway.folder, "v1", onnx[0])
    two = lay_version(gateway.folder, "v2", onnx[1])
    lay_plan(gateway.folder, plan_of({"stable": ("v1", "stable", 100), "b": ("v2", "variant", 0)}), one, two)
    gateway.follow()
    model = gateway.plane.model("iris")
    envelope, _ = predict(gateway, model, pin="v2")
    (record,) = gateway.records()
    assert envelope.model_version == record.served_version == "v2"
    assert (record.arm, record.role, record.assigned_version) == ("pin", "pin", "v2")
    counted = {arm.key.role: arm.answered for arm in read_counters(gateway.folder.counters)}
    assert counted == {"stable": 0, "variant": 0, "pin": 1}


def test_an_unknown_model_is_named(gateway):
    with pytest.raises(ModelNotFound, match="nope"):
        gateway.plane.model("nope")


def test_versions_with_different_contracts_share_one_model(gateway, onnx):
    base = iris_contract()
    renamed = tuple(
        msgspec.structs.replace(field, name="petal_breadth") if field.name == "petal_width" else field
        for field in base.inputs
    )
    one = lay_version(gateway.folder, "v1", onnx[0])
    two = lay_version(gateway.folder, "v2", onnx[1], contract=Contract(inputs=renamed, output=base.output))
    lay_plan(gateway.folder, plan_of({"stable": ("v1", "stable", 50), "b": ("v2", "variant", 50)}), one, two)
    gateway.follow()
    model = gateway.plane.model("iris")
    features = {**SAMPLE, "petal_breadth": 0.3}
    found = {pin: predict(gateway, model, features, pin=pin)[0] for pin in ("v1", "v2")}
    assert found["v1"].contract_id != found["v2"].contract_id
    rows = {record.served_version: decode_row(record.features) for record in gateway.records()}
    assert rows["v1"][3] == 0.2
    assert rows["v2"][3] == 0.3
    with pytest.raises(DataContractViolation):
        predict(gateway, model, {**features, "petal_bredth": 1}, pin="v1")


def test_a_batch_is_answered_in_order_and_a_bad_row_fails_alone(gateway, onnx):
    model = serve_one(gateway, onnx[0])
    rows = [
        {"features": SAMPLE},
        {"features": {**SAMPLE, "petal_width": "wide"}},
        {"features": {**SAMPLE, "petal_length": 6.0, "petal_width": 2.2}, "unit": "u"},
    ]
    answer = predict_batch(gateway, model, rows, request_id="b-1")
    assert [row.prediction for row in answer.predictions] == [0, None, 2]
    assert answer.predictions[1].error["violations"][0]["field"] == "petal_width"
    assert (answer.batch_size, answer.failed) == (3, 1)
    records = gateway.records()
    assert [(record.request_id, record.row, record.status) for record in records] == [
        ("b-1", 0, "ok"),
        ("b-1", 1, "rejected"),
        ("b-1", 2, "ok"),
    ]
    assert len({record.prediction_id for record in records}) == 3


def test_a_batch_answers_as_its_rows_would_alone(gateway, onnx):
    model = serve_one(gateway, onnx[0], settings=ModelSettings(cache_seconds=0))
    random = np.random.default_rng(0)
    rows = [dict(zip(FEATURES, random.uniform(0.1, 7, 4).round(3).tolist(), strict=True)) for _ in range(40)]
    batch = predict_batch(gateway, model, [{"features": row} for row in rows], return_probabilities=True)
    for row, answer in zip(rows, batch.predictions, strict=True):
        alone, _ = predict(gateway, model, row, return_probabilities=True)
        assert alone.prediction == answer.prediction
        assert alone.probabilities == pytest.approx(answer.probabilities, abs=1e-6)


def test_a_batch_that_is_all_wrong_empty_or_too_long_is_refused(gateway, onnx):
    model = serve_one(gateway, onnx[0], settings=ModelSettings(max_batch_rows=3))
    with pytest.raises(DataContractViolation) as caught:
        predict_batch(gateway, model, [{"features": {}}, {"features": SAMPLE | {"petal_width": None}}])
    assert {violation["row"] for violation in caught.value.violations} == {0, 1}
    with pytest.raises(MalformedRequest):
        predict_batch(gateway, model, [])
    with pytest.raises(MalformedRequest, match="3 are allowed"):
        predict_batch(gateway, model, [{"features": SAMPLE}] * 4)


def test_a_batch_without_units_is_routed_whole(gateway, onnx):
    one = lay_version(gateway.folder, "v1", onnx[0])
    two = lay_version(gateway.folder, "v2", onnx[1])
    lay_plan(gateway.folder, plan_of({"stable": ("v1", "stable", 50), "b": ("v2", "variant", 50)}), one, two)
    gateway.follow()
    model = gateway.plane.model("iris")
    for index in range(10):
        answer = predict_batch(gateway, model, [{"features": SAMPLE}] * 5, request_id=f"b{index}")
        assert len({row.model_version for row in answer.predictions}) == 1
    mixed = predict_batch(gateway, model, [{"features": SAMPLE, "unit": f"u{n}"} for n in range(50)])
    assert {row.model_version for row in mixed.predictions} == {"v1", "v2"}


def test_a_model_that_answers_what_its_contract_forbids_fails_and_is_not_cached(gateway, onnx):
    contract = iris_contract()
    model = serve_one(gateway, onnx[0], contract=contract)
    arm = model.arms[0]
    arm.version.binding.decode = lambda outputs, count: (_ for _ in ()).throw(RuntimeFailed("not finite"))
    for _ in range(2):
        with pytest.raises(RuntimeFailed):
            predict(gateway, model)
    assert [record.status for record in gateway.records()] == ["failed", "failed"]
    assert len(gateway.plane.caches.local) == 0


def test_a_full_disk_sheds_and_nothing_is_answered_without_a_record(gateway, onnx):
    model = serve_one(gateway, onnx[0])

    def full(*frames):
        raise Overloaded("The disk is full.")

    gateway.writer.append = full
    with pytest.raises(Overloaded):
        predict(gateway, model)
    assert read_counters(gateway.folder.counters)[0].cells["shed"] == 1


def test_a_full_disk_may_be_served_through_and_is_counted(folder, onnx):
    gateway = Gateway(folder, on_full="serve")
    model = serve_one(gateway, onnx[0])

    def full(*frames):
        raise Overloaded("The disk is full.")

    gateway.writer.append = full
    assert predict(gateway, model)[0].prediction == 0
    assert read_counters(folder.counters)[0].cells["unlogged"] == 1


def test_an_inline_prediction_never_waits(gateway, onnx):
    model = serve_one(gateway, onnx[0])
    sink = Sink()

    async def turn():
        gateway.plane.turns.start(gateway.plane.infer(model, ask_for(model)), sink)
        await asyncio.sleep(0)

    asyncio.run(turn())
    assert sink.task is None
    assert sink.answer[0].prediction == 0


def test_rows_of_one_turn_run_as_one_batch_and_their_records_are_one_write(gateway, onnx):
    model = serve_one(gateway, onnx[0])
    sinks = [Sink() for _ in range(5)]
    writes = []
    append = gateway.writer.append
    gateway.writer.append = lambda *frames: (writes.append(len(frames)), append(*frames))

    async def turn():
        for index, sink in enumerate(sinks):
            ask = ask_for(model, {**SAMPLE, "petal_length": 1.0 + index / 10})
            gateway.plane.turns.start(gateway.plane.infer(model, ask), sink)
        await asyncio.sleep(0)

    asyncio.run(turn())
    (counted,) = read_counters(gateway.folder.counters)
    assert (counted.cells["runs"], counted.cells["run_rows"]) == (1, 5)
    assert writes == [5]
    assert [record.request_id for record in gateway.records()] == [
        sink.answer[0].request_id for sink in sinks
    ]


def test_prediction_ids_are_version_7_uuids_in_the_order_of_time():
    first = new_prediction_id()
    time.sleep(0.002)
    second = new_prediction_id()
    assert first < second
    parsed = uuid.UUID(id_text(first))
    assert parsed.version == 7
    assert parsed.variant == uuid.RFC_4122
    assert parsed.bytes == first
    assert len({new_prediction_id() for _ in range(10_000)}) == 10_000


def test_an_output_kind_that_the_model_cannot_give_keeps_the_version_out(gateway, onnx):
    contract = Contract(inputs=iris_contract().inputs, output=Output(kind="ranking"))
    spec = lay_version(gateway.folder, "v1", onnx[0], contract=contract)
    lay_plan(gateway.folder, plan_of({"stable": ("v1", "stable", 100)}), spec)
    gateway.follow()
    assert gateway.report().failed_generation == 1
    assert "ids" in gateway.report().error
    assert gateway.plane.models == {}
