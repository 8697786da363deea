"""What a caller gets when a version cannot answer: an old answer, another version's, a default, the error."""

import asyncio
import json
import time

import msgspec
import pytest

from fairlead.contracts.contract import Output
from fairlead.errors import (
    CircuitOpen,
    DataContractViolation,
    DeadlineExceeded,
    InvalidContract,
    Overloaded,
    RuntimeFailed,
)
from fairlead.registry.versions import ModelSettings
from fairlead.serving.asks import Ask, BatchAsk
from fairlead.telemetry.counters import read_counters
from tests.models import SAMPLE, faulty_onnx, iris_contract, lay_plan, lay_version, plan_of
from tests.serving.conftest import Gateway, Sink

GOOD = SAMPLE
RAISES = {**SAMPLE, "sepal_length": 9.0}
NOT_A_NUMBER = {**SAMPLE, "sepal_length": 8.0}


def serve(gateway: Gateway, onnx: bytes, *, default=None, keep=False, **settings):
    """`v1` is sound; `v2` is faulty and has all traffic. v1 has none, or waits for a rollback."""
    output = Output(kind="class", classes=(0, 1, 2), default=default)
    contract = msgspec.structs.replace(iris_contract(), output=output)
    sound = lay_version(gateway.folder, "v1", onnx)
    faulty = lay_version(
        gateway.folder, "v2", faulty_onnx(), contract=contract, settings=ModelSettings(**settings)
    )
    if keep:
        plan = plan_of({"stable": ("v2", "stable", 100)})
        lay_plan(gateway.folder, plan, sound, faulty, keep=("v1",))
    else:
        plan = plan_of({"stable": ("v1", "stable", 0), "canary": ("v2", "canary", 100)})
        lay_plan(gateway.folder, plan, sound, faulty)
    gateway.follow()
    return gateway.plane.model("iris")


def ask_for(model, features, **members) -> Ask:
    deadline = members.pop("deadline", None)
    pin = members.pop("pin", None)
    body = json.dumps({"features": features, **members}).encode()
    return Ask.of(model.reader.read(body), received=time.perf_counter(), deadline=deadline, pin=pin)


def predict(gateway: Gateway, model, features, **members):
    return asyncio.run(gateway.plane.infer(model, ask_for(model, features, **members)))[0]


def cells(gateway: Gateway, version: str) -> dict[str, int]:
    return next(row.cells for row in read_counters(gateway.folder.counters) if row.key.version == version)


@pytest.mark.parametrize("features", [RAISES, NOT_A_NUMBER])
def test_without_a_rung_the_caller_gets_the_error_and_the_version_the_fault(gateway, onnx, features):
    model = serve(gateway, onnx[0])
    with pytest.raises(RuntimeFailed):
        predict(gateway, model, features)
    counted = cells(gateway, "v2")
    assert (counted["failed"], counted["faults"], counted["ok"]) == (1, 1, 0)
    (record,) = gateway.records()
    assert (record.status, record.error_code, record.degraded) == ("failed", "runtime_failed", None)


def test_a_failing_version_is_stood_in_for_by_the_one_in_production(gateway, onnx):
    model = serve(gateway, onnx[0], fallback_version="stable")
    answer = predict(gateway, model, RAISES)
    assert (answer.degraded, answer.model_version, answer.stage) == ("fallback_version", "v1", "production")
    (record,) = gateway.records()
    assert (record.assigned_version, record.served_version) == ("v2", "v1")
    assert (record.status, record.degraded, record.error_code) == ("ok", "fallback_version", "runtime_failed")
    assert cells(gateway, "v1")["ok"] == 1
    counted = cells(gateway, "v2")
    assert (counted["faults"], counted["fallback_version"], counted["failed"]) == (1, 1, 0)


def test_a_version_that_waits_for_a_rollback_may_be_the_fallback(gateway, onnx):
    model = serve(gateway, onnx[0], keep=True, fallback_version="v1")
    answer = predict(gateway, model, RAISES)
    assert (answer.degraded, answer.model_version, answer.stage) == ("fallback_version", "v1", "none")


def test_a_fallback_that_is_not_loaded_or_is_the_version_itself_is_none(gateway, onnx):
    model = serve(gateway, onnx[0], fallback_version="v9")
    with pytest.raises(RuntimeFailed):
        predict(gateway, model, RAISES)
    own = serve(Gateway(gateway.folder), onnx[0], keep=True, fallback_version="stable")
    assert own.fallback_of(own.arms[0]) is None


def test_a_pinned_request_is_never_answered_by_another_version(gateway, onnx):
    model = serve(gateway, onnx[0], fallback_version="stable")
    with pytest.raises(RuntimeFailed):
        predict(gateway, model, RAISES, pin="v2")


def test_what_the_caller_did_wrong_is_stood_in_for_by_nobody(gateway, onnx):
    model = serve(gateway, onnx[0], fallback_version="stable", default=2)
    with pytest.raises(DataContractViolation):
        predict(gateway, model, {**SAMPLE, "sepal_length": 11})
    assert cells(gateway, "v2")["faults"] == 0


def test_an_old_answer_comes_before_a_fallback(gateway, onnx):
    model = serve(gateway, onnx[0], cache_seconds=0.001, stale_seconds=60.0, fallback_version="stable")
    fresh = predict(gateway, model, GOOD)
    time.sleep(0.002)
    arm = model.arms[1]
    for _ in range(5):  # the version is left alone after five failures in a row
        arm.version.breaker.failed(time.monotonic())
    answer = predict(gateway, model, GOOD)
    assert (answer.degraded, answer.prediction) == ("stale_cache", fresh.prediction)
    assert cells(gateway, "v2")["stale_cache"] == 1
    assert gateway.records()[-1].error_code == "circuit_open"


def test_the_contracts_default_comes_last(gateway, onnx):
    model = serve(gateway, onnx[0], default=2)
    answer = predict(gateway, model, RAISES)
    assert (answer.prediction, answer.degraded, answer.probabilities) == (2, "contract_default", None)
    (record,) = gateway.records()
    assert (record.prediction, record.served_version, record.status) == ("2", None, "ok")


def test_a_default_that_the_contract_forbids_is_refused():
    for output in (
        Output(kind="class", classes=("a", "b"), default="c"),
        Output(kind="number", minimum=0.0, default=-1.0),
        Output(kind="vector", length=2, default=(1.0,)),
        Output(kind="ranking", default=3),
    ):
        with pytest.raises(InvalidContract, match="default"):
            msgspec.structs.replace(iris_contract(), output=output).verify()


def test_a_row_of_a_batch_is_stood_in_for_alone(gateway, onnx):
    model = serve(gateway, onnx[0], fallback_version="stable")
    body = json.dumps({"instances": [{"features": row} for row in (GOOD, RAISES, GOOD)]}).encode()
    batch = BatchAsk(model.reader.read_batch(body), received=time.perf_counter())
    answer = asyncio.run(gateway.plane.infer_batch(model, batch))
    assert [row.degraded for row in answer.predictions] == [None, "fallback_version", None]
    assert [row.model_version for row in answer.predictions] == ["v2", "v1", "v2"]
    assert answer.failed == 0


def test_a_version_that_keeps_failing_is_left_alone_and_tried_again(gateway, onnx):
    model = serve(gateway, onnx[0])
    for _ in range(5):
        with pytest.raises(RuntimeFailed):
            predict(gateway, model, RAISES)
    runs = cells(gateway, "v2")["runs"]
    with pytest.raises(CircuitOpen, match="5 times"):
        predict(gateway, model, GOOD)
    assert cells(gateway, "v2")["runs"] == runs
    breaker = model.arms[1].version.breaker
    breaker._until = 0.0  # the pause is over
    assert predict(gateway, model, GOOD).prediction == 0
    assert not breaker.open


def test_rows_that_cannot_be_in_time_are_not_run(gateway, onnx):
    model = serve(gateway, onnx[0])
    sinks = [Sink(), Sink()]

    async def turn():
        soon = time.perf_counter() + 60
        for sink, deadline in zip(sinks, (time.perf_counter() - 0.001, soon), strict=True):
            ask = ask_for(model, GOOD, deadline=deadline)
            gateway.plane.turns.start(outcome(gateway, model, ask), sink)
        await asyncio.sleep(0)

    asyncio.run(turn())
    assert isinstance(sinks[0].answer, DeadlineExceeded)
    assert sinks[1].answer.prediction == 0
    assert cells(gateway, "v2")["run_rows"] == 1
    assert not model.arms[1].version.breaker.failures, "the caller's own deadline says nothing of the version"


def test_the_record_of_a_caller_that_left_waits_for_nobody_else(gateway, onnx):
    model = serve(gateway, onnx[0])

    async def leave():
        walk = asyncio.create_task(gateway.plane.infer(model, ask_for(model, GOOD)))
        await asyncio.sleep(0)
        walk.cancel()
        with pytest.raises(asyncio.CancelledError):
            await walk
        await asyncio.sleep(0)

    asyncio.run(leave())
    (record,) = gateway.records()
    assert record.error_code == "cancelled"


def test_what_a_gateway_cannot_answer_in_time_is_refused_and_counted(gateway, onnx):
    model = serve(gateway, onnx[0])

    async def turn():
        now = time.perf_counter()
        gateway.plane.admit(model, now, None)
        gateway.plane.admit(model, now, now + 0.1)
        with pytest.raises(Overloaded, match="full"):
            gateway.plane.admit(model, now, now - 0.001)
        await asyncio.sleep(0)

    asyncio.run(turn())
    assert sum(row.cells["shed"] for row in read_counters(gateway.folder.counters)) == 1


async def outcome(gateway: Gateway, model, ask: Ask):
    try:
        return (await gateway.plane.infer(model, ask))[0]
    except DeadlineExceeded as error:
        return error
