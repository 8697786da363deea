"""Tensors and requests survive the way there and back, and what makes no sense is refused in words."""

import contextlib
import json
from typing import Any

import msgspec
import numpy as np
import pytest
import tritonclient.http as http
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fairlead.errors import MalformedRequest
from fairlead.gateway.inference.codec import InferRequest, decode_request, encode_answer, raw_input
from fairlead.gateway.inference.datatypes import datatype_of, from_json, from_raw, to_json, to_raw
from fairlead.runtimes.base import Tensor

TYPES = {
    "BOOL": np.bool_, "UINT8": np.uint8, "UINT16": np.uint16, "UINT32": np.uint32, "UINT64": np.uint64,
    "INT8": np.int8, "INT16": np.int16, "INT32": np.int32, "INT64": np.int64, "FP16": np.float16,
    "FP32": np.float32, "FP64": np.float64,
}  # fmt: skip
SHAPES = hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=4)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=5)


@st.composite
def tensors(draw: st.DrawFn) -> tuple[str, np.ndarray]:
    datatype = draw(st.sampled_from([*TYPES, "BYTES"]))
    shape = draw(SHAPES)
    if datatype == "BYTES":
        return datatype, draw(hnp.arrays(object, shape, elements=TEXTS))
    return datatype, draw(hnp.arrays(TYPES[datatype], shape))


def same(one: np.ndarray, other: np.ndarray) -> bool:
    if one.dtype == object:
        return one.shape == other.shape and one.tolist() == other.tolist()
    return one.dtype == other.dtype and np.array_equal(one, other, equal_nan=one.dtype.kind == "f")


@given(tensors(), st.integers(0, 7))
def test_raw_tensors_of_every_type_come_back(case: tuple[str, np.ndarray], offset: int) -> None:
    datatype, array = case
    assert datatype_of(array) == datatype
    body = b"\0" * offset + to_raw(array)
    read = from_raw("x", datatype, array.shape, memoryview(body)[offset:])
    assert same(read, array)
    assert read.flags.aligned


@given(tensors())
def test_json_tensors_of_every_type_that_has_a_json_form_come_back(case: tuple[str, np.ndarray]) -> None:
    datatype, array = case
    if array.dtype.kind == "f":
        array = np.nan_to_num(array, posinf=1, neginf=-1)
    for form in (to_json(array), array.tolist()):
        data = json.loads(json.dumps(form))
        if datatype == "FP16":
            with pytest.raises(MalformedRequest):
                from_json("x", datatype, array.shape, data)
        elif array.size or form == []:
            assert same(from_json("x", datatype, array.shape, data), array)


@pytest.mark.parametrize(
    ("datatype", "data"),
    [
        ("FP32", ["1"]), ("FP32", [True]), ("FP32", [{}]), ("FP32", 1), ("FP32", "1"), ("FP32", [1, 2]),
        ("FP32", [[1], [2, 3]]), ("FP32", [[1], 2]), ("FP32", [[[1]]]), ("FP32", []), ("INT64", [1.5]),
        ("INT64", [None]), ("INT64", [2**63]), ("INT64", [1e300]), ("INT8", [128]), ("UINT8", [-1]),
        ("BOOL", [1]), ("BOOL", ["true"]), ("BYTES", [1]), ("BYTES", [None]), ("FP16", [1]), ("BF16", [1]),
        ("fp32", [1]), ("", [1]),
    ],
)  # fmt: skip
def test_json_values_that_are_no_such_tensor_are_refused(datatype: str, data: Any) -> None:
    with pytest.raises(MalformedRequest):
        from_json("x", datatype, (1,), data)


def test_whole_numbers_written_as_floats_are_whole_and_null_among_floats_is_nan() -> None:
    assert from_json("x", "INT32", (2,), [1.0, 2]).tolist() == [1, 2]
    assert np.isnan(from_json("x", "FP32", (2,), [None, 1])).tolist() == [True, False]


@pytest.mark.parametrize(
    ("datatype", "shape", "data"),
    [
        ("FP32", (1,), b"123"), ("FP32", (2,), b"1234"), ("FP32", (0,), b"1234"), ("BOOL", (1,), b"\x02"),
        ("BYTES", (1,), b""), ("BYTES", (1,), b"\x01\0\0\0"), ("BYTES", (1,), b"\0\0\0\0\0"),
        ("BYTES", (2,), b"\xff\xff\xff\xff1234"), ("BYTES", (1,), b"\x01\0\0\0\xff"),
        ("BYTES", (10**9,), b"\0\0\0\0"), ("BF16", (1,), b"12"),
    ],
)  # fmt: skip
def test_bytes_that_do_not_fit_are_refused(datatype: str, shape: tuple[int, ...], data: bytes) -> None:
    with pytest.raises(MalformedRequest):
        from_raw("x", datatype, shape, data)


# --- whole requests -----------------------------------------------------------------------------------------


@given(st.lists(tensors(), min_size=1, max_size=3), st.data())
def test_what_tritonclient_sends_is_read(cases: list[tuple[str, np.ndarray]], data: st.DataObject) -> None:
    inputs, expected = [], {}
    for index, (datatype, array) in enumerate(cases):
        name = f"in{index}"
        given = http.InferInput(name, list(array.shape), datatype)
        binary = datatype == "FP16" or data.draw(st.booleans())
        if not binary and array.dtype.kind == "f":
            array = np.nan_to_num(array, posinf=1, neginf=-1)
        given.set_data_from_numpy(array, binary_data=binary)
        inputs.append(given)
        expected[name] = array
    body, length = http.InferenceServerClient.generate_request_body(
        inputs, request_id="r", parameters={"a": 1}
    )
    request = decode_request(body, None if length is None else str(length))
    assert request.id == "r"
    assert request.parameters["a"] == 1
    assert request.binary
    assert list(request.tensors) == list(expected)
    assert all(same(request.tensors[name], array) for name, array in expected.items())


@given(st.dictionaries(st.sampled_from("abc"), tensors(), min_size=1), st.data())
def test_what_is_answered_is_read_by_tritonclient(cases: dict[str, Any], data: st.DataObject) -> None:
    outputs = {name: array for name, (_, array) in cases.items()}
    wanted = {name: data.draw(st.booleans()) for name in outputs}
    for name, array in outputs.items():
        if not wanted[name] and array.dtype.kind == "f":
            outputs[name] = np.nan_to_num(array, posinf=1, neginf=-1)
    request = InferRequest({}, id="r", outputs=wanted)
    body, length = encode_answer("m", "v", request, {"request_id": "q"}, outputs)
    result = http.InferenceServerClient.parse_response_body(body, header_length=length)
    assert result.get_response()["id"] == "r"
    for name, array in outputs.items():
        read = result.as_numpy(name)
        if array.dtype == object:
            texts = [part.decode() if isinstance(part, bytes) else part for part in read.reshape(-1).tolist()]
            assert texts == array.reshape(-1).tolist()
        else:
            np.testing.assert_array_equal(read, array)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(["X", "Y", ""])
PARAMETERS = st.dictionaries(
    st.sampled_from(["binary_data_size", "binary_data", "binary_data_output", "unit", "timeout", "x"]),
    st.booleans() | st.integers(-5, 100) | st.text(max_size=3) | JSON,
    max_size=2,
)
INPUT = st.fixed_dictionaries(
    {
        "name": NAMES | JSON,
        "shape": st.lists(st.integers(-2, 5) | st.sampled_from([2**31, 2**70]), max_size=4) | JSON,
        "datatype": st.sampled_from([*TYPES, "BYTES", "BF16", "?"]) | JSON,
    },
    optional={"parameters": PARAMETERS | JSON, "data": JSON | st.lists(st.integers(-3, 300), max_size=6)},
)
OUTPUT = st.fixed_dictionaries({"name": NAMES}, optional={"parameters": PARAMETERS})
LENGTHS = st.sampled_from([None, "json", "0", "5", "-1", "x", "999", "١"])
BODY = st.fixed_dictionaries(
    {"inputs": st.lists(INPUT, max_size=3) | JSON},
    optional={
        "id": st.text(max_size=5) | JSON,
        "parameters": PARAMETERS | JSON,
        "outputs": st.lists(OUTPUT, max_size=2) | JSON,
    },
)


@settings(max_examples=500)
@given(BODY | JSON, st.binary(max_size=20), LENGTHS)
def test_whatever_a_body_holds_it_is_read_or_refused(document: Any, tail: bytes, length: Any) -> None:
    head = json.dumps(document).encode()
    with contextlib.suppress(MalformedRequest):
        read = decode_request(head + tail, str(len(head)) if length == "json" else length)
        assert read.tensors is None or all(isinstance(array, np.ndarray) for array in read.tensors.values())


def test_bodies_that_hold_more_or_less_than_they_say_are_refused() -> None:
    one = {"name": "X", "shape": [1], "datatype": "FP32"}
    for document, tail in (
        ({"inputs": [{**one, "parameters": {"binary_data_size": 4}}]}, b"12345"),
        ({"inputs": [{**one, "parameters": {"binary_data_size": 5}}]}, b"12345"),
        ({"inputs": [{**one, "parameters": {"binary_data_size": 8}}]}, b"1234"),
        ({"inputs": [{**one, "parameters": {"binary_data_size": 4}, "data": [1]}]}, b"1234"),
        ({"inputs": [{**one, "parameters": {"shared_memory_region": "r"}}]}, b""),
        ({"inputs": [one]}, b""),
        ({"inputs": [{**one, "data": [1]}, {**one, "data": [1]}]}, b""),
        (
            {
                "inputs": [{**one, "data": [1]}],
                "outputs": [{"name": "y", "parameters": {"classification": 1}}],
            },
            b"",
        ),
    ):
        head = json.dumps(document).encode()
        with pytest.raises(MalformedRequest):
            decode_request(head + tail, str(len(head)))


def test_a_body_without_json_is_the_one_input_of_a_model() -> None:
    rows = np.arange(8, dtype=np.float32).reshape(2, 4)
    tensor = Tensor(name="X", dtype="float32", shape=(-1, 4))
    request = decode_request(rows.tobytes(), "0")
    assert request.tensors is None
    assert np.array_equal(raw_input([tensor], request.body)["X"], rows)
    for inputs, body in (
        ([tensor], b""),
        ([tensor], b"123"),
        ([tensor, tensor], rows.tobytes()),
        ([Tensor(name="X", dtype="float32", shape=(-1, -1))], rows.tobytes()),
        ([Tensor(name="X", dtype="string", shape=(-1,))], rows.tobytes()),
    ):
        with pytest.raises(MalformedRequest):
            raw_input(inputs, body)


def test_nothing_of_a_request_is_copied_that_lies_well() -> None:
    rows = np.ones((100, 4), np.float32)
    array = from_raw("X", "FP32", (100, 4), rows.tobytes())
    assert not array.flags.owndata
    assert msgspec.json.decode(encode_answer("m", "v", InferRequest({}), {}, {"y": rows[:1]})[0])["outputs"]
