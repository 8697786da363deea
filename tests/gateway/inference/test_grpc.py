"""V2 over real gRPC: tritonclient works unchanged, raw and typed, unary and streamed."""

import asyncio
import queue
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from tritonclient.grpc import model_config_pb2, service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException

from fairlead.gateway.inference import messages
from fairlead.gateway.inference.messages import message
from tests.servers import Servers, free_port
from tests.waiting import wait_until

ROWS = np.random.default_rng(0).uniform(0, 10, (9, 4)).astype(np.float32)


@pytest.fixture
def client(served):
    made = triton.InferenceServerClient(served.grpc_url)
    yield made
    made.close()


@pytest.fixture
def stub(served):
    with grpc.insecure_channel(served.grpc_url) as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


def tensor(name: str = "X", array: np.ndarray = ROWS, datatype: str = "FP32") -> Any:
    made = triton.InferInput(name, list(array.shape), datatype)
    made.set_data_from_numpy(array)
    return made


def code_of(error: InferenceServerException) -> str:
    return str(error.status())


def test_our_messages_are_the_protocols_field_by_field():
    for name in [line for line in messages._INFERENCE.split("\n") if line and not line.startswith(" ")]:
        outer, _, inner = name.partition(".")
        theirs = {
            **service_pb2.DESCRIPTOR.message_types_by_name,
            **model_config_pb2.DESCRIPTOR.message_types_by_name,
        }[outer]
        theirs = theirs.nested_types_by_name[inner] if inner else theirs
        for field in message(name).DESCRIPTOR.fields:
            other = theirs.fields_by_name[field.name]
            assert (field.number, field.is_repeated) == (other.number, other.is_repeated), field.full_name
            same = field.type == other.type or other.type == other.TYPE_ENUM
            assert same, field.full_name


def test_health_metadata_configuration_and_index(client):
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("iris", "v2")
    metadata = client.get_model_metadata("iris", as_json=True)
    assert metadata["inputs"] == [{"name": "X", "datatype": "FP32", "shape": ["-1", "4"]}]
    assert metadata["versions"] == ["v1", "v2"]
    config = client.get_model_config("shop", as_json=True)["config"]
    assert [part["data_type"] for part in config["input"]] == ["TYPE_STRING", "TYPE_FP32", "TYPE_INT64"]
    assert config["max_batch_size"] == 100
    names = {(model.name, model.version, model.state) for model in client.get_model_repository_index().models}
    assert ("iris", "v3", "READY") in names


def test_raw_tensors_go_and_come(client):
    result = client.infer(
        "iris", [tensor()], model_version="v1", request_id="r-9", priority=1, client_timeout=10,
        parameters={"unit": "u-1"}, outputs=[triton.InferRequestedOutput("probabilities")],
    )  # fmt: skip
    response = result.get_response()
    assert result.as_numpy("probabilities").shape == (9, 3)
    assert result.as_numpy("label") is None
    assert (response.id, response.model_version) == ("r-9", "v1")
    found = response.parameters
    assert found["request_id"].string_param == "r-9"
    assert found["plan_generation"].int64_param == 1
    assert found["training_data"].string_param == "iris-1936"
    assert found["variant"].string_param == "pin"


def test_http_and_grpc_answer_the_same(served, client):
    body = {"inputs": [{"name": "X", "shape": [9, 4], "datatype": "FP32", "data": ROWS.reshape(-1).tolist()}]}
    _, _, plain = served.call("POST", "/v2/models/iris/versions/v1/infer", body)
    result = client.infer("iris", [tensor()], model_version="v1")
    outputs = {output["name"]: output["data"] for output in plain["outputs"]}
    assert result.as_numpy("label").tolist() == outputs["label"]
    np.testing.assert_allclose(result.as_numpy("probabilities").reshape(-1), outputs["probabilities"])


def test_how_sure_answers_are_comes_as_outputs_for_who_asks(client):
    asked = [triton.InferRequestedOutput("uncertainty_set"), triton.InferRequestedOutput("probabilities")]
    result = client.infer("iris", [tensor()], model_version="v1", outputs=asked)
    within = 1.0 - result.as_numpy("probabilities").astype(np.float64) <= 0.7
    np.testing.assert_array_equal(result.as_numpy("uncertainty_set"), within)
    assert result.get_response().parameters["uncertainty_coverage"].string_param == "0.9"
    given = [
        tensor("country", np.array([["FR"]], object), "BYTES"),
        tensor("age", np.array([[1]], np.float32)),
    ]
    found = client.infer("shop", given, outputs=[triton.InferRequestedOutput("uncertainty_low")])
    assert found.as_numpy("uncertainty_low").tolist() == [199.5]
    assert found.as_numpy("value") is None


def test_texts_go_as_bytes(client):
    given = [
        tensor("country", np.array([["FR"]], object), "BYTES"),
        tensor("age", np.array([[1]], np.float32)),
    ]
    assert client.infer("shop", given).as_numpy("value").tolist() == [[202.0]]


def test_typed_contents_are_answered_typed(stub):
    request = service_pb2.ModelInferRequest(model_name="shop")
    request.inputs.add(name="country", datatype="BYTES", shape=[2]).contents.bytes_contents.extend(
        [b"DE", b"FR"]
    )
    request.inputs.add(name="age", datatype="FP32", shape=[2]).contents.fp32_contents.extend([1, 2])
    request.inputs.add(name="visits", datatype="INT64", shape=[2]).contents.int64_contents.extend([3, 4])
    answer = stub.ModelInfer(request)
    assert list(answer.outputs[0].contents.fp32_contents) == [104.0, 206.0]
    assert not answer.raw_output_contents


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda r: r.raw_input_contents.append(b"x"), "raw contents"),
        (lambda r: r.inputs[0].contents.fp32_contents.append(1), "both raw and typed"),
        (lambda r: r.inputs[0].shape.append(2), "takes"),
        (lambda r: r.inputs[0].shape.__setitem__(0, -1), "makes no sense"),
        (lambda r: setattr(r.inputs[0], "datatype", "BF16"), "BF16"),
        (lambda r: setattr(r.inputs[0], "name", "Z"), "no input 'Z'"),
        (lambda r: r.outputs.add(name="nope"), "no output 'nope'"),
        (lambda r: r.inputs.add(name="X", datatype="FP32", shape=[1]), "2 inputs"),
        (lambda r: r.ClearField("inputs") or r.ClearField("raw_input_contents"), "no input"),
    ],
)
def test_what_is_wrong_with_a_request_is_an_invalid_argument(stub, change, words):
    request = service_pb2.ModelInferRequest(model_name="iris", raw_input_contents=[ROWS.tobytes()])
    request.inputs.add(name="X", datatype="FP32", shape=[9, 4])
    change(request)
    with pytest.raises(grpc.RpcError) as caught:
        stub.ModelInfer(request)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert words in caught.value.details()


def test_each_situation_has_its_code(client, stub):
    for given, version, code in (
        (tensor(array=ROWS + 100), "", "INVALID_ARGUMENT"),
        (tensor(), "v9", "NOT_FOUND"),
    ):
        with pytest.raises(InferenceServerException) as caught:
            client.infer("iris", [given], model_version=version)
        assert code_of(caught.value) == f"StatusCode.{code}"
    with pytest.raises(InferenceServerException) as caught:
        client.infer("nope", [tensor()])
    assert code_of(caught.value) == "StatusCode.NOT_FOUND"
    with pytest.raises(InferenceServerException) as caught:
        client.get_log_settings()
    assert code_of(caught.value) == "StatusCode.UNIMPLEMENTED"
    with pytest.raises(InferenceServerException) as caught:
        client.unload_model("iris")
    assert code_of(caught.value) == "StatusCode.FAILED_PRECONDITION"
    client.load_model("iris")


def test_messages_up_to_the_servers_limit_are_taken_and_longer_ones_refused(client):
    rows = np.tile(ROWS, (60_000, 1))  # 8.6 MB: more than gRPC's own default of 4 MiB
    assert client.infer("iris", [tensor(array=rows)]).as_numpy("label").shape == (540_000,)
    with pytest.raises(InferenceServerException) as caught:
        client.infer("iris", [tensor(array=np.tile(ROWS, (80_000, 1)))])
    assert code_of(caught.value) == "StatusCode.RESOURCE_EXHAUSTED"


def test_a_stream_answers_each_request_and_an_error_ends_nothing(client):
    answers: queue.Queue[Any] = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    client.async_stream_infer("iris", [tensor()], request_id="1")
    client.async_stream_infer("iris", [tensor(array=ROWS + 100)], request_id="2")
    client.async_stream_infer("iris", [tensor()], request_id="3")
    found = [answers.get(timeout=30) for _ in range(3)]
    client.stop_stream()
    assert [error is None for _, error in found] == [True, False, True]
    assert "breaks rule 'range'" in str(found[1][1])
    assert [found[place][0].get_response().id for place in (0, 2)] == ["1", "3"]


def test_the_asynchronous_client_works_too(served):
    async def ask() -> list[Any]:
        async with triton_aio.InferenceServerClient(served.grpc_url) as client:
            calls = [client.infer("iris", [tensor()], model_version="v1") for _ in range(20)]
            return [result.as_numpy("label").tolist() for result in await asyncio.gather(*calls)]

    labels = asyncio.run(ask())
    assert all(found == labels[0] for found in labels)


def test_metadata_names_unit_pin_and_request_id(stub):
    request = service_pb2.ModelInferRequest(model_name="iris", raw_input_contents=[ROWS.tobytes()])
    request.inputs.add(name="X", datatype="FP32", shape=[9, 4])
    answer = stub.ModelInfer(request, metadata=[("x-model-version", "v2"), ("x-request-id", "meta-1")])
    assert answer.model_version == "v2"
    assert answer.parameters["request_id"].string_param == "meta-1"


def test_the_health_check_knows_the_server_and_its_models(served):
    request = message("HealthCheckRequest", "grpc.health.v1")
    answer = message("HealthCheckResponse", "grpc.health.v1")
    with grpc.insecure_channel(served.grpc_url) as channel:
        check = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=request.SerializeToString,
            response_deserializer=answer.FromString,
        )
        for service in ("", "inference.GRPCInferenceService", "iris"):
            assert check(request(service=service)).status == 1
        with pytest.raises(grpc.RpcError) as caught:
            check(request(service="nope"))
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        watch = channel.unary_stream(
            "/grpc.health.v1.Health/Watch",
            request_serializer=request.SerializeToString,
            response_deserializer=answer.FromString,
        )
        call = watch(request(service=""))
        assert next(call).status == 1
        call.cancel()


def test_gateway_workers_share_the_port_and_nobody_else_gets_it(tmp_path):
    port = free_port()
    with Servers(tmp_path / "data", workers=2, FAIRLEAD_GRPC_PORT=str(port)) as servers:
        wait_until(lambda: listeners(port) == 2)
        for _ in range(4):
            with triton.InferenceServerClient(f"127.0.0.1:{port}") as client:
                assert client.is_server_live()
                assert not client.is_server_ready()  # no model yet
        ports = ["--port", "0", "--admin-port", "0", "--grpc-port", str(port)]
        done = servers.cli("up", "--data", str(tmp_path / "other"), *ports, check=False)
        assert done.returncode == 1
        assert "--grpc-port" in done.stderr
    assert listeners(port) == 0


def listeners(port: int) -> int:
    """How many sockets listen on that port."""
    lines = "".join(Path(f"/proc/net/{name}").read_text() for name in ("tcp", "tcp6")).splitlines()
    rows = [line.split() for line in lines]
    return sum(row[1].endswith(f":{port:04X}") and row[3] == "0A" for row in rows)


def test_statistics_agree_with_those_over_http(served, client):
    theirs = client.get_inference_statistics("iris", "v1", as_json=True)["model_stats"][0]
    _, _, ours = served.call("GET", "/v2/models/iris/versions/v1/stats")
    assert int(theirs["inference_count"]) == ours["model_stats"][0]["inference_count"] > 0
