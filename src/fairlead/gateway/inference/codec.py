"""Inference requests and answers as they lie in HTTP bodies: JSON, and behind it the tensors that are binary.

With the header `Inference-Header-Content-Length: n` the first n bytes of the body are JSON, and the binary
tensors follow in the order of the inputs that name a `binary_data_size`. With n = 0 the whole body is the one
input of the model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from fairlead.errors import MalformedRequest
from fairlead.gateway.inference.datatypes import (
    Array,
    datatype_of,
    from_json,
    from_raw,
    shape_of,
    to_json,
    to_raw,
)
from fairlead.runtimes.base import NUMPY_TYPES, Tensor

__all__ = ["InferRequest", "Parameters", "decode_request", "encode_answer", "raw_input"]

Parameters = Mapping[str, Any]

_REGION = "shared_memory_region"


class _Input(msgspec.Struct):
    name: str
    shape: list[int]
    datatype: str
    parameters: dict[str, Any] = {}
    data: Any = msgspec.UNSET


class _Output(msgspec.Struct):
    name: str
    parameters: dict[str, Any] = {}


class _Body(msgspec.Struct):
    inputs: list[_Input]
    id: str = ""
    parameters: dict[str, Any] = {}
    outputs: list[_Output] = []


_decode = msgspec.json.Decoder(_Body).decode
_encode = msgspec.json.Encoder().encode


class InferRequest:
    """A decoded request. `tensors` is None when the body is the model's one input and nothing else.

    `outputs` names what is wanted, with whether it should come binary; empty is everything, binary where
    `binary` says so.
    """

    __slots__ = ("binary", "body", "id", "outputs", "parameters", "tensors")

    def __init__(
        self,
        tensors: dict[str, Array] | None,
        *,
        body: bytes = b"",
        id: str = "",
        parameters: Parameters | None = None,
        outputs: Mapping[str, bool] | None = None,
        binary: bool = False,
    ) -> None:
        self.tensors = tensors
        self.body = body
        self.id = id
        self.parameters: Parameters = parameters or {}
        self.outputs = outputs or {}
        self.binary = binary

    def is_binary(self, output: str) -> bool:
        """Whether that output is wanted as binary data."""
        return self.outputs.get(output, self.binary)


def decode_request(body: bytes, header_length: str | None) -> InferRequest:
    """The request in a body; raises `MalformedRequest` when it is none."""
    length = len(body) if header_length is None else _length(header_length, len(body))
    if length == 0 and header_length is not None:
        return InferRequest(None, body=body, binary=True)
    try:
        decoded = _decode(body if length == len(body) else memoryview(body)[:length])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedRequest(
            f"The body is no inference request: {error}.",
            remedy="See the Open Inference Protocol; NaN and Infinity are not JSON.",
        ) from error
    tensors: dict[str, Array] = {}
    rest = memoryview(body)[length:]
    for given in decoded.inputs:
        if given.name in tensors:
            raise MalformedRequest(f"Input {given.name[:100]!r} is there twice.")
        tensors[given.name], rest = _tensor(given, rest)
    if rest:
        raise MalformedRequest(
            f"{len(rest)} bytes follow the last binary tensor.",
            remedy="Each binary input names its binary_data_size, and nothing else follows.",
        )
    binary = _flag(decoded.parameters, "binary_data_output", False)
    return InferRequest(
        tensors,
        id=decoded.id,
        parameters=decoded.parameters,
        outputs={output.name: _wants_binary(output, binary) for output in decoded.outputs},
        binary=binary,
    )


def raw_input(inputs: Sequence[Tensor], body: bytes) -> dict[str, Array]:
    """The one input of a model, as a body that is nothing else holds it; raises `MalformedRequest`."""
    variable = [tensor for tensor in inputs if sum(size < 0 for size in tensor.shape) > 1]
    if len(inputs) != 1 or variable or inputs[0].dtype == "string":
        raise MalformedRequest(
            "A body without JSON is for models with one input of numbers and one free axis.",
            remedy="Send a JSON header, and its length in Inference-Header-Content-Length.",
        )
    tensor = inputs[0]
    dtype = np.dtype(NUMPY_TYPES[tensor.dtype])
    width = abs(int(np.prod(tensor.shape)))
    if not body or len(body) % (width * dtype.itemsize):
        raise MalformedRequest(
            f"{len(body)} bytes are no rows of {width * dtype.itemsize} bytes.",
            remedy=f"Send {tensor.dtype} in little-endian order.",
        )
    shape = (len(body) // (width * dtype.itemsize), *tensor.shape[1:])
    return {tensor.name: from_raw(tensor.name, datatype_of(np.empty(0, dtype)), shape, body)}


def encode_answer(
    model: str,
    version: str,
    request: InferRequest,
    parameters: Parameters,
    outputs: Mapping[str, Array],
) -> tuple[bytes, int | None]:
    """The body of an answer, and the length of its JSON when binary tensors follow."""
    described: list[dict[str, Any]] = []
    parts: list[bytes] = []
    for name in request.outputs or outputs:
        array = outputs[name]
        output: dict[str, Any] = {"name": name, "datatype": datatype_of(array), "shape": array.shape}
        if request.is_binary(name) or output["datatype"] == "FP16":
            raw = to_raw(array)
            output["parameters"] = {"binary_data_size": len(raw)}
            parts.append(raw)
        else:
            output["data"] = to_json(array)
        described.append(output)
    document: dict[str, Any] = {"model_name": model, "model_version": version}
    if request.id:
        document["id"] = request.id
    document["parameters"] = parameters
    document["outputs"] = described
    header = _encode(document)
    return (b"".join((header, *parts)), len(header)) if parts else (header, None)


# --- pieces -------------------------------------------------------------------------------------------------


def _length(text: str, limit: int) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 12 or int(text) > limit:
        raise MalformedRequest(
            f"Inference-Header-Content-Length {text[:50]!r} does not fit a body of {limit} bytes.",
            remedy="Name the number of bytes that the JSON takes at the body's start.",
        )
    return int(text)


def _tensor(given: _Input, rest: memoryview) -> tuple[Array, memoryview]:
    shape = shape_of(given.name, given.shape)
    if _REGION in given.parameters:
        raise MalformedRequest(
            f"Input {given.name[:100]!r} lies in shared memory, which is not supported.",
            remedy="Send it in the request.",
        )
    size = given.parameters.get("binary_data_size")
    if size is None:
        if given.data is msgspec.UNSET:
            raise MalformedRequest(
                f"Input {given.name[:100]!r} has neither 'data' nor a binary_data_size.",
                remedy="Send its elements.",
            )
        return from_json(given.name, given.datatype, shape, given.data), rest
    if given.data is not msgspec.UNSET:
        raise MalformedRequest(
            f"Input {given.name[:100]!r} has both 'data' and a binary_data_size.", remedy="Send one of them."
        )
    if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size <= len(rest):
        raise MalformedRequest(
            f"Input {given.name[:100]!r} names a binary_data_size that the body does not have.",
            remedy=f"{len(rest)} bytes are left; set Inference-Header-Content-Length.",
        )
    return from_raw(given.name, given.datatype, shape, rest[:size]), rest[size:]


def _wants_binary(output: _Output, default: bool) -> bool:
    if "classification" in output.parameters or _REGION in output.parameters:
        raise MalformedRequest(
            f"Output {output.name[:100]!r}: classification and shared memory are not supported.",
            remedy="Ask for the tensor.",
        )
    return _flag(output.parameters, "binary_data", default)


def _flag(parameters: Parameters, name: str, default: bool) -> bool:
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise MalformedRequest(f"Parameter {name!r} is neither true nor false.")
    return value
