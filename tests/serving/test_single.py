"""One row as an array walks like any other row: cached, stood in for, with the same tensors as a table."""

import asyncio
import time

import numpy as np
import pytest

from fairlead.errors import DataContractViolation
from fairlead.registry.versions import ModelSettings
from fairlead.serving.tables import TableAsk, infer_table
from fairlead.telemetry.counters import read_counters
from tests.models import SAMPLE, faulty_onnx, lay_plan, lay_version, plan_of

ROW = np.array([list(SAMPLE.values())], np.float32)


def ask_table(gateway, model, array, **options):
    ask = TableAsk({"X": array}, received=time.perf_counter(), **options)
    return asyncio.run(infer_table(gateway.plane, model, ask)), ask


@pytest.fixture
def model(gateway, onnx):
    spec = lay_version(gateway.folder, "v1", onnx[0])
    lay_plan(gateway.folder, plan_of({"stable": ("v1", "stable", 100)}), spec)
    gateway.follow()
    return gateway.plane.model("iris")


def test_a_row_answers_the_tensors_of_a_table_and_is_cached(gateway, model):
    table, _ = ask_table(gateway, model, np.repeat(ROW, 2, axis=0))
    for _ in range(2):
        single, _ = ask_table(gateway, model, ROW)
        for name, array in table.outputs.items():
            assert single.outputs[name].dtype == array.dtype
            np.testing.assert_array_equal(single.outputs[name], array[:1])
    (counted,) = read_counters(gateway.folder.counters)
    assert (counted.cells["run_rows"], counted.cells["cache_hits"]) == (3, 1)
    assert [record.cached for record in gateway.records()] == [False, True]


def test_a_row_that_breaks_the_contract_is_refused_as_a_table_is(gateway, model):
    ask_table(gateway, model, ROW)
    with pytest.raises(DataContractViolation, match="Row 0"):
        ask_table(gateway, model, ROW + 100)


def test_a_row_keeps_its_unit_request_id_and_pin(gateway, model):
    ask_table(gateway, model, ROW)
    ask_table(gateway, model, ROW, unit="user-1", request_id="r-1", pin="v1", use_case="shop")
    record = gateway.records()[-1]
    assert (record.unit, record.unit_kind, record.request_id) == ("user-1", "given", "r-1")
    assert (record.use_case, record.assigned_version) == ("shop", "v1")


def test_something_may_stand_in_for_a_row_as_an_array(gateway, onnx):
    sound = lay_version(gateway.folder, "v1", onnx[0])
    settings = ModelSettings(fallback_version="stable")
    faulty = lay_version(gateway.folder, "v2", faulty_onnx(), settings=settings)
    arms = {"stable": ("v1", "stable", 0), "canary": ("v2", "canary", 100)}
    lay_plan(gateway.folder, plan_of(arms), sound, faulty)
    gateway.follow()
    model = gateway.plane.model("iris")
    ask_table(gateway, model, ROW)
    raises = ROW.copy()
    raises[0, 0] = 9.0
    answer, ask = ask_table(gateway, model, raises)
    assert ask.degraded == "fallback_version"
    assert answer.arm.version_name == "v1"
    assert answer.outputs["probabilities"].shape == (1, 3)
