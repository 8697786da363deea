"""The rules of HTTP/2 (RFC 9113) that bind a client, one by one: what breaking each of them leads to."""

import struct

import pytest
import tritonclient.grpc as triton

from fairlead.gateway.inference.hpack import written
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
    PRIORITY,
    PUSH,
    RESET,
    ROWS,
    SETTINGS,
    WINDOW,
    Peer,
    block,
    frame,
    request,
    rows_answered,
)

PROTOCOL, FLOW, STREAM_CLOSED, FRAME_SIZE, CANCEL, COMPRESSION, CALM = 1, 3, 5, 6, 8, 9, 11
STREAM_INFER = "/inference.GRPCInferenceService/ModelStreamInfer"
ASK = frame(HEADERS, END_HEADERS, 1, block())
LAST = ASK + frame(DATA, END_STREAM, 1, request()[:5])
"""A call of which the caller has said everything, wrongly, so that it is answered at once."""
OPEN = frame(HEADERS, END_HEADERS, 1, block(STREAM_INFER))
"""A call that stays open."""
WATCH = frame(HEADERS, END_HEADERS, 1, block("/grpc.health.v1.Health/Watch")) + frame(DATA, 0, 1, bytes(5))
"""A call that stays open and takes one message."""
HALF = WATCH + frame(DATA, END_STREAM, 1)
"""A call that stays open, of which the caller has said everything."""


def number(value: int) -> bytes:
    return value.to_bytes(4, "big")


def setting(name: int, value: int) -> bytes:
    return frame(SETTINGS, 0, 0, struct.pack(">HI", name, value))


BREACHES = {
    # 4.1 to 4.3: frames
    "a frame is no longer than was allowed": (bytes((0, 64, 1, DATA, 0)) + number(1), FRAME_SIZE),
    "a header block is not interrupted by another frame": (
        frame(HEADERS, 0, 1, block()) + frame(PING, 0, 0, bytes(8)), PROTOCOL),
    "nor by a frame of an unknown kind": (frame(HEADERS, 0, 1, block()) + frame(99, 0, 1), PROTOCOL),
    "nor by another stream's continuation": (
        frame(HEADERS, 0, 1, block()) + frame(CONTINUATION, END_HEADERS, 3), PROTOCOL),
    "nor by other headers": (
        frame(HEADERS, 0, 1, block()) + frame(HEADERS, END_HEADERS, 3, block()), PROTOCOL),
    "a header block can be read": (frame(HEADERS, END_HEADERS, 1, b"\x80"), COMPRESSION),
    "and those of trailers too": (OPEN + frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\xff"), COMPRESSION),
    "and those of what is refused too": (frame(HEADERS, END_HEADERS, 1, block()[:-1]), COMPRESSION),
    # 5.1: the states of streams
    "no data on a stream that is idle": (frame(DATA, 0, 7, b"x"), PROTOCOL),
    "no reset of a stream that is idle": (frame(RESET, 0, 9, bytes(4)), PROTOCOL),
    "no window for a stream that is idle": (frame(WINDOW, 0, 9, number(1)), PROTOCOL),
    "no data after the end of a stream": (HALF + frame(DATA, 0, 1, b"x"), STREAM_CLOSED),
    "no headers after the end of a stream": (
        HALF + frame(HEADERS, END_HEADERS | END_STREAM, 1, written((b"x-late", b"1"))), STREAM_CLOSED),
    "no data on a closed stream": (LAST + frame(DATA, 0, 1, b"x"), STREAM_CLOSED),
    "no data on a stream that was reset": (
        OPEN + frame(RESET, 0, 1, number(CANCEL)) + frame(DATA, 0, 1, b"x"), STREAM_CLOSED),
    "no headers on a closed stream": (LAST + frame(HEADERS, END_HEADERS, 1, block()), PROTOCOL),
    # 5.1.1: the numbers of streams
    "a client's streams have odd numbers": (frame(HEADERS, END_HEADERS, 2, block()), PROTOCOL),
    "requests have a stream": (frame(HEADERS, END_HEADERS, 0, block()), PROTOCOL),
    "numbers only grow": (
        frame(HEADERS, END_HEADERS, 5, block(STREAM_INFER)) + frame(HEADERS, END_HEADERS, 3, block()),
        PROTOCOL),
    "data on an even number is on no stream": (
        frame(HEADERS, END_HEADERS, 5, block(STREAM_INFER)) + frame(DATA, 0, 2, b"x"), PROTOCOL),
    # 6.1, 6.2: data and headers
    "data has a stream": (frame(DATA, 0, 0, b"x"), PROTOCOL),
    "padding of data is shorter than its frame": (OPEN + frame(DATA, PADDED, 1, b"\x02xx"[:2]), PROTOCOL),
    "padded data says how long the padding is": (OPEN + frame(DATA, PADDED, 1, b""), PROTOCOL),
    "padding of headers is shorter than their frame": (
        frame(HEADERS, END_HEADERS | PADDED, 1, b"\xff" + block()), PROTOCOL),
    "headers that begin with a priority have all of it": (
        frame(HEADERS, END_HEADERS | PRIORITIZED, 1, bytes(4)), FRAME_SIZE),
    "nobody comes before itself, by headers": (
        frame(HEADERS, END_HEADERS | PRIORITIZED, 1, number(1) + b"\x10" + block()), PROTOCOL),
    # 6.3: priorities
    "a priority has a stream": (frame(PRIORITY, 0, 0, bytes(5)), PROTOCOL),
    "a priority has five bytes": (frame(PRIORITY, 0, 1, bytes(4)), FRAME_SIZE),
    "nobody comes before itself": (frame(PRIORITY, 0, 1, number(1) + b"\x10"), PROTOCOL),
    # 6.4: resets
    "a reset has a stream": (frame(RESET, 0, 0, bytes(4)), PROTOCOL),
    "a reset has four bytes": (OPEN + frame(RESET, 0, 1, bytes(3)), FRAME_SIZE),
    # 6.5: settings
    "settings have no stream": (frame(SETTINGS, 0, 1), PROTOCOL),
    "settings have six bytes each": (frame(SETTINGS, 0, 0, bytes(5)), FRAME_SIZE),
    "settings are acknowledged without words": (frame(SETTINGS, 1, 0, bytes(6)), FRAME_SIZE),
    "pushes are switched on or off": (setting(2, 2), PROTOCOL),
    "a first window has its bounds": (setting(4, 2**31), FLOW),
    "frames are not to be smaller than the smallest": (setting(5, 16_383), PROTOCOL),
    "nor larger than the largest": (setting(5, 2**24), PROTOCOL),
    # 6.6 to 6.8: pushes, pings, farewells
    "a client pushes nothing": (frame(PUSH, END_HEADERS, 1, number(2) + block()), PROTOCOL),
    "a ping has no stream": (frame(PING, 0, 1, bytes(8)), PROTOCOL),
    "a ping has eight bytes": (frame(PING, 0, 0, bytes(7)), FRAME_SIZE),
    "a farewell has no stream": (frame(GOAWAY, 0, 1, bytes(8)), PROTOCOL),
    "a farewell has eight bytes at least": (frame(GOAWAY, 0, 0, bytes(7)), FRAME_SIZE),
    # 6.9: windows
    "a window grows by something": (frame(WINDOW, 0, 0, bytes(4)), PROTOCOL),
    "and that of a stream too": (OPEN + frame(WINDOW, 0, 1, bytes(4)), PROTOCOL),
    "a window's growth has four bytes": (frame(WINDOW, 0, 0, bytes(3)), FRAME_SIZE),
    "a window has its bounds": (frame(WINDOW, 0, 0, number(2**31 - 1)), FLOW),
    "and that of a stream too, in steps": (OPEN + frame(WINDOW, 0, 1, number(2**30)) * 2, FLOW),
    "and that of a stream too, by a setting": (
        OPEN + frame(WINDOW, 0, 1, number(2**31 - 1 - 65_535)) + setting(4, 65_536), FLOW),
    "no more is sent on a stream than its window allows": (
        WATCH + frame(DATA, 0, 1, b"\0\0\0\x3f\xfb" + bytes(16_379)) * 70, FLOW),
    # 6.10: continuations
    "nothing goes on that has not begun": (frame(CONTINUATION, END_HEADERS, 1, block()), PROTOCOL),
    "nothing goes on that has ended": (
        OPEN + frame(CONTINUATION, END_HEADERS, 1, block()), PROTOCOL),
    "continuations have an end": (
        frame(HEADERS, 0, 1, block()) + frame(CONTINUATION, 0, 1, bytes(16_000)) * 50, CALM),
}  # fmt: skip


@pytest.mark.parametrize("rule", BREACHES)
def test_a_caller_that_breaks_a_rule_loses_its_connection_and_harms_nobody_else(served, rule):
    sent, code = BREACHES[rule]
    peer = Peer(served.grpc_port)
    peer.send(sent)
    assert peer.goodbye() == code
    peer.close()
    with triton.InferenceServerClient(served.grpc_url) as client:
        assert client.is_server_live()


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        PREFACE[:-1] + b"x",
        PREFACE + frame(PING, 0, 0, bytes(8)),
        PREFACE + frame(SETTINGS, 1, 0),
        PREFACE + frame(HEADERS, END_HEADERS, 1, block()),
    ],
)
def test_a_connection_begins_with_the_preface_and_settings(served, sent):
    peer = Peer(served.grpc_port, greet=False)
    peer.send(sent)
    assert peer.goodbye() == PROTOCOL


REQUIRED = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", INFER.encode())]
KIND = (b"content-type", b"application/grpc")
MALFORMED = {
    # 8.2: names and values
    "names are in lower case": [*REQUIRED, KIND, (b"X-Unit", b"1")],
    "names have letters": [*REQUIRED, KIND, (b"", b"1")],
    "names have no blanks": [*REQUIRED, KIND, (b"x unit", b"1")],
    "names have only a colon before them": [*REQUIRED, KIND, (b"x:unit", b"1")],
    "names are ASCII": [*REQUIRED, KIND, ("x-größe".encode(), b"1")],
    "values have no zeros": [*REQUIRED, KIND, (b"x-unit", b"a\0b")],
    "values have no line ends": [*REQUIRED, KIND, (b"x-unit", b"a\r\nx-model-version: v2")],
    "values have no blanks before them": [*REQUIRED, KIND, (b"x-unit", b" a")],
    "values have no blanks behind them": [*REQUIRED, KIND, (b"x-unit", b"a\t")],
    "paths are values, too": [*REQUIRED[:2], (b":path", b"/a\nb"), KIND],
    # 8.2.2: what is one connection's
    "connection is not said": [*REQUIRED, KIND, (b"connection", b"close")],
    "keep-alive is not said": [*REQUIRED, KIND, (b"keep-alive", b"timeout=5")],
    "proxy-connection is not said": [*REQUIRED, KIND, (b"proxy-connection", b"close")],
    "transfer-encoding is not said": [*REQUIRED, KIND, (b"transfer-encoding", b"chunked")],
    "upgrade is not said": [*REQUIRED, KIND, (b"upgrade", b"h2c")],
    "te says trailers only": [*REQUIRED, KIND, (b"te", b"gzip")],
    # 8.3: what begins with a colon
    "it comes before the others": [*REQUIRED[:2], KIND, REQUIRED[2]],
    "it comes once": [*REQUIRED, REQUIRED[2], KIND],
    "it is known": [*REQUIRED, (b":query", b"x"), KIND],
    "it is of a request": [*REQUIRED, (b":status", b"200"), KIND],
    "there is a method": [*REQUIRED[1:], KIND],
    "there is a scheme": [REQUIRED[0], REQUIRED[2], KIND],
    "there is a path": [*REQUIRED[:2], KIND],
    "the path is not empty": [*REQUIRED[:2], (b":path", b""), KIND],
    "the path begins with a slash": [*REQUIRED[:2], (b":path", b"x"), KIND],
    "a tunnel has no path": [(b":method", b"CONNECT"), *REQUIRED[1:], KIND],
    # 8.1.1: lengths
    "a length is a number": [*REQUIRED, KIND, (b"content-length", b"+5")],
    "a length is said once, or alike": [
        *REQUIRED,
        KIND,
        (b"content-length", b"5"),
        (b"content-length", b"6"),
    ],
}


@pytest.mark.parametrize("rule", MALFORMED)
def test_a_malformed_request_is_reset_and_the_next_one_is_answered(served, rule):
    peer = Peer(served.grpc_port)
    head = written(*MALFORMED[rule])
    peer.send(frame(HEADERS, END_HEADERS, 1, head) + frame(DATA, END_STREAM, 1, request()))
    assert peer.reset(1) == PROTOCOL
    peer.send(frame(HEADERS, END_HEADERS, 3, block()) + frame(DATA, END_STREAM, 3, request()))
    assert rows_answered(peer.answer(3)[0]) == 9
    peer.close()


OF_FIVE = block(INFER, b"application/grpc", (b"content-length", b"5"))
SPOILED = {
    "trailers end a request": OPEN + frame(HEADERS, END_HEADERS, 1, written((b"x-last", b"1"))),
    "trailers have no pseudo-headers": OPEN
    + frame(HEADERS, END_HEADERS | END_STREAM, 1, written((b":path", b"/"))),
    "trailers keep to the rules of names": OPEN
    + frame(HEADERS, END_HEADERS | END_STREAM, 1, written((b"X-Last", b"1"))),
    "no more data comes than was announced": frame(HEADERS, END_HEADERS, 1, OF_FIVE)
    + frame(DATA, 0, 1, bytes(6)),
    "nor less": frame(HEADERS, END_HEADERS, 1, OF_FIVE) + frame(DATA, END_STREAM, 1, bytes(4)),
    "nor nothing": frame(HEADERS, END_HEADERS | END_STREAM, 1, OF_FIVE),
    "nor nothing before trailers": frame(HEADERS, END_HEADERS, 1, OF_FIVE)
    + frame(HEADERS, END_HEADERS | END_STREAM, 1, written((b"x-last", b"1"))),
}


@pytest.mark.parametrize("rule", SPOILED)
def test_a_request_that_turns_out_to_be_malformed_is_reset(served, rule):
    peer = Peer(served.grpc_port)
    peer.send(SPOILED[rule])
    assert peer.reset(1) == PROTOCOL
    peer.send(frame(HEADERS, END_HEADERS, 3, block()) + frame(DATA, END_STREAM, 3, request()))
    assert rows_answered(peer.answer(3)[0]) == 9
    peer.close()


HEAD = block()
BORNE = {
    "settings that nobody knows": setting(0xFEED, 7) + setting(8, 1),
    "settings of all kinds at once": frame(
        SETTINGS, 0, 0, struct.pack(">HIHIHIHIHI", 1, 0, 2, 0, 3, 100, 4, 2**31 - 1, 6, 1)),
    "an acknowledgement": frame(SETTINGS, 1, 0),
    "an answer to no ping": frame(PING, 1, 0, bytes(8)),
    "frames that nobody knows": frame(0x42, 0xFF, 0, b"abc") + frame(0xFF, 0, 77, bytes(16_384)),
    "flags that nobody knows": frame(PING, 0xF0, 0, bytes(8)),
    "a reserved bit": frame(WINDOW, 0, 0, number(2**31 + 5)) + frame(PING, 0, 2**31, bytes(8)),
    "priorities of streams that are not there": frame(PRIORITY, 0, 77, number(5) + b"\0"),
    "a farewell, since a server asks nothing": frame(GOAWAY, 0, 0, bytes(8) + b"so long"),
    "a window for a stream that has ended": LAST + frame(WINDOW, 0, 1, number(9)),
    "a reset of a stream that has ended": LAST + frame(RESET, 0, 1, bytes(4)),
    "data that was on its way when its call was refused": frame(HEADERS, END_HEADERS, 1, block("/no"))
    + frame(DATA, 0, 1, request()) + frame(DATA, END_STREAM, 1, b"x"),
    "trailers that were on their way, too": frame(HEADERS, END_HEADERS, 1, block("/no"))
    + frame(HEADERS, END_HEADERS | END_STREAM, 1, written((b"x-last", b"1"))),
    "numbers that were left out": frame(HEADERS, END_HEADERS, 51, block("/no"))
    + frame(RESET, 0, 51, bytes(4)),
    "empty data": ASK + frame(DATA, 0, 1) + frame(DATA, END_STREAM, 1),
    "data of padding alone": ASK + frame(DATA, PADDED, 1, b"\x03\0\0\0") + frame(DATA, END_STREAM, 1),
    "headers of no length": frame(HEADERS, 0, 1) + frame(CONTINUATION, 0, 1)
    + frame(CONTINUATION, END_HEADERS, 1, HEAD) + frame(DATA, END_STREAM, 1),
    "headers of padding and priority alone": frame(HEADERS, PADDED | PRIORITIZED, 1, b"\x01" + bytes(6))
    + frame(CONTINUATION, END_HEADERS, 1, HEAD) + frame(DATA, END_STREAM, 1),
    "a method of a tunnel": frame(HEADERS, END_HEADERS | END_STREAM, 1, written(
        (b":method", b"CONNECT"), (b":authority", b"me:1"))),
    "lengths that are said twice, alike": frame(HEADERS, END_HEADERS | END_STREAM, 1, block(
        INFER, b"application/grpc", (b"content-length", b"0"), (b"content-length", b"0"))),
}  # fmt: skip


@pytest.mark.parametrize("what", BORNE)
def test_what_the_rules_allow_is_borne(served, what):
    peer = Peer(served.grpc_port)
    peer.send(BORNE[what] + frame(HEADERS, END_HEADERS, 101, HEAD) + frame(DATA, END_STREAM, 101, request()))
    assert rows_answered(peer.answer(101)[0]) == 9
    peer.close()


def opened(stream: int, *more: bytes, path: str = INFER) -> bytes:
    return frame(HEADERS, END_HEADERS, stream, block(path)) + b"".join(more)


FLOODS = {
    "resets": b"".join(opened(n, frame(RESET, 0, n, number(CANCEL))) for n in range(1, 5_001, 2)),
    "malformed requests": b"".join(frame(HEADERS, END_HEADERS, n, written(KIND)) for n in range(1, 5_001, 2)),
    "requests that turn out to be malformed": b"".join(
        frame(HEADERS, END_HEADERS, n, OF_FIVE) + frame(DATA, 0, n, bytes(6)) for n in range(1, 5_001, 2)),
    "more streams than there may be": b"".join(opened(n, path=STREAM_INFER) for n in range(1, 6_001, 2)),
    "pings": frame(PING, 0, 0, bytes(8)) * 30_000,
    "settings": frame(SETTINGS, 0, 0) * 30_000,
    "acknowledgements": frame(SETTINGS, 1, 0) * 30_000,
    "priorities": frame(PRIORITY, 0, 1, bytes(5)) * 30_000,
    "frames that nobody knows": frame(0x42, 0, 0) * 30_000,
    "data of no length": ASK + frame(DATA, 0, 1) * 30_000,
    "data of padding alone": ASK + frame(DATA, PADDED, 1, b"\0") * 30_000,
    "continuations of no length": frame(HEADERS, 0, 1, HEAD) + frame(CONTINUATION, 0, 1) * 30_000,
    "resets of what has ended": LAST + frame(RESET, 0, 1, bytes(4)) * 30_000,
    "settings that change many windows": b"".join(opened(n, path=STREAM_INFER) for n in range(1, 1_601, 2))
    + (setting(4, 1) + setting(4, 2)) * 500,
}  # fmt: skip


@pytest.mark.parametrize("what", FLOODS)
def test_a_flood_ends_the_connection(served, what):
    peer = Peer(served.grpc_port)
    peer.flood(FLOODS[what])
    assert peer.goodbye() in (CALM, None)
    with triton.InferenceServerClient(served.grpc_url) as client:
        assert client.is_server_live()


def test_headers_beyond_the_limit_are_refused_and_the_next_call_is_answered(peer):
    large = block(INFER, b"application/grpc", (b"x-large", b"x" * 16_000), (b"x-larger", b"x" * 20_000))
    peer.send(frame(HEADERS, 0, 1, large[:16_000]) + frame(CONTINUATION, 0, 1, large[16_000:32_000]))
    peer.send(frame(CONTINUATION, END_HEADERS, 1, large[32_000:]))
    assert peer.goodbye() == CALM
    second = Peer(peer.port)
    second.send(frame(HEADERS, END_HEADERS, 1, HEAD + b"\x40\x01a\x7f\xa1\x1e" + b"x" * 4_000))
    second.send(frame(HEADERS, END_HEADERS, 3, HEAD + b"\xbe" * 9))
    assert second.answer(3)[1][b"grpc-status"] == b"8"
    second.close()


def test_few_bytes_that_name_many_headers_end_the_connection(peer):
    bomb = b"\x40\x01a\x7f\x81\x1e" + b"x" * 3_968
    peer.send(frame(HEADERS, END_HEADERS, 1, HEAD + bomb + b"\xbe" * 12_000))
    assert peer.goodbye() == COMPRESSION


def test_windows_that_were_given_hold_for_padding_too(peer):
    """More bytes of padding than the window has at first: it is given again as it is used."""
    body = request(ROWS.repeat(400, axis=0))
    parts = [body[place : place + 10] for place in range(0, len(body), 10)]
    peer.send(setting(4, 2**20) + frame(WINDOW, 0, 0, number(2**20)))
    peer.send(ASK + b"".join(frame(DATA, PADDED, 1, b"\xff" + part + bytes(255)) for part in parts))
    peer.send(frame(DATA, END_STREAM, 1))
    assert rows_answered(peer.answer(1)[0]) == 3_600
    given = [payload for kind, _, stream, payload in peer.seen if (kind, stream) == (WINDOW, 1)]
    assert sum(int.from_bytes(size, "big") for size in given) > 2**20


def test_a_peer_may_allow_no_table_for_headers(served):
    import hpack

    peer = Peer(served.grpc_port, settings=struct.pack(">HI", 1, 0))
    decoder = hpack.Decoder()
    decoder.max_allowed_table_size = 0
    peer.send(opened(1, frame(DATA, END_STREAM, 1, request())) + opened(3, frame(DATA, END_STREAM, 3, b"")))
    blocks = []
    for kind, _, _, payload in peer.frames():
        if kind == HEADERS:
            blocks.append(dict(decoder.decode(payload, raw=True)))
        if len(blocks) == 3:
            break
    assert sorted(found.get(b"grpc-status", b"") for found in blocks) == [b"", b"0", b"13"]
    peer.close()


def test_many_answers_share_a_window_fairly_and_byte_by_byte(served):
    peer = Peer(served.grpc_port, settings=struct.pack(">HI", 4, 2**20))
    big = ROWS.repeat(300, axis=0)
    asks = [opened(n, *pieces(n, request(big))) for n in (1, 3, 5)]
    peer.send(b"".join(asks))
    sizes = {1: 0, 3: 0, 5: 0}
    ended = 0
    for kind, flags, stream, payload in peer.frames():
        if kind == DATA:
            sizes[stream] += len(payload)
            peer.send(frame(WINDOW, 0, 0, number(max(1, len(payload)))))
        ended += bool(kind == HEADERS and flags & END_STREAM)
        if ended == 3:
            break
    assert sizes[1] == sizes[3] == sizes[5] > 30_000
    peer.close()


def pieces(stream: int, data: bytes) -> list[bytes]:
    parts = [data[place : place + 16_384] for place in range(0, len(data), 16_384)]
    return [
        frame(DATA, END_STREAM if place == len(parts) - 1 else 0, stream, part)
        for place, part in enumerate(parts)
    ]


def test_who_takes_an_answer_in_drops_is_given_up(tmp_path):
    served = Served(lay_models(tmp_path / "data"), write_seconds=1.0)
    try:
        peer = Peer(served.grpc_port, settings=struct.pack(">HI", 4, 5))
        peer.send(opened(1, *pieces(1, request(ROWS.repeat(4_000, axis=0)))))
        for kind, _, stream, _ in peer.frames():
            if kind == DATA:
                peer.send(frame(WINDOW, 0, 1, number(1)))
            if (kind, stream) == (RESET, 1):
                break
        else:
            raise AssertionError("the server closed instead")
    finally:
        served.close()


def test_what_was_sent_before_the_farewell_came_is_answered(tmp_path):
    """A gateway that stops names its last stream only once the caller knows that it stops."""
    served = Served(lay_models(tmp_path / "data"))
    peer = Peer(served.grpc_port)
    peer.send(opened(1))
    served.process.terminate()
    kinds = []
    for kind, flags, stream, payload in peer.frames():
        kinds.append(kind)
        if kind == GOAWAY and len(payload) == 8 and payload[:4] == number(2**31 - 1):
            peer.send(opened(3, frame(DATA, END_STREAM, 3, request())))
        if kind == PING and not flags:
            peer.send(frame(PING, 1, 0, payload))
            peer.send(opened(5, frame(DATA, 0, 5, b"x")) + frame(DATA, END_STREAM, 1, request()))
        if (kind, stream) == (GOAWAY, 0) and payload[:4] != number(2**31 - 1):
            assert payload == number(3) + number(0)
        if kind == RESET:
            assert (stream, payload) == (5, number(7))
    assert kinds.count(GOAWAY) == 2
    assert kinds.count(DATA) == 2
    served.close()


@pytest.fixture
def peer(served):
    made = Peer(served.grpc_port)
    yield made
    made.close()
