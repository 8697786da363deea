"""Answers that carry their leading features, for those who ask."""

import asyncio
import json
import time

import msgspec
import pytest
import uvloop

from fairlead.contracts.contract import Output
from fairlead.engine.host import ModelHost
from fairlead.engine.paths import listening
from fairlead.errors import MalformedRequest, RuntimeFailed
from fairlead.registry.versions import ModelSettings
from fairlead.runtimes.effects import Effect
from fairlead.runtimes.leading import LEADING_FILE, Contribution, Leading, Told
from fairlead.runtimes.machine import cpu_name
from fairlead.runtimes.placement import note
from fairlead.serving.asks import Ask
from tests.models import SAMPLE, faulty_onnx, iris_contract, lay_plan, lay_version, plan_of
from tests.serving.conftest import Gateway


def terms(*slopes: float) -> Leading:
    """What raises the score of class 0 by so much for each unit of each feature."""
    every = (0, 1, 2)
    return Leading(
        scale="log_odds",
        base=(0.25, 0.0, -0.25),
        effects=tuple(
            Effect(at=every, slopes=(slope, 0.0, -slope), offsets=(0.0, 0.0, 0.0)) for slope in slopes
        ),
    )


def serve(gateway: Gateway, onnx: bytes, leading: Leading | None, **options):
    spec = lay_version(gateway.folder, "v1", onnx, leading=leading, **options)
    lay_plan(gateway.folder, plan_of({"stable": ("v1", "stable", 100)}), spec)
    gateway.follow()
    return gateway.plane.model("iris")


def predict(gateway: Gateway, model, features=SAMPLE, *, explain="top", pin=None, **members):
    body = json.dumps({"features": features, "explain": explain, **members}).encode()
    ask = Ask.of(model.reader.read(body), received=time.perf_counter(), pin=pin)
    return asyncio.run(gateway.plane.infer(model, ask))[0]


def found(envelope) -> dict[str, float]:
    return {one.feature: one.contribution for one in envelope.explanation}


def test_who_asks_gets_the_leading_features_and_who_does_not_costs_nothing(gateway, onnx):
    model = serve(gateway, onnx[0], terms(1.0, 0.0, -2.0, 3.0))
    assert predict(gateway, model, explain=None).explanation is None
    assert model.arms[0].version.leader is None  # nothing was read
    envelope = predict(gateway, model)
    assert envelope.explanation == [
        Contribution("sepal_length", 5.1),
        Contribution("petal_length", -2.8),
        Contribution("petal_width", pytest.approx(0.6)),
    ]
    assert json.loads(msgspec.json.encode(envelope))["explanation"][0] == {
        "feature": "sepal_length", "contribution": 5.1,
    }  # fmt: skip


def test_an_answer_from_the_cache_carries_the_explanation_of_its_own_row(gateway, onnx):
    model = serve(gateway, onnx[0], terms(1.0, 0.0, 0.0, 0.0))
    other = {**SAMPLE, "sepal_length": 5.0}
    first = [found(predict(gateway, model, features)) for features in (SAMPLE, other)]
    again = [predict(gateway, model, features) for features in (SAMPLE, other)]
    assert [envelope.cached for envelope in again] == [True, True]
    assert [found(envelope) for envelope in again] == first == [{"sepal_length": 5.1}, {"sepal_length": 5.0}]


def test_each_arm_explains_by_its_own_version(gateway, onnx):
    one = lay_version(gateway.folder, "v1", onnx[0], leading=terms(1.0, 0.0, 0.0, 0.0))
    two = lay_version(gateway.folder, "v2", onnx[1], leading=terms(0.0, 1.0, 0.0, 0.0))
    lay_plan(gateway.folder, plan_of({"a": ("v1", "stable", 50), "b": ("v2", "canary", 50)}), one, two)
    gateway.follow()
    model = gateway.plane.model("iris")
    answers = [predict(gateway, model, unit=f"u{number}") for number in range(30)]
    seen = {(one.model_version, one.explanation[0].feature) for one in answers}
    assert seen == {("v1", "sepal_length"), ("v2", "sepal_width")}


def test_the_version_that_stood_in_explains_its_answer(gateway, onnx):
    sound = lay_version(gateway.folder, "v1", onnx[0], leading=terms(1.0, 0.0, 0.0, 0.0))
    faulty = lay_version(
        gateway.folder,
        "v2",
        faulty_onnx(),
        leading=terms(0.0, 1.0, 0.0, 0.0),
        settings=ModelSettings(fallback_version="v1"),
    )
    lay_plan(gateway.folder, plan_of({"a": ("v1", "stable", 0), "b": ("v2", "canary", 100)}), sound, faulty)
    gateway.follow()
    model = gateway.plane.model("iris")
    envelope = predict(gateway, model, {**SAMPLE, "sepal_length": 9.0})
    assert (envelope.degraded, envelope.model_version) == ("fallback_version", "v1")
    assert set(found(envelope)) == {"sepal_length"}


def test_what_no_version_answered_has_no_explanation(gateway):
    contract = msgspec.structs.replace(
        iris_contract(), output=Output(kind="class", classes=(0, 1, 2), default=1)
    )
    model = serve(gateway, faulty_onnx(), terms(1.0, 1.0, 1.0, 1.0), contract=contract)
    envelope = predict(gateway, model, {**SAMPLE, "sepal_length": 9.0})
    assert (envelope.degraded, envelope.explanation) == ("contract_default", None)


def test_an_error_stays_the_error_that_it_is(gateway):
    model = serve(gateway, faulty_onnx(), terms(1.0, 1.0, 1.0, 1.0))
    with pytest.raises(RuntimeFailed):
        predict(gateway, model, {**SAMPLE, "sepal_length": 9.0})


@pytest.mark.parametrize("leading", [None, Leading(reason="It is a riddle.")], ids=["none came", "not cheap"])
def test_where_it_is_not_cheap_the_answer_has_null_and_the_version_says_why(gateway, onnx, leading):
    model = serve(gateway, onnx[0], leading)
    assert predict(gateway, model).explanation is None
    told = asyncio.run(gateway.plane.leaders.told(model.arms[0]))
    assert told.scale is None
    assert leading is None or told.reason == "It is a riddle."
    assert told.reason.endswith(".")


def test_a_version_says_what_its_explanations_are_measured_in(gateway, onnx):
    model = serve(gateway, onnx[0], terms(1.0, 1.0, 1.0, 1.0))
    told = asyncio.run(gateway.plane.leaders.told(model.arms[0]))
    assert told == Told(scale="log_odds", base={"0": 0.25, "1": 0.0, "2": -0.25})


@pytest.mark.parametrize("damage", [b"", b"{", b'{"scale": "number"}', None])
def test_a_damaged_document_costs_the_explanation_and_not_the_answer(gateway, onnx, damage):
    model = serve(gateway, onnx[0], terms(1.0, 1.0, 1.0, 1.0))
    path = gateway.folder.versions / model.arms[0].version.digest / LEADING_FILE
    if damage is None:
        path.unlink()
    else:
        path.chmod(0o644)
        path.write_bytes(damage)
    envelope = predict(gateway, model)
    assert (envelope.prediction, envelope.explanation) == (0, None)


def test_a_batch_refuses_what_only_single_answers_carry(gateway, onnx):
    model = serve(gateway, onnx[0], terms(1.0, 1.0, 1.0, 1.0))
    body = json.dumps({"instances": [{"features": SAMPLE}], "explain": "top"}).encode()
    with pytest.raises(MalformedRequest, match="unknown member 'explain'"):
        model.reader.read_batch(body)


def test_anything_but_top_is_refused_by_name(gateway, onnx):
    model = serve(gateway, onnx[0], terms(1.0, 1.0, 1.0, 1.0))
    with pytest.raises(MalformedRequest, match="explain"):
        predict(gateway, model, explain="all")


def test_a_version_in_a_worker_of_its_own_is_explained_beside_it(gateway, onnx):
    spec = lay_version(gateway.folder, "v1", onnx[0], leading=terms(1.0, 0.0, 0.0, 0.0))
    heavy = {"run_microseconds": 1e6, "memory_bytes": 1, "library": f"onnxruntime 1 {cpu_name()}"}
    assert note(gateway.folder.measured, spec.manifest.digest, heavy) is not None
    lay_plan(gateway.folder, plan_of({"stable": ("v1", "stable", 100)}), spec)

    async def story() -> None:
        host = ModelHost(gateway.folder.run)
        await host.start(listening(gateway.folder.models_socket))
        try:
            await gateway.refresher.refresh()
            model = gateway.plane.model("iris")
            assert not model.arms[0].version.engine.inline
            for cached in (False, True):
                body = json.dumps({"features": SAMPLE, "explain": "top"}).encode()
                ask = Ask.of(model.reader.read(body), received=time.perf_counter())
                envelope, _ = await gateway.plane.infer(model, ask)
                assert (envelope.cached, found(envelope)) == (cached, {"sepal_length": 5.1})
        finally:
            await gateway.refresher.close(draining=True)
            await host.stop()

    uvloop.run(story())
