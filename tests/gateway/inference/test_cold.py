"""What the protocols say of a model that is not in memory: it is ready, because asking it is enough."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fairlead.registry.versions import ModelSettings
from tests.gateway.conftest import GatewayProcess
from tests.many import lay_many
from tests.models import SAMPLE, data_folder
from tests.waiting import wait_until


@pytest.fixture
def cold(tmp_path: Path) -> Iterator[GatewayProcess]:
    folder = data_folder(tmp_path / "data")
    lay_many(folder, 2, settings=ModelSettings(cache_seconds=0))
    running = GatewayProcess(folder, memory_budget_mb=100)
    yield running
    running.close()


def is_resident(gateway: GatewayProcess, model: str) -> bool:
    return bool(gateway.call("GET", f"/v1/models/{model}")[2]["arms"][0]["resident"])


def test_a_cold_model_is_ready_and_listed_as_such_and_nobody_loads_it_for_that(cold):
    assert cold.call("GET", "/health/ready")[0] == 200
    assert cold.call("GET", "/v2/models/m0/ready")[0] == 200
    index = cold.call("POST", "/v2/repository/index", {})[2]
    assert [entry["state"] for entry in index] == ["READY", "READY"]
    assert not is_resident(cold, "m0")


def test_metadata_needs_one_answer_of_the_model_and_so_loads_it(cold):
    status, _, metadata = cold.call("GET", "/v2/models/m1")
    assert status == 200
    assert [tensor["datatype"] for tensor in metadata["outputs"]] == ["INT64", "FP32"]
    assert is_resident(cold, "m1")


def test_an_inference_request_loads_the_model_and_metrics_say_where_it_is(cold):
    tensors = [{"name": "X", "shape": [1, 4], "datatype": "FP32", "data": list(SAMPLE.values())}]
    status, _, answer = cold.call("POST", "/v2/models/m1/infer", {"inputs": tensors})
    assert status == 200
    assert {output["name"]: output["data"] for output in answer["outputs"]}["label"] == [1]
    wait_until(lambda: 'model_loaded{model_name="m1"' in metrics(cold) and loaded(cold, "m1") == 1)
    assert loaded(cold, "m0") == 0
    assert 'model_loads_total{model_name="m1",model_version="v1"} 1' in metrics(cold)
    assert 'model_evictions_total{model_name="m1",model_version="v1"} 0' in metrics(cold)


def metrics(gateway: GatewayProcess) -> str:
    return str(gateway.call("GET", "/metrics")[2])


def loaded(gateway: GatewayProcess, model: str) -> float:
    line = next(
        line for line in metrics(gateway).splitlines() if f'model_loaded{{model_name="{model}"' in line
    )
    return float(line.split()[-1])
