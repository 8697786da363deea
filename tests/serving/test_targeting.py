"""Rules, holdouts and pins where requests are answered: who gets what, and under which arm it is counted."""

import asyncio
import json
import time

import msgspec
import numpy as np
import pytest

from fairlead.contracts.contract import Contract
from fairlead.errors import Forbidden, VersionNotFound
from fairlead.routing.plan import Holdout, Layer
from fairlead.routing.router import assigned
from fairlead.routing.targeting import Rule
from fairlead.serving.asks import Ask, BatchAsk
from fairlead.serving.tables import TableAsk, infer_table
from fairlead.telemetry.counters import read_counters
from tests.models import FEATURES, SAMPLE, iris_contract, lay_plan, lay_version, plan_of

STAFF = Rule(name="staff", header="x-group", one_of=("staff",), version="v2")
PILOT = Rule(name="pilot", units=("ann", "bob"), version="v2")
LONG = Rule(name="long", feature="sepal_length", at_least=6.0, version="v2")
STABLE_ONLY = Rule(name="careful", header="x-group", one_of=("bank",))
SPLIT = {"stable": ("v1", "stable", 40), "control": ("v1", "control", 30), "canary": ("v2", "canary", 30)}


def serve(gateway, onnx, *, split=None, keep=(), specs=None, **beside):
    if specs is None:
        specs = [lay_version(gateway.folder, f"v{n}", onnx[n - 1]) for n in (1, 2)]
    plan = plan_of(split or {"stable": ("v1", "stable", 100)})
    lay_plan(gateway.folder, msgspec.structs.replace(plan, **beside).completed(), *specs, keep=keep)
    gateway.follow()
    return gateway.plane.model("iris")


def predict(gateway, model, features=SAMPLE, *, pin=None, headers=None, **members):
    body = json.dumps({"features": features, **members}).encode()
    ask = Ask.of(model.reader.read(body), received=time.perf_counter(), pin=pin)
    ask.headers = headers
    return asyncio.run(gateway.plane.infer(model, ask))[1]


def table(gateway, model, rows, *, headers=None, unit=None, pin=None):
    ask = TableAsk({"X": rows}, received=time.perf_counter(), unit=unit, pin=pin)
    ask.headers = headers
    return asyncio.run(infer_table(gateway.plane, model, ask)).arm


def counted(gateway):
    return {arm.key.arm: arm.answered for arm in read_counters(gateway.folder.counters) if arm.answered}


def test_rules_decide_before_the_split_and_are_counted_apart(gateway, onnx):
    model = serve(gateway, onnx, split=SPLIT, rules=(STAFF, PILOT, STABLE_ONLY))
    assert predict(gateway, model, unit="ann").name == "rule:pilot"
    assert predict(gateway, model, unit="ann", headers={"x-group": "staff"}).name == "rule:staff"
    assert predict(gateway, model, unit="zoe", headers={"x-group": "bank"}).version_name == "v1"
    assert counted(gateway) == {"rule:pilot": 1, "rule:staff": 1, "rule:careful": 1}
    found = [(one.arm, one.role, one.assigned_version, one.served_version) for one in gateway.records()]
    assert found == [
        ("rule:pilot", "rule", "v2", "v2"),
        ("rule:staff", "rule", "v2", "v2"),
        ("rule:careful", "rule", "v1", "v1"),
    ]


def test_what_the_gateway_answers_is_what_the_plan_says_of_the_record(gateway, onnx):
    holdout = Holdout(percent=20, salt="h", since=0.0)
    layer = Layer(name="l", salt="l", ranges=((0, 6_000),))
    model = serve(gateway, onnx, split=SPLIT, rules=(PILOT, LONG), holdout=holdout, layer=layer)
    for number in range(60):
        features = {**SAMPLE, "sepal_length": 4.0 + number % 5}
        predict(gateway, model, features, unit=f"user-{number}")
    records = gateway.records()
    assert {record.role for record in records} == {"stable", "control", "canary", "rule", "holdout"}
    for record in records:
        values = msgspec.msgpack.decode(record.features)
        expected = assigned(model.serving.plan, record.unit, {}, dict(zip(FEATURES, values, strict=True)))
        assert (record.arm, record.role, record.assigned_version) == (
            expected.arm.name, expected.arm.role, expected.arm.version
        )  # fmt: skip


def test_rows_of_a_batch_are_each_told_by_their_own_features(gateway, onnx):
    model = serve(gateway, onnx, rules=(LONG,))
    instances = [{"features": {**SAMPLE, "sepal_length": length}} for length in (5.0, 6.0, 7.5)]
    body = json.dumps({"instances": instances}).encode()
    ask = BatchAsk(model.reader.read_batch(body), received=time.perf_counter())
    answer = asyncio.run(gateway.plane.infer_batch(model, ask))
    assert [one.model_version for one in answer.predictions] == ["v1", "v2", "v2"]


def test_a_table_matches_a_rule_about_a_feature_only_in_all_its_rows(gateway, onnx):
    model = serve(gateway, onnx, rules=(LONG, STAFF))
    row = np.array([[SAMPLE[name] for name in FEATURES]], np.float32)
    long = row.copy()
    long[0, FEATURES.index("sepal_length")] = 7.0
    assert table(gateway, model, long).name == "rule:long"
    assert table(gateway, model, np.repeat(long, 3, axis=0)).name == "rule:long"
    assert table(gateway, model, np.concatenate([row, long])).name == "stable"
    assert table(gateway, model, row, headers={"x-group": "staff"}).name == "rule:staff"
    # One row of a known model takes the way of single rows, and meets the same rules there.
    assert table(gateway, model, long).name == "rule:long"
    assert table(gateway, model, row, headers={"x-group": "staff"}).name == "rule:staff"


def test_a_feature_counts_as_the_stable_version_reads_it(gateway, onnx):
    fields = tuple(
        msgspec.structs.replace(field, default=6.5, required=False) if field.name == "sepal_length" else field
        for field in iris_contract().inputs
    )
    contract: Contract = msgspec.structs.replace(iris_contract(), inputs=fields)
    specs = [lay_version(gateway.folder, f"v{n}", onnx[n - 1], contract=contract) for n in (1, 2)]
    model = serve(gateway, onnx, specs=specs, rules=(LONG,))
    rest = {name: value for name, value in SAMPLE.items() if name != "sepal_length"}
    assert predict(gateway, model, rest).name == "rule:long"
    with pytest.raises(Exception, match="sepal_width"):
        predict(gateway, model, {"sepal_length": 7.0})
    assert gateway.records()[-1].arm == "stable"


def test_a_holdout_is_labelled_and_never_served_a_candidate(gateway, onnx):
    model = serve(gateway, onnx, split=SPLIT, holdout=Holdout(percent=50, salt="h", since=0.0))
    arms = [predict(gateway, model, unit=f"user-{n}") for n in range(60)]
    out = [arm for arm in arms if arm.name == "holdout"]
    assert 10 < len(out) < 50
    assert {arm.version_name for arm in out} == {"v1"}
    assert {(arm.variant, arm.stage) for arm in out} == {("holdout", "production")}
    assert counted(gateway)["holdout"] == len(out)


def test_a_pin_is_answered_by_what_is_loaded_and_counts_for_no_arm(gateway, onnx):
    specs = [lay_version(gateway.folder, f"v{n}", onnx[n % 2]) for n in (1, 2, 3)]
    model = serve(gateway, onnx, specs=specs, split=SPLIT, keep=("v3",), rules=(PILOT,))
    for version in ("v1", "v2", "v3"):
        arm = predict(gateway, model, unit="ann", pin=version)
        assert (arm.name, arm.version_name) == ("pin", version)
    assert counted(gateway) == {"pin": 1}  # each version has its own row
    row = np.array([[SAMPLE[name] for name in FEATURES]], np.float32)
    assert table(gateway, model, row, pin="v2").name == "pin"
    assert {record.role for record in gateway.records()} == {"pin"}
    with pytest.raises(VersionNotFound, match="Pin one of v1, v2, v3"):
        predict(gateway, model, pin="v9")
    last = gateway.records()[-1]
    assert (last.arm, last.status, last.error_code) == (None, "rejected", "version_not_found")


def test_pins_are_refused_where_callers_may_not_choose(gateway, onnx):
    model = serve(gateway, onnx)
    gateway.plane.pins = False
    row = np.array([[SAMPLE[name] for name in FEATURES]], np.float32)
    with pytest.raises(Forbidden, match="allow_pins"):
        predict(gateway, model, pin="v1")
    with pytest.raises(Forbidden):
        table(gateway, model, row, pin="v1")
    assert predict(gateway, model).name == "stable"


def test_a_local_override_wins_over_rules_and_holdout(gateway, onnx):
    from fairlead.serving.folder import Override

    holdout = Holdout(percent=50, salt="h", since=0.0)
    serve(gateway, onnx, split=SPLIT, rules=(PILOT,), holdout=holdout)
    override = Override(model="iris", version="v1", base_generation=1, at=0.0, who="ann", why="broken")
    gateway.folder.write_override(override.signed(gateway.folder.secret()))
    gateway.follow()
    model = gateway.plane.model("iris")
    assert model.plain
    assert {predict(gateway, model, unit=unit).version_name for unit in ("ann", "b", "c", "d")} == {"v1"}
