"""HTTP/2 as callers may speak it, well or badly, frame by frame."""

import random
import re
import struct
import urllib.request
from pathlib import Path

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

import fairlead
from fairlead.gateway.inference.hpack import written
from fairlead.gateway.inference.messages import message
from tests.gateway.inference.conftest import Served, lay_models
from tests.gateway.inference.peer import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    INFER,
    PADDED,
    PING,
    PREFACE,
    PRIORITIZED,
    RESET,
    ROWS,
    SETTINGS,
    WINDOW,
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


@pytest.fixture
def peer(served):
    made = Peer(served.grpc_port)
    yield made
    made.close()


def test_a_call_that_comes_byte_by_byte_is_answered(served):
    peer = Peer(served.grpc_port, greet=False)
    whole = PREFACE + frame(SETTINGS, 0, 0) + frame(HEADERS, END_HEADERS, 1, block())
    for byte in whole + frame(DATA, END_STREAM, 1, request()):
        peer.send(bytes((byte,)))
    data, said = peer.answer(1)
    assert rows_answered(data) == 9
    assert (said[b":status"], said[b"grpc-status"]) == (b"200", b"0")
    peer.close()


def test_padding_priorities_continuations_and_trailers_change_nothing(peer):
    head, body = block(), request()
    padded = bytes((3,)) + bytes(5) + head[:10] + bytes(3)
    peer.send(frame(HEADERS, PADDED | PRIORITIZED, 1, padded))
    peer.send(frame(CONTINUATION, 0, 1, head[10:20]) + frame(CONTINUATION, END_HEADERS, 1, head[20:]))
    peer.send(frame(DATA, PADDED, 1, bytes((4,)) + body[:50] + bytes(4)) + frame(DATA, 0, 1, body[50:]))
    peer.send(frame(0xBB, 0xFF, 1, b"of a kind that nobody knows") + frame(2, 0, 1, bytes(5)))
    peer.send(frame(HEADERS, END_STREAM | END_HEADERS, 1, written((b"x-last", b"1"))))
    data, _ = peer.answer(1)
    assert rows_answered(data) == 9


def test_calls_of_one_read_are_answered_each_to_its_stream(peer):
    calls = b"".join(
        frame(HEADERS, END_HEADERS, stream, block()) + frame(DATA, END_STREAM, stream, request(ROWS[:count]))
        for count, stream in enumerate(range(1, 17, 2), start=1)
    )
    peer.send(calls)
    found: dict[int, int] = {}
    for kind, _, stream, payload in peer.frames():
        if kind == DATA:
            found[stream] = rows_answered(payload)
        if len(found) == 8:
            break
    assert found == {stream: count for count, stream in enumerate(range(1, 17, 2), start=1)}


def test_an_answer_waits_for_room_in_the_callers_windows(served):
    peer = Peer(served.grpc_port, settings=struct.pack(">HI", 4, 0))
    peer.send(frame(HEADERS, END_HEADERS, 1, block()) + frame(DATA, END_STREAM, 1, request()))
    peer.send(frame(PING, 0, 0, b"01234567"))
    pieces: list[bytes] = []
    ponged = False
    for kind, flags, stream, payload in peer.frames():
        if kind == PING:
            assert (payload, flags) == (b"01234567", 1)
            assert not pieces
            ponged = True
            peer.send(frame(WINDOW, 0, 1, (10).to_bytes(4, "big")))
        if kind == DATA:
            pieces.append(payload)
            if len(pieces) == 1:
                peer.send(frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 1_000)))
        if kind == HEADERS and stream == 1 and flags & END_STREAM:
            break
    assert ponged
    assert len(pieces[0]) == 10
    assert rows_answered(b"".join(pieces)) == 9
    peer.close()


def test_who_does_not_speak_http2_is_let_go(served):
    peer = Peer(served.grpc_port, greet=False)
    peer.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert peer.goodbye() == 1


def test_what_is_no_call_of_grpc_gets_a_status_of_http(peer):
    peer.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, block(INFER, b"text/html")))
    assert peer.answer(1)[1] == {b":status": b"415"}
    get = written(
        (b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b"content-type", b"application/grpc")
    )
    peer.send(frame(HEADERS, END_HEADERS | END_STREAM, 3, get))
    assert peer.answer(3)[1] == {b":status": b"405"}


def test_a_method_that_is_not_there_is_unimplemented(peer):
    peer.send(frame(HEADERS, END_HEADERS, 1, block("/inference.GRPCInferenceService/Größe")))
    _, said = peer.answer(1)
    assert said[b"grpc-status"] == b"12"
    assert b"Gr%C3" in said[b"grpc-message"]


@pytest.mark.parametrize("body", [b"", b"\0\0\0", request()[:-1], request() + b"x", request() * 2])
def test_a_call_holds_exactly_one_message(peer, body):
    peer.send(frame(HEADERS, END_HEADERS, 1, block()) + frame(DATA, END_STREAM, 1, body))
    assert peer.answer(1)[1][b"grpc-status"] == b"13"


def test_bytes_that_are_no_message_are_an_invalid_argument(peer):
    peer.send(
        frame(HEADERS, END_HEADERS, 1, block()) + frame(DATA, END_STREAM, 1, b"\0\0\0\0\x03\xff\xff\xff")
    )
    assert peer.answer(1)[1][b"grpc-status"] == b"3"


def test_a_message_that_is_too_long_is_refused_before_it_has_come(peer):
    peer.send(frame(HEADERS, END_HEADERS, 1, block()) + frame(DATA, 0, 1, b"\0\xff\xff\xff\xff"))
    assert peer.answer(1)[1][b"grpc-status"] == b"8"


@pytest.mark.parametrize("how", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_compressed_messages_are_taken(served, how):
    with grpc.insecure_channel(served.grpc_url, compression=how) as channel:
        infer = channel.unary_unary(INFER, response_deserializer=message("ModelInferResponse").FromString)
        assert infer(request(np.tile(ROWS, (100, 1)))[5:]).outputs[0].shape[0] == 900


def test_a_compressed_message_may_not_grow_beyond_the_limit(served):
    with (
        grpc.insecure_channel(served.grpc_url, compression=grpc.Compression.Gzip) as channel,
        pytest.raises(grpc.RpcError) as caught,
    ):
        channel.unary_unary(INFER)(bytes(30_000_000))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_who_gives_up_again_and_again_loses_the_connection(peer):
    sent = b"".join(
        frame(HEADERS, END_HEADERS, stream, block()) + frame(RESET, 0, stream, (8).to_bytes(4, "big"))
        for stream in range(1, 5_001, 2)
    )
    peer.send(sent)
    assert peer.goodbye() == 11


def test_a_time_that_is_over_is_a_deadline_exceeded(peer):
    head = block(INFER, b"application/grpc", (b"grpc-timeout", b"1n"))
    peer.send(frame(HEADERS, END_HEADERS, 1, head) + frame(DATA, END_STREAM, 1, request()))
    assert peer.answer(1)[1][b"grpc-status"] in (b"4", b"14")


def test_a_caller_that_leaves_frees_its_row(tmp_path):
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
        with triton.InferenceServerClient(f"127.0.0.1:{port}") as client:
            wait_until(lambda: doubled(client, 3.5) == 7.0, 30)
            peer = Peer(port)
            for stream, values in ((1, [1_002.0]), (3, [1_000.5]), (5, [1_000.5, 1_000.6, 1_000.7])):
                body = asked("sleepy", "x", np.array(values))
                peer.send(frame(HEADERS, END_HEADERS, stream, block()))
                peer.send(frame(DATA, END_STREAM, stream, body))
                wait_until(diary.exists)  # the worker is asleep, and what comes next waits
            peer.send(frame(RESET, 0, 3, (8).to_bytes(4, "big")))
            wait_until(lambda: cancelled(servers) == 1)
            peer.send(frame(RESET, 0, 5, (8).to_bytes(4, "big")))
            wait_until(lambda: cancelled(servers) == 4)
            assert peer.answer(1)[1][b"grpc-status"] == b"0"
            assert doubled(client, 3.5) == 7.0  # behind whatever waited
            assert diary.read_text() == "1002.0\n"
            peer.close()


def cancelled(servers: Servers) -> int:
    with urllib.request.urlopen(f"{servers.url}/metrics") as answer:
        text = answer.read().decode()
    found = re.search(r'^requests_cancelled_total\{model_name="sleepy"\} (\d+)', text, re.MULTILINE)
    return int(found[1]) if found else 0


def doubled(client: triton.InferenceServerClient, x: float) -> float | None:
    given = triton.InferInput("x", [1], "FP64")
    given.set_data_from_numpy(np.array([x]))
    try:
        return float(client.infer("sleepy", [given]).as_numpy("value")[0])
    except InferenceServerException:
        return None


def test_whatever_comes_the_others_are_served(served):
    chance = random.Random(1)
    pieces = [
        frame(HEADERS, END_HEADERS, 1, block()), frame(DATA, END_STREAM, 1, request()), frame(SETTINGS, 0, 0),
        frame(WINDOW, 0, 1, bytes((0, 0, 0, 9))), frame(RESET, 0, 1, bytes(4)), frame(PING, 0, 0, bytes(8)),
        frame(HEADERS, END_HEADERS, 3, block("/inference.GRPCInferenceService/ModelStreamInfer")),
        frame(DATA, 0, 3, request()), frame(GOAWAY, 0, 0, bytes(8)),
    ]  # fmt: skip
    for _ in range(150):
        sent = bytearray(b"".join(chance.choices(pieces, k=8)))
        for _ in range(chance.randrange(4)):
            sent[chance.randrange(len(sent))] = chance.randrange(256)
        peer = Peer(served.grpc_port)
        peer.send(bytes(sent))
        peer.close()
    with triton.InferenceServerClient(served.grpc_url) as client:
        given = triton.InferInput("X", [9, 4], "FP32")
        given.set_data_from_numpy(ROWS)
        assert client.infer("iris", [given]).as_numpy("label").shape == (9,)


def test_a_gateway_that_stops_says_so_and_takes_its_leave(tmp_path):
    served = Served(lay_models(tmp_path / "data"))
    peer = Peer(served.grpc_port)
    peer.send(frame(HEADERS, END_HEADERS, 1, block()) + frame(DATA, END_STREAM, 1, request()))
    assert rows_answered(peer.answer(1)[0]) == 9
    served.close()
    assert peer.goodbye() == 0


def test_a_message_that_is_never_whole_and_an_answer_that_nobody_takes_are_given_up(tmp_path):
    served = Served(lay_models(tmp_path / "data"), request_seconds=0.5, write_seconds=0.5)
    try:
        peer = Peer(served.grpc_port, settings=struct.pack(">HI", 4, 5))
        peer.send(frame(HEADERS, END_HEADERS, 1, block()) + frame(DATA, 0, 1, request()[:20]))
        assert peer.answer(1)[1][b"grpc-status"] == b"1"
        peer.send(frame(HEADERS, END_HEADERS, 3, block()) + frame(DATA, END_STREAM, 3, request()))
        assert any((kind, stream) == (RESET, 3) for kind, _, stream, _ in peer.frames())
        silent = Peer(served.grpc_port, greet=False)
        assert silent.goodbye() is None
    finally:
        served.close()
