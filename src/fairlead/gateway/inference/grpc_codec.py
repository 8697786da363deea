"""Inference requests and answers as gRPC messages: tensors raw, or typed where the request's were."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from fairlead.errors import MalformedRequest
from fairlead.gateway.inference.codec import InferRequest, Parameters
from fairlead.gateway.inference.datatypes import Array, datatype_of, from_json, from_raw, shape_of, to_raw
from fairlead.gateway.inference.infer import Inferred
from fairlead.gateway.inference.messages import message

__all__ = ["decode_message", "encode_message", "plain_parameters"]

_Response = message("ModelInferResponse")

_CONTENTS = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    "INT64": "int64_contents",
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}


def decode_message(request: Any) -> InferRequest:
    """The request in a `ModelInferRequest`; `binary` says that its answer is to be raw.

    Raises `MalformedRequest` for tensors that do not fit their shapes.
    """
    raw = request.raw_input_contents
    inputs = request.inputs
    if raw and len(raw) != len(inputs):
        raise MalformedRequest(
            f"There are {len(inputs)} inputs and {len(raw)} raw contents.",
            remedy="Send the raw bytes of every input, in the order of the inputs, or of none.",
        )
    tensors: dict[str, Array] = {}
    for index, given in enumerate(inputs):
        name = given.name
        if name in tensors:
            raise MalformedRequest(f"Input {name[:100]!r} is there twice.")
        shape = shape_of(name, given.shape)
        if given.parameters and "shared_memory_region" in given.parameters:
            raise MalformedRequest(
                f"Input {name[:100]!r} lies in shared memory, which is not supported.",
                remedy="Send it in the request.",
            )
        if not raw:
            tensors[name] = _typed(name, given.datatype, shape, given.contents)
        elif given.HasField("contents"):
            raise MalformedRequest(
                f"Input {name[:100]!r} has both raw and typed contents.", remedy="Send one of them."
            )
        else:
            tensors[name] = from_raw(name, given.datatype, shape, raw[index])
    for output in request.outputs:
        if "classification" in output.parameters or "shared_memory_region" in output.parameters:
            raise MalformedRequest(
                f"Output {output.name[:100]!r}: classification and shared memory are not supported.",
                remedy="Ask for the tensor.",
            )
    return InferRequest(
        tensors,
        id=request.id,
        parameters=plain_parameters(request.parameters),
        outputs={output.name: True for output in request.outputs},
        binary=bool(raw),
    )


def plain_parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters as plain values; one without a value is left out."""
    found = {}
    for name, value in parameters.items():
        choice = value.WhichOneof("parameter_choice")
        if choice is not None:
            found[name] = getattr(value, choice)
    return found


def encode_message(model: str, request: InferRequest, found: Inferred) -> bytes:
    """The answer as the bytes of a `ModelInferResponse`.

    Bytes of one message that follow each other are one message: what many answers share is encoded once.
    """
    own = _Response(id=request.id)
    _put_parameters(own.parameters, found.parameters)
    arrays = {name: found.outputs[name] for name in request.outputs or found.outputs}
    described = tuple((name, datatype_of(array), array.shape) for name, array in arrays.items())
    begun: bytes = _begun(model, found.arm.version_name, found.provenance)
    if request.binary or any(datatype == "FP16" for _, datatype, _ in described):
        begun += _described(described)
        own.raw_output_contents.extend([to_raw(array) for array in arrays.values()])
    else:
        for (name, datatype, shape), array in zip(described, arrays.values(), strict=True):
            output = own.outputs.add(name=name, datatype=datatype, shape=shape)
            values = array.reshape(-1).tolist()
            if datatype == "BYTES":
                values = [str(value).encode() for value in values]
            getattr(output.contents, _CONTENTS[datatype]).extend(values)
    return begun + own.SerializeToString()  # type: ignore[no-any-return]


@lru_cache(maxsize=1_024)
def _begun(model: str, version: str, provenance: tuple[tuple[str, str | int], ...]) -> bytes:
    """What every answer of an arm begins with."""
    response = _Response(model_name=model, model_version=version)
    _put_parameters(response.parameters, dict(provenance))
    return response.SerializeToString()  # type: ignore[no-any-return]


@lru_cache(maxsize=1_024)
def _described(outputs: tuple[tuple[str, str, tuple[int, ...]], ...]) -> bytes:
    """Names, types and shapes of outputs whose contents are raw."""
    response = _Response()
    for name, datatype, shape in outputs:
        response.outputs.add(name=name, datatype=datatype, shape=shape)
    return response.SerializeToString()  # type: ignore[no-any-return]


def _put_parameters(parameters: Any, values: Parameters) -> None:
    for name, value in values.items():
        if isinstance(value, str):
            parameters[name].string_param = value
        else:
            parameters[name].int64_param = value


def _typed(name: str, datatype: str, shape: tuple[int, ...], contents: Any) -> Array:
    field = _CONTENTS.get(datatype)
    if field is None:
        return from_raw(name, datatype, shape, b"")  # which says that it has no typed form, or none at all
    values: list[Any] = list(getattr(contents, field))
    if datatype == "BYTES":
        try:
            values = [value.decode() for value in values]
        except UnicodeDecodeError:
            raise MalformedRequest(
                f"Input {name[:100]!r} has an element that is not UTF-8.",
                remedy="BYTES holds texts in UTF-8.",
            ) from None
    elif datatype in ("FP32", "FP64") and len(values) == math.prod(shape):
        return np.array(values, np.float32 if datatype == "FP32" else np.float64).reshape(shape)
    return from_json(name, datatype, shape, values)
