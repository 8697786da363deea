"""The frames between gateway, host and worker: whatever goes in comes out, and nothing else is believed."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fairlead.engine.frames import (
    MAX_FRAME,
    Answer,
    Cancel,
    Frame,
    FrameError,
    Frames,
    Jobs,
    Message,
    Ping,
    Tensor,
    encode,
    pack,
    unpack,
)

_SHAPES = hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=5)
_NUMBERS = st.sampled_from(["float32", "float64", "int32", "int64", "bool"]).flatmap(
    lambda dtype: hnp.arrays(dtype, _SHAPES)
)
_TEXTS = hnp.arrays(object, _SHAPES, elements=st.text(st.characters(codec="utf-8"), max_size=5))


def travelled(message: Message, numbers: Any = ()) -> Frame:
    (frame,) = Frames().feed(b"".join(encode(message, numbers)))
    return frame


def sent(tensors: dict[str, Any], **how: bool) -> dict[str, Any]:
    described, numbers = pack(tensors, **how)
    frame = travelled(Jobs([(7, 1, 2.5, 0)], described), numbers)
    assert isinstance(frame.message, Jobs)
    assert frame.message.jobs == [(7, 1, 2.5, 0)]
    return unpack(frame.message.tensors, frame.payload, **how)


@given(st.lists(_NUMBERS | _TEXTS, max_size=4))
def test_tensors_come_out_as_they_went_in(arrays: list[Any]) -> None:
    found = sent({f"größe{index}": array for index, array in enumerate(arrays)})
    for array, one in zip(arrays, found.values(), strict=True):
        assert (one.dtype, one.shape) == (array.dtype, array.shape)
        assert one.tolist() == array.tolist() or np.array_equal(one, array, equal_nan=True)
        assert one.flags.writeable
        assert one.flags.aligned


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
        (np.array([[1, 2]], dtype=object), "int64"),
        (np.array([True, False], dtype=object), "bool"),
        (np.array(3.5), "float64"),
    ],
)
def test_other_layouts_and_number_types_become_the_nearest_that_is_served(array: Any, dtype: str) -> None:
    assert pack({"y": array})[0][0].dtype == dtype
    assert sent({"y": array})["y"].tolist() == array.tolist()


@pytest.mark.parametrize(
    "array", [np.array([1j]), np.array([1, "a"], dtype=object), np.array([None]), np.array(["2024"], "M8[Y]")]
)
def test_what_no_tensor_can_be_is_refused_where_it_is_made(array: Any) -> None:
    with pytest.raises(FrameError, match="cannot be sent"):
        pack({"y": array})


@pytest.mark.parametrize(
    "tensor",
    [
        Tensor("x", "float64", (2,)),
        Tensor("x", "float64", (0,)),
        Tensor("x", "float64", (-1,)),
        Tensor("x", "float64", (-1, -1)),
        Tensor("x", "object", (1,)),
        Tensor("x", "U4", (1,)),
        Tensor("x", "string", (1,)),
        Tensor("x", "string", (2,), ["a"]),
        Tensor("x", "string", (1,), ["a"]),
    ],
)
def test_a_tensor_whose_shape_and_data_disagree_is_refused(tensor: Tensor) -> None:
    with pytest.raises(FrameError):
        unpack([tensor], memoryview(b"12345678"))


_MESSAGES = st.builds(Cancel, st.lists(st.integers(0, 1 << 40), max_size=4)) | st.builds(
    Answer, st.lists(st.integers(0, 9), max_size=2), message=st.text(max_size=9)
)


@given(
    st.lists(st.tuples(_MESSAGES, st.sampled_from([0, 8, 800, 70_000, 140_000])), max_size=5),
    st.lists(st.sampled_from([1, 7, 8, 9, 63, 4_096, 65_536, 131_072])).map(lambda cuts: [*cuts, 65_536]),
)
def test_frames_are_found_however_the_bytes_arrive(sent: list[Any], cuts: list[int]) -> None:
    payloads = [np.arange(size // 8) for _, size in sent]
    stream = b"".join(
        b"".join(encode(message, [numbers])) for (message, _), numbers in zip(sent, payloads, strict=True)
    )
    frames, found, at, turn = Frames(), [], 0, 0
    while at < len(stream):
        step = cuts[turn % len(cuts)]
        found += frames.feed(stream[at : at + step])
        at, turn = at + step, turn + 1
    assert [frame.message for frame in found] == [message for message, _ in sent]
    for frame, numbers in zip(found, payloads, strict=True):
        assert np.array_equal(np.frombuffer(frame.payload, np.int64), numbers)


def test_a_length_that_cannot_be_is_refused_before_anything_is_held_for_it() -> None:
    for sizes in ((MAX_FRAME, 1), (1, MAX_FRAME), (0xFFFFFFFF, 0xFFFFFFFF)):
        with pytest.raises(FrameError, match="announced"):
            Frames().feed(struct.pack("<II", *sizes))


@given(st.binary(max_size=60))
def test_garbage_is_never_taken_for_a_message(data: bytes) -> None:
    padded = data + bytes(-len(data) % 8)
    try:
        (frame,) = Frames().feed(struct.pack("<II", len(data), 0) + padded)
    except FrameError:
        return
    assert isinstance(frame.message, Message)


def test_only_texts_on_their_way_to_a_model_may_be_null() -> None:
    array = np.array(["a", None], dtype=object)
    assert sent({"x": array}, nulls=True)["x"].tolist() == ["a", None]
    with pytest.raises(FrameError, match="null"):
        unpack([Tensor("x", "string", (2,), ["a", None])], memoryview(b""))
    with pytest.raises(FrameError, match="cannot be sent"):
        pack({"x": array})


def test_a_frame_longer_than_any_may_be_is_not_made() -> None:
    huge = np.broadcast_to(np.zeros(1), (MAX_FRAME // 8 + 1,))
    with pytest.raises(FrameError, match="longer"):
        encode(Ping(), [huge])
