"""What clients of gRPC do beside asking: they compress, wait in vain, give up, ping, leave, send a lot."""

import re
import threading
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

import fairlead
from fairlead.gateway.inference.messages import message
from tests.gateway.inference.conftest import Served, lay_models
from tests.gateway.inference.peer import (
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    INFER,
    ROWS,
    Peer,
    asked,
    block,
    frame,
    request,
    rows_answered,
)
from tests.gateway.sleepy_model import Sleepy
from tests.servers import Servers, free_port
from tests.waiting import wait_until

LARGE = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


def infer_request(rows: np.ndarray) -> service_pb2.ModelInferRequest:
    return service_pb2.ModelInferRequest.FromString(request(rows)[5:])


def test_twenty_megabytes_go_and_come(tmp_path):
    served = Served(lay_models(tmp_path / "data"), max_body_bytes=32 * 2**20)
    try:
        rows = np.tile(ROWS, (140_000, 1))  # 20 MB, and 25 MB of answer
        with grpc.insecure_channel(served.grpc_url, options=LARGE) as channel:
            answer = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(infer_request(rows))
        assert sum(map(len, answer.raw_output_contents)) > 20 * 2**20
        assert answer.outputs[0].shape[0] == 1_260_000
    finally:
        served.close()


@pytest.mark.parametrize("how", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_streams_may_be_compressed(served, how):
    with grpc.insecure_channel(served.grpc_url, compression=how) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        answers = list(stub.ModelStreamInfer(infer_request(np.tile(ROWS, (n, 1))) for n in (1, 50, 2)))
    assert [each.infer_response.outputs[0].shape[0] for each in answers] == [9, 450, 18]


def test_many_channels_ask_at_once(served):
    def ask(number: int) -> int:
        options = [("grpc.use_local_subchannel_pool", 1)]
        with grpc.insecure_channel(served.grpc_url, options=options) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            rows = ROWS[: number % 9 + 1]
            return int(stub.ModelInfer(infer_request(rows), timeout=30).outputs[0].shape[0])

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(ask, range(64))) == [number % 9 + 1 for number in range(64)]


def test_metadata_of_all_kinds_is_taken(served):
    metadata = [
        ("x-request-id", "meta-2"), ("x-model-version", "v1"), ("trace-bin", bytes(range(256))),
        ("authorization", "Bearer " + "x" * 4_000), ("repeated", "a"), ("repeated", "b"),
    ]  # fmt: skip
    with grpc.insecure_channel(served.grpc_url) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        for _ in range(3):
            answer = stub.ModelInfer(infer_request(ROWS), metadata=metadata)
            assert (answer.model_version, answer.parameters["request_id"].string_param) == ("v1", "meta-2")


def test_a_caller_may_ping_as_often_as_it_likes_to_stay(served):
    options = [
        ("grpc.keepalive_time_ms", 10), ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
    ]  # fmt: skip
    with grpc.insecure_channel(served.grpc_url, options=options) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        channel_states: list[grpc.ChannelConnectivity] = []
        channel.subscribe(channel_states.append)
        for _ in range(300):
            stub.ServerLive(service_pb2.ServerLiveRequest())
        assert grpc.ChannelConnectivity.TRANSIENT_FAILURE not in channel_states


def test_a_caller_that_takes_its_leave_is_still_answered(served):
    peer = Peer(served.grpc_port)
    peer.send(frame(HEADERS, END_HEADERS, 1, block()) + frame(GOAWAY, 0, 0, bytes(8)))
    peer.send(frame(DATA, END_STREAM, 1, request()))
    assert rows_answered(peer.answer(1)[0]) == 9
    peer.close()


@pytest.mark.parametrize(
    ("prefix", "headers", "status"),
    [
        (b"\2", [], b"13"),
        (b"\1", [], b"13"),
        (b"\1", [(b"grpc-encoding", b"identity")], b"13"),
        (b"\1", [(b"grpc-encoding", b"snappy")], b"12"),
        (b"\1", [(b"grpc-encoding", b"gzip")], b"3"),  # and is no gzip
        (b"\0", [(b"grpc-encoding", b"snappy")], b"0"),
        (b"\0", [(b"grpc-timeout", b"5")], b"3"),
        (b"\0", [(b"grpc-timeout", b"123456789S")], b"3"),
        (b"\0", [(b"grpc-timeout", b"99999999H")], b"0"),
    ],
)
def test_what_a_call_says_of_its_messages_holds(served, prefix, headers, status):
    peer = Peer(served.grpc_port)
    for stream, path in ((1, INFER), (3, INFER.replace("ModelInfer", "ModelStreamInfer"))):
        head = block(path, b"application/grpc", *headers)
        body = prefix + request()[1:]
        peer.send(frame(HEADERS, END_HEADERS, stream, head) + frame(DATA, END_STREAM, stream, body))
        assert peer.answer(stream)[1][b"grpc-status"] == status
    peer.close()


@pytest.mark.parametrize("kind", [b"application/grpc+proto", b"application/grpc;charset=utf-8"])
def test_kinds_of_grpc_are_taken(served, kind):
    peer = Peer(served.grpc_port)
    peer.send(frame(HEADERS, END_HEADERS, 1, block(INFER, kind)) + frame(DATA, END_STREAM, 1, request()))
    assert rows_answered(peer.answer(1)[0]) == 9
    peer.send(frame(HEADERS, END_HEADERS | END_STREAM, 3, block(INFER, b"application/grpc-web")))
    assert peer.answer(3)[1] == {b":status": b"415"}
    peer.close()


def test_long_words_fit_into_the_headers_that_clients_take(served):
    name = "\U0001f30d" * 3_000
    with grpc.insecure_channel(served.grpc_url) as channel, pytest.raises(grpc.RpcError) as caught:
        service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(
            service_pb2.ModelInferRequest(model_name=name)
        )
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert "\U0001f30d" in caught.value.details()


def test_a_message_longer_than_allowed_is_refused_though_it_comes_in_one_frame(tmp_path):
    served = Served(lay_models(tmp_path / "data"), max_body_bytes=100)
    try:
        peer = Peer(served.grpc_port)
        peer.send(frame(HEADERS, END_HEADERS, 1, block()) + frame(DATA, END_STREAM, 1, request()))
        assert peer.answer(1)[1][b"grpc-status"] == b"8"
        peer.send(frame(HEADERS, END_HEADERS, 3, block()) + frame(DATA, 0, 3, b"\0\0\0\0\1" + bytes(9)))
        assert peer.answer(3)[1][b"grpc-status"] == b"13"  # and more than was announced is, too
        peer.close()
    finally:
        served.close()


def test_a_call_that_outlives_its_deadline_is_ended(served):
    peer = Peer(served.grpc_port)
    watch = block("/grpc.health.v1.Health/Watch", b"application/grpc", (b"grpc-timeout", b"100m"))
    part = block(INFER, b"application/grpc", (b"grpc-timeout", b"100m"))
    peer.send(frame(HEADERS, END_HEADERS, 1, watch) + frame(DATA, END_STREAM, 1, bytes(5)))
    assert peer.answer(1)[1][b"grpc-status"] == b"4"
    peer.send(frame(HEADERS, END_HEADERS, 3, part) + frame(DATA, 0, 3, b"\0\0"))
    assert peer.answer(3)[1][b"grpc-status"] == b"4"
    peer.close()


def test_deadlines_and_cancellations_are_seen_and_counted(tmp_path):
    root, port, diary = str(Path(__file__).parents[3]), free_port(), tmp_path / "diary"
    with Servers(
        tmp_path / "data", "--trust-pickle", workers=1, PYTHONPATH=root, FAIRLEAD_GRPC_PORT=str(port)
    ) as servers:
        fairlead.register(
            Sleepy(str(diary)), "sleepy", "v1", reference={"x": np.arange(20, dtype=float)},
            trust_pickle=True, set_production=True, admin_url=servers.admin_url,
        )  # fmt: skip
        with fairlead.Admin(servers.admin_url) as admin:
            admin.configure("sleepy", None, {"timeout_ms": 60_000.0, "cache_seconds": 0})
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            ask = channel.unary_unary(INFER, response_deserializer=message("ModelInferResponse").FromString)
            wait_until(lambda: is_answered(ask, 3.5), 30)
            holding = ask.future(asked("sleepy", "x", np.array([1_001.5]))[5:])
            wait_until(diary.exists)
            with pytest.raises(grpc.RpcError) as caught:
                ask(asked("sleepy", "x", np.array([1_000.5]))[5:], timeout=0.2)
            assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            # Whichever of both ended it first, the row counts once.
            wait_until(lambda: counted(servers, "failed") + counted(servers, "cancelled") == 1)
            leaving = ask.future(asked("sleepy", "x", np.array([1_000.6]))[5:])
            gone = threading.Event()
            leaving.add_done_callback(lambda _: gone.set())
            leaving.cancel()
            assert gone.wait(10)
            assert holding.result().outputs[0].shape[0] == 1
            assert is_answered(ask, 4.5)
            assert diary.read_text() == "1001.5\n"


def is_answered(ask: grpc.UnaryUnaryMultiCallable, x: float) -> bool:
    try:
        ask(asked("sleepy", "x", np.array([x]))[5:])
    except grpc.RpcError:
        return False
    return True


def counted(servers: Servers, what: str) -> int:
    """Rows that failed, or whose callers went away."""
    with urllib.request.urlopen(f"{servers.url}/metrics") as answer:
        text = answer.read().decode()
    pattern = {
        "failed": r'^model_prediction_requests_total\{model_name="sleepy",.*status="failed"\} (\d+)',
        "cancelled": r'^requests_cancelled_total\{model_name="sleepy"\} (\d+)',
    }[what]
    found = re.search(pattern, text, re.MULTILINE)
    return int(found[1]) if found else 0
