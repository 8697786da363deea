"""Whole gateway processes before one Redis."""

import re
from collections.abc import Iterator

import pytest

from tests.gateway.conftest import GatewayProcess
from tests.models import SAMPLE, data_folder, iris_onnx, lay_plan, lay_version, plan_of
from tests.redis_server import RedisServer


@pytest.fixture
def folder(tmp_path):
    made = data_folder(tmp_path / "data")
    lay_plan(made, plan_of({"stable": ("v1", "stable", 100)}), lay_version(made, "v1", iris_onnx()))
    return made


@pytest.fixture
def redis(tmp_path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path) as server:
        yield server


def predict(gateway: GatewayProcess, index: int):
    features = SAMPLE | {"sepal_length": round(1 + index / 100, 2)}
    status, _, envelope = gateway.call("POST", "/v1/models/iris/predict", {"features": features})
    assert status == 200
    return envelope


def test_a_gateway_that_comes_back_finds_the_answers_of_the_one_before(redis, folder):
    gateway = GatewayProcess(folder, cache_url=redis.url)
    try:
        before = [predict(gateway, index) for index in range(200)]
        assert gateway.stop() == 0
        gateway.start()
        after = [predict(gateway, index) for index in range(200)]
        metrics = gateway.call("GET", "/metrics")[2]
    finally:
        gateway.close()
    assert [envelope["prediction"] for envelope in after] == [envelope["prediction"] for envelope in before]
    # Not each of them: an answer that a busy machine gives too late is worked out anew.
    cached = sum(envelope["cached"] for envelope in after)
    assert cached > 0
    found = re.search(r'prediction_cache_shared_hits_total\{model_name="iris"\} (\d+)', metrics)
    assert found is not None
    assert int(found[1]) == cached


def test_a_gateway_starts_and_answers_before_a_redis_that_is_not_there(redis, folder):
    redis.kill()
    gateway = GatewayProcess(folder, cache_url=redis.url)
    try:
        for index in range(20):
            assert not predict(gateway, index)["cached"]
        assert predict(gateway, 0)["cached"]  # from its own memory
        assert gateway.stop() == 0
    finally:
        gateway.close()
