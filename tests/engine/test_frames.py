"""The frames between gateway and worker: whatever goes in comes out, and nothing else is believed."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fairlead.engine.frames import (
    LENGTH,
    MAX_FRAME,
    Answer,
    Cell,
    FrameError,
    Frames,
    Ready,
    Request,
    Setup,
    decode_answer,
    decode_request,
    encode,
    pack,
    unpack,
)

_SHAPES = hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=5)
_NUMBERS = st.sampled_from(["float32", "float64", "int32", "int64", "bool"]).flatmap(
    lambda dtype: hnp.arrays(dtype, _SHAPES)
)
_TEXTS = hnp.arrays(object, _SHAPES, elements=st.text(st.characters(codec="utf-8"), max_size=5))


@given(_NUMBERS | _TEXTS)
def test_a_tensor_comes_out_as_it_went_in(array: Any) -> None:
    body = encode(Request(7, {"größe": pack(array)}))[1]
    message = decode_request(body)
    assert isinstance(message, Request)
    found = unpack(message.tensors["größe"])
    assert (found.dtype, found.shape, message.id) == (array.dtype, array.shape, 7)
    assert found.tolist() == array.tolist() or np.array_equal(found, array, equal_nan=True)
    assert found.flags.writeable
    assert found.flags.aligned


@pytest.mark.parametrize(
    ("array", "dtype"),
    [
        (np.array([1, 2], np.uint8), "int64"),
        (np.array([1, 2], np.int16), "int64"),
        (np.array([1.5], np.float16), "float64"),
        (np.array([1.5], ">f8"), "float64"),
        (np.array([[1, 2], [3, 4]])[:, ::-1], "int64"),
        (np.array([[1.0, 2.0], [3.0, 4.0]]).T, "float64"),
        (np.array(["a", "bc"]), "string"),
        (np.array([1, 2], dtype=object), "int64"),
        (np.array([True, False], dtype=object), "bool"),
        (np.array(3.5), "float64"),
    ],
)
def test_other_layouts_and_number_types_become_the_nearest_that_is_served(array: Any, dtype: str) -> None:
    cell = pack(array)
    assert cell.dtype == dtype
    body = encode(Answer(1, {"y": cell}))[1]
    message = decode_answer(body)
    assert isinstance(message, Answer)
    assert unpack(message.tensors["y"]).tolist() == array.tolist()


@pytest.mark.parametrize(
    "array", [np.array([1j]), np.array([1, "a"], dtype=object), np.array([None]), np.array(["2024"], "M8[Y]")]
)
def test_what_no_tensor_can_be_is_refused_where_it_is_made(array: Any) -> None:
    with pytest.raises(FrameError, match="cannot be sent"):
        pack(array)


@pytest.mark.parametrize(
    "cell",
    [
        Cell("float64", (2,), b"12345678"),
        Cell("float64", (-1,), b"12345678"),
        Cell("float64", (-1, -1), b"12345678"),
        Cell("object", (1,), b"12345678"),
        Cell("U4", (1,), b"1234567812345678"),
        Cell("string", (1,), b"a"),
        Cell("string", (2,), ["a"]),
        Cell("float64", (1,), ["a"]),
    ],
)
def test_a_tensor_whose_shape_and_data_disagree_is_refused(cell: Cell) -> None:
    with pytest.raises(FrameError):
        unpack(cell)


@given(st.lists(st.binary(max_size=40), max_size=6), st.lists(st.integers(1, 30), min_size=1))
def test_frames_are_found_however_the_bytes_arrive(bodies: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(LENGTH.pack(len(body)) + body for body in bodies)
    frames, found, at, turn = Frames(), [], 0, 0
    while at < len(stream):
        step = cuts[turn % len(cuts)]
        found += frames.feed(stream[at : at + step])
        at, turn = at + step, turn + 1
    assert found == bodies


def test_a_length_that_cannot_be_is_refused_before_anything_is_held_for_it() -> None:
    with pytest.raises(FrameError, match="announced"):
        list(Frames().feed(LENGTH.pack(MAX_FRAME + 1)))


@given(st.binary(max_size=60))
def test_garbage_is_never_taken_for_a_message(data: bytes) -> None:
    for decode in (decode_request, decode_answer):
        try:
            message = decode(data)
        except FrameError:
            continue
        assert isinstance(message, Setup | Request | Ready | Answer)


def test_only_texts_on_their_way_to_a_model_may_be_null() -> None:
    array = np.array(["a", None], dtype=object)
    cell = pack(array, nulls=True)
    assert unpack(cell, nulls=True).tolist() == ["a", None]
    with pytest.raises(FrameError, match="null"):
        unpack(cell)
    with pytest.raises(FrameError, match="cannot be sent"):
        pack(array)


def test_each_side_believes_only_what_the_other_may_say() -> None:
    ready, setup = encode(Ready())[1], encode(Setup("m.pkl", {}, ()))[1]
    for decode, body in ((decode_request, ready), (decode_answer, setup), (decode_answer, b"")):
        with pytest.raises(FrameError):
            decode(body)
    with pytest.raises(FrameError):
        decode_answer(msgspec.msgpack.encode({"type": "answer", "id": "x"}))
