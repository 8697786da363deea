"""HTTP/2 against a second opinion: another implementation's header blocks, any reads, any damage."""

import h2.config
import h2.connection
import h2.events
import h2.settings
import hpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.gateway.inference.hpack import HeaderReader
from tests.gateway.inference.peer import (
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PADDED,
    PING,
    PREFACE,
    RESET,
    SETTINGS,
    WINDOW,
    Peer,
    block,
    frame,
    request,
    rows_answered,
)

texts = st.one_of(
    st.binary(max_size=40),
    st.text("abcdefghijklmnopqrstuvwxyz-0123456789/", max_size=60).map(str.encode),
    st.sampled_from([b":path", b"grpc-timeout", b"content-type", b"x" * 3_000]),
)
fields = st.tuples(
    st.one_of(st.sampled_from([b":path", b":method", b"te", b"accept", b"x-unit"]), texts.filter(len)), texts
)
blocks = st.lists(
    st.tuples(st.lists(fields, max_size=8), st.booleans(), st.none() | st.integers(0, 4_096)), max_size=8
)


@settings(max_examples=300, deadline=None)
@given(blocks)
def test_whatever_another_encoder_writes_is_read_alike(sent):
    encoder, reader = hpack.Encoder(), HeaderReader(1_000_000)
    for headers, is_packed, table in sent:
        if table is not None:
            encoder.header_table_size = table
        assert reader.read(encoder.encode(headers, huffman=is_packed)) == headers


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=80), st.booleans())
def test_any_bytes_are_read_as_another_decoder_reads_them_or_refused(raw, is_packed):
    """A literal whose value is these bytes, as they are or as Huffman's code."""
    sent = b"\0\1x" + bytes((0x80 * is_packed | len(raw),)) + raw
    try:
        theirs = hpack.Decoder().decode(sent, raw=True)
    except hpack.HPACKError:
        theirs = None
    try:
        ours = HeaderReader(100_000).read(sent)
    except Exception:
        ours = None
    assert (ours is None) == (theirs is None)
    assert ours is None or ours == [tuple(theirs[0])]


def conversation(client: h2.connection.H2Connection, table: int = 4_096) -> bytes:
    """What the client says: four calls, their bodies in pieces, one that it gives up."""
    client.initiate_connection()
    client.update_settings({h2.settings.SettingCodes.HEADER_TABLE_SIZE: table})
    head = [
        (":method", "POST"), (":scheme", "http"), (":path", "/inference.GRPCInferenceService/ModelInfer"),
        (":authority", "me"), ("content-type", "application/grpc"), ("te", "trailers"), ("x-unit", "u-1"),
    ]  # fmt: skip
    body = request()
    for stream in (1, 3, 5, 7):
        client.send_headers(stream, head)
        client.send_data(stream, body[:40], pad_length=stream)
        if stream == 5:
            client.reset_stream(5, 8)
        else:
            client.ping(b"%08d" % stream)
            client.send_data(stream, body[40:], end_stream=True)
    return bytes(client.data_to_send())


def new_client() -> h2.connection.H2Connection:
    return h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))


def answered(peer: Peer, client: h2.connection.H2Connection, calls: int) -> dict[int, tuple[int, str]]:
    """Rows and status by stream, as the client understands the server."""
    data: dict[int, bytes] = {}
    found: dict[int, tuple[int, str]] = {}
    for kind, flags, stream, payload in peer.frames():
        raw = frame(kind, flags, stream, payload)
        for event in client.receive_data(raw):
            if isinstance(event, h2.events.DataReceived):
                data[event.stream_id] = data.get(event.stream_id, b"") + event.data
            if isinstance(event, h2.events.TrailersReceived):
                status = dict(event.headers)["grpc-status"]
                found[event.stream_id] = rows_answered(data[event.stream_id]), status
        if len(found) == calls:
            break
    return found


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_any_split_of_the_bytes_into_reads_gives_the_same_answers(served, data):
    client = new_client()
    sent = conversation(client)
    cuts = data.draw(st.lists(st.integers(1, len(sent) - 1), max_size=12).map(sorted))
    peer = Peer(served.grpc_port, greet=False)
    for start, stop in zip([0, *cuts], [*cuts, len(sent)], strict=True):
        peer.send(sent[start:stop])
    assert answered(peer, client, 3) == {1: (9, "0"), 3: (9, "0"), 7: (9, "0")}
    peer.close()


@pytest.mark.parametrize("size", [0, 100, 4_096, 65_536])
def test_another_implementation_understands_us_whatever_its_table_of_headers(served, size):
    client = new_client()
    peer = Peer(served.grpc_port, greet=False)
    peer.send(conversation(client, size))
    assert answered(peer, client, 3) == {1: (9, "0"), 3: (9, "0"), 7: (9, "0")}
    peer.close()


PIECES = [
    frame(HEADERS, END_HEADERS, 1, block()),
    frame(HEADERS, END_HEADERS, 3, block("/inference.GRPCInferenceService/ModelStreamInfer")),
    frame(HEADERS, 0, 5, block()[:30]),
    frame(9, END_HEADERS, 5, block()[30:]),
    frame(DATA, END_STREAM, 1, request()),
    frame(DATA, PADDED, 3, b"\x05" + request() + bytes(5)),
    frame(SETTINGS, 0, 0, b"\0\4\0\0\0\0"),
    frame(SETTINGS, 0, 0, b"\0\4\0\1\0\0"),
    frame(WINDOW, 0, 0, b"\0\0\0\x09"),
    frame(WINDOW, 0, 3, b"\0\0\0\x09"),
    frame(RESET, 0, 1, bytes(4)),
    frame(PING, 0, 0, bytes(8)),
    frame(GOAWAY, 0, 0, bytes(8)),
]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(PIECES), min_size=1, max_size=14), st.integers(0, 6), st.randoms())
def test_whatever_is_damaged_the_connection_ends_and_a_neighbour_is_answered(served, frames, damages, chance):
    sent = bytearray(b"".join(frames))
    for _ in range(damages):
        how, place = chance.randrange(3), chance.randrange(len(sent) or 1)
        if how == 0 and sent:
            sent[place] = chance.randrange(256)
        elif how == 1:
            del sent[place : place + chance.randrange(1, 12)]
        else:
            sent[place:place] = bytes(chance.randrange(256) for _ in range(4))
    peer, neighbour = Peer(served.grpc_port), Peer(served.grpc_port)
    peer.flood(bytes(sent))
    peer.finish()
    for _ in peer.frames():
        pass
    neighbour.send(frame(HEADERS, END_HEADERS, 1, block()) + frame(DATA, END_STREAM, 1, request()))
    assert rows_answered(neighbour.answer(1)[0]) == 9
    peer.close()
    neighbour.close()


def test_the_preface_may_be_all_that_comes(served):
    peer = Peer(served.grpc_port, greet=False)
    peer.send(PREFACE)
    peer.finish()
    assert peer.goodbye() is None
