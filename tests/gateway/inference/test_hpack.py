"""Header blocks: the examples of RFC 7541, and what no sender may write."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.gateway.inference import hpack
from fairlead.gateway.inference.hpack import BrokenHeaders, HeaderReader, written

COMMON = [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"www.example.com")]


@pytest.mark.parametrize(
    "blocks",
    [
        # Appendix C.3, without Huffman codes, and C.4, with them.
        (
            "828684410f7777772e6578616d706c652e636f6d",
            "828684be58086e6f2d6361636865",
            "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565",
        ),
        (
            "828684418cf1e3c2e5f23a6ba0ab90f4ff",
            "828684be5886a8eb10649cbf",
            "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
        ),
    ],
)
def test_the_examples_of_the_standard_are_read(blocks):
    reader = HeaderReader(4_096)
    assert reader.read(bytes.fromhex(blocks[0])) == COMMON
    assert reader.read(bytes.fromhex(blocks[1])) == [*COMMON, (b"cache-control", b"no-cache")]
    assert reader.read(bytes.fromhex(blocks[2])) == [
        (b":method", b"GET"),
        (b":scheme", b"https"),
        (b":path", b"/index.html"),
        (b":authority", b"www.example.com"),
        (b"custom-key", b"custom-value"),
    ]


def test_the_huffman_codes_leave_nothing_out():
    lengths = [ord(letter) - ord("a") + 5 for letter in hpack._CODE_BITS]
    assert len(lengths) == 257
    assert sum(2.0**-length for length in lengths) == 1.0


headers = st.lists(st.tuples(st.binary(min_size=1, max_size=40), st.binary(max_size=300)), max_size=5)


@given(headers)
def test_what_is_written_is_read_and_changes_nothing(found):
    reader = HeaderReader(100_000)
    assert reader.read(written(*found)) == found
    assert reader.changes == 0


def test_the_oldest_headers_leave_a_full_table():
    reader = HeaderReader(100_000)
    for index in range(100):
        name, value = b"name-%d" % index, b"v" * 100
        reader.read(b"\x40" + bytes((len(name),)) + name + bytes((len(value),)) + value)
    assert reader.read(b"\xbe") == [(b"name-99", b"v" * 100)]
    held = 4_096 // (len("name-99") + 100 + 32)
    assert reader.read(bytes((0x80 | 61 + held,))) == [(b"name-%d" % (100 - held), b"v" * 100)]
    with pytest.raises(BrokenHeaders):
        reader.read(bytes((0x80 | 62 + held,)))
    assert reader.read(b"\x20") == []  # a table of no bytes
    with pytest.raises(BrokenHeaders):
        reader.read(b"\xbe")


@pytest.mark.parametrize(
    "block",
    [
        "80",  # header 0
        "be",  # nothing is in the table
        "ffffffffffff7f",  # a number without end
        "0001",  # a name that is not there
        "000161",  # no value
        "3fe21f",  # a larger table than was offered
        "8220",  # a table resized behind a header
        "00016182ffff",  # a code that is all padding, and too much of it
        "000161811e",  # padding that is none
        "00016184ffffffff",  # the end within a text
    ],
)
def test_blocks_that_no_sender_may_write_are_broken(block):
    with pytest.raises(BrokenHeaders):
        HeaderReader(4_096).read(bytes.fromhex(block))


def test_headers_beyond_the_bound_are_broken_however_few_bytes_name_them():
    reader = HeaderReader(1_000)
    with pytest.raises(BrokenHeaders):
        reader.read(written((b"a", b"b" * 990)))
    reader.read(b"\x40\x01a\x7f\x45" + b"v" * 196)
    with pytest.raises(BrokenHeaders):
        reader.read(b"\xbe" * 10)


@given(st.binary(max_size=60))
def test_any_bytes_are_headers_or_broken(block):
    with contextlib.suppress(BrokenHeaders):
        HeaderReader(500).read(block)
