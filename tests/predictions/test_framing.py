"""Frames come back as they went in, or not at all."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from fairlead.predictions.framing import HEADER_BYTES, MAX_PAYLOAD_BYTES, frame, read_frames

payloads = st.lists(st.binary(min_size=1, max_size=40), max_size=12)


@given(payloads)
def test_payloads_come_back_in_order(given_payloads: list[bytes]) -> None:
    buffer = b"".join(map(frame, given_payloads))
    assert read_frames(buffer) == (given_payloads, len(buffer), "whole")


@given(payloads, st.data())
def test_a_cut_at_any_byte_yields_exactly_the_whole_frames_before_it(
    given_payloads: list[bytes], data: st.DataObject
) -> None:
    frames = [frame(payload) for payload in given_payloads]
    buffer = b"".join(frames)
    cut = data.draw(st.integers(0, len(buffer)))
    ends = list(itertools.accumulate(map(len, frames)))
    whole = sum(end <= cut for end in ends)
    found = read_frames(buffer[:cut])
    assert found.payloads == given_payloads[:whole]
    assert found.end == (ends[whole - 1] if whole else 0)
    assert found.state == ("whole" if found.end == cut else "torn")


@given(payloads.filter(bool), st.data())
def test_a_flipped_byte_never_yields_a_wrong_payload(
    given_payloads: list[bytes], data: st.DataObject
) -> None:
    frames = [frame(payload) for payload in given_payloads]
    buffer = bytearray(b"".join(frames))
    position = data.draw(st.integers(0, len(buffer) - 1))
    buffer[position] ^= data.draw(st.integers(1, 255))
    intact = sum(end <= position for end in itertools.accumulate(map(len, frames)))
    found = read_frames(bytes(buffer))
    assert found.payloads == given_payloads[:intact]
    assert found.state in ("torn", "corrupt")


@given(payloads, st.integers(0, 100))
def test_reading_in_two_steps_is_reading_in_one(given_payloads: list[bytes], cut: int) -> None:
    buffer = b"".join(map(frame, given_payloads))
    first = read_frames(buffer[:cut])
    rest = read_frames(buffer, first.end)
    assert first.payloads + rest.payloads == given_payloads
    assert rest.end == len(buffer)


def test_zeros_after_a_power_cut_are_no_frames() -> None:
    good = frame(b"kept")
    assert read_frames(good + bytes(64)) == ([b"kept"], len(good), "corrupt")


def test_an_absurd_length_is_damage_and_not_awaited() -> None:
    absurd = (MAX_PAYLOAD_BYTES + 1).to_bytes(4, "little") + bytes(4)
    assert read_frames(absurd).state == "corrupt"


def test_a_header_alone_is_torn() -> None:
    assert read_frames(frame(b"payload")[:HEADER_BYTES]) == ([], 0, "torn")


def test_an_empty_buffer_is_whole() -> None:
    assert read_frames(b"") == ([], 0, "whole")
